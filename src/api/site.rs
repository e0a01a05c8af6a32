//! What stands around every request of a listener: the token, the metrics, the access log.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, HttpBody};
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus::{IntCounter, IntCounterVec};
use tower_service::Service;

use super::Api;
use super::problem::Problem;
use super::route::{self, Route};
use super::token::TokenFile;

pub(super) use super::route::Face;

/// Values must not lie in caches.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The status codes of ordinary answers, whose counters are kept at hand.
const CODES: [u16; 11] = [200, 304, 400, 401, 403, 404, 405, 413, 431, 500, 503];

/// One listener's routes and rules.
pub(super) struct Site {
    api: Arc<Api>,
    /// A copy of it is cheap, and calling it takes one.
    router: axum::Router,
    token: Option<TokenFile>,
    requests: Requests,
}

impl Site {
    pub(super) fn new(api: &Arc<Api>, face: Face, token: Option<TokenFile>) -> Self {
        Self {
            api: Arc::clone(api),
            router: route::router(api, face),
            token,
            requests: Requests::new(api.secrets.metrics().api_requests.clone()),
        }
    }

    pub(super) fn denied(&self) -> &Denied {
        &self.api.denied
    }

    /// Answers one request of the user `uid`, who is unknown on TCP.
    pub(super) async fn answer<B: HttpBody>(
        &self,
        request: Request<B>,
        uid: Option<u32>,
    ) -> Response {
        let path = request.uri().path();
        let (route, is_private) = (Route::of(path), route::is_private(path));
        let mut response = match self.admit(&request, is_private) {
            Err(problem) => problem.into_response(),
            // A router is always ready to be called.
            Ok(()) => match self.router.clone().call(request.map(|_| Body::empty())).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        if is_private {
            response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
        }
        let code = response.status();
        self.requests.count(route, code);
        tracing::debug!(route = route.template(), code = code.as_u16(), uid, "request answered");
        response
    }

    fn admit<B: HttpBody>(&self, request: &Request<B>, is_private: bool) -> Result<(), Problem> {
        if let Some(token) = self.token.as_ref().filter(|_| is_private) {
            let header = request.headers().get(header::AUTHORIZATION);
            if !token.admits(header.map_or(b"", HeaderValue::as_bytes)) {
                self.api.denied.token.inc();
                return Err(Problem::token());
            }
        }
        if request.body().is_end_stream() { Ok(()) } else { Err(Problem::body()) }
    }
}

/// `secretwatch_api_requests_total`, without a look-up by label for every request.
struct Requests {
    family: IntCounterVec,
    counters: [[OnceLock<IntCounter>; CODES.len()]; Route::COUNT],
}

impl Requests {
    fn new(family: IntCounterVec) -> Self {
        Self { family, counters: Default::default() }
    }

    fn count(&self, route: Route, code: StatusCode) {
        let find = || self.family.with_label_values(&[route.template(), code.as_str()]);
        match CODES.iter().position(|&known| known == code.as_u16()) {
            Some(at) => self.counters[route as usize][at].get_or_init(find).inc(),
            None => find().inc(),
        }
    }
}

/// `secretwatch_api_denied_total`, every reason at zero from the start.
pub(super) struct Denied {
    pub(super) connections: IntCounter,
    pub(super) peer: IntCounter,
    token: IntCounter,
    waiting: IntCounter,
}

impl Denied {
    pub(super) fn new(family: &IntCounterVec) -> Self {
        Self {
            connections: family.with_label_values(&["connections"]),
            peer: family.with_label_values(&["peer"]),
            token: family.with_label_values(&["token"]),
            waiting: family.with_label_values(&["waiting"]),
        }
    }

    /// Counts a long poll or stream for which there is no place.
    pub(super) fn waiting(&self) -> Problem {
        self.waiting.inc();
        Problem::waiting()
    }
}

//! What stands around every request of a listener: the token, the metrics, the access log.

use std::sync::{Arc, OnceLock};

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus::{IntCounter, IntCounterVec};
use tower_service::Service;

use super::problem::Problem;
use super::route::{self, Route};
use super::token::TokenFile;
use super::{Api, body};

pub(super) use super::route::Face;

/// Values must not lie in caches.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The status codes of ordinary answers, whose counters are kept at hand.
const CODES: [u16; 13] = [200, 204, 304, 400, 401, 403, 404, 405, 409, 413, 431, 500, 503];

/// One listener's routes and rules.
pub(super) struct Site {
    api: Arc<Api>,
    /// A copy of it is cheap, and calling it takes one.
    router: axum::Router,
    token: Option<TokenFile>,
    requests: Requests,
    /// No body is read on the TCP port, where there is no route that takes one.
    reads_bodies: bool,
}

impl Site {
    pub(super) fn new(api: &Arc<Api>, face: Face, token: Option<TokenFile>) -> Self {
        Self {
            api: Arc::clone(api),
            router: route::router(api, face),
            token,
            reads_bodies: face == Face::Socket,
            requests: Requests::new(api.secrets.metrics().api_requests.clone()),
        }
    }

    pub(super) fn denied(&self) -> &Denied {
        &self.api.denied
    }

    /// Answers one request of the user `uid`, who is unknown on TCP.
    pub(super) async fn answer<B>(&self, request: Request<B>, uid: Option<u32>) -> Response
    where
        B: HttpBody<Error: Into<BoxError>>,
    {
        let path = request.uri().path();
        let route = Route::of(path);
        // The page tells names, as the list does; the token keeps both from the same clients.
        let is_private = route::is_private(path) || route == Route::Page;
        let response = async {
            self.admit(&request, is_private)?;
            let request = self.with_body(request, route).await?;
            // A router is always ready to be called.
            match self.router.clone().call(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        };
        let mut response = response.await.unwrap_or_else(Problem::into_response);
        if is_private {
            response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
        }
        let code = response.status();
        self.requests.count(route, code);
        tracing::debug!(route = route.template(), code = code.as_u16(), uid, "request answered");
        response
    }

    /// The request with the whole body that its route takes, or without one.
    async fn with_body<B>(
        &self,
        request: Request<B>,
        route: Route,
    ) -> Result<Request<Body>, Problem>
    where
        B: HttpBody<Error: Into<BoxError>>,
    {
        let (head, body) = request.into_parts();
        let body = if body.is_end_stream() {
            Body::empty()
        } else if self.reads_bodies && route.takes_body(&head.method) {
            Body::from(body::read(body).await?)
        } else {
            return Err(Problem::body());
        };
        Ok(Request::from_parts(head, body))
    }

    fn admit<B>(&self, request: &Request<B>, is_private: bool) -> Result<(), Problem> {
        if let Some(token) = self.token.as_ref().filter(|_| is_private) {
            let header = request.headers().get(header::AUTHORIZATION);
            if !token.admits(header.map_or(b"", HeaderValue::as_bytes)) {
                self.api.denied.token.inc();
                return Err(Problem::token());
            }
        }
        Ok(())
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

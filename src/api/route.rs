//! The table of routes. The router is built from it, metrics take their labels from it, and a test
//! compares it with `openapi.yaml`.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodRouter, get, put};

use super::problem::Problem;
use super::{Api, adoption, events, page, probe, volume};

/// The methods of every route but one.
const READ: &[Method] = &[Method::GET, Method::HEAD];
/// The methods of the routes that write down what a consumer says.
const SAY: &[Method] = &[Method::PUT, Method::DELETE];

/// Every route there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    List,
    Volume,
    Key,
    Events,
    Adoptions,
    Adoption,
    Consumer,
    Page,
    Live,
    Ready,
    Metrics,
    /// Anything else, for the metrics only.
    Unmatched,
}

/// Where routes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    /// The Unix socket: all routes.
    Socket,
    /// The TCP port: health, metrics and the status page.
    Port,
}

impl Route {
    pub(super) const COUNT: usize = 12;
    /// The routes that exist.
    pub(super) const ALL: [Self; Self::COUNT - 1] = [
        Self::List,
        Self::Volume,
        Self::Key,
        Self::Events,
        Self::Adoptions,
        Self::Adoption,
        Self::Consumer,
        Self::Page,
        Self::Live,
        Self::Ready,
        Self::Metrics,
    ];

    /// The path as the router takes it, and the label `route` of the metrics.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::List => "/v1/secrets",
            Self::Volume => "/v1/secrets/{name}",
            Self::Key => "/v1/secrets/{name}/{*key}",
            Self::Events => "/v1/events",
            Self::Adoptions => "/v1/adoptions",
            Self::Adoption => "/v1/adoptions/{name}",
            Self::Consumer => "/v1/adoptions/{name}/{consumer}",
            Self::Page => "/",
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::Unmatched => "unmatched",
        }
    }

    /// The route of a path. The router decides who answers; this only names it, without the
    /// allocation that asking the router would cost.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/v1/secrets" => Self::List,
            "/v1/events" => Self::Events,
            "/" => Self::Page,
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/v1/adoptions" => Self::Adoptions,
            _ => match (below(path, "/v1/secrets/"), below(path, "/v1/adoptions/")) {
                (Some((_, None)), _) => Self::Volume,
                (Some((_, Some(_))), _) => Self::Key,
                (_, Some((_, None))) => Self::Adoption,
                (_, Some((_, Some(rest)))) if !rest.contains('/') => Self::Consumer,
                _ => Self::Unmatched,
            },
        }
    }

    /// The methods it answers.
    pub(super) fn methods(self) -> &'static [Method] {
        if self == Self::Consumer { SAY } else { READ }
    }

    /// Whether a request to it has a body that is read.
    pub(super) fn takes_body(self, method: &Method) -> bool {
        self == Self::Consumer && method == Method::PUT
    }

    pub(super) fn is_on(self, face: Face) -> bool {
        face == Face::Socket || !is_private(self.template())
    }

    fn handler(self) -> MethodRouter<Arc<Api>> {
        match self {
            Self::List => get(volume::list),
            Self::Volume => get(volume::get),
            Self::Key => get(volume::key),
            Self::Events => get(events::events),
            Self::Adoptions => get(adoption::list),
            Self::Adoption => get(adoption::get),
            Self::Consumer => put(adoption::put).delete(adoption::delete),
            Self::Page => get(page::page),
            Self::Live => get(probe::live),
            Self::Ready => get(probe::ready),
            Self::Metrics => get(probe::metrics),
            Self::Unmatched => get(unknown_path),
        }
    }
}

/// The name that follows `prefix` in a path, and what follows the name; neither is empty.
fn below<'a>(path: &'a str, prefix: &str) -> Option<(&'a str, Option<&'a str>)> {
    let rest = path.strip_prefix(prefix)?;
    let (name, rest) = rest.split_once('/').map_or((rest, None), |(name, rest)| (name, Some(rest)));
    (!name.is_empty() && rest != Some("")).then_some((name, rest))
}

/// Whether what lies at this path is for the socket alone, needs the token and must not be stored:
/// all of `/v1`, also where there is no route.
pub(super) fn is_private(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The router of one listener.
pub(super) fn router(api: &Arc<Api>, face: Face) -> Router {
    Route::ALL
        .into_iter()
        .filter(|route| route.is_on(face))
        .fold(Router::new(), |router, route| router.route(route.template(), route.handler()))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(api))
}

async fn unknown_path() -> Problem {
    Problem::unknown_path()
}

async fn wrong_method(request: Request) -> Problem {
    Problem::method(request.method(), Route::of(request.uri().path()).methods())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_path_is_named_by_its_route() {
        for (path, route) in [
            ("/v1/secrets", Route::List),
            ("/v1/secrets/db", Route::Volume),
            ("/v1/secrets/db/a", Route::Key),
            ("/v1/secrets/db/a/b", Route::Key),
            ("/v1/events", Route::Events),
            ("/livez", Route::Live),
            ("/", Route::Page),
            ("//", Route::Unmatched),
            ("", Route::Unmatched),
            ("/v1/adoptions", Route::Adoptions),
            ("/v1/adoptions/db", Route::Adoption),
            ("/v1/adoptions/db/web", Route::Consumer),
            ("/v1/adoptions/db/web/x", Route::Unmatched),
            ("/v1/adoptions/db/", Route::Unmatched),
            ("/v1/adoptions//web", Route::Unmatched),
            ("/v1/secrets/", Route::Unmatched),
            ("/v1/secrets/db/", Route::Unmatched),
            ("/v1/secrets//a", Route::Unmatched),
            ("/v2", Route::Unmatched),
            ("*", Route::Unmatched),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn everything_below_v1_is_private_and_nothing_else() {
        assert!(is_private("/v1") && is_private("/v1/") && is_private("/v1/nothing"));
        assert!(!is_private("/v11") && !is_private("/livez") && !is_private("/"));
        let open = Route::ALL.into_iter().filter(|route| route.is_on(Face::Port));
        assert_eq!(
            open.map(Route::template).collect::<Vec<_>>(),
            ["/", "/livez", "/readyz", "/metrics"]
        );
    }

    #[test]
    fn openapi_describes_exactly_the_routes() {
        let text = include_str!("../../openapi.yaml");
        let document: serde_json::Value = serde_yaml_ng::from_str(text).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let is_method = |name: &&String| !["parameters", "summary"].contains(&name.as_str());
            for method in item.as_object().unwrap().keys().filter(is_method) {
                described.insert((path.clone(), method.clone()));
            }
        }
        let routed = Route::ALL.into_iter().flat_map(|route| {
            let path = route.template().replace("{*", "{");
            route.methods().iter().map(move |method| (path.clone(), method.as_str().to_lowercase()))
        });
        assert_eq!(described, routed.collect());
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn openapi_has_every_error_code_and_only_references_that_resolve() {
        let text = include_str!("../../openapi.yaml");
        let document: serde_json::Value = serde_yaml_ng::from_str(text).unwrap();
        let listed = &document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
            ["code"]["enum"];
        let listed: BTreeSet<&str> =
            listed.as_array().unwrap().iter().filter_map(|code| code.as_str()).collect();
        assert_eq!(listed, Problem::CODES.into_iter().collect());
        for reference in text.split("$ref: '#").skip(1) {
            let pointer = reference.split('\'').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}

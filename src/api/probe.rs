//! The routes that know no value: health and metrics, on the socket and on the TCP port.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;
use crate::status::Trouble;

/// The version of the Prometheus text format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// `GET /livez`: the engine's own heartbeat.
pub(super) async fn live(State(api): State<Arc<Api>>) -> Response {
    if api.secrets.is_alive() {
        return "ok\n".into_response();
    }
    let text = "the engine is stuck or has ended; restart secretwatch\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// `GET /readyz`: whether there is a first snapshot of every volume.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    if api.secrets.is_ready() {
        return "ok\n".into_response();
    }
    let mut text = String::new();
    for volume in api.volumes().filter(|volume| !volume.is_ready()) {
        let status = volume.status();
        let trouble = status.trouble.as_ref().map(Trouble::to_string);
        let trouble = trouble.as_deref().unwrap_or("it has not been read yet");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "volume `{}` is not ready: {trouble}", volume.name());
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// `GET /metrics`
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let text = api.scrape.text(&api.secrets)?;
    Ok(([(header::CONTENT_TYPE, METRICS)], text).into_response())
}

//! Everything that can be wrong with a request, and its one JSON form.
//!
//! A message says what is wrong, where, and what is allowed. It may repeat names that the client
//! sent; it goes to that client only and never to a log.

use axum::extract::rejection::PathRejection;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::secrets::Volume;
use crate::status::Trouble;

/// How long a client should wait before it asks again: a first snapshot or a free place is a matter
/// of moments.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// The methods of every route.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// The most characters of a client's own text that a message repeats.
const MAX_ECHO_CHARS: usize = 64;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Document<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    message: &'a str,
}

impl Problem {
    /// Every code there is; `openapi.yaml` lists the same.
    #[cfg(test)]
    pub(super) const CODES: [&str; 15] = [
        "bad_path",
        "bad_query",
        "bad_token",
        "body_not_allowed",
        "forbidden_peer",
        "internal",
        "method_not_allowed",
        "not_ready",
        "shutting_down",
        "too_many_connections",
        "too_many_waiting",
        "unknown_key",
        "unknown_path",
        "unknown_volume",
        "watch_ended",
    ];

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    /// A state that passes: the client may try again.
    fn busy(code: &'static str, message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { header: Some((header::RETRY_AFTER, RETRY_AFTER)), ..problem }
    }

    pub(super) fn unknown_path() -> Self {
        let message = "there is nothing at this path; see openapi.yaml for what there is";
        Self::new(StatusCode::NOT_FOUND, "unknown_path", message)
    }

    pub(super) fn method(method: &Method) -> Self {
        let message = format!("{} is not allowed here; GET and HEAD are", shown(method.as_str()));
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Self { header: Some((header::ALLOW, ALLOW)), ..problem }
    }

    pub(super) fn body() -> Self {
        let message = "no route takes a request body";
        let problem = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_not_allowed", message);
        // What was not read would otherwise have to be, before the next request.
        Self { header: Some((header::CONNECTION, HeaderValue::from_static("close"))), ..problem }
    }

    pub(super) fn path(rejection: &PathRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_path", rejection.body_text())
    }

    pub(super) fn query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", message)
    }

    pub(super) fn token() -> Self {
        let message = "a current token is needed: `Authorization: Bearer <token>`";
        let problem = Self::new(StatusCode::UNAUTHORIZED, "bad_token", message);
        let bearer = HeaderValue::from_static("Bearer");
        Self { header: Some((header::WWW_AUTHENTICATE, bearer)), ..problem }
    }

    pub(super) fn peer(peer: Option<(u32, u32)>) -> Self {
        let message = match peer {
            Some((uid, gid)) => format!(
                "processes of user {uid} and group {gid} are not admitted; \
                 start secretwatch with `--allow-uid {uid}` or `--allow-gid {gid}` to admit them"
            ),
            None => "the user of this process cannot be found out".to_owned(),
        };
        Self::new(StatusCode::FORBIDDEN, "forbidden_peer", message)
    }

    pub(super) fn unknown_volume<'a>(name: &str, known: impl Iterator<Item = &'a Volume>) -> Self {
        let known: Vec<&str> = known.map(|volume| volume.name().as_str()).collect();
        let message =
            format!("no volume is named {}; there are: {}", shown(name), known.join(", "));
        Self::new(StatusCode::NOT_FOUND, "unknown_volume", message)
    }

    pub(super) fn unknown_key(volume: &str, key: &str) -> Self {
        let message = format!("volume `{volume}` has no key {}", shown(key));
        Self::new(StatusCode::NOT_FOUND, "unknown_key", message)
    }

    pub(super) fn not_ready(volume: &Volume) -> Self {
        let status = volume.status();
        let trouble = status.trouble.as_ref().map_or_else(not_read, Trouble::to_string);
        let name = volume.name();
        Self::busy("not_ready", format!("volume `{name}` has no snapshot yet: {trouble}"))
    }

    pub(super) fn shutting_down() -> Self {
        Self::busy("shutting_down", "secretwatch is about to end")
    }

    pub(super) fn watch_ended() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "watch_ended", "the watch has ended")
    }

    pub(super) fn connections(limit: usize) -> Self {
        let message = format!("there are {limit} connections already, the most that are allowed");
        Self::busy("too_many_connections", message)
    }

    pub(super) fn waiting() -> Self {
        let message = "too many long polls and streams; ask without `after`, or later";
        Self::busy("too_many_waiting", message)
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    fn body_json(&self) -> String {
        let error = Inner { code: self.code, message: &self.message };
        // Two strings always serialize; an empty object is what is left if they should not.
        serde_json::to_string(&Document { error }).unwrap_or_else(|_| "{}".to_owned())
    }

    /// The whole answer as bytes, for clients that never reach the HTTP server.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let body = self.body_json();
        let reason = self.status.canonical_reason().unwrap_or("");
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nconnection: close\r\n",
            self.status.as_u16(),
            body.len()
        );
        if let Some((name, Ok(value))) = self.header.as_ref().map(|(n, v)| (n, v.to_str())) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        format!("{head}\r\n{body}").into_bytes()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (self.status, json, self.body_json()).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn not_read() -> String {
    "it has not been read yet".to_owned()
}

/// The client's own text, quoted, escaped and cut, so that a message stays a message.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_ECHO_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_answer_has_the_length_it_says_and_its_header() {
        let text = String::from_utf8(Problem::connections(3).to_bytes()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(head.ends_with("retry-after: 1"), "{head}");
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["error"]["code"], "too_many_connections");
    }

    #[test]
    fn echoed_text_is_quoted_escaped_and_cut() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert!(shown(&"x".repeat(1000)).len() < 100);
    }
}

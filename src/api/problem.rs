//! Everything that can be wrong with a request, and its one JSON form.
//!
//! A message says what is wrong, where, and what is allowed. It may repeat names that the client
//! sent; it goes to that client only and never to a log.

use axum::extract::rejection::PathRejection;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::body::MAX_BODY_BYTES;
use crate::adoption::AdoptError;
use crate::name::NameError;
use crate::secrets::Volume;
use crate::status::Trouble;

/// How long a client should wait before it asks again: a first snapshot or a free place is a matter
/// of moments.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// The most characters of a client's own text that a message repeats.
const MAX_ECHO_CHARS: usize = 64;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The revision that is current, where the client has another one.
    current: Option<Box<str>>,
    /// Boxed, because every handler's result has room for it.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

#[derive(Serialize)]
struct Document<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<&'a str>,
}

impl Problem {
    /// Every code there is; `openapi.yaml` lists the same.
    #[cfg(test)]
    pub(super) const CODES: [&str; 22] = [
        "bad_body",
        "bad_consumer",
        "bad_path",
        "bad_query",
        "bad_token",
        "body_not_allowed",
        "body_too_large",
        "body_too_slow",
        "forbidden_peer",
        "internal",
        "method_not_allowed",
        "not_ready",
        "shutting_down",
        "too_many_connections",
        "too_many_consumers",
        "too_many_waiting",
        "unknown_consumer",
        "unknown_key",
        "unknown_path",
        "unknown_revision",
        "unknown_volume",
        "watch_ended",
    ];

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), current: None, header: None }
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some(Box::new((name, value))), ..self }
    }

    /// A state that passes: the client may try again.
    fn busy(code: &'static str, message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        problem.with(header::RETRY_AFTER, RETRY_AFTER)
    }

    pub(super) fn unknown_path() -> Self {
        let message = "there is nothing at this path; see openapi.yaml for what there is";
        Self::new(StatusCode::NOT_FOUND, "unknown_path", message)
    }

    pub(super) fn method(method: &Method, allowed: &[Method]) -> Self {
        let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let are = allowed.join(" and ");
        let message = format!("{} is not allowed here; {are} are", shown(method.as_str()));
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        // The names of methods are words, which every header can carry.
        match HeaderValue::from_str(&allowed.join(", ")) {
            Ok(allow) => problem.with(header::ALLOW, allow),
            Err(_) => problem,
        }
    }

    pub(super) fn body() -> Self {
        let message = "this request takes no body; only `PUT /v1/adoptions/{name}/{consumer}` does";
        Self::unread(StatusCode::PAYLOAD_TOO_LARGE, "body_not_allowed", message)
    }

    pub(super) fn body_too_large() -> Self {
        let message = format!("the body is too large; at most {MAX_BODY_BYTES} bytes are allowed");
        Self::unread(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    pub(super) fn body_too_slow() -> Self {
        let message = "the body took too long to arrive";
        Self::unread(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
    }

    pub(super) fn body_broken() -> Self {
        Self::unread(StatusCode::BAD_REQUEST, "bad_body", "the body cannot be read to its end")
    }

    pub(super) fn bad_body(wrong: &str) -> Self {
        let message = format!(
            "the body {wrong}; it has to be the JSON document {{\"revision\":\"<revision>\"}}, \
             with the revision that the app uses"
        );
        Self::new(StatusCode::BAD_REQUEST, "bad_body", message)
    }

    /// An answer to a request whose body is not read to its end.
    fn unread(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let problem = Self::new(status, code, message);
        // What was not read would otherwise have to be, before the next request.
        problem.with(header::CONNECTION, HeaderValue::from_static("close"))
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
        problem.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
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

    pub(super) fn consumer(name: &str, error: &NameError) -> Self {
        let message = format!("consumer name {}: {error}", shown(name));
        Self::new(StatusCode::BAD_REQUEST, "bad_consumer", message)
    }

    pub(super) fn unknown_consumer(volume: &str, name: &str) -> Self {
        let message = format!("volume `{volume}` has no consumer {}", shown(name));
        Self::new(StatusCode::NOT_FOUND, "unknown_consumer", message)
    }

    pub(super) fn adoption(volume: &Volume, error: AdoptError) -> Self {
        let message = error.to_string();
        match error {
            AdoptError::NotReady { .. } => Self::not_ready(volume),
            AdoptError::TooManyConsumers { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_consumers", message)
            }
            AdoptError::UnknownRevision { current, .. } => {
                let problem = Self::new(StatusCode::CONFLICT, "unknown_revision", message);
                Self { current: Some(current), ..problem }
            }
            AdoptError::OtherVolume { .. } => Self::internal(&message),
        }
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
        let error =
            Inner { code: self.code, message: &self.message, current: self.current.as_deref() };
        // Strings always serialize; an empty object is what is left if they should not.
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
        if let Some((name, Ok(value))) = self.header.as_deref().map(|(n, v)| (n, v.to_str())) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        format!("{head}\r\n{body}").into_bytes()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (self.status, json, self.body_json()).into_response();
        if let Some((name, value)) = self.header.map(|header| *header) {
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

//! The client of the sidecar: HTTP/1.1 over its Unix socket, one connection a request.
//!
//! Every way in which the sidecar cannot be reached, or refuses, is an error of its own that says
//! what to do about it. What the sidecar answers is bounded, and wiped from memory after use as
//! far as this process holds it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

pub(crate) use self::backoff::Backoff;
pub(crate) use self::error::ClientError;
pub(crate) use self::event::{Event, Events};

mod backoff;
mod error;
mod event;

/// How long one request may take, apart from what it asks the sidecar to wait. The sidecar is on
/// the same machine: one that takes longer hangs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer. A full volume (8 MiB) as JSON text can take six bytes for one.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How much of a text answer is shown as the reason.
const MAX_REASON_CHARS: usize = 300;
/// The largest token file: the same as no header would carry more.
const MAX_TOKEN_BYTES: u64 = 4096;

/// Asks one sidecar.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    /// The whole `Authorization` header, marked as sensitive, so that it shows in no `Debug`.
    authorization: Option<HeaderValue>,
    request_timeout: Duration,
}

/// What the sidecar answered with success.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It has what was asked for.
    Found { body: Zeroizing<Vec<u8>> },
    /// What the client has is still current.
    NotModified,
}

/// The body of an endless answer.
#[derive(Debug)]
pub(crate) struct Stream(Incoming);

impl Client {
    /// A client of the sidecar at `socket` that presents the token in `token_file`, if one is
    /// given.
    ///
    /// # Errors
    /// Where the token cannot be read or sent.
    pub(crate) fn new(socket: PathBuf, token_file: Option<&Path>) -> Result<Self, ClientError> {
        let authorization = token_file.map(authorization).transpose()?;
        Ok(Self { socket, authorization, request_timeout: REQUEST_TIMEOUT })
    }

    /// Gets the whole answer, which the sidecar may delay by `patience`.
    ///
    /// # Errors
    /// Where the sidecar cannot be reached, hangs, refuses or has no such thing.
    pub(crate) async fn get(
        &self,
        target: &str,
        patience: Duration,
    ) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.request_timeout.saturating_add(patience);
        let answer = async {
            let response = self.send(Method::GET, target, Bytes::new()).await?;
            if response.status() == StatusCode::NOT_MODIFIED {
                return Ok(Answer::NotModified);
            }
            Ok(Answer::Found { body: self.body(response.into_body()).await? })
        };
        self.within(deadline, answer).await
    }

    /// Gets the revision alone, and leaves the values where they are; `None` where what the client
    /// has is still current.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn revision(
        &self,
        target: &str,
        patience: Duration,
    ) -> Result<Option<String>, ClientError> {
        let deadline = Instant::now() + self.request_timeout.saturating_add(patience);
        let response = self.within(deadline, self.send(Method::HEAD, target, Bytes::new())).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let missing = || ClientError::Strange("it has no revision".to_owned());
        revision(&response).ok_or_else(missing).map(Some)
    }

    /// Says something to the sidecar, and gives what it answers.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn say(
        &self,
        method: Method,
        target: &str,
        body: String,
    ) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let deadline = Instant::now() + self.request_timeout;
        let answer = async {
            let response = self.send(method, target, body.into()).await?;
            self.body(response.into_body()).await
        };
        self.within(deadline, answer).await
    }

    /// Opens an endless answer, such as that of `/v1/events`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn stream(&self, target: &str) -> Result<Stream, ClientError> {
        let deadline = Instant::now() + self.request_timeout;
        let response = self.within(deadline, self.send(Method::GET, target, Bytes::new())).await?;
        Ok(Stream(response.into_body()))
    }

    async fn within<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match timeout_at(deadline, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::Hangs { socket: self.socket.clone() }),
        }
    }

    /// Sends one request, and makes an error of every status that is none of 2xx and 304.
    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::connect(&self.socket, error))?;
        let broken = |error| ClientError::Broken { socket: self.socket.clone(), source: error };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends by itself with the response; its error is the one that the request reports.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header(HOST, "secretwatch");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(ClientError::Request)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let is_text = is_text(&response);
        let body = self.body(response.into_body()).await?;
        Err(ClientError::answer(&self.socket, status, message(&body, is_text)))
    }

    async fn body(&self, mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let mut bytes = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|source| ClientError::Broken { socket: self.socket.clone(), source })?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > MAX_ANSWER_BYTES {
                return Err(ClientError::TooLarge { limit: MAX_ANSWER_BYTES });
            }
            append(&mut bytes, data);
        }
        Ok(bytes)
    }
}

impl Stream {
    /// The next piece of the answer; `None` once it has ended, for whatever reason.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.0.frame().await?.ok()?.into_data() {
                Ok(data) => return Some(data),
                Err(_trailers) => {}
            }
        }
    }
}

/// Writes a path with `segments` and everything in them escaped that is not plain.
pub(crate) fn path<'a>(segments: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(&escaped(segment));
    }
    path
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Appends in a way that wipes the old memory where `bytes` has to move, which `Vec` does not.
fn append(bytes: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    if bytes.capacity() - bytes.len() < data.len() {
        let mut larger = Vec::with_capacity((bytes.len() + data.len()).next_power_of_two());
        larger.extend_from_slice(bytes);
        *bytes = Zeroizing::new(larger);
    }
    bytes.extend_from_slice(data);
}

fn revision(response: &Response<Incoming>) -> Option<String> {
    let etag = response.headers().get(ETAG)?.to_str().ok()?;
    Some(etag.trim_matches('"').to_owned())
}

fn is_text(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/plain"))
}

/// The message of an error answer, or the first line of one that is text; of anything else,
/// nothing: it may be a value.
fn message(body: &[u8], is_text: bool) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        error: Details,
    }
    #[derive(Deserialize)]
    struct Details {
        message: String,
    }
    let message = match serde_json::from_slice(body) {
        Ok(Envelope { error }) => error.message,
        Err(_) if is_text => first_line(body),
        Err(_) => "no reason given".to_owned(),
    };
    message.replace('\n', "\\n").chars().filter(|c| !c.is_control()).collect()
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.lines().next().unwrap_or_default().chars().take(MAX_REASON_CHARS).collect()
}

fn authorization(path: &Path) -> Result<HeaderValue, ClientError> {
    let unreadable = |source| ClientError::TokenFile { path: path.to_owned(), source };
    let mut token = Zeroizing::new(String::with_capacity("Bearer ".len() + 2 * 4096));
    token.push_str("Bearer ");
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_TOKEN_BYTES).read_to_string(&mut token).map_err(unreadable)?;
    let invalid = |reason: &str| unreadable(io::Error::new(io::ErrorKind::InvalidData, reason));
    if token.trim_end() == "Bearer" {
        return Err(invalid("the file is empty"));
    }
    let mut header = HeaderValue::from_str(token.trim_end())
        .map_err(|_| invalid("a token is one line of visible ASCII characters"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
pub(crate) mod tests;

//! Telling an app by an HTTP request, over TCP or a Unix socket.
//!
//! The connection is kept between rotations. Where a kept one turns out to have been closed, the
//! request is sent again at once on a fresh one: a target may be told twice, never not at all.

mod header;
mod url;

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{Notice, Undelivered};
use crate::name::KeyName;

use url::Address;
pub(crate) use url::Url;

/// How much of an answer is read so that the connection can be kept. Its status is all that counts;
/// where the answer is longer, the connection is closed.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long an answer is read after its status.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("secretwatch/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request that tells an app.
#[derive(Debug)]
pub(crate) struct HttpTarget {
    pub(crate) url: Url,
    pub(crate) method: Method,
    /// Lines of `Name: value`, read anew for every attempt.
    pub(crate) headers_file: Option<PathBuf>,
    /// The status codes that mean success.
    pub(crate) expect: Vec<RangeInclusive<u16>>,
    /// Whether the request says in JSON what has changed.
    pub(crate) body: bool,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl HttpTarget {
    pub(crate) fn new(
        url: Url,
        method: Method,
        headers_file: Option<PathBuf>,
        expect: Vec<RangeInclusive<u16>>,
        body: bool,
    ) -> Self {
        Self { url, method, headers_file, expect, body, kept: None }
    }

    pub(super) async fn deliver(
        &mut self,
        notice: &Notice,
        patience: Duration,
    ) -> Result<(), Undelivered> {
        let outcome = timeout(patience, self.exchange(notice)).await.unwrap_or_else(|_| {
            let limit = humantime::format_duration(patience);
            Err(format!("{} did not answer within {limit}", self.url.shown()))
        });
        outcome.map_err(Undelivered::Failed)
    }

    async fn exchange(&mut self, notice: &Notice) -> Result<(), String> {
        let request = self.request(notice)?;
        let (response, sender) = self.send(request).await?;
        let status = response.status();
        if drained(response.into_body()).await {
            self.kept = Some(sender);
        }
        self.judged(status)
    }

    fn judged(&self, status: StatusCode) -> Result<(), String> {
        if self.expect.iter().any(|range| range.contains(&status.as_u16())) {
            return Ok(());
        }
        let hint = if status.is_redirection() { ", a redirect, which is not followed" } else { "" };
        Err(format!("{} answered {}{hint}", self.url.shown(), status.as_u16()))
    }

    fn request(&self, notice: &Notice) -> Result<Request<Full<Bytes>>, String> {
        let body = if self.body { document(notice)? } else { Bytes::new() };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.target().clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.url.host().clone());
        headers.insert(USER_AGENT, AGENT);
        if self.body {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if let Some(path) = &self.headers_file {
            for (name, value) in header::read(path)? {
                headers.insert(name, value);
            }
        }
        Ok(request)
    }

    /// Sends on the kept connection, or on a fresh one where that fails before an answer.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), String> {
        if let Some(mut sender) = self.kept.take()
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(request.clone()).await
        {
            return Ok((response, sender));
        }
        let mut sender = self.connect().await?;
        let failed =
            |e: hyper::Error| format!("{} broke the connection off: {e}", self.url.shown());
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok((response, sender))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let failed = |e: io::Error| format!("{} cannot be connected to: {e}", self.url.shown());
        match self.url.address() {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                // A small request must not wait for the answer to an earlier one.
                stream.set_nodelay(true).map_err(failed)?;
                self.handshake(stream).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, String> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            handshake.map_err(|e| format!("{} speaks no HTTP: {e}", self.url.shown()))?;
        // Ends with the sender, or when the other side closes; the next request meets its error.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Reads the answer; whether it has ended, so that the connection can be used again.
async fn drained(mut body: Incoming) -> bool {
    let read = async {
        let mut left = MAX_ANSWER_BYTES;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return false };
            left = rest;
        }
        true
    };
    timeout(ANSWER_PATIENCE, read).await.unwrap_or(false)
}

#[derive(Serialize)]
struct Document<'a> {
    changes: Vec<Change<'a>>,
}

#[derive(Serialize)]
struct Change<'a> {
    volume: &'a str,
    revision: &'a str,
    generation: u64,
    added: Vec<&'a str>,
    removed: Vec<&'a str>,
    modified: Vec<&'a str>,
}

fn document(notice: &Notice) -> Result<Bytes, String> {
    let changes = notice.volumes.iter().map(change).collect();
    let document = serde_json::to_vec(&Document { changes });
    document.map(Bytes::from).map_err(|e| format!("the document cannot be written: {e}"))
}

fn change(changed: &super::Changed) -> Change<'_> {
    Change {
        volume: changed.name.as_str(),
        revision: &changed.revision,
        generation: changed.generation,
        added: names(&changed.keys.added),
        removed: names(&changed.keys.removed),
        modified: names(&changed.keys.modified),
    }
}

fn names(keys: &[KeyName]) -> Vec<&str> {
    keys.iter().map(KeyName::as_str).collect()
}

//! Telling an app by an HTTP request, over TCP or a Unix socket.
//!
//! The connection is kept between rotations. Where a kept one turns out to have been closed, the
//! request is sent again at once on a fresh one: a target may be told twice, never not at all.

mod connection;
mod header;
mod url;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::{Notice, Undelivered, without_hurry};
use crate::name::KeyName;

use connection::{ConnectError, Connection};
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
pub(crate) struct HttpTarget {
    pub(crate) url: Url,
    pub(crate) method: Method,
    /// Lines of `Name: value`, read anew for every attempt.
    pub(crate) headers_file: Option<PathBuf>,
    /// The status codes that mean success.
    pub(crate) expect: Vec<RangeInclusive<u16>>,
    /// Whether the request says in JSON what has changed.
    pub(crate) body: bool,
    kept: Option<Connection>,
    /// The next request, where it is the same each time.
    prepared: Option<Request<Full<Bytes>>>,
}

impl HttpTarget {
    pub(crate) fn new(
        url: Url,
        method: Method,
        headers_file: Option<PathBuf>,
        expect: Vec<RangeInclusive<u16>>,
        body: bool,
    ) -> Self {
        Self { url, method, headers_file, expect, body, kept: None, prepared: None }
    }

    /// Whether an attempt never blocks the thread that makes it.
    pub(super) fn never_blocks(&self) -> bool {
        self.headers_file.is_none()
    }

    /// Lets go of a kept connection that is closed while there is nothing to tell.
    pub(super) async fn rest(&mut self) {
        match &mut self.kept {
            Some(kept) => kept.ended().await,
            None => std::future::pending().await,
        }
        self.kept = None;
    }

    pub(super) async fn deliver(
        &mut self,
        notice: &Notice,
        patience: Duration,
    ) -> Result<(), Undelivered> {
        let outcome = tokio::select! {
            biased;
            outcome = self.exchange(notice) => Some(outcome),
            () = out_of(patience) => None,
        };
        let outcome = outcome.unwrap_or_else(|| {
            let limit = humantime::format_duration(patience);
            Err(format!("{} did not answer within {limit}", self.url.shown()))
        });
        outcome.map_err(Undelivered::Failed)
    }

    async fn exchange(&mut self, notice: &Notice) -> Result<(), String> {
        let (response, mut connection) = self.send(notice).await?;
        let status = response.status();
        if connection.during(drained(response.into_body())).await {
            self.kept = Some(connection);
        }
        if !self.body && self.headers_file.is_none() {
            self.prepared = self.request(notice).ok();
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
    async fn send(&mut self, notice: &Notice) -> Result<(Response<Incoming>, Connection), String> {
        if let Some(mut kept) = self.kept.take() {
            let request = match self.prepared.take() {
                Some(request) => request,
                None => self.request(notice)?,
            };
            if let Ok(response) = kept.send(request).await {
                return Ok((response, kept));
            }
        }
        let request = self.request(notice)?;
        let shown = self.url.shown();
        let opened = Connection::open(self.url.address()).await;
        let mut fresh = opened.map_err(|error| match error {
            ConnectError::Unreachable(error) => format!("{shown} cannot be connected to: {error}"),
            ConnectError::NoHttp(error) => format!("{shown} speaks no HTTP: {error}"),
        })?;
        let sent = fresh.send(request).await;
        let response =
            sent.map_err(|error| format!("{shown} broke the connection off: {error}"))?;
        Ok((response, fresh))
    }
}

/// The end of the time for an attempt.
async fn out_of(patience: Duration) {
    // Setting a timer wakes the runtime's thread, which can wait until the request has left.
    without_hurry().await;
    sleep(patience).await;
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

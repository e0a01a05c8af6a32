//! One connection: HTTP/1.1 for clients that may be slow, silent or hostile.
//!
//! How it works. hyper reads and writes through [`Paced`], which sees every byte and every wait:
//! * a request head that has begun, or the first one, has [`HEAD_TIME`] to arrive;
//! * a client that takes none of a response for [`STALL_TIME`] is cut off (`tokio-io-timeout`);
//! * a client that takes a response bit by bit has [`RESPONSE_TIME`] for all of it;
//! * a connection on which nothing happened for [`IDLE_TIME`], and no request is at work, ends.
//!
//! hyper's own timeout for heads is not used: it runs between requests too, so it cannot tell an
//! idle client from a slow one, and it costs two timers per request. Here the idle time is looked
//! at once per `IDLE_TIME`, and the timer for heads exists only while one is incomplete.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_io_timeout::TimeoutWriter;

use super::site::Site;
use super::stopped;

/// The largest request head: a path, a token and what a client library adds. hyper allows at most
/// 100 headers in it, without an allocation.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a request head may take: it fits into one write, so this is for a stuck client.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a connection may be kept for a next request: longer than the pools of common clients,
/// so that they and not we close it, which spares them a failed request.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(75);
/// How long a client may take for a whole response that is not endless: the largest one is 11 MiB.
/// Until then it holds on to a snapshot.
pub(super) const RESPONSE_TIME: Duration = Duration::from_secs(120);
/// How long a client may take nothing of what is sent to it. Until then it holds on to a snapshot.
pub(super) const STALL_TIME: Duration = Duration::from_secs(30);

/// Serves one connection until its client, its pace or the shutdown ends it.
pub(super) async fn serve<S>(
    stream: S,
    site: Arc<Site>,
    uid: Option<u32>,
    activity: Arc<Activity>,
    stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let io = TokioIo::new(Paced::new(stream, Arc::clone(&activity)));
    let at_work = Arc::clone(&activity);
    let service = service_fn(move |request| {
        at_work.begin();
        let (site, at_work) = (Arc::clone(&site), Arc::clone(&at_work));
        async move {
            let response = site.answer(request, uid).await;
            at_work.end(is_stream(&response));
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(http().serve_connection(io, service));
    let mut idle = pin!(activity.idle());
    let mut stopped = pin!(stopped(stopping));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, uid, "connection failed");
                }
                return;
            }
            () = &mut stopped, if !is_stopping => {
                // hyper would wait for the rest of a first request that has begun.
                if activity.is_fresh() {
                    return;
                }
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut idle => return,
        }
    }
}

fn is_stream(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        // Values go from where they lie to the kernel; joining them into one buffer would leave
        // copies behind that nobody wipes.
        .writev(true);
    http
}

/// What happens on a connection. The service and the stream tell; the timers ask.
pub(super) struct Activity {
    start: Instant,
    /// Milliseconds after `start` at which something happened last.
    last: AtomicU64,
    /// Milliseconds after `start` at which there was a response; the greatest number where there
    /// was none, or an endless one.
    answered: AtomicU64,
    /// A request is at work, so the client has to wait and not we.
    is_busy: AtomicBool,
    /// A request head has begun and is not complete, or the first one is still to come.
    is_partial: AtomicBool,
    /// There has been no request.
    is_fresh: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            answered: AtomicU64::new(u64::MAX),
            is_busy: AtomicBool::new(false),
            is_partial: AtomicBool::new(true),
            is_fresh: AtomicBool::new(true),
        }
    }

    fn touch(&self) {
        let elapsed = self.start.elapsed().as_millis();
        self.last.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }

    fn begin(&self) {
        self.is_busy.store(true, Relaxed);
        self.is_partial.store(false, Relaxed);
        self.is_fresh.store(false, Relaxed);
    }

    /// A response is there, and has to be taken within [`RESPONSE_TIME`] unless it is endless.
    fn end(&self, is_stream: bool) {
        self.touch();
        let since = if is_stream { u64::MAX } else { self.last.load(Relaxed) };
        self.answered.store(since, Relaxed);
        self.is_busy.store(false, Relaxed);
    }

    /// When a response that is there now has to have been taken.
    fn response_deadline(&self) -> Option<Instant> {
        let answered = self.answered.load(Relaxed);
        let is_due = answered != u64::MAX && !self.is_busy.load(Relaxed);
        is_due.then(|| self.start + Duration::from_millis(answered) + RESPONSE_TIME)
    }

    /// When something happened last; `None` while a request is at work.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let last = self.start + Duration::from_millis(self.last.load(Relaxed));
        (!self.is_busy.load(Relaxed)).then_some(last)
    }

    fn is_fresh(&self) -> bool {
        self.is_fresh.load(Relaxed)
    }

    /// Ends once nothing has happened for [`IDLE_TIME`].
    async fn idle(&self) {
        loop {
            let now = Instant::now();
            // A request that is at work now can become idle only later than now.
            let deadline = self.idle_since().unwrap_or(now) + IDLE_TIME;
            let deadline = self.response_deadline().map_or(deadline, |due| due.min(deadline));
            if deadline <= now {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// A stream whose other end has to keep pace.
struct Paced<S> {
    io: Pin<Box<TimeoutWriter<S>>>,
    activity: Arc<Activity>,
    /// Runs while a head is incomplete.
    head: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite> Paced<S> {
    fn new(stream: S, activity: Arc<Activity>) -> Self {
        let mut io = TimeoutWriter::new(stream);
        io.set_timeout(Some(STALL_TIME));
        Self { io: Box::pin(io), activity, head: None }
    }

    /// Takes note of bytes that came in.
    fn received(&mut self) {
        self.activity.touch();
        // While a request is at work this is its body, which has a limit of its own, or comes too
        // early; a next head that is left incomplete then counts as idle.
        if self.activity.is_busy.load(Relaxed) {
            return;
        }
        if !self.activity.is_partial.swap(true, Relaxed) {
            self.head = None;
        }
    }

    /// Waits for the rest of a head, but not for ever.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.activity.is_partial.load(Relaxed) || self.activity.is_busy.load(Relaxed) {
            return Poll::Pending;
        }
        let head = self.head.get_or_insert_with(|| Box::pin(sleep(HEAD_TIME)));
        ready!(head.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request head took too long")))
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.activity.touch();
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match self.io.as_mut().poll_read(cx, buf) {
            Poll::Pending => self.poll_head(cx),
            ready => {
                if buf.filled().len() > before {
                    self.received();
                }
                ready
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.io.as_mut().poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.io.as_mut().poll_write_vectored(cx, buffers);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

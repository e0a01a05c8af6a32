//! A kept connection to a target.
//!
//! It works while somebody waits for something on it. It has no task of its own, so that a request
//! leaves in the very poll that asks for it.
//!
//! How it works. hyper has two halves: the sender, and the driver that reads and writes. A request
//! handed to the sender calls the driver, by waking whoever has polled it last, which may be on
//! another thread. Here the driver is polled next in any case, so that [`Call`] is not passed on.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::url::Address;

pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

struct Driver {
    /// `None` once the connection has ended.
    running: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    call: Arc<Call>,
    /// The call, as the driver's waker.
    waker: Waker,
}

/// Wakes who waits on the connection because there is something for the driver to do.
#[derive(Default)]
struct Call {
    waiting: AtomicWaker,
    /// Whether the driver is going to be polled anyway.
    is_expected: AtomicBool,
}

/// Why there is no connection.
pub(super) enum ConnectError {
    Unreachable(io::Error),
    NoHttp(hyper::Error),
}

impl Connection {
    pub(super) async fn open(address: &Address) -> Result<Self, ConnectError> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // A small request must not wait for the answer to an earlier one.
                stream.set_nodelay(true)?;
                Self::over(stream).await
            }
            Address::Unix(path) => Self::over(UnixStream::connect(path).await?).await,
        }
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, ConnectError> {
        // A small request leaves sooner as one buffer than as a list of them.
        let mut settings = http1::Builder::new();
        let handshake = settings.writev(false).handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(ConnectError::NoHttp)?;
        // Its error is met by whoever waits for an answer.
        let driver = Driver::new(async move { drop(driver.await) });
        Ok(Self { sender, driver })
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let Self { sender, driver } = self;
        let exchange = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        driver.during(exchange).await
    }

    /// Does something that needs the connection to go on.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.driver.during(work).await
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&mut self) {
        poll_fn(|context| self.driver.poll(context)).await;
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl Driver {
    fn new(driver: impl Future<Output = ()> + Send + 'static) -> Self {
        let call = Arc::<Call>::default();
        let waker = Arc::clone(&call).into();
        Self { running: Some(Box::pin(driver)), call, waker }
    }

    /// Does the driver's part; ready when the connection has ended.
    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        self.call.waiting.register(context.waker());
        let Some(running) = &mut self.running else { return Poll::Ready(()) };
        let polled = running.as_mut().poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            self.running = None;
        }
        polled
    }

    /// Does the driver's part as long as `work` takes.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            // Twice, as each may wait for the other. What the driver has done last wakes the work.
            for _ in 0..2 {
                self.call.is_expected.store(true, Ordering::SeqCst);
                let polled = work.as_mut().poll(context);
                self.call.is_expected.store(false, Ordering::SeqCst);
                if polled.is_ready() {
                    return polled;
                }
                // Whether it has ended is seen by the work.
                let _ = self.poll(context);
            }
            Poll::Pending
        })
        .await
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_expected.load(Ordering::SeqCst) {
            self.waiting.wake();
        }
    }
}

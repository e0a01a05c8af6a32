//! A kept connection to a target.
//!
//! It works while somebody waits for something on it. It has no task of its own, so that a request
//! leaves in the very poll that asks for it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
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
    /// `None` once the connection has ended.
    driver: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
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
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(ConnectError::NoHttp)?;
        // Its error is met by whoever waits for an answer.
        let driver = Box::pin(async move { drop(driver.await) });
        Ok(Self { sender, driver: Some(driver) })
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
        driven(driver, exchange).await
    }

    /// Does something that needs the connection to go on.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        driven(&mut self.driver, work).await
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&mut self) {
        if let Some(driver) = &mut self.driver {
            driver.as_mut().await;
            self.driver = None;
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

async fn driven<T>(
    driver: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        // Each waits for the other: the work for the answer, the driver for the request. It is asked
        // first so that it is this poll's waker that a request wakes, which may well be none.
        for _ in 0..2 {
            if let Some(running) = driver
                && running.as_mut().poll(context).is_ready()
            {
                *driver = None;
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

//! The least that a hyper server can do on a Unix socket: answer a constant.
//!
//! Set up as the sidecar is: HTTP/1.1, one thread, one task for each connection.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::Notify;

use crate::mount::VALUE_BYTES;

/// Waits for [`WAKE`] before it answers.
pub const WAIT: &str = "/wait";
/// Wakes all who wait.
pub const WAKE: &str = "/wake";

/// Answers until it is killed.
pub fn run(socket: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(socket));
}

async fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let woken = Arc::new(Notify::new());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let woken = Arc::clone(&woken);
        let service = service_fn(move |request| answer(request, Arc::clone(&woken)));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn answer<B>(
    request: Request<B>,
    woken: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        WAIT => woken.notified().await,
        WAKE => woken.notify_waiters(),
        _ => {}
    }
    Ok(Response::new(Full::new(Bytes::from_static(&[b'0'; VALUE_BYTES]))))
}

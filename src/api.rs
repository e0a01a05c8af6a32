//! (being written)

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::secrets::Secrets;

#[allow(dead_code)]
pub(crate) struct SocketOptions {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) allow_uid: Vec<u32>,
    pub(crate) allow_gid: Vec<u32>,
    pub(crate) token_file: Option<PathBuf>,
}

#[allow(dead_code)]
pub(crate) struct Options {
    pub(crate) socket: SocketOptions,
    pub(crate) metrics_addr: Option<SocketAddr>,
    pub(crate) max_connections: usize,
    pub(crate) mode: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen")]
pub(crate) struct BindError;

pub(crate) struct Bound(Option<SocketAddr>);

pub(crate) struct Running(#[allow(dead_code)] Secrets);

pub(crate) fn bind(options: &Options) -> Result<Bound, BindError> {
    Ok(Bound(options.metrics_addr))
}

impl Bound {
    pub(crate) fn metrics_addr(&self) -> Option<SocketAddr> {
        self.0
    }

    pub(crate) fn serve(self, secrets: Secrets) -> Running {
        Running(secrets)
    }
}

impl Running {
    pub(crate) async fn stop(self, _deadline: Duration) -> bool {
        true
    }
}

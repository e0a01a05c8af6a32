//! The socket API: HTTP/1.1 over a Unix socket, for the other processes of the pod.
//!
//! ```text
//! socket ─▶ accept ─▶ peer ─▶ connection ─▶ site ─▶ token ─▶ route ─▶ volume · events · adoption · probe
//! (bind)  (how many)  (who)  (how slow)            (who)   (what)    wait · query · body · json · problem
//! ```
//!
//! How it works. [`bind`] does everything that can fail because of a setting, before other threads
//! exist. [`Bound::serve`] starts one task per listener; each owns its connections, so whoever ends
//! the task ends them. [`Running::stop`] is the one way to end well: no new connections, the socket
//! is removed, streams and long polls are told, requests at work finish.
//!
//! Absences: nothing here can change a secret; the TCP port has no route that knows a value; no
//! value, token or query string is ever logged; nothing grows with the number of clients without a
//! constant that bounds it.

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use crate::reload::{Board, ReloadMetrics};
use crate::secrets::{Secrets, Volume};
use crate::tasks::Tasks;

mod accept;
mod adoption;
mod body;
mod connection;
mod document;
mod events;
mod json;
mod page;
mod peer;
mod probe;
mod problem;
mod query;
mod roster;
mod route;
mod scrape;
mod site;
mod socket;
#[cfg(test)]
mod tests;
mod token;
mod volume;
mod wait;

use accept::{Acceptor, Listener};
use document::Documents;
use peer::Policy;
use problem::Problem;
use scrape::Scrape;
use site::{Denied, Face, Site};
use socket::{SocketError, SocketFile};
use token::{TokenError, TokenFile};

/// Connections to the socket where nothing else is asked for: every worker of a large application
/// may hold one, and all of them together cost this process less than 64 MiB.
pub(crate) const DEFAULT_MAX_CONNECTIONS: usize = 2048;
/// The most connections that may be asked for: each is a file descriptor, and the usual hard limit
/// of a container allows a little more than this.
pub(crate) const MAX_MAX_CONNECTIONS: usize = 65_536;
/// Connections to the TCP port: a scraper and a kubelet need one each. Anybody in the network may
/// hold them, so where all are taken the one that has been idle for the longest is closed.
const MAX_TCP_CONNECTIONS: usize = 64;
/// Of every so many connections one is kept free of long polls and streams, so that a request that
/// wants an answer at once still gets one.
const WAITING_SHARE: usize = 8;
/// Event streams. Each may hold on to the snapshot before the current one for as long as its client
/// is slow, so there may be fewer of them than of long polls.
const MAX_STREAMS: usize = 256;

/// Where the socket is and who may use it.
#[derive(Debug, Clone)]
pub(crate) struct SocketOptions {
    /// An absolute path of at most [`socket::MAX_PATH_BYTES`].
    pub(crate) path: PathBuf,
    /// The socket's permission bits: `0o600` admits processes of the own user only.
    pub(crate) mode: u32,
    /// Users that are admitted besides the own one.
    pub(crate) allow_uid: Vec<u32>,
    /// Groups whose processes are admitted.
    pub(crate) allow_gid: Vec<u32>,
    /// A file with the bearer token that `/v1` then asks for.
    pub(crate) token_file: Option<PathBuf>,
}

/// What to serve on.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) socket: SocketOptions,
    /// Where `/metrics`, `/livez`, `/readyz` and the page are served over TCP as well.
    pub(crate) metrics_addr: Option<SocketAddr>,
    /// 1 to [`MAX_MAX_CONNECTIONS`].
    pub(crate) max_connections: usize,
    /// The label `mode` of `secretwatch_build_info`: which way of running this is.
    pub(crate) mode: &'static str,
}

/// Why the API cannot be served.
#[derive(Debug, Error)]
pub(crate) enum BindError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("max connections {0}: 1 to {MAX_MAX_CONNECTIONS} are allowed")]
    MaxConnections(usize),
    #[error("metrics address {0} cannot be listened on")]
    MetricsAddr(SocketAddr, #[source] std::io::Error),
    #[error("the operating system refuses to watch a listener")]
    Listen(#[source] std::io::Error),
}

impl BindError {
    /// Whether the socket's directory cannot be made or used.
    pub(crate) fn is_about_the_directory(&self) -> bool {
        matches!(self, Self::Socket(error) if error.is_about_the_directory())
    }
}

/// Makes the listeners. Call it before other threads are started: it changes the process's umask
/// for a moment.
///
/// # Errors
/// Where a setting is not allowed, or a listener cannot be made.
pub(crate) fn bind(options: &Options) -> Result<Bound, BindError> {
    if !(1..=MAX_MAX_CONNECTIONS).contains(&options.max_connections) {
        return Err(BindError::MaxConnections(options.max_connections));
    }
    let token = options.socket.token_file.clone().map(TokenFile::open).transpose()?;
    let tcp = options.metrics_addr.map(bind_tcp).transpose()?;
    // Last, so that no socket has to be taken back where something else fails.
    let (unix, file) = socket::bind(&options.socket.path, options.socket.mode)?;
    Ok(Bound {
        unix,
        file,
        tcp,
        token,
        policy: Policy::new(&options.socket),
        max_connections: options.max_connections,
        mode: options.mode,
        boards: Vec::new(),
        reload: None,
    })
}

fn bind_tcp(addr: SocketAddr) -> Result<(StdTcpListener, SocketAddr), BindError> {
    let failed = |e| BindError::MetricsAddr(addr, e);
    let listener = StdTcpListener::bind(addr).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The listeners, which clients can connect to already. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Comes before the listener, see there.
    file: SocketFile,
    unix: StdUnixListener,
    tcp: Option<(StdTcpListener, SocketAddr)>,
    token: Option<TokenFile>,
    policy: Policy,
    max_connections: usize,
    mode: &'static str,
    boards: Vec<Arc<Board>>,
    reload: Option<ReloadMetrics>,
}

impl Bound {
    /// Shows these targets in the list and in the metrics.
    pub(crate) fn with_targets(self, boards: Vec<Arc<Board>>, metrics: ReloadMetrics) -> Self {
        Self { boards, reload: Some(metrics), ..self }
    }

    /// The address of the TCP port, also where port 0 was asked for.
    pub(crate) fn metrics_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|&(_, addr)| addr)
    }

    /// Starts to answer. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// Where the runtime cannot watch the listeners, which no setting can help.
    pub(crate) fn serve(self, secrets: Secrets) -> Result<Running, BindError> {
        let mut tasks = Tasks::new();
        let stopping = tasks.stopping();
        let unix = UnixListener::from_std(self.unix).map_err(BindError::Listen)?;
        let tcp = self.tcp.map(|(tcp, _)| TcpListener::from_std(tcp)).transpose();
        let tcp = tcp.map_err(BindError::Listen)?;
        let scrape = Scrape::new(self.mode, self.reload);
        let api = Api::new(secrets, scrape, self.max_connections, stopping.clone());
        let api = Arc::new(Api { boards: self.boards, ..api });
        let acceptor = Acceptor {
            listener: Listener::Unix { listener: unix, policy: self.policy, _file: self.file },
            site: Arc::new(Site::new(&api, Face::Socket, self.token)),
            max_connections: self.max_connections,
            stopping: stopping.clone(),
        };
        tasks.spawn(acceptor.run());
        if let Some(tcp) = tcp {
            let acceptor = Acceptor {
                listener: Listener::Tcp(tcp),
                site: Arc::new(Site::new(&api, Face::Port, None)),
                max_connections: MAX_TCP_CONNECTIONS,
                stopping,
            };
            tasks.spawn(acceptor.run());
        }
        Ok(Running {
            tasks,
            #[cfg(test)]
            api,
        })
    }
}

/// The API at work. Dropping it cuts every connection and removes the socket.
pub(crate) struct Running {
    tasks: Tasks,
    /// Lets tests wait until somebody waits.
    #[cfg(test)]
    api: Arc<Api>,
}

impl Running {
    /// Accepts nothing more, removes the socket, ends streams and long polls, and lets requests at
    /// work finish. `false` if the deadline cut connections off.
    pub(crate) async fn stop(self, deadline: Duration) -> bool {
        self.tasks.stop(deadline).await
    }
}

/// What the handlers share.
struct Api {
    secrets: Secrets,
    /// The same volumes for as long as the process lives; kept, so that a look-up copies nothing.
    volumes: Box<[Served]>,
    /// How each target is doing.
    boards: Vec<Arc<Board>>,
    scrape: Scrape,
    denied: Denied,
    /// One permit per long poll or stream.
    waiting: Arc<Semaphore>,
    /// One permit per stream.
    streams: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Api {
    fn new(
        secrets: Secrets,
        scrape: Scrape,
        max_connections: usize,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let reserved = max_connections / WAITING_SHARE;
        Self {
            volumes: secrets.volumes().map(Served::from).collect(),
            denied: Denied::new(&secrets.metrics().api_denied),
            secrets,
            boards: Vec::new(),
            scrape,
            waiting: Arc::new(Semaphore::new(max_connections - reserved)),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            stopping,
        }
    }

    fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().map(|served| &served.volume)
    }

    fn volume(&self, name: &str) -> Result<&Served, Problem> {
        let found = self.volumes.iter().find(|served| served.volume.name().as_str() == name);
        found.ok_or_else(|| Problem::unknown_volume(name, self.volumes()))
    }

    /// Ends once the API is asked to stop.
    async fn stopped(&self) {
        stopped(self.stopping.clone()).await;
    }
}

/// A volume, and what is on its way to clients.
struct Served {
    volume: Volume,
    documents: Documents,
}

impl From<Volume> for Served {
    fn from(volume: Volume) -> Self {
        Self { volume, documents: Documents::default() }
    }
}

/// Ends once the API is asked to stop, or whoever could ask is gone.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error says that the sender is gone, and then there is nobody to serve for.
    let _ = stopping.wait_for(|&is_stopping| is_stopping).await;
}

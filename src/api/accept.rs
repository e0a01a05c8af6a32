//! Accepting connections: how many, from whom, and what to do when the system has no more.
//!
//! How it works. One task owns a listener and all its connections. A client that is not admitted is
//! told so by a canned answer, without reaching the HTTP server; only [`MAX_REFUSALS`] are told at
//! a time, and for no longer than [`LINGER`], so being refused holds no memory. Whoever comes on
//! top of those finds the connection closed. On the TCP port, where anybody may hold connections
//! without asking for anything, the one that has been idle for the longest makes room instead.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Activity;
use super::peer::Policy;
use super::problem::Problem;
use super::roster::Roster;
use super::site::Site;
use super::socket::SocketFile;
use super::{connection, stopped};

/// Clients that are being told at the same time that they are refused.
const MAX_REFUSALS: usize = 32;
/// How long a refused client may take to send its request and to read the answer.
const LINGER: Duration = Duration::from_secs(1);
/// What of a refused request is read at a time; nothing is kept.
const LINGER_BUFFER: usize = 512;
/// What the kernel may hold of an answer that a client on the socket does not read (it doubles the
/// number): a third of the usual default, which times all connections would be the most memory by
/// far.
const SEND_BUFFER: usize = 32 * 1024;
/// The first pause after accepting failed, doubled each time: out of file descriptors the listener
/// stays readable, and without a pause the loop would spin.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause: how late a client is served after descriptors are free again.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(super) enum Listener {
    Unix {
        /// Comes first: the name goes away before the listener, so nobody finds a dead socket.
        _file: SocketFile,
        listener: UnixListener,
        policy: Policy,
    },
    Tcp(TcpListener),
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
        }
    }
}

/// A listener at work.
pub(super) struct Acceptor {
    pub(super) listener: Listener,
    pub(super) site: Arc<Site>,
    pub(super) max_connections: usize,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Acceptor {
    /// Accepts until it is asked to stop, and ends when the last connection has ended.
    pub(super) async fn run(self) {
        let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
        let mut roster = Roster::default();
        let mut pause = Pause::new();
        let mut stopped = std::pin::pin!(stopped(self.stopping.clone()));
        loop {
            let accept = async {
                pause.wait().await;
                self.listener.accept().await
            };
            let accepted = tokio::select! {
                biased;
                () = &mut stopped => break,
                Some(_) = connections.join_next() => continue,
                Some(_) = refusals.join_next() => continue,
                accepted = accept => accepted,
            };
            match accepted {
                Ok(stream) => {
                    pause.reset();
                    if matches!(stream, Stream::Tcp(_)) {
                        self.make_room(&mut roster, &mut connections).await;
                    }
                    self.admit(stream, &mut roster, &mut connections, &mut refusals);
                }
                Err(error) => pause.after(&error),
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }

    /// Ends idle connections until there is a place, or a request is at work on each.
    async fn make_room(&self, roster: &mut Roster, connections: &mut JoinSet<()>) {
        while connections.len() >= self.max_connections {
            if !roster.evict_the_longest_idle() {
                return;
            }
            self.site.denied().connections.inc();
            // At once: what was evicted, or another one that has ended meanwhile.
            connections.join_next().await;
        }
    }

    fn admit(
        &self,
        stream: Stream,
        roster: &mut Roster,
        connections: &mut JoinSet<()>,
        refusals: &mut JoinSet<()>,
    ) {
        match (stream, &self.listener) {
            (Stream::Unix(stream), Listener::Unix { policy, .. }) => {
                // Where it cannot be set, answers are the same and the bound is the system's.
                let _ = setsockopt(&stream, SndBuf, &SEND_BUFFER);
                let peer = stream.peer_cred().ok().map(|peer| (peer.uid(), peer.gid()));
                match peer.filter(|&(uid, gid)| policy.admits(uid, gid)) {
                    Some((uid, _)) => {
                        self.serve(stream, Some(uid), connections, refusals);
                    }
                    None => {
                        self.site.denied().peer.inc();
                        tracing::debug!(?peer, "a peer is not admitted");
                        refuse(stream, &Problem::peer(peer), refusals);
                    }
                }
            }
            (Stream::Unix(stream), Listener::Tcp(_)) => drop(stream),
            (Stream::Tcp(stream), _) => {
                // It only delays answers where it cannot be set.
                let _ = stream.set_nodelay(true);
                if let Some((activity, task)) = self.serve(stream, None, connections, refusals) {
                    roster.add(activity, task);
                }
            }
        }
    }

    fn serve<S>(
        &self,
        stream: S,
        uid: Option<u32>,
        connections: &mut JoinSet<()>,
        refusals: &mut JoinSet<()>,
    ) -> Option<(Arc<Activity>, AbortHandle)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if connections.len() >= self.max_connections {
            self.site.denied().connections.inc();
            refuse(stream, &Problem::connections(self.max_connections), refusals);
            return None;
        }
        let (site, stopping) = (Arc::clone(&self.site), self.stopping.clone());
        let activity = Arc::new(Activity::new());
        let served = connection::serve(stream, site, uid, Arc::clone(&activity), stopping);
        Some((activity, connections.spawn(served)))
    }
}

fn refuse<S>(stream: S, problem: &Problem, refusals: &mut JoinSet<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if refusals.len() < MAX_REFUSALS {
        refusals.spawn(tell(stream, problem.to_bytes()));
    }
}

/// Answers a client's first bytes, whatever they are, and reads the rest away: a connection that is
/// closed with bytes unread loses the answer, and clients do not expect one before they have asked.
async fn tell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: Vec<u8>) {
    let telling = async {
        let mut buffer = [0; LINGER_BUFFER];
        if stream.read(&mut buffer).await? > 0 {
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            while stream.read(&mut buffer).await? > 0 {}
        }
        io::Result::Ok(())
    };
    // Whether it came through is the client's business.
    let _ = timeout(LINGER, telling).await;
}

/// The pause after accepting failed.
struct Pause {
    next: Duration,
    until: Option<Instant>,
}

impl Pause {
    fn new() -> Self {
        Self { next: MIN_PAUSE, until: None }
    }

    async fn wait(&self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
        }
    }

    fn reset(&mut self) {
        if self.until.is_some() {
            tracing::info!("connections are accepted again");
            *self = Self::new();
        }
    }

    fn after(&mut self, error: &io::Error) {
        if self.until.is_none() {
            tracing::error!(%error, "no connection can be accepted, trying again");
        }
        self.until = Some(Instant::now() + self.next);
        self.next = (self.next * 2).min(MAX_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pause_doubles_up_to_its_limit_and_ends_with_success() {
        let mut pause = Pause::new();
        let error = io::Error::from_raw_os_error(nix::libc::EMFILE);
        let mut waits = Vec::new();
        for _ in 0..9 {
            pause.after(&error);
            let before = Instant::now();
            pause.wait().await;
            waits.push(before.elapsed().as_millis());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        pause.reset();
        let before = Instant::now();
        pause.wait().await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}

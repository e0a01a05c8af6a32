//! Telling a process by a signal.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use tracing::debug;

use super::{NO_PROCESS, Notice, Undelivered};
use crate::process::{self, Process, Which};

/// The most that is read of a pid file: a pid with blanks around it.
const MAX_PID_FILE_BYTES: u64 = 64;

/// Whom to signal. Looked up anew for every attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Receiver {
    PidFile(PathBuf),
    Named { name: String, which: Which },
}

/// A signal and whom it goes to.
#[derive(Debug)]
pub(crate) struct SignalTarget {
    receiver: Receiver,
    signal: Signal,
    /// The revision that is being told, and the processes (pid, start) that have been signalled for
    /// it: where one of several cannot take it yet, the others are not signalled again.
    told: (String, HashSet<(i32, Option<u64>)>),
}

impl SignalTarget {
    pub(crate) fn new(receiver: Receiver, signal: Signal) -> Self {
        Self { receiver, signal, told: Default::default() }
    }

    pub(super) async fn deliver(&mut self, notice: &Notice) -> Result<(), Undelivered> {
        let revision = notice.revision();
        if self.told.0 != revision {
            self.told = (revision, HashSet::new());
        }
        let pids = self.receiver.pids().await?;
        let mut outcome = Ok(());
        for pid in pids {
            // The first that went wrong is told; the others are tried all the same.
            outcome = outcome.and(self.one(pid));
        }
        outcome
    }

    fn one(&mut self, pid: i32) -> Result<(), Undelivered> {
        let process = Process::open(pid).map_err(|error| self.receiver.explained(error.into()))?;
        let identity = (pid, process.started());
        if self.told.1.contains(&identity) {
            return Ok(());
        }
        process::signal_if_handled(&process, self.signal)?;
        debug!(pid, signal = %process::SignalName(self.signal), "process signalled");
        self.told.1.insert(identity);
        Ok(())
    }
}

impl Receiver {
    async fn pids(&self) -> Result<Vec<i32>, Undelivered> {
        match self {
            Self::PidFile(path) => read_pid(path).map(|pid| vec![pid]),
            Self::Named { name, which } => {
                let (wanted, which) = (name.clone(), *which);
                // A look at every process of a busy node takes milliseconds.
                let found = tokio::task::spawn_blocking(move || process::find(&wanted, which));
                let found = found.await.map_err(io::Error::other).and_then(|found| found);
                let found =
                    found.map_err(|e| Undelivered::Failed(format!("/proc cannot be read: {e}")))?;
                if found.is_empty() {
                    let detail = format!(
                        "no process has an executable or a comm named {name:?}; processes of \
                         other containers are seen only with a shared pid namespace"
                    );
                    return Err(Undelivered::Held { reason: NO_PROCESS, detail });
                }
                Ok(found)
            }
        }
    }

    /// Says where the pid came from.
    fn explained(&self, undelivered: Undelivered) -> Undelivered {
        match (self, undelivered) {
            (Self::PidFile(path), Undelivered::Held { reason, detail }) => {
                let path = path.display();
                let detail = format!("the pid file {path} is stale: {detail}");
                Undelivered::Held { reason, detail }
            }
            (_, undelivered) => undelivered,
        }
    }
}

fn read_pid(path: &Path) -> Result<i32, Undelivered> {
    let shown = path.display();
    let text = read_text(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Undelivered::Held {
            reason: NO_PROCESS,
            detail: format!("the pid file {shown} is not there: has the app been started?"),
        },
        _ => Undelivered::Failed(format!("the pid file {shown} cannot be read: {error}")),
    })?;
    // What stands there is not repeated: it may be the wrong file altogether.
    let pid = text.trim().parse().ok().filter(|pid: &i32| *pid > 0);
    pid.ok_or_else(|| {
        Undelivered::Failed(format!("the pid file {shown} holds no pid: one positive number"))
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    // Without waiting, which a FIFO would demand.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let mut text = String::new();
    file.take(MAX_PID_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

//! The child as somebody who is signalled.
//!
//! The supervisor says who it is; the task of the target signals, without asking the supervisor's
//! loop, which may be on another thread.

use std::sync::{Arc, OnceLock};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::process::{Process, signal_if_handled};
use crate::reaper::{Child, Reaper};
use crate::reload::Undelivered;

/// One child, while it may be running.
pub(super) struct Addressee {
    pid: Pid,
    reaper: Reaper,
    /// Taken hold of when it is first signalled.
    process: OnceLock<Process>,
}

/// The child of the moment, once there is one.
pub(super) type Present = watch::Receiver<Option<Arc<Addressee>>>;

impl Addressee {
    pub(super) fn new(child: &Child, reaper: Reaper) -> Self {
        Self { pid: child.pid, reaper, process: OnceLock::new() }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Signals it if it handles the signal.
    pub(super) fn tell(&self, signal: Signal) -> Result<(), Undelivered> {
        let process = match self.process.get() {
            Some(process) => process,
            None => self.take_hold()?,
        };
        Ok(signal_if_handled(process, signal)?)
    }

    fn take_hold(&self) -> Result<&Process, Undelivered> {
        let process = Process::open(self.pid())?;
        // Reaped before the pidfd was opened: then the pidfd may be of another process.
        if !self.reaper.has(self.pid) {
            return Err(Undelivered::Failed("the child has ended".to_owned()));
        }
        Ok(self.process.get_or_init(|| process))
    }
}

/// The child, as soon as one has been started.
pub(super) async fn present(child: &mut Present) -> Result<Arc<Addressee>, Undelivered> {
    let ending = || Undelivered::Failed(super::ENDING.to_owned());
    let child = child.wait_for(Option::is_some).await.map_err(|_| ending())?;
    child.clone().ok_or_else(ending)
}

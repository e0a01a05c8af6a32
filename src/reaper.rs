//! Reaps children: those that were started here, and the orphans that come to the first process of
//! a container.
//!
//! How it works. A child that has ended stays as a zombie until somebody asks for its status, and
//! each status can be had once. So one reaper serves the whole process: [`Reaper::spawn`] starts
//! each child with the registry locked, SIGCHLD makes it look, and whoever started the child waits
//! for the [`Child`]. What is not in the registry is an orphan, whose status nobody wants.
//!
//! The pid of a registered child stays its own until it has been reaped. So a signal that is sent
//! with the registry locked cannot hit anybody else.

use std::collections::HashMap;
use std::io;
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::SIGCHLD;
use signal_hook_tokio::SignalsInfo;
use tokio::sync::watch;

/// Starts children and collects what has ended. Copies share the registry; there must be only one
/// registry in a process.
#[derive(Clone)]
pub(crate) struct Reaper(Arc<Shared>);

struct Shared {
    children: Mutex<HashMap<Pid, Entry>>,
    takes_orphans: bool,
    orphans: AtomicU64,
}

struct Entry {
    child: std::process::Child,
    exited: watch::Sender<Option<ExitStatus>>,
}

/// A child that was started here. Dropping it does not end the process, which is reaped all the
/// same.
pub(crate) struct Child {
    pub(crate) pid: Pid,
    /// There where the command asked for a pipe, as is the one below.
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    exited: watch::Receiver<Option<ExitStatus>>,
    reaper: Reaper,
}

impl Reaper {
    /// Reaps from now on everything that ends below this process, also what outlives its parent.
    /// Has to be called within a runtime.
    ///
    /// # Errors
    /// Where the system refuses the handler for SIGCHLD, or to send orphans here.
    pub(crate) fn start() -> io::Result<Self> {
        // The first process of a container gets them anyway; anywhere else only who asks.
        prctl::set_child_subreaper(true)?;
        Self::new(true)
    }

    /// Reaps what it has started itself. Tests share one process, and must not take each other's
    /// children.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self::new(false).expect("SIGCHLD can be handled")
    }

    fn new(takes_orphans: bool) -> io::Result<Self> {
        let mut signals = <SignalsInfo>::new([SIGCHLD])?;
        let reaper = Self(Arc::new(Shared {
            children: Mutex::default(),
            takes_orphans,
            orphans: AtomicU64::new(0),
        }));
        let shared = Arc::clone(&reaper.0);
        tokio::spawn(async move {
            // Children may have come with the process image, and ended before there was a handler.
            shared.reap();
            while signals.next().await.is_some() {
                shared.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a child that this reaper will collect. Wait on the result, never on the pid.
    ///
    /// # Errors
    /// Where the command cannot be started.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // Locked until the child is registered: it may have ended before `spawn` returns.
        let mut children = self.0.lock();
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let (sender, exited) = watch::channel(None);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        children.insert(pid, Entry { child, exited: sender });
        drop(children);
        Ok(Child { pid, stdout, stderr, exited, reaper: self.clone() })
    }

    /// Whether this is the pid of a child that was started here and has not been reaped.
    pub(crate) fn has(&self, pid: Pid) -> bool {
        self.0.lock().contains_key(&pid)
    }

    /// How many orphans have been reaped.
    pub(crate) fn orphans(&self) -> u64 {
        self.0.orphans.load(Ordering::Relaxed)
    }
}

impl Child {
    /// Waits for the end; any number of times, and dropping the future loses nothing. `None` where
    /// somebody else has taken the status, which only a defect could do.
    pub(crate) async fn wait(&self) -> Option<ExitStatus> {
        let mut exited = self.exited.clone();
        exited.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Whether it has been reaped.
    pub(crate) fn has_ended(&self) -> bool {
        !self.reaper.has(self.pid)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// ESRCH where it has ended, EPERM where it has become another user's.
    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        self.while_unreaped(|pid| kill(pid, signal))
    }

    /// Sends a signal to the process group that it was made the leader of.
    ///
    /// # Errors
    /// ESRCH where it has ended.
    pub(crate) fn signal_group(&self, signal: Signal) -> nix::Result<()> {
        self.while_unreaped(|pid| killpg(pid, signal))
    }

    fn while_unreaped(&self, act: impl FnOnce(Pid) -> nix::Result<()>) -> nix::Result<()> {
        let children = self.reaper.0.lock();
        if children.contains_key(&self.pid) { act(self.pid) } else { Err(Errno::ESRCH) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, Entry>> {
        // No panic can leave the map half changed.
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self) {
        let mut children = self.lock();
        collect(&mut children);
        if !self.takes_orphans {
            return;
        }
        // Each round looks before it takes: the status of a registered child that has ended just
        // now belongs to its entry.
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let ended = match waitid(Id::All, flags) {
                Ok(status) => match status.pid() {
                    Some(pid) => Some(pid),
                    None => return,
                },
                // Killed by a real-time signal, for which nix has no name. The kernel shows the
                // same one again until it is taken.
                Err(Errno::EINVAL) => None,
                Err(Errno::EINTR) => continue,
                // ECHILD: there is nobody left.
                Err(_) => return,
            };
            if ended.is_none_or(|pid| children.contains_key(&pid)) && collect(&mut children) {
                continue;
            }
            match waitpid(ended, Some(WaitPidFlag::WNOHANG)) {
                Ok(_) | Err(Errno::EINVAL) => self.orphans.fetch_add(1, Ordering::Relaxed),
                // Never a round without progress.
                Err(_) => return,
            };
        }
    }
}

/// Collects the registered children that have ended; whether there was any.
fn collect(children: &mut HashMap<Pid, Entry>) -> bool {
    let before = children.len();
    children.retain(|_, entry| match entry.child.try_wait() {
        Ok(None) => true,
        Ok(Some(status)) => {
            entry.exited.send_replace(Some(status));
            false
        }
        // Not a child any more: whoever waits learns it by the end of the channel.
        Err(_) => false,
    });
    children.len() < before
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Stdio;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).process_group(0);
        command
    }

    #[tokio::test]
    async fn status_comes_to_whoever_started_the_child() {
        let reaper = Reaper::for_test();
        let three = reaper.spawn(&mut sh("exit 3")).unwrap();
        let killed = reaper.spawn(&mut sh("kill -TERM $$")).unwrap();
        assert_eq!(three.wait().await.unwrap().code(), Some(3));
        assert_eq!(killed.wait().await.unwrap().signal(), Some(15));
        // Again, and from the handle alone.
        assert_eq!(three.wait().await.unwrap().code(), Some(3));
        assert!(three.has_ended());
    }

    #[tokio::test]
    async fn reaped_child_gets_no_signal() {
        let reaper = Reaper::for_test();
        let child = reaper.spawn(&mut sh("read -r line")).unwrap();
        assert!(!child.has_ended());
        child.signal_group(Signal::SIGKILL).unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        assert_eq!(child.signal(Signal::SIGTERM), Err(Errno::ESRCH));
        assert_eq!(child.signal_group(Signal::SIGTERM), Err(Errno::ESRCH));
    }

    #[tokio::test]
    async fn death_by_real_time_signal_is_collected_too() {
        let reaper = Reaper::for_test();
        let child = reaper.spawn(&mut sh("kill -40 $$; exit 1")).unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(40));
    }

    #[tokio::test]
    async fn command_that_cannot_start_leaves_nothing_behind() {
        let reaper = Reaper::for_test();
        assert!(reaper.spawn(&mut Command::new("/nowhere/app")).is_err());
        assert!(reaper.0.lock().is_empty());
    }
}

//! Other processes: finding them, and signalling them without ever killing one by mistake.
//!
//! How it works. A [`Process`] is a pidfd: it means one process for as long as it is open, also
//! when the kernel gives the pid to another. What `/proc/<pid>/status` says is believed only where
//! the pidfd is still alive *after* the file was read: until then the pid cannot have been reused,
//! so the file was about the same process. The signal then goes through the pidfd.
//!
//! What remains: a process that replaces itself with another program (`exec`) between the look at
//! its handlers and the signal, some microseconds later.

mod find;
mod signal;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use thiserror::Error;

pub(crate) use find::{Which, find};
pub(crate) use signal::{SignalName, parse_signal};

/// Room for the whole of `/proc/<pid>/status`, which is then read at once, unless the process is in
/// hundreds of groups.
const STATUS_BYTES: usize = 4096;

/// Why a process was not signalled.
#[derive(Debug, Error)]
pub(crate) enum ProcessError {
    #[error("no process has the pid {0}: it has ended, or was never there")]
    Gone(i32),
    #[error("{0} is not the pid of a process; a pid is a positive number")]
    NotAPid(i32),
    #[error(
        "process {pid} runs as uid {theirs}, this process as uid {ours}, and may not signal it: \
         give both the same uid"
    )]
    NotPermitted { pid: i32, theirs: String, ours: u32 },
    #[error("process {pid} does not handle {signal}, which would kill it: {detail}")]
    NoHandler { pid: i32, signal: Signal, detail: &'static str },
    #[error("process {pid} ignores {signal}, which would be lost")]
    Ignored { pid: i32, signal: Signal },
    #[error("the kernel has no pidfd (Linux 5.3), without which a reused pid could be hit")]
    NoPidfd,
    #[error("process {pid} cannot be examined")]
    Io { pid: i32, source: io::Error },
}

/// What a process does with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It has a handler.
    Handled,
    /// It ignores the signal.
    Ignored,
    /// It leaves the signal to the kernel, which ends the process for most signals.
    Default,
}

/// One process, and no other that gets its pid later.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    fd: OwnedFd,
    /// Its `/proc/<pid>/status`, once that was asked for. An open one never becomes another
    /// process's.
    status: OnceLock<File>,
}

impl Process {
    /// Takes hold of the process with this pid.
    ///
    /// # Errors
    /// Where there is none, or the kernel cannot do it.
    pub(crate) fn open(pid: i32) -> Result<Self, ProcessError> {
        // Asked in this order: the crate asserts that the number is not negative.
        let known = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
        let known = known.ok_or(ProcessError::NotAPid(pid))?;
        let fd = pidfd_open(known, PidfdFlags::empty()).map_err(|errno| match errno {
            // EINVAL: the id of a thread that is not the first of its process.
            Errno::SRCH | Errno::INVAL => ProcessError::Gone(pid),
            Errno::NOSYS => ProcessError::NoPidfd,
            errno => ProcessError::Io { pid, source: errno.into() },
        })?;
        let process = Self { pid, fd, status: OnceLock::new() };
        if process.is_alive() { Ok(process) } else { Err(ProcessError::Gone(pid)) }
    }

    #[allow(dead_code, reason = "asked by the supervisor")]
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still runs; one that has ended and was not waited for yet does not.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Readable means ended. An error, such as an interruption, tells nothing.
        !matches!(poll(&mut fds, Some(&now)), Ok(1..))
    }

    /// What it does with `signal` now.
    ///
    /// # Errors
    /// Where it has ended, or `/proc` does not show it.
    pub(crate) fn disposition(&self, signal: Signal) -> Result<Disposition, ProcessError> {
        let status = self.status()?;
        let is_in = |field| signal::is_in(mask(&status, field), signal);
        Ok(match () {
            () if is_in("SigCgt:") => Disposition::Handled,
            () if is_in("SigIgn:") => Disposition::Ignored,
            () => Disposition::Default,
        })
    }

    /// Sends `signal`, whatever it does to the process.
    ///
    /// # Errors
    /// Where it has ended, or belongs to another user.
    pub(crate) fn send(&self, signal: Signal) -> Result<(), ProcessError> {
        let number = signal as i32;
        let raw = rustix::process::Signal::from_named_raw(number);
        let invalid = || ProcessError::Io { pid: self.pid, source: Errno::INVAL.into() };
        pidfd_send_signal(&self.fd, raw.ok_or_else(invalid)?).map_err(|errno| match errno {
            Errno::SRCH => ProcessError::Gone(self.pid),
            Errno::PERM => self.not_permitted(),
            Errno::NOSYS => ProcessError::NoPidfd,
            errno => ProcessError::Io { pid: self.pid, source: errno.into() },
        })
    }

    /// Tells the process from a later one of the same pid: when it started, in ticks since boot.
    pub(crate) fn started(&self) -> Option<u64> {
        find::started(self.pid)
    }

    /// In any encoding: there are names in it.
    fn status(&self) -> Result<Vec<u8>, ProcessError> {
        let read = self.status_file().and_then(read_whole);
        // Load-bearing: only now is it known whose status that was.
        if !self.is_alive() {
            return Err(ProcessError::Gone(self.pid));
        }
        read.map_err(|source| ProcessError::Io { pid: self.pid, source })
    }

    fn status_file(&self) -> io::Result<&File> {
        match self.status.get() {
            Some(file) => Ok(file),
            None => {
                let file = File::open(format!("/proc/{}/status", self.pid))?;
                Ok(self.status.get_or_init(|| file))
            }
        }
    }

    fn not_permitted(&self) -> ProcessError {
        let status = self.status().unwrap_or_default();
        let theirs = field(&status, "Uid:").unwrap_or("unknown").to_owned();
        let ours = nix::unistd::geteuid().as_raw();
        ProcessError::NotPermitted { pid: self.pid, theirs, ours }
    }
}

fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; STATUS_BYTES];
    let mut filled = file.read_at(&mut text, 0)?;
    // The kernel gives all there is, unless there is no more room.
    while filled == text.len() {
        text.resize(2 * filled, 0);
        filled += file.read_at(&mut text[filled..], filled.try_into().unwrap_or(u64::MAX))?;
    }
    text.truncate(filled);
    Ok(text)
}

/// Sends `signal` if the process has a handler for it, and never otherwise.
///
/// # Errors
/// Where it has none, has ended, or belongs to another user.
pub(crate) fn signal_if_handled(process: &Process, signal: Signal) -> Result<(), ProcessError> {
    let pid = process.pid;
    match process.disposition(signal)? {
        Disposition::Handled => process.send(signal),
        Disposition::Ignored => Err(ProcessError::Ignored { pid, signal }),
        Disposition::Default => {
            let detail = "it is sent once the process has installed a handler";
            Err(ProcessError::NoHandler { pid, signal, detail })
        }
    }
}

/// The first word of a field in `/proc/<pid>/status`.
fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(rest).ok()?.split_whitespace().next()
}

fn mask(status: &[u8], name: &str) -> u64 {
    // Without the field nothing is known to be handled, and nothing is sent.
    field(status, name).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;

//! The exit codes of the supervisor, which are those that a shell would give.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

use super::forward::Received;

/// What shells add to a signal's number to make an exit code.
const SIGNAL_EXIT_BASE: i32 = 128;
/// What shells say of a command that is not there.
pub(super) const NOT_FOUND: u8 = 127;
/// What shells say of a command that cannot be executed.
pub(super) const NOT_EXECUTABLE: u8 = 126;

/// The exit code for a signal that asks for the end while nobody is there to be told.
pub(super) fn end_without_child(received: Received) -> Option<u8> {
    let asks_for_end = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];
    asks_for_end.contains(&received.signal).then(|| byte(SIGNAL_EXIT_BASE + received.signal as i32))
}

/// The exit code that passes the child's end on. Without a status, which only a defect could take
/// away, it has failed.
pub(super) fn code(status: Option<ExitStatus>) -> u8 {
    let Some(status) = status else { return 1 };
    byte(status.code().or_else(|| Some(SIGNAL_EXIT_BASE + status.signal()?)).unwrap_or(1))
}

fn byte(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

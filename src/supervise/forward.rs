//! The signals that are passed on to the child, with where they come from.

use std::future::pending;
use std::io;

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;
use signal_hook_tokio::SignalsInfo;

/// What a proper first process passes on.
const FORWARDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// A signal that has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(super) signal: Signal,
    /// The kernel has sent it, as it does for Ctrl-C: to every process in the foreground.
    pub(super) is_from_terminal: bool,
}

/// Receives the signals from the moment it is made. What is handled here is back at its default in
/// the child: `exec` resets handlers, and so nothing is ignored there on behalf of the supervisor.
pub(crate) struct Forwarded(SignalsInfo<WithRawSiginfo>);

impl Forwarded {
    /// Takes over the signals. Has to be called within a runtime, and early: as the first process
    /// of a container, a signal without a handler is lost.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub(crate) fn new() -> io::Result<Self> {
        let numbers = FORWARDED.map(|signal| signal as i32);
        SignalsInfo::with_exfiltrator(numbers, WithRawSiginfo).map(Self)
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            // The stream never ends.
            let Some(info) = self.0.next().await else { return pending().await };
            if let Ok(signal) = Signal::try_from(info.si_signo) {
                // Processes give 0 or less.
                return Received { signal, is_from_terminal: info.si_code > 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::kill;
    use nix::unistd::getpid;

    use super::*;

    #[tokio::test]
    async fn signal_of_a_process_is_not_from_the_terminal() {
        let mut forwarded = Forwarded::new().unwrap();
        kill(getpid(), Signal::SIGWINCH).unwrap();
        let received = forwarded.next().await;
        assert_eq!(received.signal, Signal::SIGWINCH);
        assert!(!received.is_from_terminal);
    }
}

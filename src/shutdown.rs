//! Signals: what the world asks of the sidecar.
//!
//! The first SIGTERM or SIGINT asks for an orderly end. The second ends the process at once, from
//! within the signal handler, so that it works even when everything else hangs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook_tokio::SignalsInfo;

/// What shells add to a signal's number to make an exit code.
const SIGNAL_EXIT_BASE: i32 = 128;

/// One wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// End in an orderly way; which signal asked for it.
    Stop(&'static str),
    /// Look at every volume now.
    LookNow,
}

/// Receives the signals from the moment it is made.
pub(crate) struct Signals(SignalsInfo);

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP. Has to be called within a runtime, and early: as the
    /// first process of a container, a signal without a handler is lost.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub(crate) fn new() -> io::Result<Self> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // The order is load-bearing: the handler that ends the process must find the flag as
            // it was before this signal.
            let code = SIGNAL_EXIT_BASE + signal;
            flag::register_conditional_shutdown(signal, code, Arc::clone(&is_stopping))?;
            flag::register(signal, Arc::clone(&is_stopping))?;
        }
        SignalsInfo::new([SIGTERM, SIGINT, SIGHUP]).map(Self)
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Wish {
        match self.0.next().await {
            Some(SIGHUP) => Wish::LookNow,
            Some(SIGINT) => Wish::Stop("SIGINT"),
            // The stream never ends; if it did, no signal could arrive any more.
            Some(_) | None => Wish::Stop("SIGTERM"),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[tokio::test]
    async fn signals_become_wishes() {
        let mut signals = Signals::new().unwrap();
        raise(Signal::SIGHUP).unwrap();
        assert_eq!(signals.next().await, Wish::LookNow);
        // One of them only: the second would end the process that runs the tests.
        raise(Signal::SIGINT).unwrap();
        assert_eq!(signals.next().await, Wish::Stop("SIGINT"));
    }
}

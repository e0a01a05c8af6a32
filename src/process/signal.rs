//! Signals by name and as bits of a mask.

use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal;

/// Shows a signal as it is written in settings: `HUP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalName(pub(crate) Signal);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.as_str();
        f.write_str(name.strip_prefix("SIG").unwrap_or(name))
    }
}

/// Reads a signal's name, with or without `SIG`, in any case.
///
/// # Errors
/// Where there is no such signal, or no process can have a handler for it.
pub(crate) fn parse_signal(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    match Signal::from_str(&format!("SIG{name}")) {
        Ok(Signal::SIGKILL | Signal::SIGSTOP) => {
            Err("KILL and STOP cannot be handled, and so cannot tell a process anything".to_owned())
        }
        Ok(signal) => Ok(signal),
        Err(_) => Err("expected the name of a signal, such as HUP, USR1 or SIGWINCH".to_owned()),
    }
}

/// Whether the signal's bit is set in a mask of `/proc/<pid>/status`.
pub(super) fn is_in(mask: u64, signal: Signal) -> bool {
    let bit = (signal as i32).unsigned_abs().saturating_sub(1);
    mask.checked_shr(bit).is_some_and(|shifted| shifted & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_is_known() {
        for text in ["HUP", "SIGHUP", "hup", "sighup", "Hup"] {
            assert_eq!(parse_signal(text), Ok(Signal::SIGHUP), "{text}");
        }
        assert_eq!(SignalName(Signal::SIGUSR1).to_string(), "USR1");
    }

    #[test]
    fn signals_that_nobody_can_handle_are_refused() {
        for text in ["KILL", "sigstop"] {
            assert!(parse_signal(text).unwrap_err().contains("cannot be handled"), "{text}");
        }
        for text in ["", "SIG", "1", "HUPP", "SIGSIGHUP"] {
            assert!(parse_signal(text).unwrap_err().contains("such as HUP"), "{text}");
        }
    }

    #[test]
    fn first_bit_is_signal_one() {
        assert!(is_in(1, Signal::SIGHUP) && !is_in(1, Signal::SIGINT));
        assert!(is_in(0x4000, Signal::SIGTERM));
    }
}

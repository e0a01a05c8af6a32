//! How long to wait before the sidecar is tried again.

use std::time::Duration;

/// The first pause: a sidecar restarts within milliseconds.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause: one more connection every two seconds disturbs nobody.
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// Starts again with the shortest pause.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// The next pause.
    pub(crate) fn step(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_until_reset() {
        let mut backoff = Backoff::new();
        let total: Duration = (0..6).map(|_| backoff.step()).sum();
        assert_eq!(total, FIRST * 63);
        assert_eq!(backoff.step(), LONGEST);
        backoff.reset();
        assert_eq!(backoff.step(), FIRST);
    }
}

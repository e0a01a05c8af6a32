//! Health: whether the engine keeps its promises.
//!
//! Before every wait and every piece of work the engine promises when it will be back. An engine
//! that is stuck (a file system that hangs) or has ended breaks its promise, and nothing has to
//! wake up while all is well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How late the engine may be on a busy machine before it counts as stuck.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Health {
    start: Instant,
    /// Milliseconds after `start` by which the engine will have been heard of again.
    promise: AtomicU64,
}

impl Health {
    pub(crate) fn new() -> Self {
        let health = Self { start: Instant::now(), promise: AtomicU64::new(0) };
        health.promise(Duration::ZERO);
        health
    }

    /// Promises to be back within `within`, give or take [`GRACE`].
    pub(crate) fn promise(&self, within: Duration) {
        let until = self.start.elapsed().saturating_add(within).saturating_add(GRACE);
        self.promise.store(millis(until), Ordering::Relaxed);
    }

    /// Breaks the promise at once: the engine has ended.
    pub(crate) fn end(&self) {
        self.promise.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_alive(&self) -> bool {
        millis(self.start.elapsed()) < self.promise.load(Ordering::Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_that_promised_is_alive_until_it_ends() {
        let health = Health::new();
        assert!(health.is_alive());
        health.promise(Duration::MAX);
        assert!(health.is_alive());
        health.end();
        assert!(!health.is_alive());
    }
}

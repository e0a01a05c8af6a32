//! What has happened, counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Kinds of things by name; those that are expected start at zero.
#[derive(Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    pub rotations: AtomicU64,
    pub reads: AtomicU64,
    pub reconnects: AtomicU64,
    pub pickups: AtomicU64,
    slowest_micros: AtomicU64,
}

impl Tally {
    /// Makes what has not happened yet visible.
    pub fn expect(&self, kinds: impl IntoIterator<Item = &'static str>) {
        let mut counts = self.counts.lock().unwrap();
        for kind in kinds {
            counts.entry(kind).or_default();
        }
    }

    pub fn count(&self, kind: &'static str) {
        *self.counts.lock().unwrap().entry(kind).or_default() += 1;
    }

    /// A rotation was seen for the first time by somebody who waits for it.
    pub fn picked_up(&self, after: Duration) {
        self.pickups.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.slowest_micros.fetch_max(micros, Ordering::Relaxed);
    }

    pub fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_micros.load(Ordering::Relaxed))
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }
}

pub fn increase(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

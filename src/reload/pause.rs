//! How long to wait: before a retry, and so that not every replica acts in the same second.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first pause before a held target is looked at again: programs install their handlers within
/// the first moments.
const HELD_FIRST: Duration = Duration::from_millis(100);
/// The longest such pause: a look costs microseconds, and the app waits for it.
const HELD_LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double, up to a limit.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Pause {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, first, longest }
    }

    /// For a target that cannot take a signal yet.
    pub(super) fn held() -> Self {
        Self::new(HELD_FIRST, HELD_LONGEST)
    }

    /// Starts again with the shortest pause.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause.
    pub(super) fn step(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

/// Between three quarters of `pause` and all of it: replicas whose target failed for all of them in
/// the same moment do not come back in the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    // Seeded by the operating system, anew for every call.
    let random = RandomState::new().build_hasher().finish();
    pause - share(pause / 4, random)
}

/// The delay of this host: always the same one, somewhere below `bound`.
pub(super) fn splay(bound: Duration, host: &str, target: &str) -> Duration {
    share(bound, fnv1a(&[host.as_bytes(), b"/", target.as_bytes()].concat()))
}

/// The part of `whole` that `number` is of all numbers.
fn share(whole: Duration, number: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(number)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// FNV-1a with a final mix. The hasher of the standard library may change with any release, and
/// with it the delay of each host.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    // Names of replicas differ in their last character, which has hardly reached the upper bits.
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_until_reset() {
        let mut pause = Pause::new(Duration::from_secs(1), Duration::from_secs(5));
        let steps: Vec<_> = (0..5).map(|_| pause.step().as_secs()).collect();
        assert_eq!(steps, [1, 2, 4, 5, 5]);
        pause.reset();
        assert_eq!(pause.step(), Duration::from_secs(1));
    }

    #[test]
    fn jitter_takes_at_most_a_quarter() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(4));
            assert!((Duration::from_secs(3)..=Duration::from_secs(4)).contains(&pause));
        }
    }

    #[test]
    fn hosts_are_spread_over_the_bound_and_stay_where_they_are() {
        let bound = Duration::from_secs(100);
        let of = |at: u32| splay(bound, &format!("app-5d4f8-{at}"), "t");
        let delays: Vec<_> = (0..100).map(of).collect();
        assert_eq!(delays, (0..100).map(of).collect::<Vec<_>>());
        assert!(delays.iter().all(|delay| *delay < bound));
        for quarter in 0..4 {
            let range = bound * quarter / 4..bound * (quarter + 1) / 4;
            let count = delays.iter().filter(|delay| range.contains(delay)).count();
            assert!((10..=40).contains(&count), "{count} of 100 in quarter {quarter}");
        }
        assert_eq!(splay(Duration::ZERO, "app", "t"), Duration::ZERO);
    }
}

//! Waiting.

use std::time::{Duration, Instant};

use crate::failure::fail;

/// What is waited for takes a few seconds at most. This is for a machine that has much else to do.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often something is looked at that tells nobody when it changes.
const TICK: Duration = Duration::from_millis(10);

/// Lets time go by: a fault that lasts, or the pace of a writer.
pub fn pause(time: Duration) {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Waits until `look` finds something. The soak fails where it does not before the deadline, with
/// what was missing last.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) if start.elapsed() > DEADLINE => {
                fail(&format!("{what}: not within {} s: {missing}", DEADLINE.as_secs()))
            }
            Err(_) => pause(TICK),
        }
    }
}

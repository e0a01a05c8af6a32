//! What happens when the credential rotates.
//!
//! One loop, which never waits for one thing alone: neither a credential that does not work nor a
//! request that does not end can keep a newer credential from being used.

use std::sync::Arc;
use std::time::Duration;

use secretwatch::{Changes, ConsumerName, Snapshot, Volume};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::database::{Database, describe};
use crate::pool::Drained;

/// Between attempts with a credential that does not work: doubled each time.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

pub(crate) struct Rotation {
    database: Arc<Database>,
    volume: Volume,
    consumer: ConsumerName,
    changes: Changes,
    /// Of the current pool, for when it is swapped out.
    drained: Drained,
    /// Pools that were swapped out and may still serve a request.
    draining: JoinSet<()>,
}

impl Rotation {
    pub(crate) fn new(
        (database, drained): (Arc<Database>, Drained),
        volume: Volume,
        consumer: ConsumerName,
        changes: Changes,
    ) -> Self {
        Self { database, volume, consumer, changes, drained, draining: JoinSet::new() }
    }

    /// Goes on until the watch ends. `in_use` is what the current pool was opened with.
    pub(crate) async fn run(mut self, mut in_use: Arc<Snapshot>) {
        let mut wanted = None;
        let mut delay = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                next = self.changes.changed() => match next {
                    Ok(snapshot) => {
                        wanted = Some(snapshot);
                        delay = Duration::ZERO;
                    }
                    Err(stopped) => return println!("app: the credential is no longer followed: {stopped}"),
                },
                Some(_) = self.draining.join_next() => {}
                () = sleep(delay), if wanted.is_some() => {
                    if let Some(snapshot) = wanted.take() {
                        let is_first = delay.is_zero();
                        if self.switch_to(&snapshot, is_first).await {
                            in_use = snapshot;
                        } else {
                            wanted = Some(snapshot);
                            delay = (delay * 2).clamp(FIRST_DELAY, LONGEST_DELAY);
                        }
                    }
                }
            }
            if wanted.is_none() && self.draining.is_empty() {
                self.adopt(&in_use);
            }
        }
    }

    /// Whether requests use `snapshot` from now on. Why not is said at the first attempt only.
    async fn switch_to(&mut self, snapshot: &Snapshot, is_first: bool) -> bool {
        let switched = self.database.switch_to(snapshot).await;
        let current = self.database.current();
        match switched {
            Ok(drained) => {
                println!(
                    "app: now {}; requests that have begun keep the old pool",
                    current.label()
                );
                let old = std::mem::replace(&mut self.drained, drained);
                self.draining.spawn(old.wait());
                true
            }
            Err(failure) => {
                if is_first {
                    println!("app: still {}: {}", current.label(), describe(&failure));
                }
                false
            }
        }
    }

    fn adopt(&self, snapshot: &Snapshot) {
        let version = snapshot.version().unwrap_or("unknown");
        match self.volume.adopt(&self.consumer, snapshot) {
            Ok(_) => println!("app: the old pool is closed, version {version} is adopted"),
            Err(error) => println!("app: version {version} is not adopted: {error}"),
        }
    }
}

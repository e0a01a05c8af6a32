//! Waiting for the next snapshot, with or without an async runtime.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::Listener;

use crate::error::Stopped;
use crate::secrets::Volume;
use crate::snapshot::Snapshot;

/// Follows the changes of one volume. Latest-wins: whoever is slow skips generations and never
/// misses the last one.
///
/// It remembers what it has seen, so a change between two calls is not lost. Clones go on
/// independently from the same point.
#[derive(Clone)]
pub struct Changes {
    volume: Volume,
    seen: u64,
}

impl Changes {
    pub(crate) fn new(volume: Volume, seen: u64) -> Self {
        Self { volume, seen }
    }

    /// Waits for a snapshot that is newer than the last one this handle has seen. Needs no
    /// particular runtime, and nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`Stopped`] once the watch has ended and the last snapshot has been seen.
    pub async fn changed(&mut self) -> Result<Arc<Snapshot>, Stopped> {
        loop {
            let listener = self.volume.reader().listen();
            if let Some(result) = self.poll() {
                return result;
            }
            listener.await;
        }
    }

    /// Does what [`changed`](Self::changed) does, by blocking this thread.
    ///
    /// # Errors
    /// [`Stopped`] once the watch has ended and the last snapshot has been seen.
    pub fn changed_blocking(&mut self) -> Result<Arc<Snapshot>, Stopped> {
        loop {
            let listener = self.volume.reader().listen();
            if let Some(result) = self.poll() {
                return result;
            }
            listener.wait();
        }
    }

    /// Blocks this thread for at most `timeout`; `None` where nothing has changed until then.
    ///
    /// # Errors
    /// [`Stopped`] once the watch has ended and the last snapshot has been seen.
    pub fn changed_timeout(&mut self, timeout: Duration) -> Result<Option<Arc<Snapshot>>, Stopped> {
        // A time too far away to express is no limit.
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return self.changed_blocking().map(Some);
        };
        loop {
            let listener = self.volume.reader().listen();
            if let Some(result) = self.poll() {
                return result.map(Some);
            }
            if listener.wait_deadline(deadline).is_none() {
                return self.poll().transpose();
            }
        }
    }

    /// What is there now, if it is newer than the last one this handle has seen.
    fn poll(&mut self) -> Option<Result<Arc<Snapshot>, Stopped>> {
        let reader = self.volume.reader();
        // Before the look at the generation: a last snapshot is published before the store closes.
        let is_closed = reader.is_closed();
        if reader.generation() > self.seen {
            let snapshot = reader.current();
            self.seen = snapshot.generation();
            return Some(Ok(snapshot));
        }
        is_closed.then_some(Err(Stopped))
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("volume", &self.volume.name().as_str())
            .field("seen", &self.seen)
            .finish()
    }
}

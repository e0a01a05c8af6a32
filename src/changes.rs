//! Waiting for the next snapshot, with or without an async runtime.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::Listener;

use crate::callback::CallbackGuard;
use crate::error::{Error, Stopped};
use crate::name::ConsumerName;
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
    /// Adopts what is handed out.
    consumer: Option<ConsumerName>,
}

impl Changes {
    pub(crate) fn new(volume: Volume, seen: u64) -> Self {
        Self { volume, seen, consumer: None }
    }

    /// Adopts each snapshot in the name of `consumer` at the moment it is handed out, that is when
    /// [`changed`](Self::changed) or one of its twins returns it. For code that uses a snapshot as
    /// soon as it has it. Code that has work to do first, such as opening connections, should call
    /// [`Volume::adopt`] when that is done; with [`on_change`](Self::on_change) this is what
    /// happens.
    ///
    /// An adoption that cannot be recorded is logged and stops nothing.
    #[must_use]
    pub fn adopting(mut self, consumer: ConsumerName) -> Self {
        self.consumer = Some(consumer);
        self
    }

    /// Calls `callback` with each snapshot from now on, on a thread of its own, until the guard is
    /// dropped or the watch ends. Latest-wins, one call at a time. A callback that panics is logged
    /// and called again at the next change.
    ///
    /// With [`adopting`](Self::adopting), a snapshot is adopted when the callback has returned.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn on_change(
        self,
        callback: impl FnMut(Arc<Snapshot>) + Send + 'static,
    ) -> Result<CallbackGuard, Error> {
        CallbackGuard::start(self, callback)
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

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Adopts a snapshot in the name that [`adopting`](Self::adopting) was given, if it was.
    pub(crate) fn adopt(&self, snapshot: &Snapshot) {
        let Some(consumer) = &self.consumer else { return };
        if let Err(error) = self.volume.adopt(consumer, snapshot) {
            let (volume, revision) = (snapshot.volume(), snapshot.revision());
            tracing::warn!(%volume, %consumer, revision, %error, "a snapshot cannot be adopted");
        }
    }

    /// What is there now, adopted if that is wanted.
    fn poll(&mut self) -> Option<Result<Arc<Snapshot>, Stopped>> {
        let taken = self.take()?;
        if let Ok(snapshot) = &taken {
            self.adopt(snapshot);
        }
        Some(taken)
    }

    /// What is there now, if it is newer than the last one this handle has seen.
    pub(crate) fn take(&mut self) -> Option<Result<Arc<Snapshot>, Stopped>> {
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
            .field("consumer", &self.consumer.as_ref().map(ConsumerName::as_str))
            .finish()
    }
}

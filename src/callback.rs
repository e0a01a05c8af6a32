//! Changes by callback, for code that has neither a runtime nor a thread to wait on.
//!
//! How it works. A thread of its own waits for the next snapshot and calls the callback with it,
//! latest-wins, one call at a time. A callback that panics is caught: the thread goes on, and the
//! log says so, without the panic's message, which could have a value in it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use event_listener::Listener;

use crate::changes::Changes;
use crate::error::Error;
use crate::secrets::Volume;
use crate::snapshot::Snapshot;

/// Keeps a callback registered. Dropping it waits for a call that is under way, and then nothing is
/// called any more.
///
/// It counts as a handle to the watch, which therefore goes on as long as it lives.
#[must_use = "the callback is called only as long as this lives"]
pub struct CallbackGuard {
    volume: Volume,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CallbackGuard {
    pub(crate) fn start(
        changes: Changes,
        callback: impl FnMut(Arc<Snapshot>) + Send + 'static,
    ) -> Result<Self, Error> {
        let volume = changes.volume().clone();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let caller = Caller { changes, callback, is_stopping: Arc::clone(&is_stopping) };
        let thread = thread::Builder::new()
            .name("secretwatch-cb".to_owned())
            .spawn(move || caller.run())
            .map_err(Error::thread)?;
        Ok(Self { volume, is_stopping, thread: Some(thread) })
    }
}

impl Drop for CallbackGuard {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.volume.reader().wake();
        let Some(thread) = self.thread.take() else { return };
        // Within the callback itself there is nothing to wait for: it ends with this call.
        if thread.thread().id() != thread::current().id() {
            // Panics are caught in the thread, so there is no error that could be lost.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for CallbackGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackGuard").field("volume", &self.volume.name().as_str()).finish()
    }
}

struct Caller<F> {
    changes: Changes,
    callback: F,
    is_stopping: Arc<AtomicBool>,
}

impl<F: FnMut(Arc<Snapshot>)> Caller<F> {
    fn run(mut self) {
        while let Some(snapshot) = self.next() {
            let call = AssertUnwindSafe(|| (self.callback)(Arc::clone(&snapshot)));
            if catch_unwind(call).is_ok() {
                self.changes.adopt(&snapshot);
            } else {
                let (volume, revision) = (snapshot.volume(), snapshot.revision());
                tracing::error!(
                    %volume, revision,
                    "the callback has panicked; it is called again at the next change"
                );
            }
        }
    }

    /// The next snapshot; `None` once the guard is dropped or the watch has ended.
    fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            let listener = self.changes.volume().reader().listen();
            // After `listen`, so that a guard that is dropped now wakes the wait below.
            if self.is_stopping.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(result) = self.changes.take() {
                return result.ok();
            }
            listener.wait();
        }
    }
}

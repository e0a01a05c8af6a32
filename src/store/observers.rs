//! Who is told of a snapshot by the very thread that publishes it.
//!
//! Waking another thread takes as long as looking at a volume does. Who cannot wait for that, and
//! never blocks, observes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Called on the publishing thread, which has more to do: it must not block.
pub(crate) trait Observer: Send + Sync {
    /// A snapshot is current, and nobody else has been told.
    fn published(&self);

    /// Everybody has been told, and the publishing thread has nothing left to do.
    fn finished(&self);
}

/// The observers of one volume, for as long as there is somebody who holds them.
#[derive(Default)]
pub(super) struct Observers(Mutex<Vec<Weak<dyn Observer>>>);

impl Observers {
    #[cfg(feature = "cli")]
    pub(super) fn add(&self, observer: &Arc<dyn Observer>) {
        self.lock().push(Arc::downgrade(observer));
    }

    pub(super) fn published(&self) {
        self.present().iter().for_each(|observer| observer.published());
    }

    pub(super) fn finished(&self) {
        self.present().iter().for_each(|observer| observer.finished());
    }

    /// Those who are still there. They are called without the lock, so that they may come and go.
    fn present(&self) -> Vec<Arc<dyn Observer>> {
        let mut observers = self.lock();
        observers.retain(|observer| observer.strong_count() > 0);
        observers.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Observer>>> {
        // No panic can leave the list half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

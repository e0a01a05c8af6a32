//! The store: where the current snapshot of a volume is published and read.
//!
//! How it works. [`channel`] gives one [`Publisher`], which only the engine holds, and a
//! [`Reader`] that can be copied. Reading takes no lock and never waits for a rotation.
//!
//! `current()` hands out an `Arc`, whose counter is the one word that all readers would write to.
//! So that reading scales with cores, each snapshot is published under [`STRIPES`] separate
//! `Arc`s and a thread uses the stripe it was given at its first read. A rotation reaches the
//! stripes one after the other; `announced` makes that invisible: a reader that finds its stripe
//! older than what has been announced takes the snapshot from `latest` instead. No reader, on any
//! thread, sees a generation older than one that any thread has seen before.
//!
//! Who waits for a snapshot is woken; who is in more of a hurry, and never blocks, is an
//! [`Observer`] and is called.

mod observers;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use event_listener::{Event, EventListener};

use crate::adoption::Ledger;
use crate::gate::Accepted;
use crate::snapshot::{Label, Snapshot};
use crate::status::Status;
#[cfg(feature = "cli")]
pub(crate) use observers::Observer;
use observers::Observers;

/// More stripes than the cores of a usual pod; each costs a few words per volume.
const STRIPES: usize = 16;

/// One stripe to a cache line, otherwise striping would gain nothing.
#[repr(align(128))]
struct Stripe(ArcSwap<Snapshot>);

struct Shared {
    /// The highest generation that any reader may have seen.
    announced: AtomicU64,
    latest: ArcSwap<Snapshot>,
    stripes: [Stripe; STRIPES],
    status: ArcSwap<Status>,
    ledger: Ledger,
    observers: Observers,
    changed: Event,
    closed: AtomicBool,
}

/// The writing end of a volume's store. There is one, and dropping it closes the store.
pub(crate) struct Publisher(Arc<Shared>);

/// The reading end of a volume's store.
#[derive(Clone)]
pub(crate) struct Reader(Arc<Shared>);

/// Makes the store of one volume; `initial` stands in until something is accepted.
pub(crate) fn channel(initial: &Snapshot, status: Status) -> (Publisher, Reader) {
    let shared = Arc::new(Shared {
        announced: AtomicU64::new(initial.generation()),
        latest: ArcSwap::from_pointee(initial.clone()),
        stripes: std::array::from_fn(|_| Stripe(ArcSwap::from_pointee(initial.clone()))),
        status: ArcSwap::from_pointee(status),
        ledger: Ledger::new(initial, Instant::now()),
        observers: Observers::default(),
        changed: Event::new(),
        closed: AtomicBool::new(false),
    });
    (Publisher(Arc::clone(&shared)), Reader(shared))
}

impl Publisher {
    /// Makes accepted contents the current snapshot. Whoever is in a hurry is told by
    /// [`tell`](Self::tell), whoever waits by [`wake`](Self::wake), and then it is time to
    /// [`spread`](Self::spread) it.
    pub(crate) fn store(&self, label: Label, accepted: Accepted, status: &Status) -> Snapshot {
        let snapshot = Snapshot::new(label, accepted.into_contents());
        let shared = &self.0;
        // First: nobody may see the new snapshot together with the trouble that it ends.
        if **shared.status.load() != *status {
            self.set_status(status.clone());
        }
        // Before anybody can see the snapshot, and so before anybody can adopt it.
        shared.ledger.published(&snapshot, Instant::now());
        shared.latest.store(Arc::new(snapshot.clone()));
        // Only after `latest`, so that what is announced can be had from there.
        shared.announced.fetch_max(snapshot.generation(), Ordering::SeqCst);
        snapshot
    }

    /// Brings what was stored to every stripe, from where reading it scales. It is current before,
    /// and those who wait need not wait for this.
    pub(crate) fn spread(&self, snapshot: &Snapshot) {
        for stripe in &self.0.stripes {
            stripe.0.store(Arc::new(snapshot.clone()));
        }
    }

    /// Tells the observers.
    pub(crate) fn tell(&self) {
        self.0.observers.published();
    }

    /// Wakes everybody who waits for a snapshot.
    pub(crate) fn wake(&self) {
        self.0.changed.notify(usize::MAX);
    }

    /// Says that nothing more is to come for this snapshot.
    pub(crate) fn finish(&self) {
        self.0.observers.finished();
    }

    /// All at once, for tests.
    #[cfg(test)]
    pub(crate) fn publish(&self, label: Label, accepted: Accepted, status: &Status) -> Snapshot {
        let snapshot = self.store(label, accepted, status);
        self.tell();
        self.wake();
        self.spread(&snapshot);
        self.finish();
        snapshot
    }

    /// Says how the volume is doing; does not wake those who wait for a snapshot.
    pub(crate) fn set_status(&self, status: Status) {
        self.0.status.store(Arc::new(status));
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
    }
}

impl Reader {
    #[inline]
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        let announced = self.0.announced.load(Ordering::Acquire);
        let snapshot = self.0.stripes[stripe_of_this_thread()].0.load_full();
        if snapshot.generation() >= announced { snapshot } else { self.latest() }
    }

    #[cold]
    fn latest(&self) -> Arc<Snapshot> {
        let snapshot = self.0.latest.load_full();
        // This may be the first reader to see it; from now on nobody may see an older one.
        self.0.announced.fetch_max(snapshot.generation(), Ordering::SeqCst);
        snapshot
    }

    /// The current generation, without touching the snapshot.
    pub(crate) fn generation(&self) -> u64 {
        self.0.announced.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> Arc<Status> {
        self.0.status.load_full()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }

    /// Who uses what of this volume.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Has an observer called at each snapshot from now on, for as long as somebody holds it.
    #[cfg(feature = "cli")]
    pub(crate) fn observe(&self, observer: &Arc<dyn Observer>) {
        self.0.observers.add(observer);
    }

    /// Wakes everybody who waits for a snapshot, to look around.
    pub(crate) fn wake(&self) {
        self.0.changed.notify(usize::MAX);
    }

    /// Starts listening. Look at [`Self::generation`] and [`Self::is_closed`] again before waiting:
    /// only what happens after this call wakes the listener.
    pub(crate) fn listen(&self) -> EventListener {
        self.0.changed.listen()
    }
}

/// Threads take the stripes in turn.
fn stripe_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adoption::{MAX_KNOWN_REVISIONS, Now};
    use crate::snapshot::tests::{contents, snapshot};
    use std::time::{Duration, SystemTime};

    fn publish(publisher: &Publisher, generation: u64) {
        let text = generation.to_string();
        let label = Label {
            volume: "db".parse().unwrap(),
            boot: "boot".into(),
            generation,
            published_at: None,
            observed_at: SystemTime::UNIX_EPOCH,
        };
        let accepted = Accepted::for_test(contents([("n", text.as_str())]));
        publisher.publish(label, accepted, &Status::default());
    }

    #[test]
    fn every_thread_reads_what_was_published() {
        let (publisher, reader) = channel(&snapshot(0, []), Status::default());
        publish(&publisher, 1);
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| assert_eq!(reader.current().generation(), 1));
            }
        });
    }

    #[test]
    fn generation_seen_by_one_thread_is_never_unseen_by_another() {
        const LAST: u64 = 5_000;
        let (publisher, reader) = channel(&snapshot(0, []), Status::default());
        // What one thread has seen is handed to the others through `seen`.
        let seen = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while seen.load(Ordering::Acquire) < LAST {
                        let before = seen.load(Ordering::Acquire);
                        let now = reader.current();
                        assert!(now.generation() >= before, "{} after {before}", now.generation());
                        assert_eq!(now.contents().len(), usize::from(now.generation() > 0));
                        seen.fetch_max(now.generation(), Ordering::AcqRel);
                    }
                });
            }
            for generation in 1..=LAST {
                publish(&publisher, generation);
            }
        });
    }

    #[test]
    fn snapshot_that_can_be_seen_can_be_adopted() {
        const LAST: u64 = 5_000;
        let (publisher, reader) = channel(&snapshot(0, []), Status::default());
        publish(&publisher, 1);
        let (consumer, day) = ("app".parse().unwrap(), Duration::from_secs(24 * 60 * 60));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let seen = reader.current();
                    let said = reader.ledger().adopt(&consumer, seen.revision(), Now::read(), day);
                    // Refused only where it was overtaken by as many as are known.
                    let last = reader.ledger().look(Instant::now(), day).generation;
                    let is_overtaken = seen.generation() + MAX_KNOWN_REVISIONS as u64 <= last;
                    assert!(said.is_ok() || is_overtaken, "{said:?}");
                    if seen.generation() == LAST {
                        break;
                    }
                }
            });
            (2..=LAST).for_each(|generation| publish(&publisher, generation));
        });
        assert!(reader.ledger().look(Instant::now(), day).all_adopted());
    }

    #[test]
    fn old_snapshot_is_released_by_every_stripe() {
        let (publisher, reader) = channel(&snapshot(0, []), Status::default());
        publish(&publisher, 1);
        let weak = Arc::downgrade(&reader.current());
        publish(&publisher, 2);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn dropping_the_publisher_closes_the_store_and_wakes() {
        let (publisher, reader) = channel(&snapshot(0, []), Status::default());
        let listener = reader.listen();
        drop(publisher);
        event_listener::Listener::wait(listener);
        assert!(reader.is_closed());
    }
}

//! Adoption: which revision each consumer says that it uses.
//!
//! That a volume serves a new revision does not mean that the app uses it. An app that does says
//! so, and whoever wants to revoke the old credential can wait until everybody has.
//!
//! How it works. Each volume has a [`Ledger`]. It knows the current revision and the few before it,
//! by name and never with their values, and the consumers with what each of them has said last. It
//! is told of a revision before the store shows that one to anybody, so nobody can hold a revision
//! that the ledger does not know yet. A consumer that adopts an older revision than before is
//! believed: an app that was rolled back does use the old one.
//!
//! A consumer that was not seen for the expiry is forgotten, so that one that has gone for good
//! blocks nobody for ever; saying the same again counts as being seen. The time is an argument
//! everywhere, and expired consumers are removed whenever somebody looks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use event_listener::Event;
use thiserror::Error;

use crate::name::{ConsumerName, VolumeName};
use crate::snapshot::Snapshot;

mod gauges;
#[cfg(test)]
mod tests;

pub(crate) use gauges::Gauges;

/// How many revisions of a volume can be adopted: the current one and those before it. An app that
/// is further behind than this has to read again anyway.
pub const MAX_KNOWN_REVISIONS: usize = 8;
/// The most consumers of one volume: far more than a pod has processes, and each is a metric series.
pub const MAX_CONSUMERS: usize = 64;
/// How long a silent consumer is remembered where nothing else is asked for. Longer than the usual
/// time between two rotations, because an app that speaks only then must still be waited for at the
/// next one: to forget it too early could revoke a credential in use, to remember it too long only
/// keeps somebody waiting, who is told for whom.
pub const DEFAULT_ADOPTION_EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The shortest expiry: below it an app would hardly do anything but repeat itself.
pub const MIN_ADOPTION_EXPIRY: Duration = Duration::from_secs(1);
/// The longest expiry: a leap year.
pub const MAX_ADOPTION_EXPIRY: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Why an adoption is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The revision is none of the last few: too old, of another process, or made up.
    #[error(
        "this is none of the last {MAX_KNOWN_REVISIONS} revisions of volume `{volume}`; the \
         current one is `{current}`"
    )]
    UnknownRevision {
        /// The volume.
        volume: VolumeName,
        /// The revision that is current now.
        current: Box<str>,
    },
    /// The snapshot is one of another volume.
    #[error("the snapshot is of volume `{found}` and not of `{volume}`")]
    OtherVolume {
        /// The volume that was to be adopted.
        volume: VolumeName,
        /// The volume of the snapshot.
        found: VolumeName,
    },
    /// There are [`MAX_CONSUMERS`] others.
    #[error(
        "volume `{volume}` has {MAX_CONSUMERS} consumers, the most that are allowed; remove those \
         that have gone, or shorten the adoption expiry"
    )]
    TooManyConsumers {
        /// The volume.
        volume: VolumeName,
    },
    /// Nothing has been accepted yet, so there is nothing to adopt.
    #[error("volume `{volume}` has no snapshot yet")]
    NotReady {
        /// The volume.
        volume: VolumeName,
    },
}

/// What one consumer has said last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adoption {
    /// Who.
    pub consumer: ConsumerName,
    /// The revision it uses.
    pub revision: Box<str>,
    /// The generation of that revision.
    pub generation: u64,
    /// When it said so for the first time since it used another one.
    pub adopted_at: SystemTime,
    /// When it said so last.
    pub seen_at: SystemTime,
    /// Whether that is the current revision.
    pub is_current: bool,
}

/// The consumers of one volume at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adoptions {
    /// The current revision.
    pub revision: Box<str>,
    /// The current generation; 0 until something is accepted.
    pub generation: u64,
    /// All that are known, in the order of their names.
    pub consumers: Vec<Adoption>,
    /// How long the consumer that is behind for the longest has been; zero where none is.
    pub lag: Duration,
    /// Until the next consumer is forgotten, if it stays silent.
    pub(crate) next_expiry: Option<Duration>,
}

impl Adoptions {
    /// Whether every known consumer uses the current revision, and there is at least one. Where
    /// nobody has ever said anything, nothing is known, and that is not "everybody".
    pub fn all_adopted(&self) -> bool {
        !self.consumers.is_empty() && self.consumers.iter().all(|consumer| consumer.is_current)
    }

    /// How many consumers use the current revision.
    pub fn adopted(&self) -> usize {
        self.consumers.iter().filter(|consumer| consumer.is_current).count()
    }

    /// Whether this consumer is known and uses the current revision.
    pub fn is_adopted_by(&self, consumer: &ConsumerName) -> bool {
        self.consumers.iter().any(|known| known.consumer == *consumer && known.is_current)
    }
}

/// A moment on both clocks: one that never jumps, to measure with, and one to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) time: SystemTime,
}

impl Now {
    pub(crate) fn read() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

/// Who uses what of one volume.
pub(crate) struct Ledger {
    volume: VolumeName,
    book: Mutex<Book>,
    changed: Event,
}

struct Book {
    current: Known,
    /// From old to new, without the current one.
    older: VecDeque<Known>,
    consumers: BTreeMap<ConsumerName, Entry>,
}

/// A revision, without what is in it: the ledger must not keep values alive.
struct Known {
    revision: Box<str>,
    generation: u64,
    /// Since when it has been current.
    since: Instant,
}

struct Entry {
    revision: Box<str>,
    generation: u64,
    adopted_at: SystemTime,
    seen_at: SystemTime,
    seen: Instant,
    behind_since: Option<Instant>,
}

impl Known {
    fn new(snapshot: &Snapshot, since: Instant) -> Self {
        Self { revision: snapshot.revision().into(), generation: snapshot.generation(), since }
    }
}

impl Ledger {
    /// A ledger without consumers; `initial` stands in until something is accepted.
    pub(crate) fn new(initial: &Snapshot, now: Instant) -> Self {
        let (current, older) = (Known::new(initial, now), VecDeque::new());
        Self {
            volume: initial.volume().clone(),
            book: Mutex::new(Book { current, older, consumers: BTreeMap::new() }),
            changed: Event::new(),
        }
    }

    /// Takes note of a snapshot that is about to become the current one.
    pub(crate) fn published(&self, snapshot: &Snapshot, now: Instant) {
        let mut book = self.book();
        let before = std::mem::replace(&mut book.current, Known::new(snapshot, now));
        // The stand-in for a first snapshot has nothing in it that could be used.
        if before.generation > 0 {
            book.older.push_back(before);
        }
        while book.older.len() >= MAX_KNOWN_REVISIONS {
            book.older.pop_front();
        }
        for entry in book.consumers.values_mut() {
            entry.behind_since.get_or_insert(now);
        }
        drop(book);
        self.changed.notify(usize::MAX);
    }

    /// Records that a consumer uses a revision.
    pub(crate) fn adopt(
        &self,
        consumer: &ConsumerName,
        revision: &str,
        now: Now,
        expiry: Duration,
    ) -> Result<Adoption, AdoptError> {
        let mut book = self.book();
        book.expire(&self.volume, now.instant, expiry);
        let volume = || self.volume.clone();
        if book.current.generation == 0 {
            return Err(AdoptError::NotReady { volume: volume() });
        }
        let Some((generation, behind_since)) = book.find(revision) else {
            let current = book.current.revision.clone();
            return Err(AdoptError::UnknownRevision { volume: volume(), current });
        };
        let before = book.consumers.get(consumer);
        if before.is_none() && book.consumers.len() >= MAX_CONSUMERS {
            return Err(AdoptError::TooManyConsumers { volume: volume() });
        }
        let same = before.filter(|entry| entry.generation == generation);
        let entry = Entry {
            revision: revision.into(),
            generation,
            adopted_at: same.map_or(now.time, |entry| entry.adopted_at),
            seen_at: now.time,
            seen: now.instant,
            behind_since,
        };
        let adoption = entry.show(consumer);
        book.consumers.insert(consumer.clone(), entry);
        drop(book);
        self.changed.notify(usize::MAX);
        Ok(adoption)
    }

    /// Forgets a consumer; `false` where there is none of this name.
    pub(crate) fn leave(&self, consumer: &ConsumerName, now: Instant, expiry: Duration) -> bool {
        let mut book = self.book();
        book.expire(&self.volume, now, expiry);
        let was_there = book.consumers.remove(consumer).is_some();
        drop(book);
        self.changed.notify(usize::MAX);
        was_there
    }

    /// Who uses what now.
    pub(crate) fn look(&self, now: Instant, expiry: Duration) -> Adoptions {
        let mut book = self.book();
        book.expire(&self.volume, now, expiry);
        let entries = book.consumers.values();
        let behind_since = entries.clone().filter_map(|entry| entry.behind_since).min();
        let seen = entries.map(|entry| entry.seen).min();
        Adoptions {
            revision: book.current.revision.clone(),
            generation: book.current.generation,
            consumers: book.consumers.iter().map(|(name, entry)| entry.show(name)).collect(),
            lag: behind_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            next_expiry: seen
                .map(|seen| expiry.saturating_sub(now.saturating_duration_since(seen))),
        }
    }

    /// Starts listening for anything that changes what [`look`](Self::look) finds, other than the
    /// passing of time. Look before waiting: only what happens after this call wakes the listener.
    #[cfg(any(test, feature = "cli"))]
    pub(crate) fn listen(&self) -> event_listener::EventListener {
        self.changed.listen()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// The generation of a known revision, and since when it has not been the current one.
    fn find(&self, revision: &str) -> Option<(u64, Option<Instant>)> {
        let mut known = self.older.iter().chain([&self.current]);
        let found = known.find(|known| *known.revision == *revision)?;
        Some((found.generation, known.next().map(|next| next.since)))
    }

    fn expire(&mut self, volume: &VolumeName, now: Instant, expiry: Duration) {
        self.consumers.retain(|consumer, entry| {
            let is_known = now.saturating_duration_since(entry.seen) < expiry;
            if !is_known {
                tracing::info!(%volume, %consumer, "a consumer was not seen any more, forgotten");
            }
            is_known
        });
    }
}

impl Entry {
    fn show(&self, consumer: &ConsumerName) -> Adoption {
        Adoption {
            consumer: consumer.clone(),
            revision: self.revision.clone(),
            generation: self.generation,
            adopted_at: self.adopted_at,
            seen_at: self.seen_at,
            is_current: self.behind_since.is_none(),
        }
    }
}

//! One volume as the engine sees it: what is served, what is wrong, and when to look again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::watch::{Watch, Watcher};
use super::{Pace, Plan};
use crate::detect::{Hint, Hints};
use crate::gate::Accepted;
use crate::metrics::{FoundBy, VolumeMetrics, WatchError};
use crate::name::VolumeName;
use crate::snapshot::{Contents, Label, Snapshot};
use crate::status::{Reason, State, Status, Trouble};
use crate::store::Publisher;
use crate::volume::{self, Layout, Marker, Reading};

/// How long a plain directory has to be left alone before it is believed. Editors and copies write
/// a file in a few milliseconds.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a plain directory may keep changing before that is reported. It is looked at again
/// and again afterwards, too.
const MAX_SETTLE: Duration = Duration::from_secs(2);
/// How soon a volume that changed under every attempt to read it is looked at again.
const AFTER_UNSTABLE: Duration = Duration::from_millis(20);
/// How often a look may find the watch on another directory before it is left to the next one.
const MAX_REARMS: usize = 3;
/// How many left-out entries are named in the status.
const MAX_NAMED_SKIPS: usize = 8;

/// A plain directory that has changed and is not believed yet.
struct Settling {
    since: Instant,
    candidate: Option<Contents>,
}

/// A look that is to be made, and who found that there is something to see.
struct Due {
    at: Instant,
    by: FoundBy,
}

pub(super) struct Watched {
    plan: Plan,
    boot: Arc<str>,
    publisher: Publisher,
    metrics: VolumeMetrics,
    pace: Pace,
    hints: Arc<Hints>,
    watch: Watch,
    current: Snapshot,
    /// What `..data` led to at the last look.
    marker: Option<Marker>,
    layout: Option<Layout>,
    status: Status,
    settling: Option<Settling>,
    due: Option<Due>,
    next_poll: Instant,
}

/// Stands in until something is accepted.
pub(super) fn initial_snapshot(volume: &VolumeName, boot: &Arc<str>) -> Snapshot {
    let label = Label {
        volume: volume.clone(),
        boot: Arc::clone(boot),
        generation: 0,
        published_at: None,
        observed_at: SystemTime::UNIX_EPOCH,
    };
    Snapshot::new(label, Contents::default())
}

impl Watched {
    pub(super) fn new(
        plan: Plan,
        boot: Arc<str>,
        publisher: Publisher,
        metrics: VolumeMetrics,
        pace: Pace,
    ) -> Self {
        Self {
            current: initial_snapshot(&plan.name, &boot),
            watch: Watch::new(plan.path.clone()),
            plan,
            boot,
            publisher,
            metrics,
            pace,
            hints: Arc::default(),
            marker: None,
            layout: None,
            status: Status::default(),
            settling: None,
            due: None,
            next_poll: Instant::now(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.plan.path
    }

    pub(super) fn hints(&self) -> Arc<Hints> {
        Arc::clone(&self.hints)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_due(&self) -> Instant {
        let due = self.due.as_ref().map(|due| due.at);
        [due, self.watch.next_due()].into_iter().flatten().fold(self.next_poll, Instant::min)
    }

    /// Acts on the hints that inotify has left.
    pub(super) fn hinted(&mut self, mut watcher: Option<&mut Watcher>, now: Instant) {
        let hints = self.hints.take();
        if hints.is_empty() {
            return;
        }
        self.metrics.watch_events.inc();
        self.watch.heard(&self.metrics);
        if hints.has(Hint::Overflow) {
            self.metrics.watch_error(WatchError::Overflow);
            tracing::warn!(volume = self.metrics.name(), "inotify lost events; looking again");
        }
        if hints.has(Hint::Gone) {
            self.metrics.watch_error(WatchError::Gone);
            self.watch.disarm(watcher.as_deref_mut(), &self.metrics);
        }
        if hints.has(Hint::Swap) || hints.has(Hint::Gone) || hints.has(Hint::Overflow) {
            self.look(watcher, FoundBy::Inotify, now);
        } else {
            self.settle(FoundBy::Inotify, now);
        }
    }

    /// Does what is due: the look after settling, the audit, the poll.
    pub(super) fn tick(&mut self, mut watcher: Option<&mut Watcher>, now: Instant) {
        self.watch.tick(watcher.as_deref_mut(), &self.metrics, now);
        if let Some(due) = self.due.take_if(|due| due.at <= now) {
            return self.look(watcher, due.by, now);
        }
        if self.next_poll <= now {
            self.poll(watcher, now);
        }
    }

    /// Looks only if something can have changed, which one system call tells for an atomic volume.
    fn poll(&mut self, mut watcher: Option<&mut Watcher>, now: Instant) {
        self.next_poll = now + self.interval();
        // A look that is due already finds whatever there is, for whoever asked for it.
        if self.due.is_some() {
            return;
        }
        let was_armed = self.watch.is_armed();
        self.watch.arm(watcher.as_deref_mut(), &self.metrics, now);
        let is_untouched = self.status.state == State::Current
            && self.marker.is_some()
            && Marker::at(&self.plan.path) == self.marker;
        if is_untouched {
            self.show_watch();
            return;
        }
        // A watch that was armed only now could not have reported anything.
        let by = FoundBy::Poll;
        self.look_and(watcher, by, now, was_armed);
    }

    fn interval(&self) -> Duration {
        let heals_silently = self.status.trouble.as_ref().is_some_and(|trouble| {
            matches!(trouble.reason, Reason::Absent | Reason::Unreadable | Reason::Io)
        });
        if self.watch.is_up() && !heals_silently { self.pace.normal } else { self.pace.fast }
    }

    /// Looks at the volume, and publishes what is new and acceptable.
    pub(super) fn look(&mut self, watcher: Option<&mut Watcher>, by: FoundBy, now: Instant) {
        let is_audited = self.watch.is_armed();
        self.look_and(watcher, by, now, is_audited);
    }

    fn look_and(
        &mut self,
        mut watcher: Option<&mut Watcher>,
        by: FoundBy,
        now: Instant,
        mut is_audited: bool,
    ) {
        self.due = None;
        let mut rearms = 0;
        let look = loop {
            // First the watch, then the look: what happens in between is seen by one of them.
            self.watch.arm(watcher.as_deref_mut(), &self.metrics, now);
            let look = volume::look(&self.plan.path);
            if rearms == MAX_REARMS || self.watch.is_on_the_directory() {
                break look;
            }
            self.watch.disarm(watcher.as_deref_mut(), &self.metrics);
            is_audited = false;
            rearms += 1;
        };
        self.metrics.retries.inc_by(look.retries.into());
        match look.result {
            Ok(reading) => self.reading(reading, watcher, by, now, is_audited),
            Err(trouble) => self.unread(trouble, by, now),
        }
        self.next_poll = now + self.interval();
        self.show_watch();
    }

    fn reading(
        &mut self,
        mut reading: Reading,
        watcher: Option<&mut Watcher>,
        by: FoundBy,
        now: Instant,
        is_audited: bool,
    ) {
        let is_moved = std::mem::replace(&mut self.marker, reading.marker) != reading.marker;
        self.layout = Some(reading.layout);
        self.show_skipped(std::mem::take(&mut reading.skipped));
        let reaches_further = self.watch.fit(reading.has_directories, watcher, &self.metrics, now);
        if reaches_further {
            self.due = Some(Due { at: now + SETTLE, by });
        }
        let is_same = self.is_ready() && reading.contents.is_same(self.current.contents());
        if is_same {
            self.settling = None;
            return self.is_current();
        }
        if reading.layout == Layout::Plain && !self.is_settled(&mut reading, by, now) {
            return;
        }
        if by == FoundBy::Poll && is_audited && (is_moved || reading.layout == Layout::Plain) {
            self.watch.audit(now);
        }
        self.judge(reading, by, is_moved);
    }

    /// Whether a plain directory holds what it held at the look before.
    fn is_settled(&mut self, reading: &mut Reading, by: FoundBy, now: Instant) -> bool {
        let settling = self.settling.take();
        let since = settling.as_ref().map_or(now, |settling| settling.since);
        let before = settling.and_then(|settling| settling.candidate);
        if before.is_some_and(|before| before.is_same(&reading.contents)) {
            return true;
        }
        let candidate = Some(std::mem::take(&mut reading.contents));
        self.settling = Some(Settling { since, candidate });
        self.due = Some(Due { at: now + SETTLE, by });
        if now.duration_since(since) > MAX_SETTLE {
            let detail = format!("{:?} keeps changing", self.plan.path);
            self.hold(Trouble::new(Reason::Unstable, detail), false);
        }
        false
    }

    /// Waits for a plain directory to be left alone, but not for ever.
    fn settle(&mut self, by: FoundBy, now: Instant) {
        let settling = self.settling.get_or_insert(Settling { since: now, candidate: None });
        let at = (now + SETTLE).min(settling.since + MAX_SETTLE).max(now);
        self.due = Some(Due { at, by });
    }

    fn judge(&mut self, reading: Reading, by: FoundBy, is_moved: bool) {
        let published_at = reading.published_at;
        match self.plan.gate.judge(reading.contents) {
            Ok(accepted) => self.publish(accepted, published_at, by),
            // The same contents, looked at again for whatever reason, are not rejected twice.
            Err(trouble) => self.hold(trouble, is_moved),
        }
    }

    fn publish(&mut self, accepted: Accepted, published_at: Option<SystemTime>, by: FoundBy) {
        let observed_at = SystemTime::now();
        let label = Label {
            volume: self.plan.name.clone(),
            boot: Arc::clone(&self.boot),
            generation: self.current.generation() + 1,
            published_at,
            observed_at,
        };
        self.change_status(State::Current, None);
        let snapshot = self.publisher.publish(label, accepted, self.status.clone());
        let before = std::mem::replace(&mut self.current, snapshot);
        self.hints.set_atomic(self.layout == Some(Layout::Atomic));
        self.metrics.published(&self.current, by);
        self.metrics.version(before.version(), self.current.version());
        self.log(&before, by);
    }

    fn log(&self, before: &Snapshot, by: FoundBy) {
        let changes = self.current.changes_since(before);
        tracing::info!(
            volume = self.metrics.name(),
            generation = self.current.generation(),
            revision = self.current.revision(),
            keys = self.current.len(),
            added = changes.added.len(),
            removed = changes.removed.len(),
            modified = changes.modified.len(),
            detector = by.as_str(),
            "snapshot accepted"
        );
    }

    fn unread(&mut self, trouble: Trouble, by: FoundBy, now: Instant) {
        if trouble.reason == Reason::Unstable {
            self.due = Some(Due { at: now + AFTER_UNSTABLE, by });
        }
        self.settling = None;
        self.marker = None;
        self.hold(trouble, false);
    }

    /// Keeps what is served. `is_new` says that this trouble is another one even if it reads the
    /// same.
    fn hold(&mut self, trouble: Trouble, is_new: bool) {
        // Anything may end the trouble, not only a swap.
        self.hints.set_atomic(false);
        if !is_new && self.status.trouble.as_ref() == Some(&trouble) {
            return;
        }
        self.metrics.rejected(trouble.reason);
        let state = if self.is_ready() { State::Holding } else { State::Waiting };
        tracing::warn!(
            volume = self.metrics.name(),
            reason = trouble.reason.as_str(),
            detail = %trouble.detail,
            serving = self.current.revision(),
            "{}",
            match state {
                State::Waiting => "nothing acceptable yet",
                _ => "not accepted; the last good snapshot stays",
            }
        );
        self.change_status(state, Some(trouble));
        self.publisher.set_status(self.status.clone());
    }

    fn is_current(&mut self) {
        self.hints.set_atomic(self.layout == Some(Layout::Atomic));
        if self.status.state != State::Current {
            tracing::info!(
                volume = self.metrics.name(),
                "the directory holds what is served again"
            );
            self.change_status(State::Current, None);
            self.publisher.set_status(self.status.clone());
        }
    }

    fn change_status(&mut self, state: State, trouble: Option<Trouble>) {
        self.metrics.holding.set(i64::from(state == State::Holding));
        if self.status.state != state || self.status.trouble != trouble {
            self.status.since = Some(SystemTime::now());
        }
        self.status.state = state;
        self.status.trouble = trouble;
    }

    fn show_watch(&mut self) {
        let watch = if self.watch.is_up() {
            crate::status::Watch::Inotify
        } else {
            crate::status::Watch::Poll
        };
        if self.status.watch != watch {
            self.status.watch = watch;
            self.publisher.set_status(self.status.clone());
        }
    }

    fn show_skipped(&mut self, mut skipped: Vec<String>) {
        self.metrics.skipped.set(skipped.len().try_into().unwrap_or(i64::MAX));
        skipped.truncate(MAX_NAMED_SKIPS);
        if self.status.skipped != skipped {
            for entry in &skipped {
                tracing::warn!(volume = self.metrics.name(), entry, "left out: it cannot be a key");
            }
            self.status.skipped = skipped;
            self.publisher.set_status(self.status.clone());
        }
    }

    fn is_ready(&self) -> bool {
        self.current.generation() > 0
    }
}

#[cfg(test)]
mod tests;

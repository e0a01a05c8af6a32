//! One volume as the engine sees it: what is served, what is wrong, and when to look again.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::settle::{SETTLE, Settled, Settling};
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

/// How soon a volume that changed under every attempt to read it is looked at again; twice as late
/// each time, up to the fast poll.
const AFTER_UNSTABLE: Duration = Duration::from_millis(20);
/// How often a look may find the watch on another directory before it is left to the next one.
const MAX_REARMS: usize = 3;
/// How many left-out entries are named in the status.
const MAX_NAMED_SKIPS: usize = 8;

/// Why a volume is looked at.
#[derive(Clone, Copy)]
struct Finding {
    /// Who found that there may be something to see.
    by: FoundBy,
    /// Whether inotify could have reported it: the watch was armed at the look before.
    is_audited: bool,
}

/// A look that is to be made.
struct Due {
    at: Instant,
    finding: Finding,
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
    /// What `..data` led to, and what it said, at the last look that could read the volume.
    marker: Option<Marker>,
    link: Option<OsString>,
    /// Whether the last look could read the volume.
    was_read: bool,
    /// How the current snapshot was published.
    layout: Option<Layout>,
    status: Status,
    settling: Settling,
    after_unstable: Duration,
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
            link: None,
            was_read: false,
            layout: None,
            status: Status::default(),
            settling: Settling::default(),
            after_unstable: AFTER_UNSTABLE,
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
        }
        if hints.has(Hint::Gone) || hints.has(Hint::Overflow) {
            // A directory that was lost, or directories below it that nobody heard of.
            self.watch.disarm(watcher.as_deref_mut(), &self.metrics);
        }
        let finding = Finding { by: FoundBy::Inotify, is_audited: false };
        if hints.has(Hint::Swap) || hints.has(Hint::Gone) || hints.has(Hint::Overflow) {
            self.look_for(finding, watcher, now);
        } else {
            let at = self.settling.touched(self.due.as_ref().map(|due| due.at), now);
            self.due = Some(Due { at, finding });
        }
    }

    /// Acts on a swap without asking anything of inotify; `false`, with nothing done, where that
    /// might be needed.
    pub(super) fn look_at_once(&mut self, now: Instant) -> bool {
        let is_plain_swap = self.layout == Some(Layout::Atomic) && self.hints.are_only(Hint::Swap);
        if !is_plain_swap || !self.watch.is_up() {
            return false;
        }
        self.hinted(None, now);
        if self.layout != Some(Layout::Atomic) || !self.watch.is_up() {
            // The poll arms what has to be armed.
            self.next_poll = now;
        }
        true
    }

    /// Does what is due: the look after settling, the audit, the poll.
    pub(super) fn tick(&mut self, mut watcher: Option<&mut Watcher>, now: Instant) {
        if self.watch.tick(watcher.as_deref_mut(), &self.metrics, now) {
            // The poll is relied on from now on, so it must not wait as long as it did.
            self.next_poll = now;
        }
        if let Some(due) = self.due.take_if(|due| due.at <= now) {
            return self.look_for(due.finding, watcher, now);
        }
        if self.next_poll <= now {
            self.poll(watcher, FoundBy::Poll, now);
        }
    }

    /// Looks only if something can have changed, which one system call tells for an atomic volume.
    pub(super) fn poll(&mut self, mut watcher: Option<&mut Watcher>, by: FoundBy, now: Instant) {
        // A watch that is armed only now could not have reported anything.
        let is_audited = self.watch.is_armed();
        self.watch.arm(watcher.as_deref_mut(), &self.metrics, now);
        self.next_poll = now + self.interval();
        // A look that is due already finds whatever there is, for whoever asked for it.
        if self.due.is_some() {
            return;
        }
        if self.marker.is_some() && Marker::at(&self.plan.path) == self.marker {
            self.show_watch();
            return;
        }
        self.look_for(Finding { by, is_audited }, watcher, now);
    }

    fn interval(&self) -> Duration {
        // What is wrong may be put right without an event, for example below `..data`.
        let is_well = self.watch.is_up() && self.status.state == State::Current;
        if is_well { self.pace.normal } else { self.pace.fast }
    }

    /// Looks at the volume because it is asked for, and publishes what is new and acceptable.
    pub(super) fn look(&mut self, watcher: Option<&mut Watcher>, by: FoundBy, now: Instant) {
        let finding = Finding { by, is_audited: self.watch.is_armed() };
        self.look_for(finding, watcher, now);
    }

    fn look_for(&mut self, finding: Finding, mut watcher: Option<&mut Watcher>, now: Instant) {
        // A look that was due already belongs to who found that there is something to see.
        let mut finding = self.due.take().map_or(finding, |due| due.finding);
        let mut rearms = 0;
        let look = loop {
            // First the watch, then the look: what happens in between is seen by one of them.
            self.watch.arm(watcher.as_deref_mut(), &self.metrics, now);
            let look = volume::look(&self.plan.path);
            if rearms == MAX_REARMS || self.watch.is_on_the_directory() {
                break look;
            }
            self.metrics.watch_error(WatchError::Gone);
            tracing::info!(volume = self.metrics.name(), "the directory was replaced");
            self.watch.disarm(watcher.as_deref_mut(), &self.metrics);
            finding.is_audited = false;
            rearms += 1;
        };
        self.metrics.looks.inc();
        self.metrics.retries.inc_by(look.retries.into());
        match look.result {
            Ok(reading) => self.reading(reading, watcher, finding, now),
            Err(trouble) => self.unread(trouble, finding, now),
        }
        self.next_poll = now + self.interval();
        self.show_watch();
    }

    fn reading(
        &mut self,
        mut reading: Reading,
        watcher: Option<&mut Watcher>,
        finding: Finding,
        now: Instant,
    ) {
        self.after_unstable = AFTER_UNSTABLE;
        let is_other = std::mem::replace(&mut self.marker, reading.marker) != reading.marker;
        let link = std::mem::replace(&mut self.link, reading.link.take());
        let was_read = std::mem::replace(&mut self.was_read, true);
        self.show_skipped(std::mem::take(&mut reading.skipped));
        if self.watch.fit(reading.has_directories, watcher, &self.metrics, now) {
            self.due = Some(Due { at: now + SETTLE, finding });
        }
        if self.is_ready() && reading.contents.is_same(self.current.contents()) {
            self.settling = Settling::default();
            return self.is_current(reading.layout);
        }
        let is_committed = reading.layout == Layout::Atomic && !self.is_under_its_link(&link);
        if !is_committed && !self.is_settled(&mut reading, finding, now) {
            return;
        }
        self.settling = Settling::default();
        // A new directory under the old link may have been filled without an event, and what could
        // not be read before may have been reported all the same.
        let is_reported = was_read && (reading.layout == Layout::Plain || link != self.link);
        if finding.by == FoundBy::Poll && finding.is_audited && is_reported {
            self.watch.audit(now);
        }
        self.judge(reading, finding.by, is_other);
    }

    /// Whether what is new has come under a link that was there `before` it: the kubelet publishes
    /// nothing in this way, so who does may not be done.
    fn is_under_its_link(&self, before: &Option<OsString>) -> bool {
        let trouble = self.status.trouble.as_ref();
        let was_broken = trouble.is_some_and(|trouble| trouble.reason == Reason::LinkBroken);
        was_broken || (before.is_some() && *before == self.link)
    }

    /// Whether a plain directory has been left alone for long enough to be believed.
    fn is_settled(&mut self, reading: &mut Reading, finding: Finding, now: Instant) -> bool {
        // From here on a touch matters.
        self.hints.set_atomic(false);
        let at = match self.settling.offer(&mut reading.contents, now) {
            Settled::Yes => return true,
            Settled::NotBefore(at) => at,
            Settled::Never => {
                let detail = format!("{:?} keeps changing", self.plan.path);
                self.hold(Trouble::new(Reason::Unstable, detail), false);
                now + self.pace.fast
            }
        };
        self.due = Some(Due { at, finding });
        false
    }

    fn judge(&mut self, reading: Reading, by: FoundBy, is_other: bool) {
        let (published_at, layout) = (reading.published_at, reading.layout);
        // What the kubelet leaves of a secret without keys is not a plain directory: this is a
        // mount that was taken away.
        let is_unmounted = layout == Layout::Plain
            && self.layout == Some(Layout::Atomic)
            && reading.contents.is_empty();
        if is_unmounted {
            let detail = format!("{:?} has no `..data` any more", self.plan.path);
            return self.hold(Trouble::new(Reason::Unpublished, detail), false);
        }
        match self.plan.gate.judge(reading.contents) {
            Ok(accepted) => self.publish(accepted, published_at, by, layout),
            // The same contents, looked at again for whatever reason, are not rejected twice.
            Err(trouble) => self.hold(trouble, is_other),
        }
    }

    fn publish(
        &mut self,
        accepted: Accepted,
        published_at: Option<SystemTime>,
        by: FoundBy,
        layout: Layout,
    ) {
        let observed_at = SystemTime::now();
        let label = Label {
            volume: self.plan.name.clone(),
            boot: Arc::clone(&self.boot),
            generation: self.current.generation() + 1,
            published_at,
            observed_at,
        };
        self.change_status(State::Current, None);
        let snapshot = self.publisher.store(label, accepted, &self.status);
        // First, and then all that is said of it, so that whoever is woken finds that.
        self.publisher.tell();
        let before = std::mem::replace(&mut self.current, snapshot);
        self.layout = Some(layout);
        self.hints.set_atomic(layout == Layout::Atomic);
        self.metrics.published(&self.current, by);
        self.metrics.version(before.version(), self.current.version());
        self.metrics.certificates(before.certificates(), self.current.certificates());
        self.publisher.wake();
        // They are in more of a hurry than what is left to do here.
        thread::yield_now();
        self.publisher.spread(&self.current);
        self.log(&before, by);
        self.publisher.finish();
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

    fn unread(&mut self, trouble: Trouble, finding: Finding, now: Instant) {
        if trouble.reason == Reason::Unstable {
            self.due = Some(Due { at: now + self.after_unstable, finding });
            self.after_unstable = (2 * self.after_unstable).min(self.pace.fast);
        }
        self.settling = Settling::default();
        self.marker = None;
        self.was_read = false;
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

    fn is_current(&mut self, layout: Layout) {
        self.layout = Some(layout);
        self.hints.set_atomic(layout == Layout::Atomic);
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
        let reason = |trouble: &Option<Trouble>| trouble.as_ref().map(|trouble| trouble.reason);
        self.metrics.trouble(reason(&self.status.trouble), reason(&trouble));
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

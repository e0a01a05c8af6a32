//! The inotify watch of one volume: armed, lost, audited, healed.
//!
//! The poll audits inotify: a change that the poll finds and inotify does not report within
//! [`AUDIT`] proves it deaf (some sandboxes deliver no events at all). The volume then relies on
//! the poll until an event arrives, which proves the opposite.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::detect::{Filter, Hints, Inotify, WatchFailure};
use crate::metrics::{VolumeMetrics, WatchError};
use crate::volume::DirectoryId;

/// How long inotify has to report what the poll has found already. Events take microseconds; this
/// leaves room for a starved thread.
const AUDIT: Duration = Duration::from_secs(2);

type Wake = Arc<dyn Fn(usize) + Send + Sync>;

/// Makes the process's inotify instance when one is first needed, and anew when there was none.
pub(super) struct Watcher {
    inotify: Option<Inotify>,
    hinted: Vec<(PathBuf, Arc<Hints>)>,
    wake: Wake,
    /// What is watched at the moment, by the paths of the volumes.
    watched: HashMap<PathBuf, Option<DirectoryId>>,
    /// How long to wait before inotify is tried again.
    retry_after: Duration,
}

impl Watcher {
    pub(super) fn new(
        hinted: Vec<(PathBuf, Arc<Hints>)>,
        wake: Wake,
        retry_after: Duration,
    ) -> Self {
        Self { inotify: None, hinted, wake, watched: HashMap::new(), retry_after }
    }

    fn watch(&mut self, directory: &Path, depth: Depth) -> Result<(), WatchFailure> {
        // An older watch on the same path may be on a directory that was there before.
        if self.watched.contains_key(directory) {
            self.unwatch(directory);
        }
        self.check_that_nobody_else_watches(directory)?;
        self.inotify.take_if(|inotify| inotify.has_ended());
        let inotify = match &mut self.inotify {
            Some(inotify) => inotify,
            none => {
                let wake = Arc::clone(&self.wake);
                let filter = Filter::new(self.hinted.clone(), move |index| wake(index));
                none.insert(Inotify::new(filter)?)
            }
        };
        match depth {
            Depth::Shallow => inotify.watch(directory)?,
            Depth::Deep => inotify.watch_deep(directory)?,
        }
        self.watched.insert(directory.to_owned(), DirectoryId::at(directory));
        Ok(())
    }

    /// The kernel has one watch for a directory, whatever paths lead to it, and notify reports its
    /// events under the path that came last.
    fn check_that_nobody_else_watches(&self, directory: &Path) -> Result<(), WatchFailure> {
        let id = DirectoryId::at(directory);
        let is_same = |(path, other): &(&PathBuf, &Option<DirectoryId>)| {
            path.as_path() != directory && id.is_some() && **other == id
        };
        match self.watched.iter().find(is_same) {
            None => Ok(()),
            Some((path, _)) => Err(WatchFailure {
                kind: WatchError::Other,
                detail: format!("it is the same directory as {path:?}, which is watched already"),
            }),
        }
    }

    fn unwatch(&mut self, directory: &Path) {
        self.watched.remove(directory);
        if let Some(inotify) = &mut self.inotify {
            inotify.unwatch(directory);
        }
    }
}

/// How far down a watch reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The directory alone, where `..data` moves.
    Shallow,
    /// Every directory below as well, for plain volumes.
    Deep,
}

/// The watch of one volume.
pub(super) struct Watch {
    path: PathBuf,
    /// The directory that the watch is on.
    armed: Option<DirectoryId>,
    depth: Depth,
    is_deaf: bool,
    /// When a change that the poll has found has to have been reported.
    audit: Option<Instant>,
    /// When arming is tried again after a failure.
    retry_at: Option<Instant>,
    /// What has been said in the log, so that it is said once.
    failed: Option<WatchError>,
}

impl Watch {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            armed: None,
            depth: Depth::Shallow,
            is_deaf: false,
            audit: None,
            retry_at: None,
            failed: None,
        }
    }

    /// Whether inotify can be relied on.
    pub(super) fn is_up(&self) -> bool {
        self.armed.is_some() && !self.is_deaf
    }

    /// Whether the watch is armed at all.
    pub(super) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Arms the watch if it is not armed and it is time to try.
    pub(super) fn arm(
        &mut self,
        watcher: Option<&mut Watcher>,
        metrics: &VolumeMetrics,
        now: Instant,
    ) {
        let Some(watcher) = watcher else { return };
        if self.armed.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.try_to_arm(watcher, metrics, now);
        self.show(metrics);
    }

    fn try_to_arm(&mut self, watcher: &mut Watcher, metrics: &VolumeMetrics, now: Instant) {
        let result = watcher.watch(&self.path, self.depth);
        // After the watch: a directory that is replaced from here on says so in an event.
        match (result, DirectoryId::at(&self.path)) {
            (Ok(()), Some(directory)) => {
                self.armed = Some(directory);
                self.retry_at = None;
                if !self.is_deaf && self.failed.take().is_some() {
                    tracing::info!(volume = metrics.name(), "inotify watches the volume again");
                }
            }
            // An absent directory is the volume's trouble, and looked for at every poll.
            (Ok(()), None) | (Err(WatchFailure { kind: WatchError::Gone, .. }), _) => {
                self.armed = None;
            }
            (Err(failure), _) => {
                self.armed = None;
                self.retry_at = Some(now + watcher.retry_after);
                self.fail(&failure, metrics);
            }
        }
    }

    fn fail(&mut self, failure: &WatchFailure, metrics: &VolumeMetrics) {
        metrics.watch_error(failure.kind);
        if self.failed.replace(failure.kind) != Some(failure.kind) {
            tracing::warn!(
                volume = metrics.name(),
                kind = failure.kind.as_str(),
                detail = %failure.detail,
                "inotify cannot watch the volume; polling it until it can"
            );
        }
    }

    /// Whether the watch, if armed, is on the directory that is there now.
    pub(super) fn is_on_the_directory(&self) -> bool {
        self.armed.is_none() || self.armed == DirectoryId::at(&self.path)
    }

    /// Lets go of the watch, so that the next look arms it anew.
    pub(super) fn disarm(&mut self, watcher: Option<&mut Watcher>, metrics: &VolumeMetrics) {
        if self.armed.take().is_some()
            && let Some(watcher) = watcher
        {
            watcher.unwatch(&self.path);
        }
        self.show(metrics);
    }

    /// Fits the watch to the volume: deep where there are directories below a plain volume.
    /// `true` where it reaches further than before, so that another look is needed.
    pub(super) fn fit(
        &mut self,
        has_directories: bool,
        watcher: Option<&mut Watcher>,
        metrics: &VolumeMetrics,
        now: Instant,
    ) -> bool {
        // Where nothing can be asked of inotify, the next look fits it.
        let Some(watcher) = watcher else { return false };
        let wanted = if has_directories { Depth::Deep } else { Depth::Shallow };
        if std::mem::replace(&mut self.depth, wanted) == wanted || self.armed.is_none() {
            return false;
        }
        watcher.unwatch(&self.path);
        self.try_to_arm(watcher, metrics, now);
        self.show(metrics);
        self.armed.is_some()
    }

    /// An event has arrived: inotify hears.
    pub(super) fn heard(&mut self, metrics: &VolumeMetrics) {
        self.audit = None;
        if std::mem::take(&mut self.is_deaf) {
            self.failed = None;
            tracing::info!(volume = metrics.name(), "inotify reports changes again");
        }
        self.show(metrics);
    }

    /// The poll has found a change that inotify has not reported yet.
    pub(super) fn audit(&mut self, now: Instant) {
        if self.is_up() {
            self.audit = Some(now + AUDIT);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.audit
    }

    /// Finds inotify deaf where an audit has run out; `true` if it did.
    pub(super) fn tick(
        &mut self,
        watcher: Option<&mut Watcher>,
        metrics: &VolumeMetrics,
        now: Instant,
    ) -> bool {
        if self.audit.is_none_or(|at| now < at) {
            return false;
        }
        self.audit = None;
        self.is_deaf = true;
        let detail = "the poll found a change that inotify did not report".to_owned();
        self.fail(&WatchFailure { kind: WatchError::Deaf, detail }, metrics);
        // A new watch may hear.
        self.disarm(watcher, metrics);
        true
    }

    fn show(&self, metrics: &VolumeMetrics) {
        metrics.watch_up.set(i64::from(self.is_up()));
    }
}

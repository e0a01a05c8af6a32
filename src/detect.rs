//! Detection: hints that a volume may have changed. It never opens a secret.
//!
//! How it works. inotify watches the directory itself, as a watch on `..data` or on a key dies with
//! the first rotation. Most of what happens there means nothing (the kubelet reads its own files,
//! writes a directory nobody sees yet, and every look of ours is an event too), so the filter runs
//! in notify's callback, before anything is woken. What passes becomes a bit in the volume's
//! [`Hints`] and wakes the engine at most once; an event carries no data, it says "look again".
//! The engine clears the bits first and looks then, so a hint during a look causes another look.

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, INotifyWatcher, RecursiveMode, Watcher};

use crate::metrics::WatchError;
use crate::volume::DATA_LINK;

/// What may have happened to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// `..data` was moved, made or removed.
    Swap = 1,
    /// Something else in the directory was written.
    Touch = 2,
    /// The directory itself was removed or moved away.
    Gone = 4,
    /// Events were lost.
    Overflow = 8,
}

/// The hints of one volume that the engine has not yet acted on.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    bits: AtomicU8,
    /// Set while only a swap can change what is served; touches are then dropped unseen.
    is_atomic: AtomicBool,
}

/// A set of hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HintSet(u8);

impl HintSet {
    pub(crate) fn has(self, hint: Hint) -> bool {
        self.0 & hint as u8 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Hints {
    /// Takes all hints. Call it before looking: the other order loses those that come in between.
    pub(crate) fn take(&self) -> HintSet {
        HintSet(self.bits.swap(0, Ordering::SeqCst))
    }

    /// Whether there is this hint and no other.
    pub(crate) fn are_only(&self, hint: Hint) -> bool {
        self.bits.load(Ordering::SeqCst) == hint as u8
    }

    pub(crate) fn set_atomic(&self, is_atomic: bool) {
        self.is_atomic.store(is_atomic, Ordering::SeqCst);
    }

    /// Adds a hint; `true` if the engine has to be woken for it.
    fn add(&self, hint: Hint) -> bool {
        if hint == Hint::Touch && self.is_atomic.load(Ordering::SeqCst) {
            return false;
        }
        self.bits.fetch_or(hint as u8, Ordering::SeqCst) == 0
    }
}

/// Turns notify's events into hints. Runs on notify's thread, so it neither fails nor waits for
/// anybody.
pub(crate) struct Filter<W> {
    volumes: Vec<(PathBuf, Arc<Hints>)>,
    wake: W,
}

impl<W: FnMut(usize)> Filter<W> {
    /// `wake` is called with the index of a volume that has hints where it had none.
    pub(crate) fn new(volumes: Vec<(PathBuf, Arc<Hints>)>, wake: W) -> Self {
        Self { volumes, wake }
    }

    fn event(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            return self.every_volume(Hint::Overflow);
        }
        for path in &event.paths {
            for (index, (root, hints)) in self.volumes.iter().enumerate() {
                if hint(&event.kind, root, path).is_some_and(|hint| hints.add(hint)) {
                    (self.wake)(index);
                }
            }
        }
    }

    fn every_volume(&mut self, hint: Hint) {
        for (index, (_, hints)) in self.volumes.iter().enumerate() {
            if hints.add(hint) {
                (self.wake)(index);
            }
        }
    }
}

impl<W: FnMut(usize) + Send + 'static> notify::EventHandler for Filter<W> {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        match event {
            Ok(event) => self.event(&event),
            // Reading the queue failed; whatever was in it may be lost.
            Err(_) => self.every_volume(Hint::Overflow),
        }
    }
}

/// What an event at `path` means to the volume in `root`, if anything.
fn hint(kind: &EventKind, root: &Path, path: &Path) -> Option<Hint> {
    let below = path.strip_prefix(root).ok()?;
    if below.as_os_str().is_empty() {
        return hint_for_root(kind);
    }
    let name = below.iter().next().unwrap_or_default();
    if below == Path::new(DATA_LINK) {
        return changes_an_entry(kind).then_some(Hint::Swap);
    }
    (!is_writers(name) && (changes_an_entry(kind) || changes_contents(kind))).then_some(Hint::Touch)
}

fn hint_for_root(kind: &EventKind) -> Option<Hint> {
    match kind {
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            Some(Hint::Gone)
        }
        // Its mode, which may make it readable.
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Hint::Touch),
        _ => None,
    }
}

/// Whether an entry was made, removed or moved. Both halves of a rename have an event of their own;
/// notify's third one for the pair would only repeat them.
fn changes_an_entry(kind: &EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Modify(ModifyKind::Name(mode)) => *mode != RenameMode::Both,
        _ => false,
    }
}

fn changes_contents(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_))
            | EventKind::Access(AccessKind::Close(AccessMode::Write))
    )
}

/// Timestamped directories and `..data_tmp`: nothing that can be seen through `..data` yet.
fn is_writers(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"..")
}

/// Why a directory cannot be watched.
#[derive(Debug)]
pub(crate) struct WatchFailure {
    pub(crate) kind: WatchError,
    pub(crate) detail: String,
}

/// The one inotify instance of the process, for all volumes: instances are few (128 per user and
/// node by default), and on some platforms all pods have the same user.
pub(crate) struct Inotify {
    /// Emptied when notify's thread has ended, and by `drop`.
    watcher: Option<INotifyWatcher>,
}

impl Inotify {
    pub(crate) fn new<W>(filter: Filter<W>) -> Result<Self, WatchFailure>
    where
        W: FnMut(usize) + Send + 'static,
    {
        // Links to directories are never followed, so neither are they watched.
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = INotifyWatcher::new(filter, config).map_err(|error| failure(&error))?;
        let mut inotify = Self { watcher: Some(watcher) };
        // notify does not say where its thread cannot be started.
        if inotify.is_running() { Ok(inotify) } else { Err(no_thread()) }
    }

    /// Whether notify's thread is there to report events. This call, which configures nothing on
    /// Linux, gives an error where it is not.
    fn is_running(&mut self) -> bool {
        let config = notify::Config::default();
        self.watcher.as_mut().is_some_and(|watcher| watcher.configure(config).is_ok())
    }

    /// Watches a directory, from now on.
    pub(crate) fn watch(&mut self, directory: &Path) -> Result<(), WatchFailure> {
        self.watch_to(directory, RecursiveMode::NonRecursive)
    }

    /// Watches a directory and all directories below it, also those that are made later.
    pub(crate) fn watch_deep(&mut self, directory: &Path) -> Result<(), WatchFailure> {
        // With a dot, a path that is a link is walked into, as notify does not follow links. It is
        // the same path to everything that compares paths.
        self.watch_to(&directory.join("."), RecursiveMode::Recursive)
    }

    fn watch_to(&mut self, directory: &Path, mode: RecursiveMode) -> Result<(), WatchFailure> {
        let watched = self.ask(|watcher| watcher.watch(directory, mode)).ok_or_else(no_thread)?;
        watched.map_err(|error| {
            // A deep watch may have got half its way.
            self.unwatch(directory);
            failure(&error)
        })
    }

    /// Stops watching a directory.
    pub(crate) fn unwatch(&mut self, directory: &Path) {
        // It fails where nothing was watched, which is what is wanted.
        let _ = self.ask(|watcher| watcher.unwatch(directory));
    }

    /// Asks notify's thread; `None` if it has ended, where notify panics. Asking first whether it
    /// runs would make a start wait for it twice a volume.
    fn ask<T>(&mut self, request: impl FnOnce(&mut INotifyWatcher) -> T) -> Option<T> {
        let watcher = self.watcher.as_mut()?;
        let answer = catch_unwind(AssertUnwindSafe(|| request(watcher))).ok();
        if answer.is_none() {
            self.end();
        }
        answer
    }

    /// Whether notify's thread has been found to have ended, after which nothing is reported.
    pub(crate) fn has_ended(&self) -> bool {
        self.watcher.is_none()
    }

    fn end(&mut self) {
        let watcher = self.watcher.take();
        // notify panics here where its thread has ended before.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(watcher)));
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        self.end();
    }
}

fn no_thread() -> WatchFailure {
    WatchFailure {
        kind: WatchError::Instances,
        detail: "notify's thread is not running: the limit of processes may be used up".to_owned(),
    }
}

fn failure(error: &notify::Error) -> WatchFailure {
    let errno = match &error.kind {
        ErrorKind::Io(io) => io.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
        ErrorKind::MaxFilesWatch => Errno::ENOSPC,
        ErrorKind::PathNotFound => Errno::ENOENT,
        _ => Errno::UnknownErrno,
    };
    let (kind, detail) = match errno {
        Errno::EMFILE => (
            WatchError::Instances,
            "no inotify instance can be had: fs.inotify.max_user_instances, or the limit of open \
             files, is used up"
                .to_owned(),
        ),
        Errno::ENFILE | Errno::ENOMEM => {
            (WatchError::Instances, format!("no inotify instance can be had: {}", errno.desc()))
        }
        Errno::ENOSPC => (
            WatchError::Watches,
            "no inotify watch can be had: fs.inotify.max_user_watches is used up".to_owned(),
        ),
        Errno::ENOENT => (WatchError::Gone, "the directory is not there".to_owned()),
        _ => (WatchError::Other, error.to_string()),
    };
    WatchFailure { kind, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::Event;
    use notify::event::{CreateKind, DataChange, Flag, MetadataKind, RemoveKind};
    use proptest::prelude::*;

    const V: &str = "/v";

    fn said(kind: EventKind, path: &str) -> Option<Hint> {
        hint(&kind, Path::new(V), Path::new(path))
    }

    const MOVED_TO: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    const OPENED: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[test]
    fn moving_the_link_is_a_swap() {
        assert_eq!(said(MOVED_TO, "/v/..data"), Some(Hint::Swap));
        assert_eq!(said(EventKind::Create(CreateKind::File), "/v/..data"), Some(Hint::Swap));
        assert_eq!(said(EventKind::Remove(RemoveKind::File), "/v/..data"), Some(Hint::Swap));
    }

    #[test]
    fn what_the_writer_prepares_means_nothing() {
        for path in ["/v/..data_tmp", "/v/..2026_11_22_10_00_00.1", "/v/..2026_11_22_10_00_00.1/k"]
        {
            assert_eq!(said(EventKind::Create(CreateKind::Any), path), None, "{path}");
        }
    }

    #[test]
    fn own_reads_mean_nothing() {
        for path in ["/v", "/v/..data", "/v/key", "/v/sub/key"] {
            assert_eq!(said(OPENED, path), None, "{path}");
        }
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert_eq!(said(closed, "/v/key"), None);
    }

    #[test]
    fn writing_a_plain_file_is_a_touch() {
        let mode = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for kind in [WRITTEN, mode, closed, MOVED_TO] {
            assert_eq!(said(kind, "/v/key"), Some(Hint::Touch), "{kind:?}");
            assert_eq!(said(kind, "/v/sub/key"), Some(Hint::Touch), "{kind:?}");
        }
    }

    #[test]
    fn losing_the_directory_is_said() {
        assert_eq!(said(EventKind::Remove(RemoveKind::Folder), V), Some(Hint::Gone));
        let moved = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        assert_eq!(said(moved, V), Some(Hint::Gone));
    }

    #[test]
    fn other_directories_mean_nothing() {
        assert_eq!(said(WRITTEN, "/vault/key"), None);
        assert_eq!(said(WRITTEN, "/other"), None);
    }

    fn woken(hints: &[Arc<Hints>], events: &[Event]) -> Vec<usize> {
        let (sender, woken) = std::sync::mpsc::channel();
        let volumes = [PathBuf::from("/a"), PathBuf::from("/b")];
        let hinted = volumes.into_iter().zip(hints.iter().cloned()).collect();
        let mut filter = Filter::new(hinted, move |index| sender.send(index).unwrap());
        events.iter().for_each(|event| filter.event(event));
        woken.try_iter().collect()
    }

    fn two() -> [Arc<Hints>; 2] {
        [Arc::default(), Arc::default()]
    }

    #[test]
    fn overflow_is_a_hint_for_every_volume() {
        let hints = two();
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(woken(&hints, &[lost]), [0, 1]);
        assert!(hints.iter().all(|hints| hints.take().has(Hint::Overflow)));
    }

    #[test]
    fn many_events_wake_once_until_the_hints_are_taken() {
        let hints = two();
        let swap = Event::new(MOVED_TO).add_path("/b/..data".into());
        assert_eq!(woken(&hints, &[swap.clone(), swap.clone(), swap.clone()]), [1]);
        assert!(hints[1].take().has(Hint::Swap));
        assert!(hints[1].take().is_empty());
        assert_eq!(woken(&hints, &[swap]), [1]);
    }

    #[test]
    fn touches_of_an_atomic_volume_wake_nobody() {
        let hints = two();
        hints[0].set_atomic(true);
        let touch = Event::new(WRITTEN).add_path("/a/key".into());
        let swap = Event::new(MOVED_TO).add_path("/a/..data".into());
        assert_eq!(woken(&hints, &[touch]), [] as [usize; 0]);
        assert_eq!(woken(&hints, &[swap]), [0]);
    }

    proptest! {
        #[test]
        fn no_event_outside_a_volume_is_a_hint(path in "/[a-u][a-z/.]{0,12}") {
            prop_assert_eq!(said(WRITTEN, &path), None);
        }
    }
}

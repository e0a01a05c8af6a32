//! Whether inotify works: an instance, a watch and an event of its own, waited for with a deadline.
//! Nothing is ever written into a volume.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::code::Code;
use super::finding::Finding;
use crate::detect::{Filter, Inotify};

/// How long the event may take; it takes microseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where a container with a read-only root file system still has room.
const SHARED_MEMORY: &str = "/dev/shm";

/// Tries the engine's own way to watch.
pub(super) fn examine() -> Option<Finding> {
    let candidates = [std::env::temp_dir(), SHARED_MEMORY.into()];
    let scratch = candidates.iter().find_map(|parent| Scratch::new(parent));
    let directory = scratch.as_ref().map_or(Path::new("/"), |scratch| &scratch.0);
    let (sender, events) = channel();
    let wake = move |_| {
        // Nobody listens any more where the deadline has passed.
        let _ = sender.send(());
    };
    let filter = Filter::new(vec![(directory.to_owned(), Default::default())], wake);
    let watched = Inotify::new(filter).and_then(|mut inotify| {
        inotify.watch(directory)?;
        Ok(inotify)
    });
    // It has to live until the event has come.
    let _inotify = match watched {
        Ok(inotify) => inotify,
        Err(failure) => return Some(unusable(&failure.detail)),
    };
    let Some(scratch) = scratch else {
        let [first, second] = candidates;
        let message = format!("Neither {first:?} nor {second:?} lets a file be made to try it.");
        return Some(Finding::new(Code::InotifyUntested, message));
    };
    if let Err(error) = fs::write(scratch.0.join("event"), "") {
        let message = format!("No file can be made in {:?} to try it: {error}.", scratch.0);
        return Some(Finding::new(Code::InotifyUntested, message));
    }
    let is_told = events.recv_timeout(PATIENCE).is_ok();
    (!is_told).then(|| unusable(&format!("an event did not arrive within {PATIENCE:?}")))
}

fn unusable(detail: &str) -> Finding {
    Finding::new(Code::InotifyUnusable, format!("inotify cannot be used: {detail}."))
}

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Option<Self> {
        // Seeded by the operating system; making it fails where somebody has it already.
        let random = RandomState::new().build_hasher().finish();
        let path = parent.join(format!("secretwatch-doctor-{random:016x}"));
        DirBuilder::new().mode(0o700).create(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is an empty directory in a temporary one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_directory_is_private_and_goes_away() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        fs::write(scratch.0.join("event"), "").unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        assert!(Scratch::new(&parent.path().join("absent")).is_none());
    }
}

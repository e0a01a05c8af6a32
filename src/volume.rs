//! Reading a volume: one consistent look at its directory.
//!
//! How it works. A volume that the kubelet writes has a link `..data` to a timestamped directory,
//! which is complete before the link points to it and never changes afterwards, but is deleted as
//! soon as the link has moved on. So a look opens that directory once, reads every key through its
//! descriptor, and then checks that `..data` still leads to the very same directory. Only then is
//! what was read known to be whole, and only then does a failure in between mean anything;
//! otherwise the look begins again. The open descriptor keeps the inode's number from being reused.
//!
//! A directory without `..data` has no such commit point. A look at it just reads what is there,
//! and the engine compares two looks before it believes them.

mod payload;
pub(crate) mod stamp;

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::geteuid;
use rustix::fs::readlinkat_raw;

use crate::snapshot::Contents;
use crate::status::{Reason, Trouble};
use payload::{Failure, Payload};

/// The link that the kubelet moves.
pub(crate) const DATA_LINK: &str = "..data";

/// The most bytes that all values of a volume may have together: several Secrets of Kubernetes'
/// 1 MiB in one projected volume, and still little enough to hold two generations of it.
pub const MAX_VOLUME_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of one value: Kubernetes' limit for a whole Secret.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// The most entries in a volume, keys or not. More is a directory given by mistake.
pub const MAX_KEYS: usize = 4096;
/// How many directories deep a key may lie; `items` paths are rarely deeper than two.
pub const MAX_DEPTH: usize = 8;

/// How often a look begins again because the volume changed under it. A swap takes the kubelet
/// about a minute and a look less than a millisecond, so even two in a row are unusual.
const MAX_ATTEMPTS: u32 = 16;

/// Called before each system call of a look, so that a test can do something in between.
pub(crate) trait Probe {
    fn before(&mut self, call: &'static str);
}

impl Probe for () {
    #[inline]
    fn before(&mut self, _call: &'static str) {}
}

/// Tells one directory from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryId {
    device: u64,
    inode: u64,
}

impl DirectoryId {
    fn of(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// The directory at `path` now, if there is one.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        fstatat(AT_FDCWD, path, AtFlags::empty()).ok().map(|stat| Self::of(&stat))
    }
}

/// Identifies what `..data` leads to. The time tells a new directory from an old one that had the
/// same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    directory: DirectoryId,
    changed: (i64, i64),
}

impl Marker {
    fn of(stat: &FileStat) -> Self {
        Self { directory: DirectoryId::of(stat), changed: (stat.st_ctime, stat.st_ctime_nsec) }
    }

    /// What `..data` in the volume `path` leads to now. This one system call is all that the poll
    /// costs.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let link = path.join(DATA_LINK);
        fstatat(AT_FDCWD, &link, AtFlags::empty()).ok().map(|stat| Self::of(&stat))
    }
}

/// How the contents of a volume are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All at once, by moving `..data`.
    Atomic,
    /// File by file.
    Plain,
}

/// What one look has found.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) contents: Contents,
    pub(crate) layout: Layout,
    /// What `..data` led to, for the poll to compare with.
    pub(crate) marker: Option<Marker>,
    /// What `..data` said.
    pub(crate) link: Option<OsString>,
    pub(crate) published_at: Option<SystemTime>,
    /// Whether there are directories below a plain volume, which need watches of their own.
    pub(crate) has_directories: bool,
    /// Entries that cannot be keys, escaped, with what they are.
    pub(crate) skipped: Vec<String>,
    /// What was read, closed when this is dropped: that can wait until the app has been told.
    _open: Vec<OwnedFd>,
}

/// The outcome of a look, and how often it had to begin again.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) result: Result<Reading, Trouble>,
    pub(crate) retries: u32,
}

/// Looks at the volume in `path`.
pub(crate) fn look(path: &Path) -> Look {
    look_probed(path, &mut ())
}

fn look_probed(path: &Path, probe: &mut impl Probe) -> Look {
    for retries in 0..MAX_ATTEMPTS {
        if let Some(result) = attempt(path, probe) {
            return Look { result, retries };
        }
    }
    let detail = format!("{path:?} changed under each of {MAX_ATTEMPTS} attempts to read it");
    Look { result: Err(Trouble::new(Reason::Unstable, detail)), retries: MAX_ATTEMPTS }
}

/// One attempt; `None` where the volume changed under it.
fn attempt(path: &Path, probe: &mut impl Probe) -> Option<Result<Reading, Trouble>> {
    probe.before("open the volume");
    let root = match open(path, DIRECTORY, Mode::empty()) {
        Ok(root) => root,
        Err(errno) => return Some(Err(no_root(path, errno))),
    };
    probe.before("read the link");
    match read_link(&root) {
        Ok(target) => attempt_atomic(root, Path::new(&target), probe),
        Err(Errno::ENOENT) => attempt_plain(path, &root, probe),
        Err(Errno::EINVAL) => {
            let detail = format!("{:?} is not a symbolic link", path.join(DATA_LINK));
            Some(Err(Trouble::new(Reason::NotAVolume, detail)))
        }
        Err(errno) => Some(Err(trouble(errno, DATA_LINK))),
    }
}

/// A directory to go on from. Opening it for reading would be an event, which wakes inotify's thread
/// for nothing, on the very processor that is in a hurry.
const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_PATH);
/// A directory whose entries are asked for.
const LISTED: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// Room for what `..data` says: the name of a timestamped directory, or whatever another writer uses.
const LINK_BYTES: usize = 256;

/// What `..data` says.
fn read_link(root: &OwnedFd) -> Result<OsString, Errno> {
    let mut buffer = [MaybeUninit::uninit(); LINK_BYTES];
    let (said, room) = readlinkat_raw(root, DATA_LINK, &mut buffer)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
    if room.is_empty() {
        // It may be longer.
        return readlinkat(root, DATA_LINK);
    }
    Ok(OsStr::from_bytes(said).to_owned())
}

fn attempt_atomic(
    root: OwnedFd,
    target: &Path,
    probe: &mut impl Probe,
) -> Option<Result<Reading, Trouble>> {
    if !target.components().all(|part| matches!(part, Component::Normal(_))) {
        let detail = format!("`..data` leads to {target:?}, which is not inside the volume");
        return Some(Err(Trouble::new(Reason::LinkOutside, detail)));
    }
    let directory = match open_beneath(&root, target, probe) {
        Ok(directory) => directory,
        Err(error) => return is_unmoved(&root, target, probe).then_some(Err(error)),
    };
    let stat = match fstat(&directory) {
        Ok(stat) => stat,
        Err(errno) => return Some(Err(trouble(errno, DATA_LINK))),
    };
    let payload = payload::read(directory.as_fd(), probe);
    probe.before("check the link");
    let now = fstatat(&root, DATA_LINK, AtFlags::empty()).ok();
    if now.map(|now| DirectoryId::of(&now)) != Some(DirectoryId::of(&stat)) {
        return None;
    }
    whole(payload).map(|payload| {
        payload.map(|payload| Reading {
            layout: Layout::Atomic,
            marker: Some(Marker::of(&stat)),
            link: Some(target.as_os_str().to_owned()),
            published_at: stamp::published_at(target.file_name().unwrap_or_default(), &stat),
            has_directories: false,
            contents: payload.contents,
            skipped: payload.skipped,
            _open: payload.open.into_iter().chain([directory, root]).collect(),
        })
    })
}

/// Opens a directory below `root` to be listed, without following links on the way.
fn open_beneath(root: &OwnedFd, target: &Path, probe: &mut impl Probe) -> Result<OwnedFd, Trouble> {
    let mut directory: Option<OwnedFd> = None;
    let mut parts = target.components().peekable();
    while let Some(part) = parts.next() {
        probe.before("open the payload");
        let parent = directory.as_ref().unwrap_or(root);
        let kind = if parts.peek().is_some() { DIRECTORY } else { LISTED };
        let flags = kind | OFlag::O_NOFOLLOW;
        let part: &OsStr = part.as_os_str();
        directory = Some(openat(parent, part, flags, Mode::empty()).map_err(|errno| {
            let what = format!("`..data` leads to {target:?}");
            match errno {
                Errno::ENOENT => {
                    Trouble::new(Reason::LinkBroken, format!("{what}, which is not there"))
                }
                Errno::ENOTDIR | Errno::ELOOP => {
                    Trouble::new(Reason::NotAVolume, format!("{what}, which is not a directory"))
                }
                _ => trouble(errno, &what),
            }
        })?);
    }
    directory.ok_or_else(|| Trouble::new(Reason::LinkBroken, "`..data` leads to nothing"))
}

/// Whether `..data` still says what it said: only then is a failure to open its target real.
fn is_unmoved(root: &OwnedFd, target: &Path, probe: &mut impl Probe) -> bool {
    probe.before("read the link again");
    read_link(root).is_ok_and(|now| Path::new(&now) == target)
}

fn attempt_plain(
    path: &Path,
    root: &OwnedFd,
    probe: &mut impl Probe,
) -> Option<Result<Reading, Trouble>> {
    let payload = read_plain(root, probe);
    probe.before("check that there is no link");
    if read_link(root).is_ok() {
        return None;
    }
    // The first write: the kubelet has begun, and links may already lead to nothing.
    if listed(root).is_ok_and(|root| payload::has_writer(root.as_fd())) {
        let detail = format!("{path:?} is being written for the first time");
        return Some(Err(Trouble::new(Reason::Unpublished, detail)));
    }
    whole(payload).map(|payload| payload.map(plain_reading))
}

fn read_plain(root: &OwnedFd, probe: &mut impl Probe) -> Result<Payload, Failure> {
    let root = listed(root)?;
    let mut payload = payload::read(root.as_fd(), probe)?;
    payload.date(root.as_fd())?;
    Ok(payload)
}

/// The volume itself, opened once more, to be listed from its beginning.
fn listed(root: &OwnedFd) -> Result<OwnedFd, Failure> {
    openat(root, ".", LISTED, Mode::empty()).map_err(|errno| Failure::errno(errno, "the volume"))
}

/// What vanishes in the middle of an attempt makes it worthless: `None`.
fn whole(payload: Result<Payload, Failure>) -> Option<Result<Payload, Trouble>> {
    match payload {
        Ok(payload) => Some(Ok(payload)),
        Err(Failure::Trouble(trouble)) => Some(Err(trouble)),
        Err(Failure::Vanished) => None,
    }
}

fn plain_reading(payload: Payload) -> Reading {
    Reading {
        layout: Layout::Plain,
        marker: None,
        link: None,
        published_at: payload.modified_at,
        has_directories: payload.has_directories,
        contents: payload.contents,
        skipped: payload.skipped,
        _open: payload.open,
    }
}

fn no_root(path: &Path, errno: Errno) -> Trouble {
    match errno {
        Errno::ENOENT => Trouble::new(Reason::Absent, format!("{path:?} is not there")),
        Errno::ENOTDIR => Trouble::new(
            Reason::NotAVolume,
            format!("{path:?} is not a directory; mount the whole secret, not one key of it"),
        ),
        _ => trouble(errno, &format!("{path:?}")),
    }
}

/// Says what the operating system refused, in the words of [`Reason`].
fn trouble(errno: Errno, what: &str) -> Trouble {
    match errno {
        Errno::EACCES | Errno::EPERM => {
            Trouble::new(Reason::Unreadable, format!("{what} may not be read by uid {}", geteuid()))
        }
        _ => Trouble::new(Reason::Io, format!("{what}: {}", errno.desc())),
    }
}

#[cfg(test)]
mod interleaving;
#[cfg(test)]
mod tests;

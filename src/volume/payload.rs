//! Reading every key below one directory, through its descriptor.
//!
//! Nothing here follows a link out of the directory, blocks on a FIFO or opens a device. What can
//! never be a key is left out and named; what should be a key and cannot be read is a failure, as
//! a set without it would not be whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use rustix::fs::{FileType, RawDir};
use zeroize::Zeroizing;

use super::{LISTED, MAX_DEPTH, MAX_KEYS, MAX_VALUE_BYTES, MAX_VOLUME_BYTES, Probe};
use super::{stamp, trouble};
use crate::name::KeyName;
use crate::secret::Secret;
use crate::snapshot::Contents;
use crate::status::{Reason, Trouble};

/// How often a link is opened anew. The kernel gives up on one with `..` in it whenever anything is
/// renamed anywhere on the system meanwhile.
const OPEN_LINK_ATTEMPTS: usize = 32;

/// Room for the entries that one system call lists: a usual secret at once. On the stack, a part of
/// it for each directory above.
const LISTING_BYTES: usize = 2048;

/// How many values are left open: closing the few of a usual secret takes as long as reading one.
const MAX_OPEN: usize = 16;

/// What was found below the directory.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) contents: Contents,
    /// Whether there are directories below this one.
    pub(super) has_directories: bool,
    /// Entries that cannot be keys.
    pub(super) skipped: Vec<String>,
    /// The newest modification time of a value, and of a directory that was asked for it.
    pub(super) modified_at: Option<SystemTime>,
    /// Values that were read, to be closed later.
    pub(super) open: Vec<OwnedFd>,
}

impl Payload {
    /// Leaves the closing of a value to whoever drops this; of many values, that of the first ones.
    fn keep_open(&mut self, file: File) {
        if self.open.len() < MAX_OPEN {
            self.open.push(file.into());
        }
    }

    /// Takes the time of a directory into account: only it knows when something in it was removed.
    pub(super) fn date(&mut self, directory: BorrowedFd<'_>) -> Result<(), Failure> {
        let stat = fstat(directory).map_err(|errno| Failure::errno(errno, "the volume"))?;
        self.modified_at = self.modified_at.max(stamp::modified_at(&stat));
        Ok(())
    }
}

/// Why there is no payload.
#[derive(Debug)]
pub(super) enum Failure {
    /// Something was listed and is not there any more, or is something else now.
    Vanished,
    /// A key cannot be read.
    Trouble(Trouble),
}

impl Failure {
    fn trouble(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Trouble(Trouble::new(reason, detail))
    }

    pub(super) fn errno(errno: Errno, what: &str) -> Self {
        match errno {
            Errno::ENOENT | Errno::ESTALE | Errno::ELOOP | Errno::ENOTDIR => Self::Vanished,
            _ => Self::Trouble(trouble(errno, what)),
        }
    }
}

/// Reads everything below `directory`, which was opened to be [`LISTED`].
pub(super) fn read(directory: BorrowedFd<'_>, probe: &mut impl Probe) -> Result<Payload, Failure> {
    let mut walk =
        Walk { root: directory, payload: Payload::default(), entries: 0, bytes: 0, probe };
    walk.directory(directory, None, 1)?;
    Ok(walk.payload)
}

/// Whether a kubelet-like writer is at work in a directory that has no `..data` yet, opened as above
/// and not listed before.
pub(super) fn has_writer(directory: BorrowedFd<'_>) -> bool {
    let is_writers = |entry: &Entry| {
        let name = entry.name.as_bytes();
        name == b"..data_tmp"
            || (name.starts_with(b"..") && name.get(2).is_some_and(u8::is_ascii_digit))
    };
    list(directory, MAX_KEYS).is_ok_and(|entries| entries.iter().any(is_writers))
}

struct Entry {
    name: OsString,
    kind: FileType,
}

/// Lists a directory in the order of the names; at most `limit` entries, `None` beyond.
fn list(directory: BorrowedFd<'_>, limit: usize) -> Result<Vec<Entry>, Failure> {
    let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = listing.next() {
        let entry =
            entry.map_err(|e| Failure::errno(Errno::from_raw(e.raw_os_error()), "the volume"))?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if entries.len() == limit {
            let detail = format!("more than {MAX_KEYS} entries");
            return Err(Failure::trouble(Reason::TooManyKeys, detail));
        }
        entries.push(Entry { name: OsString::from_vec(name.to_vec()), kind: entry.file_type() });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

struct Walk<'a, P> {
    root: BorrowedFd<'a>,
    payload: Payload,
    entries: usize,
    bytes: usize,
    probe: &'a mut P,
}

impl<P: Probe> Walk<'_, P> {
    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        parent: Option<&KeyName>,
        depth: usize,
    ) -> Result<(), Failure> {
        self.probe.before("list");
        let entries = list(directory, MAX_KEYS - self.entries)?;
        self.entries += entries.len();
        for entry in entries {
            // At the top these belong to the writer: `..data_tmp`, and older directories.
            if parent.is_none() && entry.name.as_bytes().starts_with(b"..") {
                continue;
            }
            match KeyName::join(parent, &entry.name) {
                Ok(key) => self.entry(directory, &key, &entry, depth)?,
                Err(error) => self.skip(&path_of(parent, &entry.name), &error.to_string()),
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        key: &KeyName,
        entry: &Entry,
        depth: usize,
    ) -> Result<(), Failure> {
        let kind = match entry.kind {
            FileType::Unknown => self.kind(directory, key, &entry.name)?,
            kind => kind,
        };
        match kind {
            FileType::RegularFile => self.file(directory, key, &entry.name),
            FileType::Directory => self.subdirectory(directory, key, &entry.name, depth),
            FileType::Symlink => self.link(key),
            other => {
                self.skip(Path::new(key.as_str()), name_of(other));
                Ok(())
            }
        }
    }

    /// Asks for the type where the file system does not tell it in the listing.
    fn kind(
        &mut self,
        directory: BorrowedFd<'_>,
        key: &KeyName,
        name: &OsStr,
    ) -> Result<FileType, Failure> {
        self.probe.before("ask for the type");
        let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| Failure::errno(errno, &format!("key `{key}`")))?;
        Ok(type_of(&stat))
    }

    fn file(
        &mut self,
        directory: BorrowedFd<'_>,
        key: &KeyName,
        name: &OsStr,
    ) -> Result<(), Failure> {
        self.probe.before("open a key");
        let file = openat(directory, name, FILE | OFlag::O_NOFOLLOW, Mode::empty())
            .map_err(|errno| Failure::errno(errno, &format!("key `{key}`")))?;
        self.value(key, file)
    }

    fn subdirectory(
        &mut self,
        directory: BorrowedFd<'_>,
        key: &KeyName,
        name: &OsStr,
        depth: usize,
    ) -> Result<(), Failure> {
        if depth == MAX_DEPTH {
            let detail = format!("`{key}` lies more than {MAX_DEPTH} directories deep");
            return Err(Failure::trouble(Reason::TooDeep, detail));
        }
        self.probe.before("open a directory");
        let inner = openat(directory, name, LISTED | OFlag::O_NOFOLLOW, Mode::empty())
            .map_err(|errno| Failure::errno(errno, &format!("directory `{key}`")))?;
        self.payload.has_directories = true;
        self.directory(inner.as_fd(), Some(key), depth + 1)?;
        self.payload.date(inner.as_fd())
    }

    /// Follows a link as far as it stays below the root, which the kernel itself makes sure of.
    fn link(&mut self, key: &KeyName) -> Result<(), Failure> {
        // Opening a path only, first: opening a device or a FIFO for reading has effects.
        let target = self.open_link(key, OFlag::O_PATH)?;
        let stat =
            fstat(&target).map_err(|errno| Failure::errno(errno, &format!("key `{key}`")))?;
        match type_of(&stat) {
            FileType::RegularFile => {
                let file = self.open_link(key, FILE)?;
                self.value(key, file)
            }
            kind => {
                let what = name_of(kind);
                let detail = format!("`{key}` is a symbolic link to {what}, not to a file");
                Err(Failure::trouble(Reason::LinkToOther, detail))
            }
        }
    }

    fn open_link(&mut self, key: &KeyName, flags: OFlag) -> Result<OwnedFd, Failure> {
        self.probe.before("open a link");
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let mut opened = openat2(self.root, key.as_str(), how);
        for _ in 1..OPEN_LINK_ATTEMPTS {
            if !matches!(opened, Err(Errno::EAGAIN)) {
                break;
            }
            opened = openat2(self.root, key.as_str(), how);
        }
        opened.map_err(|errno| match errno {
            Errno::EAGAIN => Failure::Vanished,
            Errno::EXDEV => Failure::trouble(
                Reason::LinkOutside,
                format!("`{key}` is a symbolic link that leaves the volume"),
            ),
            Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR => Failure::trouble(
                Reason::LinkBroken,
                format!("`{key}` is a symbolic link to nothing"),
            ),
            // Kernels before 5.6 and some sandboxes.
            Errno::ENOSYS => Failure::trouble(
                Reason::LinkToOther,
                format!("`{key}` is a symbolic link, which this kernel cannot follow safely"),
            ),
            _ => Failure::errno(errno, &format!("key `{key}`")),
        })
    }

    fn value(&mut self, key: &KeyName, file: OwnedFd) -> Result<(), Failure> {
        let io = |errno| Failure::errno(errno, &format!("key `{key}`"));
        let stat = fstat(&file).map_err(io)?;
        // It was a regular file when it was listed.
        if type_of(&stat) != FileType::RegularFile {
            return Err(Failure::Vanished);
        }
        let size = self.admit(key, &stat)?;
        self.probe.before("read a key");
        let mut file = File::from(file);
        let value = read_exactly(&mut file, size)
            .map_err(|error| io(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?
            .ok_or_else(|| mismatch(key, &stat, &file))?;
        self.payload.keep_open(file);
        self.payload.contents.insert(key.clone(), value);
        self.payload.modified_at = self.payload.modified_at.max(stamp::modified_at(&stat));
        Ok(())
    }

    /// Checks the size of a value before anything is allocated for it.
    fn admit(&mut self, key: &KeyName, stat: &FileStat) -> Result<usize, Failure> {
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > MAX_VALUE_BYTES {
            let detail = format!("`{key}` has {size} bytes, {MAX_VALUE_BYTES} are allowed");
            return Err(Failure::trouble(Reason::TooLarge, detail));
        }
        self.bytes += size;
        if self.bytes > MAX_VOLUME_BYTES {
            let detail = format!("more than {MAX_VOLUME_BYTES} bytes of values");
            return Err(Failure::trouble(Reason::TooLarge, detail));
        }
        Ok(size)
    }

    fn skip(&mut self, path: &Path, what: &str) {
        self.payload.skipped.push(format!("{path:?}: {what}"));
    }
}

/// Non-blocking, so that a FIFO that took the place of a file cannot hold the engine.
const FILE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Reads a file that has `size` bytes; `None` where it turns out to have more or fewer.
///
/// One allocation, which becomes the value: growing it would leave copies that nobody wipes.
fn read_exactly(file: &mut File, size: usize) -> std::io::Result<Option<Secret>> {
    // One byte more is asked for: where it is not given, that was the end.
    let mut bytes = Zeroizing::new(vec![0; size + 1]);
    let mut filled = 0;
    loop {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled >= size {
            break;
        }
    }
    if filled != size {
        return Ok(None);
    }
    bytes.truncate(size);
    Ok(Some(Secret::new(std::mem::take(&mut *bytes))))
}

/// A file that was written meanwhile is read again; one whose size is simply not true never can be.
fn mismatch(key: &KeyName, before: &FileStat, file: &File) -> Failure {
    let times = |stat: &FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    match fstat(file) {
        Ok(now) if times(&now) == times(before) => {
            let detail = format!("`{key}` does not have the size that the file system says");
            Failure::trouble(Reason::Io, detail)
        }
        _ => Failure::Vanished,
    }
}

fn path_of(parent: Option<&KeyName>, name: &OsStr) -> PathBuf {
    Path::new(parent.map_or("", KeyName::as_str)).join(name)
}

fn type_of(stat: &FileStat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}

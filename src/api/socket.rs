//! The socket as a file: made with its final mode, never on top of a live one, removed at the end.
//!
//! How it works. Looking at what is there, unlinking a stale socket and binding are three steps;
//! two instances that start at once would take each other's socket away. An exclusive `flock` on
//! the directory makes the three one. The mode is set on the descriptor before `bind` gives it a
//! name, and the umask takes away at most what is not wanted, so that there is no moment at which
//! somebody else could connect.

use std::fs::{self, DirBuilder, File, FileType, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_to, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod, umask};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// How long the start waits for others that use the same directory: each takes a millisecond.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// The same at the end, which must not be held up; a socket that stays is replaced as a stale one.
const END_PATIENCE: Duration = Duration::from_millis(100);
/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// The longest path of a Unix socket: `sun_path` has 108 bytes, one of them for the final NUL.
pub(super) const MAX_PATH_BYTES: usize = 107;
/// The permission bits; set-user-ID and the like mean nothing on a socket.
const MODE_BITS: u32 = 0o777;

/// The umask belongs to the whole process: two who changed it at once would restore each other's.
static UMASK: Mutex<()> = Mutex::new(());

/// Why there is no socket.
#[derive(Debug, Error)]
pub(crate) enum SocketError {
    #[error("socket path {0:?} is relative; an absolute path is needed")]
    Relative(PathBuf),
    #[error("socket path {path:?} has {bytes} bytes; 1 to {MAX_PATH_BYTES} are allowed")]
    TooLong { path: PathBuf, bytes: usize },
    #[error("socket path {0:?} names no file in a directory")]
    NoName(PathBuf),
    #[error("socket mode {0:#o}: 0 to 0o777 are allowed")]
    Mode(u32),
    #[error("directory {0:?} for the socket cannot be made")]
    MakeDirectory(PathBuf, #[source] io::Error),
    #[error("directory {0:?} for the socket cannot be opened and locked")]
    Directory(PathBuf, #[source] io::Error),
    #[error("socket {0:?} belongs to a live process; stop that one or choose another path")]
    Live(PathBuf),
    #[error("{path:?} is {kind} and not a socket; remove it or choose another path")]
    NotASocket { path: PathBuf, kind: &'static str },
    #[error("socket {path:?} {step}")]
    Step {
        path: PathBuf,
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

impl SocketError {
    /// Whether the directory cannot be made or used, rather than what is in it.
    pub(super) fn is_about_the_directory(&self) -> bool {
        let Self::Step { source, .. } = self else {
            return matches!(self, Self::MakeDirectory(..) | Self::Directory(..));
        };
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
    }

    fn step(path: &Path, step: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Step { path: path.to_owned(), step, source: source.into() }
    }
}

/// Makes a listening, non-blocking socket at `path` with exactly the permission bits `mode`.
///
/// A missing directory is made, a stale socket is replaced.
///
/// # Errors
/// Where the path cannot be used or is in use.
pub(super) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), SocketError> {
    let directory = check(path, mode)?;
    make_directory(directory, mode)
        .map_err(|e| SocketError::MakeDirectory(directory.to_owned(), e))?;
    let lock = lock(directory, START_PATIENCE)
        .map_err(|e| SocketError::Directory(directory.to_owned(), e))?;
    let address =
        UnixAddr::new(path).map_err(|e| SocketError::step(path, "has no valid address", e))?;
    remove_stale(path, &address)?;
    let descriptor = open_socket(path)?;
    bind_with_mode(&descriptor, &address, mode)
        .map_err(|e| SocketError::step(path, "cannot be bound", e))?;
    let file = SocketFile::claim(path, mode);
    let listening = listen(&descriptor, Backlog::MAXALLOWABLE);
    // Only now: until it listens, another instance would take it for a stale one. And not later:
    // where something has failed, the socket is removed, which takes the lock again.
    drop(lock);
    let file = file.map_err(|e| SocketError::step(path, "cannot be given its mode", e))?;
    listening.map_err(|e| SocketError::step(path, "cannot be listened on", e))?;
    Ok((UnixListener::from(descriptor), file))
}

fn check(path: &Path, mode: u32) -> Result<&Path, SocketError> {
    let bytes = path.as_os_str().as_bytes().len();
    if !(1..=MAX_PATH_BYTES).contains(&bytes) {
        return Err(SocketError::TooLong { path: path.to_owned(), bytes });
    }
    if path.is_relative() {
        return Err(SocketError::Relative(path.to_owned()));
    }
    if mode & !MODE_BITS != 0 {
        return Err(SocketError::Mode(mode));
    }
    let is_directory = path.as_os_str().as_bytes().ends_with(b"/");
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(_)) if !is_directory => Ok(parent),
        _ => Err(SocketError::NoName(path.to_owned())),
    }
}

/// Whoever may use the socket has to reach it: a directory that is made here may be searched by
/// those whom the socket's mode lets in, and by nobody else.
fn make_directory(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let group = if mode & 0o070 == 0 { 0 } else { 0o050 };
    let others = if mode & 0o007 == 0 { 0 } else { 0o005 };
    DirBuilder::new().recursive(true).mode(0o700 | group | others).create(directory)
}

/// Takes the turn among instances that use this directory. Anybody who can read the directory can
/// hold its lock, so the wait is bounded.
fn lock(directory: &Path, patience: Duration) -> io::Result<Flock<File>> {
    let deadline = Instant::now() + patience;
    let mut file = File::open(directory)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((same, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                file = same;
                thread::park_timeout(LOCK_RETRY);
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "another process holds its lock; is another instance starting?",
                ));
            }
            result => return result.map_err(|(_, e)| e.into()),
        }
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), SocketError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(SocketError::step(path, "cannot be looked at", e)),
    };
    if !kind.is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned(), kind: word_for(kind) });
    }
    // It does not block: a live process whose queue is full would keep us waiting.
    let probe = open_socket(path)?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS) => {
            return Err(SocketError::Live(path.to_owned()));
        }
        Err(e) => return Err(SocketError::step(path, "is there and cannot be tried", e)),
    }
    tracing::info!(socket = %path.display(), "a stale socket is replaced");
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(SocketError::step(path, "is stale and cannot be removed", e))
        }
        _ => Ok(()),
    }
}

fn word_for(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_file() {
        "a regular file"
    } else {
        "a device or FIFO"
    }
}

fn open_socket(path: &Path) -> Result<OwnedFd, SocketError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|e| SocketError::step(path, "cannot be made", e))
}

/// Linux takes the mode of the file from the descriptor, less the umask. The umask leaves the
/// owner's bits alone, so that a file that another thread makes meanwhile stays usable to us.
fn bind_with_mode(descriptor: &OwnedFd, address: &UnixAddr, mode: u32) -> nix::Result<()> {
    fchmod(descriptor, Mode::from_bits_truncate(mode))?;
    let _turn = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = umask(Mode::from_bits_truncate(!mode & 0o077));
    let bound = bind_to(descriptor.as_raw_fd(), address);
    umask(before);
    bound
}

/// The socket's file, removed on drop if it is still the one that was made.
///
/// Drop it before the listener: as long as that is open, no other file can have the same inode, and
/// no other instance takes the socket for a stale one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn claim(path: &Path, mode: u32) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let file = Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
        // A kernel that does not look at the descriptor (a sandbox) leaves the owner, and only the
        // owner, more than was asked for.
        if metadata.mode() & MODE_BITS != mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(file)
    }

    fn is(&self, metadata: &Metadata) -> bool {
        (metadata.dev(), metadata.ino()) == (self.device, self.inode)
    }

    fn remove(&self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        // Whoever is about to replace the socket must not lose its own.
        let _lock = lock(directory, END_PATIENCE)?;
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if self.is(&metadata) => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, socket = %self.path.display(), "the socket cannot be removed");
        }
    }
}

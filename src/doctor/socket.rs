//! Whether a socket can be made at its path, and seen by another container.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::access::{self, MAKE};
use super::code::Code;
use super::finding::Finding;
use super::mountinfo::Mounts;
use crate::config::MAX_SOCKET_PATH_BYTES;

/// Where the sidecar would serve.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    pub(crate) path: std::path::PathBuf,
    /// Whether another container of the pod is to see it.
    pub(crate) is_shared: bool,
}

/// Everything that is wrong with the place of the socket.
pub(super) fn examine(socket: &Socket, mounts: &Mounts) -> Vec<Finding> {
    let path = socket.path.as_path();
    let bytes = path.as_os_str().len();
    if bytes > MAX_SOCKET_PATH_BYTES {
        let message = format!("The path of the socket has {bytes} bytes.");
        return vec![Finding::new(Code::SocketPath, message).at(path)];
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut findings: Vec<_> = taken(path).into_iter().chain(unusable(directory)).collect();
    if socket.is_shared && is_private(directory, mounts) {
        let message = format!("{directory:?} is not a mount, nor in one.");
        findings.push(Finding::new(Code::SocketNotShared, message).at(directory));
    }
    findings
}

fn taken(path: &Path) -> Option<Finding> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    let message = format!("{path:?} is there, and no socket.");
    (!kind.is_socket()).then(|| Finding::new(Code::SocketTaken, message).at(path))
}

/// A directory that is missing is made, with its parents.
fn unusable(directory: &Path) -> Option<Finding> {
    let found = |message: String| Some(Finding::new(Code::SocketDirectory, message).at(directory));
    let exists = fs::symlink_metadata(directory).is_ok();
    if exists && fs::metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
        return found(format!("{directory:?} is not a directory."));
    }
    let place = if directory.is_dir() { directory } else { access::nearest(directory) };
    let errno = access::check(place, MAKE).err()?;
    let who = access::who();
    let rights = fs::metadata(place).map(|found| access::describe(&found)).unwrap_or_default();
    let missing = if place == directory { "" } else { ", and what is below it is not there" };
    found(format!("{who} may not make files in {place:?} ({}; {rights}){missing}.", errno.desc()))
}

/// Whether a directory lies in the container's own file system.
fn is_private(directory: &Path, mounts: &Mounts) -> bool {
    let place = if directory.is_dir() { directory } else { access::nearest(directory) };
    let Ok(real) = place.canonicalize() else { return false };
    mounts.of(&real).is_some_and(|mount| mount.point == Path::new("/"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn codes(path: &Path) -> Vec<Code> {
        let socket = Socket { path: path.to_owned(), is_shared: true };
        let findings = examine(&socket, &Mounts::default());
        findings.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn path_that_can_be_used_is_no_finding() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(codes(&directory.path().join("a/b/s.sock")), []);
        let path = directory.path().join("s.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(codes(&path), []);
    }

    #[test]
    fn place_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(codes(&file), [Code::SocketTaken]);
        assert_eq!(codes(&file.join("s.sock")), [Code::SocketDirectory]);
        assert_eq!(codes(&directory.path().join("x".repeat(120))), [Code::SocketPath]);
    }

    #[test]
    fn directory_in_the_root_mount_is_seen_by_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        let root = Mounts::parse(b"1 0 0:1 / / rw - overlay x rw\n");
        assert!(is_private(&real, &root) && is_private(&real.join("later"), &root));
        let line = format!(
            "1 0 0:1 / / rw - overlay x rw\n2 1 0:2 / {} rw - tmpfs x rw\n",
            real.display()
        );
        assert!(!is_private(&real.join("later"), &Mounts::parse(line.as_bytes())));
    }
}

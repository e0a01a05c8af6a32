//! What this user may do with a path, as the kernel says without opening it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat, geteuid};

pub(super) const READ: AccessFlags = AccessFlags::R_OK;
/// Listing a directory, and reaching what is in it.
pub(super) const LIST: AccessFlags = AccessFlags::R_OK.union(AccessFlags::X_OK);
/// Making files in a directory.
pub(super) const MAKE: AccessFlags = AccessFlags::W_OK.union(AccessFlags::X_OK);

/// Asks the kernel for the effective user, with the capabilities it has.
pub(super) fn check(path: &Path, access: AccessFlags) -> Result<(), Errno> {
    faccessat(AT_FDCWD, path, access, AtFlags::AT_EACCESS)
}

/// Who is asking.
pub(super) fn who() -> String {
    format!("uid {}", geteuid())
}

/// `mode 0400, owner 0:0`.
pub(super) fn describe(metadata: &Metadata) -> String {
    let (uid, gid) = (metadata.uid(), metadata.gid());
    format!("mode {:04o}, owner {uid}:{gid}", metadata.mode() & 0o7777)
}

/// The outermost directory on the way to `path` that this user may not enter.
pub(super) fn barrier(path: &Path) -> Option<&Path> {
    let closed = |at: &&Path| check(at, AccessFlags::X_OK) == Err(Errno::EACCES);
    path.ancestors().skip(1).filter(closed).last()
}

/// The innermost directory on the way to `path` that is there.
pub(super) fn nearest(path: &Path) -> &Path {
    path.ancestors().skip(1).find(|at| at.is_dir()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_directory_is_one_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        assert_eq!(nearest(&path), directory.path());
        assert_eq!(barrier(&path), None);
    }

    #[test]
    fn mode_and_owner_are_described_in_digits() {
        let metadata = std::fs::metadata("/proc/1").unwrap();
        assert_eq!(describe(&metadata), "mode 0555, owner 0:0");
    }
}

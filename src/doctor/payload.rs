//! The keys of a volume by name, and those that may not be read. No key is opened.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::access;
use crate::volume::{MAX_DEPTH, MAX_KEYS};

/// What is below one directory.
#[derive(Debug, Default)]
pub(super) struct Payload {
    /// By relative path, in no order.
    pub(super) keys: Vec<String>,
    pub(super) unreadable: Vec<Unreadable>,
    /// The newest modification time of a key.
    pub(super) modified_at: Option<SystemTime>,
    entries: usize,
}

/// A key or directory that this user may not read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    /// `mode 0400, owner 0:0`.
    pub(super) rights: String,
}

impl Payload {
    /// Lists everything below `root`.
    ///
    /// # Errors
    /// Where something vanishes in the middle, as in a rotation; `InvalidData` where there is more
    /// than a volume may have.
    pub(super) fn list(root: &Path) -> io::Result<Self> {
        let mut payload = Self::default();
        payload.directory(root, "", 1)?;
        Ok(payload)
    }

    fn directory(&mut self, directory: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            self.entries += 1;
            if self.entries > MAX_KEYS || depth > MAX_DEPTH {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // At the top these belong to the writer.
            if prefix.is_empty() && name.starts_with("..") {
                continue;
            }
            self.entry(&entry, format!("{prefix}{name}"), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, key: String, depth: usize) -> io::Result<()> {
        let path = entry.path();
        // Links are followed: in a plain directory they may be keys. One to nothing is no key.
        let Ok(metadata) = fs::metadata(&path) else { return Ok(()) };
        let is_directory = entry.file_type()?.is_dir();
        let access = if is_directory { access::LIST } else { access::READ };
        if access::check(&path, access).is_err() && (is_directory || metadata.is_file()) {
            let rights = access::describe(&metadata);
            self.unreadable.push(Unreadable { path: path.clone(), rights });
        } else if is_directory {
            return self.directory(&path, &format!("{key}/"), depth + 1);
        }
        if metadata.is_file() {
            let seconds = u64::try_from(metadata.mtime()).unwrap_or_default();
            let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            self.modified_at = self.modified_at.max(modified);
            self.keys.push(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_by_their_path_and_the_writers_entries_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join("..old")).unwrap();
        for key in ["k", "a/b/c", "..old/x", "..data_tmp"] {
            fs::write(root.join(key), "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", root.join("broken")).unwrap();
        let mut payload = Payload::list(root).unwrap();
        payload.keys.sort();
        assert_eq!(payload.keys, ["a/b/c", "k"]);
        assert!(payload.modified_at.is_some() && payload.unreadable.is_empty());
    }

    #[test]
    fn tree_without_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let deep = (0..=MAX_DEPTH).fold(directory.path().to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(deep).unwrap();
        assert!(Payload::list(directory.path()).is_err());
    }
}

//! One system call of a rotation.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::payload::Payload;

/// One system call that changes the volume.
///
/// `Display` gives it as a line such as `rename /vol/..data_tmp -> /vol/..data`: paths and modes,
/// never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Makes a directory.
    MakeDir {
        /// The directory.
        path: PathBuf,
        /// Its mode, of which the umask may take away.
        mode: u32,
    },
    /// Opens a new file, which is empty until it is written.
    Create {
        /// The file.
        path: PathBuf,
        /// Its mode, of which the umask may take away.
        mode: u32,
    },
    /// Writes the value of a key into the file that was created just before, and closes it.
    Write {
        /// The file.
        path: PathBuf,
        /// Whose value it is.
        key: String,
    },
    /// Sets the mode of a file or directory.
    Chmod {
        /// The file or directory.
        path: PathBuf,
        /// Its new mode.
        mode: u32,
    },
    /// Adds to the mode of a file or directory, as `fsGroup` does.
    AddMode {
        /// The file or directory.
        path: PathBuf,
        /// The bits to add.
        bits: u32,
    },
    /// Makes a symbolic link: `..data_tmp`, or that of a key.
    Symlink {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// Renames `..data_tmp` to `..data`: the one moment at which readers get the new version.
    Swap {
        /// `..data_tmp`.
        from: PathBuf,
        /// `..data`.
        to: PathBuf,
    },
    /// Removes a file or a symbolic link.
    Unlink {
        /// The file or link.
        path: PathBuf,
    },
    /// Removes an empty directory.
    RemoveDir {
        /// The directory.
        path: PathBuf,
    },
}

impl Step {
    /// Whether this publishes the payload.
    pub fn is_swap(&self) -> bool {
        matches!(self, Self::Swap { .. })
    }

    /// What the step makes, changes or removes; for the swap that is `..data`.
    pub fn path(&self) -> &Path {
        match self {
            Self::MakeDir { path, .. }
            | Self::Create { path, .. }
            | Self::Write { path, .. }
            | Self::Chmod { path, .. }
            | Self::AddMode { path, .. }
            | Self::Symlink { path, .. }
            | Self::Swap { to: path, .. }
            | Self::Unlink { path }
            | Self::RemoveDir { path } => path,
        }
    }

    /// Takes the step. `open` carries the file from [`Step::Create`] to [`Step::Write`], so that it
    /// is opened and closed once, as the kubelet does it.
    pub(super) fn take(&self, payload: &Payload, open: &mut Option<File>) -> io::Result<()> {
        let result = match self {
            Self::MakeDir { path, mode } => fs::DirBuilder::new().mode(*mode).create(path),
            Self::Create { path, mode } => create(path, *mode).map(|file| *open = Some(file)),
            Self::Write { key, .. } => write(open, payload, key),
            Self::Chmod { path, mode } => fs::set_permissions(path, Permissions::from_mode(*mode)),
            Self::AddMode { path, bits } => add_mode(path, *bits),
            Self::Symlink { path, target } => symlink(target, path),
            Self::Swap { from, to } => fs::rename(from, to),
            Self::Unlink { path } => fs::remove_file(path),
            Self::RemoveDir { path } => fs::remove_dir(path),
        };
        result.map_err(|e| io::Error::new(e.kind(), format!("{self}: {e}")))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        match self {
            Self::MakeDir { .. } => write!(f, "mkdir {path}"),
            Self::Create { .. } => write!(f, "create {path}"),
            Self::Write { .. } => write!(f, "write {path}"),
            Self::Chmod { mode, .. } => write!(f, "chmod {mode:o} {path}"),
            Self::AddMode { bits, .. } => write!(f, "chmod +{bits:o} {path}"),
            Self::Symlink { target, .. } => write!(f, "symlink {path} -> {}", target.display()),
            Self::Swap { from, .. } => write!(f, "rename {} -> {path}", from.display()),
            Self::Unlink { .. } => write!(f, "unlink {path}"),
            Self::RemoveDir { .. } => write!(f, "rmdir {path}"),
        }
    }
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn write(open: &mut Option<File>, payload: &Payload, key: &str) -> io::Result<()> {
    // A rotation creates before it writes and checks its keys, so neither can be missing.
    let (Some(file), Some(value)) = (open.as_mut(), payload.get(key)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // At a fixed place, so that a write that failed half-way can be tried again.
    file.write_all_at(value.expose(), 0)?;
    *open = None;
    Ok(())
}

fn add_mode(path: &Path, bits: u32) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.permissions().mode();
    fs::set_permissions(path, Permissions::from_mode(mode | bits))
}

//! Looking at a directory tree without following links.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a path of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    File,
    /// A link or something else that is never opened here.
    Other,
}

/// Everything below `dir`, a directory after what is in it, names in order: the order in which a
/// tree is removed.
pub(super) fn below(dir: &Path) -> io::Result<Vec<(PathBuf, Kind)>> {
    let mut found = Vec::new();
    collect(dir, &mut found)?;
    Ok(found)
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, Kind)>) -> io::Result<()> {
    for (path, kind) in children(dir).map_err(|e| at("list", dir, &e))? {
        if kind == Kind::Dir {
            collect(&path, found)?;
        }
        found.push((path, kind));
    }
    Ok(())
}

fn children(dir: &Path) -> io::Result<Vec<(PathBuf, Kind)>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = match entry.file_type()? {
            kind if kind.is_dir() => Kind::Dir,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Other,
        };
        children.push((entry.path(), kind));
    }
    children.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(children)
}

/// Says what was done and where, and keeps the kind.
pub(super) fn at(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

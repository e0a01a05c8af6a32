//! Which system calls a rotation consists of, and in which order.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::payload::{Payload, parents};
use super::step::Step;
use super::tree::{self, Kind};
use super::{DATA, DATA_TMP};

/// What the kubelet gives files of a read-only volume with an `fsGroup`: the group may read.
const GROUP_FILE_BITS: u32 = 0o440;
/// The same for directories: the group may list and enter, and what is made inside belongs to it.
const GROUP_DIR_BITS: u32 = 0o2550;

/// The version that `..data` points to.
pub(super) struct Published {
    pub(super) dir: PathBuf,
    /// Everything below `dir`, in the order of its removal.
    pub(super) below: Vec<(PathBuf, Kind)>,
    /// Whether `dir` is there at all: a link may point to nothing.
    exists: bool,
}

impl Published {
    /// Finds what is published in `volume`; `None` where nothing is.
    ///
    /// Whatever `..data` points to is going to be removed, so anything but a directory of this
    /// volume is refused.
    pub(super) fn find(volume: &Path) -> io::Result<Option<Self>> {
        let link = volume.join(DATA);
        let target = match fs::read_link(&link) {
            Ok(target) => target,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(tree::at("readlink", &link, &e)),
        };
        let dir = volume.join(&target);
        let exists = match fs::symlink_metadata(&dir) {
            Ok(found) if is_entry(&target) && found.is_dir() => true,
            Err(e) if is_entry(&target) && e.kind() == io::ErrorKind::NotFound => false,
            _ => return Err(not_a_version(&link, &target)),
        };
        let below = if exists { tree::below(&dir)? } else { Vec::new() };
        Ok(Some(Self { dir, below, exists }))
    }

    /// The keys as paths, with the files they are.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let files = self.below.iter().filter(|(_, kind)| *kind == Kind::File);
        files.filter_map(|(path, _)| Some((path.strip_prefix(&self.dir).ok()?, path.as_path())))
    }

    /// Whether it already holds this payload. Like the kubelet, this compares names and contents,
    /// and not modes.
    fn holds(&self, payload: &Payload) -> io::Result<bool> {
        let keys: BTreeSet<_> = self.files().map(|(key, _)| key).collect();
        if keys != payload.keys().map(Path::new).collect() {
            return Ok(false);
        }
        for (key, file) in payload.files() {
            let path = self.dir.join(key);
            match fs::read(&path).map(zeroize::Zeroizing::new) {
                Ok(bytes) if *bytes == file.value.expose() => {}
                Ok(_) => return Ok(false),
                // The kubelet is root. Here a mode such as 0000 must not end all rotations.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
                Err(e) => return Err(tree::at("read", &path, &e)),
            }
        }
        Ok(true)
    }

    fn top_level(&self) -> BTreeSet<&OsStr> {
        let here = self.below.iter().filter(|(path, _)| path.parent() == Some(&self.dir));
        here.filter_map(|(path, _)| path.file_name()).collect()
    }
}

/// Whether a link's target is an entry of the directory that the link is in.
fn is_entry(target: &Path) -> bool {
    let mut components = target.components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

fn not_a_version(link: &Path, target: &Path) -> io::Error {
    let (link, target) = (link.display(), target.display());
    let message = format!("{link} points to {target}, which is not a directory of this volume");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Plans the steps of one rotation.
pub(super) struct Planner<'a> {
    pub(super) volume: &'a Path,
    pub(super) links_first: bool,
    pub(super) fs_group: bool,
}

impl Planner<'_> {
    pub(super) fn plan(&self, payload: &Payload) -> io::Result<VecDeque<Step>> {
        let old = Published::find(self.volume)?;
        let links = self.new_links(payload)?;
        if let Some(old) = &old
            && old.holds(payload)?
        {
            // Only kubelets that link after the swap look for links that a crash has left out.
            return Ok(if self.links_first { VecDeque::new() } else { links.into() });
        }
        let name = version_name();
        let mut steps = VecDeque::from(self.remove_residue());
        let written = self.write_version(&name, payload);
        let grants = if self.fs_group { self.grant_group(&written)? } else { Vec::new() };
        steps.extend(written);
        steps.extend(grants);
        let (before, after) = if self.links_first { (links, vec![]) } else { (vec![], links) };
        steps.extend(before);
        steps.extend(self.swap(&name));
        steps.extend(after);
        if let Some(old) = old {
            steps.extend(self.remove_links(&old, payload));
            steps.extend(remove_version(old));
        }
        Ok(steps)
    }

    fn remove_residue(&self) -> Vec<Step> {
        let path = self.volume.join(DATA_TMP);
        let is_left = fs::symlink_metadata(&path).is_ok();
        if is_left { vec![Step::Unlink { path }] } else { vec![] }
    }

    fn write_version(&self, name: &str, payload: &Payload) -> Vec<Step> {
        let version = self.volume.join(name);
        // Made for the owner alone, then opened: what `mkdtemp` does.
        let mut steps = vec![
            Step::MakeDir { path: version.clone(), mode: 0o700 },
            Step::Chmod { path: version.clone(), mode: 0o755 },
        ];
        let mut made = BTreeSet::new();
        for (key, file) in payload.files() {
            let missing = parents(key).filter(|parent| made.insert(*parent));
            steps.extend(
                missing.map(|parent| Step::MakeDir { path: version.join(parent), mode: 0o777 }),
            );
            let (path, mode) = (version.join(key), file.mode);
            steps.push(Step::Create { path: path.clone(), mode });
            steps.push(Step::Write { path: path.clone(), key: key.to_owned() });
            // The umask may have taken bits away at the creation.
            steps.push(Step::Chmod { path, mode });
        }
        steps
    }

    /// Opens the whole volume to the group, whatever version or residue it belongs to.
    fn grant_group(&self, written: &[Step]) -> io::Result<Vec<Step>> {
        let add = |path: &Path, bits| Step::AddMode { path: path.to_owned(), bits };
        let there = tree::below(self.volume)?;
        let there = there.iter().filter_map(|(path, kind)| match kind {
            Kind::Dir => Some(add(path, GROUP_DIR_BITS)),
            Kind::File => Some(add(path, GROUP_FILE_BITS)),
            Kind::Other => None,
        });
        let new = written.iter().rev().filter_map(|step| match step {
            Step::MakeDir { path, .. } => Some(add(path, GROUP_DIR_BITS)),
            Step::Create { path, .. } => Some(add(path, GROUP_FILE_BITS)),
            _ => None,
        });
        Ok(there.chain(new).chain([add(self.volume, GROUP_DIR_BITS)]).collect())
    }

    fn swap(&self, name: &str) -> [Step; 2] {
        let (from, to) = (self.volume.join(DATA_TMP), self.volume.join(DATA));
        [Step::Symlink { path: from.clone(), target: name.into() }, Step::Swap { from, to }]
    }

    /// Links for those keys that have none.
    fn new_links(&self, payload: &Payload) -> io::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for name in payload.top_level() {
            let path = self.volume.join(name);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() => {}
                // The kubelet would leave it there and readers would never see the key.
                Ok(_) => return Err(in_the_way(&path)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    steps.push(Step::Symlink { path, target: Path::new(DATA).join(name) });
                }
                Err(e) => return Err(tree::at("lstat", &path, &e)),
            }
        }
        Ok(steps)
    }

    /// Removes the links of keys that the old version has and the payload has not. A link whose
    /// version is gone already stays, as it does with the kubelet.
    fn remove_links(&self, old: &Published, payload: &Payload) -> Vec<Step> {
        let kept = payload.top_level();
        let vanished = old.top_level().into_iter().filter(|name| !kept.iter().any(|k| k == name));
        let paths = vanished.map(|name| self.volume.join(name));
        let links = paths.filter(|path| fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()));
        links.map(|path| Step::Unlink { path }).collect()
    }
}

fn remove_version(old: Published) -> Vec<Step> {
    let this = old.exists.then_some((old.dir, Kind::Dir));
    let all = old.below.into_iter().chain(this);
    all.map(|(path, kind)| match kind {
        Kind::Dir => Step::RemoveDir { path },
        Kind::File | Kind::Other => Step::Unlink { path },
    })
    .collect()
}

fn in_the_way(path: &Path) -> io::Error {
    let message = format!("{} is in the way: it is not a symbolic link", path.display());
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

/// `..<UTC time>.<number>`, as the kubelet names its directories.
///
/// The number counts up from a random start, so that no two rotations of a process share a name,
/// whatever the clock does, and other processes almost certainly have other names.
fn version_name() -> String {
    static NUMBER: LazyLock<AtomicU32> = LazyLock::new(|| {
        let random = RandomState::new().build_hasher().finish();
        AtomicU32::new((random >> 32) as u32)
    });
    let now = SystemTime::now().max(SystemTime::UNIX_EPOCH);
    let time = humantime::format_rfc3339_seconds(now).to_string();
    let time = time.trim_end_matches('Z').replace(['-', 'T', ':'], "_");
    format!("..{time}.{:010}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_name_reads_like_those_of_the_kubelet() {
        let name = version_name();
        let (time, number) = name.strip_prefix("..").unwrap().split_once('.').unwrap();
        let fields: Vec<_> = time.split('_').map(str::len).collect();
        assert_eq!(fields, [4, 2, 2, 2, 2, 2], "{name}");
        assert!(number.parse::<u32>().is_ok(), "{name}");
    }

    #[test]
    fn no_two_rotations_choose_the_same_name() {
        let names: BTreeSet<_> = (0..10_000).map(|_| version_name()).collect();
        assert_eq!(names.len(), 10_000);
    }
}

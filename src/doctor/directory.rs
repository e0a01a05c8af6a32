//! What can be wrong with the directory of one volume.
//!
//! How it works. The directory is looked at by names, links, modes and times; no key is opened. A
//! rotation under way looks like a fault for less than a millisecond, so a look that finds such a
//! thing is made again, a few times, and only what stays is reported.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use super::access::{self, LIST};
use super::code::Code;
use super::finding::Finding;
use super::mountinfo::{Mount, Mounts};
use super::payload::Payload;
use super::{Subject, Volume, sub_path};
use crate::volume::{DATA_LINK, stamp};

/// How often a look is made at most, and the time between two.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// What the clocks of a node and of a sandbox on it may differ by without anybody noticing.
const SKEW: Duration = Duration::from_secs(5);
/// Where the link to the next version is made.
const NEXT_LINK: &str = "..data_tmp";

/// Everything that is wrong with one volume.
pub(super) fn examine(volume: &Volume, subject: &Subject, mounts: &Mounts) -> Vec<Finding> {
    let look = || Look { volume, subject, mounts, findings: Vec::new() }.run();
    let mut findings = look();
    for _ in 1..LOOKS {
        if !findings.iter().any(|finding| finding.code.is_passing()) {
            break;
        }
        thread::park_timeout(PAUSE);
        findings = look();
    }
    findings
}

/// One look.
struct Look<'a> {
    volume: &'a Volume,
    subject: &'a Subject,
    mounts: &'a Mounts,
    findings: Vec<Finding>,
}

impl Look<'_> {
    fn run(mut self) -> Vec<Finding> {
        let given = &self.volume.path;
        match fs::metadata(given) {
            Ok(metadata) if metadata.is_dir() => self.directory(),
            Ok(_) => self.file(),
            Err(error) => self.no_directory(&error),
        }
        self.findings
    }

    fn add(&mut self, code: Code, path: impl Into<PathBuf>, message: impl Into<String>) {
        self.findings.push(Finding::new(code, message).of(&self.volume.name).at(path));
    }

    fn no_directory(&mut self, error: &io::Error) {
        let given = self.volume.path.as_path();
        if error.kind() == io::ErrorKind::PermissionDenied {
            let closed = access::barrier(given).unwrap_or(given);
            return self.unreadable(closed);
        }
        let nearest = access::nearest(given);
        let message = format!("{given:?} is not there; what is there of the path is {nearest:?}.");
        self.add(Code::MissingDirectory, given, message);
    }

    fn unreadable(&mut self, path: &Path) {
        let who = access::who();
        let rights = fs::metadata(path)
            .map_or("rights unknown".to_owned(), |metadata| access::describe(&metadata));
        self.add(Code::Unreadable, path, format!("{who} may not read {path:?}: {rights}."));
    }

    /// A key that was mounted by `subPath`, or just a file.
    fn file(&mut self) {
        let given = &self.volume.path;
        let real = given.canonicalize().unwrap_or_else(|_| given.clone());
        if let Some(mount) = self.mounts.of(&real).filter(|mount| mount.version().is_some()) {
            let finding = sub_path::finding(mount).of(&self.volume.name);
            return self.findings.push(finding);
        }
        let parent = given.parent().unwrap_or(Path::new("/"));
        let message = format!("{given:?} is not a directory; the one that it is in is {parent:?}.");
        self.add(Code::NotADirectory, given, message);
    }

    fn directory(&mut self) {
        let given = self.volume.path.clone();
        let Ok(real) = given.canonicalize() else { return self.unreadable(&given) };
        self.mount(&real);
        if let Some(version) = real.iter().find(|part| stamp::parse_os(part).is_some()) {
            let message = format!("{given:?} is inside of {version:?}, one version of a volume.");
            self.add(Code::InsideVolume, &given, message);
        }
        if access::check(&given, LIST).is_err() {
            return self.unreadable(&given);
        }
        match fs::read_link(given.join(DATA_LINK)) {
            Ok(target) => self.atomic(&given, &target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.plain(&given),
            Err(_) => {
                let message = format!("`..data` in {given:?} is not a symbolic link.");
                self.add(Code::BrokenLink, given.join(DATA_LINK), message);
            }
        }
    }

    /// What the mount says that the directory is in, and those below it.
    fn mount(&mut self, real: &Path) {
        for below in self.mounts.visible().filter(|mount| mount.version().is_some()) {
            if below.point.starts_with(real) {
                self.findings.push(sub_path::finding(below).of(&self.volume.name));
            }
        }
        let Some(mount) = self.mounts.of(real) else { return };
        if mount.version().is_some() && mount.point != real {
            self.findings.push(sub_path::finding(mount).of(&self.volume.name));
        } else if mount.version().is_none() {
            self.whole_mount(real, mount);
        }
    }

    fn whole_mount(&mut self, real: &Path, mount: &Mount) {
        if mount.is_deleted {
            let message = format!("{real:?} shows {:?}, which has been deleted.", mount.root);
            self.add(Code::DetachedMount, real, message);
        }
        if mount.is_remote() {
            let message = format!("{real:?} is on a file system of type {}.", mount.kind);
            self.add(Code::RemoteFileSystem, real, message);
        }
        if self.subject.is_in_pod && mount.point == Path::new("/") {
            self.add(Code::NotAMount, real, format!("{real:?} is not a mount, nor in one."));
        }
    }

    fn atomic(&mut self, root: &Path, target: &Path) {
        let link = root.join(DATA_LINK);
        if !target.components().all(|part| matches!(part, Component::Normal(_))) {
            let message = format!("`..data` leads to {target:?}, which is not in the volume.");
            return self.add(Code::BrokenLink, link, message);
        }
        let version = root.join(target);
        let metadata = match fs::symlink_metadata(&version) {
            Ok(metadata) if metadata.is_dir() => metadata,
            _ => {
                let message = format!("`..data` leads to {target:?}, where no directory is.");
                return self.add(Code::BrokenLink, link, message);
            }
        };
        if access::check(&version, LIST).is_err() {
            return self.unreadable(&version);
        }
        self.payload(root, &version);
        self.links(root);
        self.leftovers(root, target);
        let name = target.file_name().unwrap_or_default();
        self.age(root, stamp::written_at(name, &metadata));
    }

    fn plain(&mut self, root: &Path) {
        let entries = names(root);
        if entries.iter().any(|name| name == NEXT_LINK || stamp::parse_os(name).is_some()) {
            let message =
                format!("{root:?} has no `..data`, and a version that was not published.");
            return self.add(Code::InterruptedWrite, root, message);
        }
        let volumes = entries.iter().filter(|name| root.join(name).join(DATA_LINK).is_symlink());
        let volumes: Vec<_> = volumes.map(|name| root.join(name)).collect();
        if !volumes.is_empty() {
            let message = format!("{root:?} is no volume, and holds volumes: {volumes:?}.");
            return self.add(Code::ParentDirectory, root, message);
        }
        let message = format!("{root:?} has no `..data`: no kubelet writes it.");
        self.add(Code::PlainDirectory, root, message);
        let modified_at = self.payload(root, root);
        self.age(root, modified_at);
    }

    /// The keys in `version` of the volume in `root`; when the newest of them was modified.
    fn payload(&mut self, root: &Path, version: &Path) -> Option<SystemTime> {
        let payload = match Payload::list(version) {
            Ok(payload) => payload,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let message = format!("{root:?} holds more than a secret ever does.");
                self.add(Code::TooManyEntries, root, message);
                return None;
            }
            // It has vanished: a rotation came in between, and the next version was not looked at.
            Err(_) => return None,
        };
        for unreadable in &payload.unreadable {
            let who = access::who();
            let message =
                format!("{who} may not read {:?}: {}.", unreadable.path, unreadable.rights);
            self.add(Code::Unreadable, &unreadable.path, message);
        }
        let is_empty = payload.keys.is_empty() && payload.unreadable.is_empty();
        if is_empty && !self.volume.allow_empty {
            self.add(Code::Empty, root, format!("{root:?} has no keys."));
        }
        let missing = self.volume.require.iter().filter(|key| {
            // Below a directory that cannot be listed it may be there.
            !payload.keys.iter().any(|known| known == key.as_str()) && payload.unreadable.is_empty()
        });
        for key in missing {
            let mut message = format!("The required key `{key}` is not in {root:?}");
            let similar = payload.keys.iter().find(|known| is_alike(known, key.as_str()));
            match similar {
                Some(known) => message.push_str(&format!(", but {known:?} is.")),
                None => message.push('.'),
            }
            self.add(Code::MissingKey, root.join(key.as_str()), message);
        }
        payload.modified_at
    }

    /// Links of keys that lead to nothing, as an interrupted write leaves them.
    fn links(&mut self, root: &Path) {
        for name in names(root) {
            let path = root.join(&name);
            let is_missing =
                || fs::metadata(&path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
            if !name.as_encoded_bytes().starts_with(b"..") && path.is_symlink() && is_missing() {
                let message = format!("{path:?} is a symbolic link to nothing.");
                self.add(Code::BrokenLink, &path, message);
            }
        }
    }

    fn leftovers(&mut self, root: &Path, current: &Path) {
        let is_left = |name: &OsString| {
            name == NEXT_LINK || (stamp::parse_os(name).is_some() && Path::new(name) != current)
        };
        let left: Vec<_> = names(root).into_iter().filter(is_left).collect();
        if !left.is_empty() {
            let message = format!("{root:?} has what an interrupted write left: {left:?}.");
            self.add(Code::InterruptedWrite, root, message);
        }
    }

    fn age(&mut self, root: &Path, written_at: Option<SystemTime>) {
        let Some(written_at) = written_at else { return };
        let at = humantime::format_rfc3339_seconds(written_at);
        match self.subject.now.duration_since(written_at) {
            Ok(age) if self.subject.older_than.is_some_and(|limit| age > limit) => {
                let days = age.as_secs() / (24 * 60 * 60);
                let message = format!("{root:?} was written at {at}, {days} days ago.");
                self.add(Code::OldSecret, root, message);
            }
            Err(ahead) if ahead.duration() > SKEW => {
                let ahead = ahead.duration().as_secs();
                let message = format!("{root:?} was written at {at}, {ahead} s in the future.");
                self.add(Code::ClockSkew, root, message);
            }
            _ => {}
        }
    }
}

/// The names in a directory, in order; none where it cannot be listed.
fn names(directory: &Path) -> Vec<OsString> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names
}

/// Whether two names differ only in what tools rewrite: `some-credential` and `someCredential`.
fn is_alike(one: &str, other: &str) -> bool {
    let letters = |name: &str| {
        let kept = name.chars().filter(|c| !matches!(c, '-' | '_' | '.'));
        kept.map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    letters(one) == letters(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test can mount such a file system, so the line of the mount is made up.
    #[test]
    fn volume_on_a_remote_file_system_is_a_note() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        fs::write(real.join("k"), "").unwrap();
        let volume = Volume {
            name: "v".to_owned(),
            path: real.clone(),
            require: Vec::new(),
            allow_empty: false,
        };
        let codes = |kind: &str| {
            let line = format!("1 0 0:1 / {} rw - {kind} x rw\n", real.display());
            let mounts = Mounts::parse(line.as_bytes());
            let found = examine(&volume, &Subject::new(vec![volume.clone()]), &mounts);
            found.into_iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        assert_eq!(codes("virtiofs"), [Code::RemoteFileSystem, Code::PlainDirectory]);
        assert_eq!(codes("tmpfs"), [Code::PlainDirectory]);
    }

    #[test]
    fn names_that_a_tool_has_rewritten_are_alike() {
        assert!(is_alike("some-credential", "someCredential"));
        assert!(is_alike("SOME_CREDENTIAL", "some-credential"));
        assert!(!is_alike("user", "password"));
    }
}

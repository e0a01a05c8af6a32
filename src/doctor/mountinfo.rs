//! The mounts of this process, as `/proc/self/mountinfo` lists them. Parsing alone; no I/O.
//!
//! A line: `68 45 0:39 /..2026_11_22_10_00_00.1/k /app/k rw,relatime shared:1 - tmpfs tmpfs rw`.
//! The fourth field is what of the file system is mounted, the fifth where.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::volume::stamp;

/// What the kernel appends to the root of a mount whose file or directory has been deleted.
const DELETED: &[u8] = b"//deleted";
/// How the root of a ConfigMap's mount shows that it is one: it lies on the node's disk.
const CONFIG_MAP: &[u8] = b"/kubernetes.io~configmap/";
/// File systems on which a change from outside need not raise an event.
const REMOTE: [&str; 7] = ["9p", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "vboxsf"];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What is mounted, as a path in its file system.
    pub(crate) root: PathBuf,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Such as `tmpfs`.
    pub(crate) kind: String,
    /// Whether what is mounted has been deleted since.
    pub(crate) is_deleted: bool,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let root = unescaped(fields.nth(3)?);
        let point = unescaped(fields.next()?);
        // Options and a varying number of tags; then a dash, then the type.
        let kind = unescaped(fields.skip_while(|field| *field != b"-").nth(1)?);
        let (root, is_deleted) = match root.strip_suffix(DELETED) {
            Some(root) => (root.to_vec(), true),
            None => (root, false),
        };
        Some(Self {
            root: path(root),
            point: path(point),
            kind: String::from_utf8_lossy(&kind).into_owned(),
            is_deleted,
        })
    }

    /// The timestamped directory of a volume that is, or holds, what is mounted. Such a mount stays
    /// with that version for ever.
    pub(crate) fn version(&self) -> Option<&OsStr> {
        self.root.iter().find(|part| stamp::parse_os(part).is_some())
    }

    pub(crate) fn is_config_map(&self) -> bool {
        let root = self.root.as_os_str().as_bytes();
        root.windows(CONFIG_MAP.len()).any(|window| window == CONFIG_MAP)
    }

    /// Whether inotify may stay silent here about changes from outside.
    pub(crate) fn is_remote(&self) -> bool {
        self.kind.starts_with("fuse") || REMOTE.contains(&self.kind.as_str())
    }
}

/// All mounts, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Lines that are no mounts are left out.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(text.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// The mount that a path without symbolic links lies in.
    pub(crate) fn of(&self, path: &Path) -> Option<&Mount> {
        let holding = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // Among several at one point the last one is seen: `max_by_key` gives the last.
        holding.max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Those that can be seen: not hidden by one that was made later, at the same point.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter().enumerate().filter_map(|(at, mount)| {
            let is_hidden = self.0[at + 1..].iter().any(|later| later.point == mount.point);
            (!is_hidden).then_some(mount)
        })
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// The kernel writes blanks, line ends, `\` and `#` as a backslash and three octal digits.
fn unescaped(mut field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    while let Some((&first, rest)) = field.split_first() {
        let (byte, rest) = match (first, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), rest)
            }
            _ => (first, rest),
        };
        bytes.push(byte);
        field = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINES: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
68 27 0:39 /..2026_11_22_10_00_00.1/k /app/k rw,relatime shared:1 master:2 - tmpfs tmpfs rw
69 27 0:40 / /etc/db ro - tmpfs tmpfs rw
70 27 0:41 / /etc/db ro - fuse.sshfs x rw
71 27 254:0 /pods/1/volumes/kubernetes.io~configmap/c/..2026_11_22_10_00_00.1/f//deleted /f rw - ext4 x rw
broken
";

    fn mounts() -> Mounts {
        Mounts::parse(LINES.as_bytes())
    }

    #[test]
    fn fields_are_found_behind_any_number_of_tags() {
        let mounts = mounts();
        assert_eq!(mounts.0.len(), 5);
        let key = &mounts.0[1];
        assert_eq!(key.point, Path::new("/app/k"));
        assert_eq!(key.kind, "tmpfs");
        assert_eq!(key.version(), Some(OsStr::new("..2026_11_22_10_00_00.1")));
        assert_eq!(mounts.0[0].version(), None);
    }

    #[test]
    fn deleted_root_is_told_from_its_path() {
        let mounts = mounts();
        let file = &mounts.0[4];
        assert!(file.is_deleted && file.is_config_map() && file.root.ends_with("f"));
        assert!(!mounts.0[1].is_deleted && !mounts.0[1].is_config_map());
    }

    #[test]
    fn path_lies_in_the_innermost_mount_and_the_last_one_there() {
        let mounts = mounts();
        let kind = |path: &str| mounts.of(Path::new(path)).unwrap().kind.as_str();
        assert_eq!(kind("/etc/db/k"), "fuse.sshfs");
        assert_eq!(kind("/etc/dbx"), "ext4");
        assert_eq!(kind("/app/k"), "tmpfs");
        assert!(mounts.of(Path::new("/etc/db")).unwrap().is_remote());
        assert!(!mounts.of(Path::new("/etc")).unwrap().is_remote());
        assert_eq!(mounts.visible().count(), 4);
        assert!(Mounts::default().of(Path::new("/")).is_none());
    }

    #[test]
    fn backslash_without_three_octal_digits_stays() {
        assert_eq!(unescaped(br"a\040b\134\011c"), b"a b\\\tc");
        assert_eq!(unescaped(br"\04 \8888 \"), br"\04 \8888 \");
        assert_eq!(unescaped(br"\777"), br"\777");
    }

    /// As the kernel does it.
    fn escaped(bytes: &[u8]) -> Vec<u8> {
        let escape = |&byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
            _ => vec![byte],
        };
        bytes.iter().flat_map(escape).collect()
    }

    proptest! {
        #[test]
        fn what_the_kernel_escapes_is_read_as_it_was(name in prop::collection::vec(1..=255_u8, 1..40)) {
            prop_assert_eq!(unescaped(&escaped(&name)), &name[..]);
            let point = [b"/", name.as_slice()].concat();
            let line = [b"1 2 0:3 / ", escaped(&point).as_slice(), b" rw - tmpfs t rw\n"].concat();
            let mounts = Mounts::parse(&line);
            prop_assert_eq!(mounts.0[0].point.as_os_str().as_bytes(), &point[..]);
            prop_assert_eq!(mounts.0[0].kind.as_str(), "tmpfs");
        }

        #[test]
        fn parsing_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Mounts::parse(&text);
        }
    }
}

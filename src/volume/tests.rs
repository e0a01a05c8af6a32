use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::*;

/// A volume whose payload directory the test fills as it likes.
struct Fixture {
    root: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(fixture.payload()).unwrap();
        symlink("..2026_11_22_10_00_00.1", fixture.root.path().join(DATA_LINK)).unwrap();
        fs::write(fixture.payload().join("good"), "value").unwrap();
        fixture
    }

    fn payload(&self) -> std::path::PathBuf {
        self.root.path().join("..2026_11_22_10_00_00.1")
    }

    fn read(&self) -> Reading {
        look(self.root.path()).result.unwrap()
    }

    fn reason(&self) -> Reason {
        look(self.root.path()).result.unwrap_err().reason
    }

    fn detail(&self) -> String {
        look(self.root.path()).result.unwrap_err().detail
    }
}

fn keys(reading: &Reading) -> Vec<String> {
    reading.contents.keys().map(|key| key.as_str().to_owned()).collect()
}

#[test]
fn values_are_read_byte_for_byte() {
    let fixture = Fixture::new();
    fs::write(fixture.payload().join("bytes"), [0, 0xff, b'\n']).unwrap();
    fs::write(fixture.payload().join("empty"), "").unwrap();
    let reading = fixture.read();
    assert_eq!(reading.layout, Layout::Atomic);
    assert_eq!(reading.contents.get("bytes").unwrap().expose(), [0, 0xff, b'\n']);
    assert!(reading.contents.get("empty").unwrap().is_empty());
    assert_eq!(reading.contents.get("good").unwrap().expose(), b"value");
}

#[test]
fn nested_keys_have_their_path_as_name() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.payload().join("a/b")).unwrap();
    fs::write(fixture.payload().join("a/b/c"), "deep").unwrap();
    assert_eq!(keys(&fixture.read()), ["a/b/c", "good"]);
}

#[test]
fn keys_are_listed_through_the_payload_and_not_beside_it() {
    let fixture = Fixture::new();
    fs::write(fixture.root.path().join("stray"), "not published").unwrap();
    symlink("..data/good", fixture.root.path().join("good")).unwrap();
    assert_eq!(keys(&fixture.read()), ["good"]);
}

#[test]
fn absent_directory_is_absent_and_a_file_is_not_a_volume() {
    let fixture = Fixture::new();
    let absent = look(&fixture.root.path().join("nothing")).result.unwrap_err();
    assert_eq!(absent.reason, Reason::Absent);
    let file = look(&fixture.payload().join("good")).result.unwrap_err();
    assert_eq!(file.reason, Reason::NotAVolume);
    assert!(file.detail.contains("mount the whole secret"), "{}", file.detail);
}

#[test]
fn fifo_socket_and_device_are_left_out_and_named() {
    let fixture = Fixture::new();
    mkfifo(&fixture.payload().join("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(fixture.payload().join("socket")).unwrap();
    let reading = fixture.read();
    assert_eq!(keys(&reading), ["good"]);
    assert_eq!(reading.skipped, [r#""fifo": a FIFO"#, r#""socket": a socket"#]);
}

#[test]
fn device_is_left_out_and_never_opened() {
    use nix::sys::stat::{SFlag, makedev, mknod};
    let fixture = Fixture::new();
    let device = fixture.payload().join("null");
    // Making a device needs a privilege; a link to one needs none and must not open it either.
    if mknod(&device, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).is_ok() {
        let reading = fixture.read();
        assert_eq!(reading.skipped, [r#""null": a device"#]);
        fs::remove_file(&device).unwrap();
    }
    symlink("/dev/null", &device).unwrap();
    assert_eq!(fixture.reason(), Reason::LinkOutside);
}

#[test]
fn hostile_names_are_left_out_and_escaped() {
    let fixture = Fixture::new();
    for name in [&b"line\nbreak"[..], b"\xff\xfe", "\u{202e}gpj".as_bytes()] {
        fs::write(fixture.payload().join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let reading = fixture.read();
    assert_eq!(keys(&reading), ["good"]);
    assert_eq!(reading.skipped.len(), 3);
    assert!(reading.skipped.iter().all(|entry| !entry.chars().any(char::is_control)));
}

#[test]
fn link_within_the_volume_is_followed() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.payload().join("dir")).unwrap();
    symlink("../good", fixture.payload().join("dir/alias")).unwrap();
    assert_eq!(fixture.read().contents.get("dir/alias").unwrap().expose(), b"value");
}

#[test]
fn link_out_of_the_volume_is_rejected() {
    let fixture = Fixture::new();
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), fixture.payload().join("key")).unwrap();
    assert_eq!(fixture.reason(), Reason::LinkOutside);
    fs::remove_file(fixture.payload().join("key")).unwrap();
    symlink("../../x", fixture.payload().join("key")).unwrap();
    assert_eq!(fixture.reason(), Reason::LinkOutside);
    assert!(fixture.detail().contains("`key`"));
}

#[test]
fn dangling_and_circular_links_are_rejected() {
    let fixture = Fixture::new();
    symlink("nothing", fixture.payload().join("key")).unwrap();
    assert_eq!(fixture.reason(), Reason::LinkBroken);
    fs::remove_file(fixture.payload().join("key")).unwrap();
    symlink("key", fixture.payload().join("key")).unwrap();
    assert_eq!(fixture.reason(), Reason::LinkBroken);
}

#[test]
fn directory_loop_is_rejected() {
    let fixture = Fixture::new();
    symlink(".", fixture.payload().join("loop")).unwrap();
    assert_eq!(fixture.reason(), Reason::LinkToOther);
}

#[test]
fn data_link_out_of_the_volume_is_rejected() {
    let fixture = Fixture::new();
    let link = fixture.root.path().join(DATA_LINK);
    for target in ["/etc", "../..", "."] {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        assert_eq!(fixture.reason(), Reason::LinkOutside, "{target}");
    }
}

#[test]
fn data_link_to_nothing_or_a_file_is_rejected() {
    let fixture = Fixture::new();
    let link = fixture.root.path().join(DATA_LINK);
    fs::remove_file(&link).unwrap();
    symlink("..nothing", &link).unwrap();
    assert_eq!(fixture.reason(), Reason::LinkBroken);
    fs::write(fixture.root.path().join("..file"), "x").unwrap();
    fs::remove_file(&link).unwrap();
    symlink("..file", &link).unwrap();
    assert_eq!(fixture.reason(), Reason::NotAVolume);
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    assert_eq!(fixture.reason(), Reason::NotAVolume);
}

#[test]
fn value_beyond_its_limit_is_rejected_by_name() {
    let fixture = Fixture::new();
    let file = fs::File::create(fixture.payload().join("big")).unwrap();
    file.set_len(MAX_VALUE_BYTES as u64).unwrap();
    assert!(look(fixture.root.path()).result.is_ok());
    file.set_len(MAX_VALUE_BYTES as u64 + 1).unwrap();
    assert_eq!(fixture.reason(), Reason::TooLarge);
    assert!(fixture.detail().contains("`big` has 1048577 bytes, 1048576 are allowed"));
}

#[test]
fn volume_beyond_its_limit_is_rejected() {
    let fixture = Fixture::new();
    for n in 0..=MAX_VOLUME_BYTES / MAX_VALUE_BYTES {
        let file = fs::File::create(fixture.payload().join(n.to_string())).unwrap();
        file.set_len(MAX_VALUE_BYTES as u64).unwrap();
    }
    assert_eq!(fixture.reason(), Reason::TooLarge);
}

#[test]
fn too_many_keys_are_rejected() {
    let fixture = Fixture::new();
    for n in 1..MAX_KEYS {
        fs::write(fixture.payload().join(n.to_string()), "").unwrap();
    }
    assert_eq!(fixture.read().contents.len(), MAX_KEYS);
    fs::write(fixture.payload().join("one more"), "").unwrap();
    assert_eq!(fixture.reason(), Reason::TooManyKeys);
}

#[test]
fn too_deep_keys_are_rejected() {
    let fixture = Fixture::new();
    let mut directory = fixture.payload();
    for _ in 1..MAX_DEPTH {
        directory.push("d");
    }
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("k"), "x").unwrap();
    assert_eq!(fixture.read().contents.len(), 2);
    fs::create_dir(directory.join("d")).unwrap();
    assert_eq!(fixture.reason(), Reason::TooDeep);
}

#[test]
fn plain_directory_is_read_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("key"), "value").unwrap();
    fs::create_dir(root.path().join("sub")).unwrap();
    let reading = look(root.path()).result.unwrap();
    assert_eq!(reading.layout, Layout::Plain);
    assert!(reading.has_directories && reading.published_at.is_some());
    assert_eq!(keys(&reading), ["key"]);
}

#[test]
fn first_write_in_progress_is_unpublished() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("..2026_11_22_10_00_00.1")).unwrap();
    symlink("..data/key", root.path().join("key")).unwrap();
    assert_eq!(look(root.path()).result.unwrap_err().reason, Reason::Unpublished);
}

/// The file is read as another user where the test runs as root, who may read everything. The
/// user that file access is checked for is a property of the thread.
#[test]
fn unreadable_file_is_rejected_by_name() {
    use nix::unistd::{Uid, geteuid, setfsuid};
    let fixture = Fixture::new();
    let key = fixture.payload().join("secret");
    fs::write(&key, "x").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(fixture.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if !geteuid().is_root() {
        fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let trouble = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            setfsuid(Uid::from_raw(65534));
            look(fixture.root.path()).result.unwrap_err()
        });
        reader.join().unwrap()
    });
    assert_eq!(trouble.reason, Reason::Unreadable);
    assert!(trouble.detail.starts_with("key `secret` may not be read by uid"), "{trouble}");
}

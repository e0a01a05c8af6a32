//! What can be at the path of a socket, and what comes of it.

use super::*;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// The umask while no other test has changed it for its own socket.
fn umask_of_all_tests() -> String {
    let _turn = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("Umask")).unwrap().to_owned()
}

#[test]
fn socket_has_its_mode_and_is_removed_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let path = dir.path().join("sock");
        let (_listener, file) = bind(&path, mode).unwrap();
        assert_eq!(mode_of(&path), mode, "{mode:o}");
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }
}

#[test]
fn mode_is_final_at_the_moment_the_name_appears() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o660, 0o640, 0o666] {
        let path = dir.path().join(format!("{mode:o}"));
        let descriptor = open_socket(&path).unwrap();
        bind_with_mode(&descriptor, &UnixAddr::new(&path).unwrap(), mode).unwrap();
        // Nothing has run after `bind` itself.
        assert_eq!(mode_of(&path), mode, "{mode:o}");
    }
}

#[test]
fn umask_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (_listener, _file) = bind(&dir.path().join("sock"), 0o600).unwrap();
    let before = umask_of_all_tests();
    let (_listener, _file) = bind(&dir.path().join("other"), 0o666).unwrap();
    assert_eq!(before, umask_of_all_tests());
}

#[test]
fn missing_directory_is_made_for_those_the_socket_admits() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, wanted) in [(0o600, 0o700), (0o660, 0o750), (0o666, 0o755)] {
        let parent = dir.path().join(format!("{mode:o}/inner"));
        let (_listener, _file) = bind(&parent.join("sock"), mode).unwrap();
        assert_eq!(mode_of(&parent), wanted, "{mode:o}");
    }
}

#[test]
fn stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    drop(UnixListener::bind(&path).unwrap());
    let (_listener, _file) = bind(&path, 0o600).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn live_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let (_listener, _file) = bind(&path, 0o600).unwrap();
    let error = bind(&path, 0o600).unwrap_err();
    assert!(matches!(error, SocketError::Live(_)), "{error}");
    assert!(error.to_string().contains("sock"), "{error}");
    UnixStream::connect(&path).unwrap();
}

#[test]
fn live_socket_with_a_full_queue_is_not_taken_for_stale() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let address = UnixAddr::new(&path).unwrap();
    let live = open_socket(&path).unwrap();
    bind_to(live.as_raw_fd(), &address).unwrap();
    listen(&live, Backlog::new(0).unwrap()).unwrap();
    let waiting: Vec<OwnedFd> = std::iter::from_fn(|| {
        let client = open_socket(&path).unwrap();
        connect(client.as_raw_fd(), &address).is_ok().then_some(client)
    })
    .collect();
    assert!(!waiting.is_empty());
    assert!(matches!(bind(&path, 0o600), Err(SocketError::Live(_))));
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let directory = dir.path().join("directory");
    fs::create_dir(&directory).unwrap();
    for (path, kind) in
        [(&file, "a regular file"), (&link, "a symbolic link"), (&directory, "a directory")]
    {
        let error = bind(path, 0o600).unwrap_err().to_string();
        assert!(error.contains(kind), "{error}");
    }
    assert_eq!(fs::read_to_string(&link).unwrap(), "kept");
}

#[test]
fn paths_that_cannot_be_sockets_are_refused_with_what_is_allowed() {
    let long = format!("/tmp/{}", "x".repeat(103));
    for (path, text) in [
        ("relative", "absolute"),
        ("", "1 to 107"),
        (long.as_str(), "has 108 bytes; 1 to 107"),
        ("/", "names no file"),
        ("/tmp/..", "names no file"),
        ("/tmp/sock/", "names no file"),
        ("/dev/null/sock", "cannot be made"),
    ] {
        let error = bind(Path::new(path), 0o600).unwrap_err().to_string();
        assert!(error.contains(text), "{path}: {error}");
    }
    let error = bind(Path::new("/tmp/sock"), 0o4600).unwrap_err().to_string();
    assert!(error.contains("0o4600"), "{error}");
}

#[test]
fn of_many_instances_that_start_at_once_exactly_one_has_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    for _ in 0..200 {
        drop(UnixListener::bind(&path).unwrap());
        let start = Barrier::new(4);
        let instance = || {
            start.wait();
            bind(&path, 0o600)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(instance)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        UnixStream::connect(&path).unwrap();
        drop(results);
        assert!(!path.exists());
    }
}

#[test]
fn socket_that_somebody_put_in_its_place_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let (_listener, file) = bind(&path, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(file);
    UnixStream::connect(&path).unwrap();
}

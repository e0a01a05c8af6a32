//! The barest loops that could tell an app of a rotation.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::role::Role;

/// Signals a child until it is killed.
#[expect(clippy::zombie_processes, reason = "the child ends after this process, by itself")]
pub fn signal(socket: &Path, directory: &Path) {
    let inotify = watch(directory);
    let app = Role::App { socket: socket.to_owned() }.command().spawn().unwrap();
    let pid = Pid::from_raw(app.id().try_into().unwrap());
    each_swap(&inotify, || kill(pid, Signal::SIGHUP).unwrap());
}

/// Reads all keys and posts, on one connection, until it is killed.
pub fn post(address: &str, directory: &Path) {
    let inotify = watch(directory);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("POST /reload HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
    each_swap(&inotify, || {
        let keys = fs::read_dir(directory.join("..data")).unwrap();
        let read: Vec<_> = keys.map(|key| fs::read(key.unwrap().path()).unwrap()).collect();
        assert!(!read.is_empty());
        stream.write_all(request.as_bytes()).unwrap();
        assert_ne!(stream.read(&mut [0; 256]).unwrap(), 0);
    });
}

/// Before the other side can know of this process: what it does then is seen.
fn watch(directory: &Path) -> Inotify {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO).unwrap();
    inotify
}

fn each_swap(inotify: &Inotify, mut tell: impl FnMut()) {
    loop {
        let events = inotify.read_events().unwrap();
        if events.iter().any(|event| event.name.as_deref().is_some_and(|name| name == "..data")) {
            tell();
        }
    }
}

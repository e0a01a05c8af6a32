//! (a) How soon a rotation is picked up, compared with the barest loop that could do it.
//!
//! Each has a volume of its own, equal and on the same file system, so that only one of them is
//! awake for a rotation. The observer is the same for both: the thread that has renamed `..data`
//! looks, and lets others run in between, until it sees the new value.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use criterion::Criterion;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use secretwatch::Secrets;

use crate::connection::{request, revision};
use crate::mount::{KEY, Mount};
use crate::ratio::{Goal, Pair, Question, Side, Table};
use crate::server::Server;

const KEYS: [&str; 3] = ["host", KEY, "user"];
/// Nothing takes as long; a pick-up that never comes ends the benchmark.
const DEADLINE: Duration = Duration::from_secs(30);

pub fn run(criterion: &mut Criterion, table: &mut Table) {
    let question = Question {
        id: "pickup/current",
        what: "rename of `..data` → new value in `current()`; a bare inotify + `openat` loop",
        goal: Goal::Time(3.0),
        time: Duration::from_secs(4),
    };
    table.compare(criterion, &question, || Pair { subject: library(), baseline: bare() });
    let question = Question {
        id: "pickup/long-poll",
        what: "rename of `..data` → answer of a waiting long poll; the same loop",
        goal: Goal::Within(Duration::from_millis(1)),
        time: Duration::from_secs(4),
    };
    table.compare(criterion, &question, || Pair { subject: long_poll(), baseline: bare() });
}

fn library() -> Side {
    let mut mount = Mount::new();
    let secrets = Secrets::builder().volume(mount.path()).open().unwrap();
    let volume = secrets.volume("db").unwrap();
    Side::new(1, move || {
        mount.rotate(|start, value| {
            until(start, || volume.current().get(KEY).is_ok_and(|found| found.expose() == value))
        })
    })
}

fn bare() -> Side {
    let mut mount = Mount::new();
    let current = Arc::new(ArcSwap::from_pointee(read(&mount.path().join("..data"))));
    let (directory, publish) = (mount.path(), Arc::clone(&current));
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    inotify.add_watch(&directory, AddWatchFlags::IN_MOVED_TO).unwrap();
    // It ends with the process: once nothing rotates, it is not woken any more.
    std::thread::spawn(move || follow(&inotify, &directory.join("..data"), &publish));
    let at = KEYS.iter().position(|&key| key == KEY).unwrap();
    Side::new(1, move || mount.rotate(|start, value| until(start, || current.load()[at] == value)))
}

fn follow(inotify: &Inotify, data: &PathBuf, publish: &ArcSwap<[Vec<u8>; 3]>) {
    loop {
        let events = inotify.read_events().unwrap();
        if events.iter().any(|event| event.name.as_deref() == data.file_name()) {
            publish.store(Arc::new(read(data)));
        }
    }
}

fn read(data: &PathBuf) -> [Vec<u8>; 3] {
    let directory = open(data, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    KEYS.map(|key| {
        let file = openat(&directory, key, OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let mut bytes = vec![0; 256];
        let count = std::fs::File::from(file).read(&mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    })
}

fn long_poll() -> Side {
    let mut mount = Mount::new();
    let server = Server::sidecar(&mount);
    let (mut client, mut other) = (server.connect(), server.connect());
    let path = format!("/v1/secrets/db/{KEY}");
    Side::new(1, move || {
        let _ = &server;
        let known = revision(other.ask(&path));
        client.send(&request(&format!("{path}?after={known}")));
        // The sidecar answers in the order in which it was asked: when it has answered this, it
        // has seen that, and waits.
        other.ask(&path);
        mount.rotate(|start, value| {
            assert!(client.receive().ends_with(value));
            start.elapsed()
        })
    })
}

/// How long after `start` something is seen.
fn until(start: Instant, mut is_seen: impl FnMut() -> bool) -> Duration {
    while !is_seen() {
        assert!(start.elapsed() < DEADLINE, "not picked up within {DEADLINE:?}");
        std::thread::yield_now();
    }
    start.elapsed()
}

//! Real threads, thousands of rotations: nothing torn, nothing lost, nothing backwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secretwatch::{Detector, Snapshot};

use crate::fixture::{Mount, NEVER, SOON, Watch};
use crate::sidecar::{Sidecar, volume};

const ROTATIONS: u32 = 2_000;
const READERS: usize = 3;

/// Three keys that always carry the same number.
fn rotate(mount: &Mount, number: u32) {
    let text = number.to_string();
    mount.rotate(&[("a", &text), ("b", &text), ("sub/c", &text)]);
}

/// The number of a snapshot; fails where its keys do not agree.
fn number(snapshot: &Snapshot) -> u32 {
    let text = |key| snapshot.get(key).unwrap().expose_str().unwrap();
    assert_eq!(text("a"), text("b"), "torn");
    assert_eq!(text("a"), text("sub/c"), "torn");
    text("a").parse().unwrap()
}

fn run(detector: (Detector, Duration)) {
    let mount = Mount::new();
    rotate(&mount, 0);
    let mut watch = Watch::open(&mount.path(), detector);
    watch.next();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let now = number(&watch.volume.current());
                    assert!(now >= last, "{now} after {last}");
                    last = now;
                }
            });
        }
        let follower = scope.spawn(|| {
            let mut changes = watch.volume.changes_and_current();
            let (mut last, mut generation) = (0, 0);
            while last < ROTATIONS {
                let snapshot = changes.changed_blocking().unwrap();
                assert!(snapshot.generation() > generation);
                assert!(number(&snapshot) >= last);
                (last, generation) = (number(&snapshot), snapshot.generation());
            }
        });
        for number in 1..=ROTATIONS {
            rotate(&mount, number);
        }
        // It ends only once it has seen the last rotation.
        follower.join().unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(number(&watch.volume.current()), ROTATIONS);
}

#[test]
fn thousands_of_rotations_by_inotify() {
    run((Detector::Auto, NEVER));
}

#[test]
fn thousands_of_rotations_by_polling() {
    run((Detector::Poll, SOON));
}

/// A client that asks again and again on one connection.
struct KeepAlive(BufReader<UnixStream>);

impl KeepAlive {
    /// The JSON document of the volume, or nothing where it has not changed.
    fn get(&mut self, target: &str) -> Option<serde_json::Value> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length, mut line) = (0, 0, String::new());
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if let Some(text) = line.strip_prefix("HTTP/1.1 ") {
                status = text[..3].parse().unwrap();
            }
            if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; if status == 304 { 0 } else { length }];
        self.0.read_exact(&mut body).unwrap();
        match status {
            200 => Some(serde_json::from_slice(&body).unwrap()),
            304 => None,
            other => panic!("{other}: {}", String::from_utf8_lossy(&body)),
        }
    }
}

/// The number and the generation of a document; fails where its keys do not agree.
fn numbers(document: &serde_json::Value) -> (u32, u64) {
    let text = |key: &str| {
        let bytes = STANDARD.decode(document["data"][key].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(text("a"), text("b"), "torn");
    assert_eq!(text("a"), text("sub/c"), "torn");
    (text("a").parse().unwrap(), document["generation"].as_u64().unwrap())
}

#[test]
fn thousands_of_rotations_over_the_socket() {
    let mount = Mount::new();
    rotate(&mount, 0);
    let sidecar =
        Sidecar::start(&["--volume", &volume("db", &mount.path()), "--poll-interval", "1h"]);
    sidecar.until("db/a", "0");
    let client = || KeepAlive(BufReader::new(sidecar.connect()));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let (mut client, mut last) = (client(), (0, 0));
                while !is_over.load(Ordering::Relaxed) {
                    let now = numbers(&client.get("/v1/secrets/db").unwrap());
                    assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
                    last = now;
                }
            });
        }
        let follower = scope.spawn(|| {
            let (mut client, mut revision, mut last) = (client(), "none".to_owned(), 0);
            while last < ROTATIONS {
                let target = format!("/v1/secrets/db?after={revision}&timeout=30s");
                let document = client.get(&target).expect("a change within the time");
                assert_ne!(document["revision"], revision);
                revision = document["revision"].as_str().unwrap().to_owned();
                last = numbers(&document).0;
            }
        });
        for number in 1..=ROTATIONS {
            rotate(&mount, number);
        }
        follower.join().unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
    sidecar.until("db/sub/c", &ROTATIONS.to_string());
}

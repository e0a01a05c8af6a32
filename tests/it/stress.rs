//! Real threads, thousands of rotations: nothing torn, nothing lost, nothing backwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secretwatch::{Detector, Snapshot};

use crate::fixture::{Mount, NEVER, SOON, Watch};

const ROTATIONS: u32 = 3_000;
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

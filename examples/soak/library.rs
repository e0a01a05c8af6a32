//! Readers in this process.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use secretwatch::{Detector, Secrets, Snapshot, VolumeOptions};

use crate::edition::{REQUIRED, Values};
use crate::time::{DEADLINE, pause};
use crate::witness::Witness;
use crate::world::{World, volumes};

/// Between two looks of a thread that does not wait for changes.
const PACE: Duration = Duration::from_millis(2);
/// So many of them.
const LOOKERS: usize = 2;
/// The poll must not find what inotify has missed.
const NEVER: Duration = Duration::from_secs(24 * 3600);
const OFTEN: Duration = Duration::from_millis(20);

/// How long a thread that waits may take to see that all is over.
const PATIENCE: Duration = Duration::from_millis(200);

/// The threads that read. They end when all is over.
pub struct Library(Vec<JoinHandle<()>>);

impl Library {
    /// Opens all volumes twice, once by inotify and once by the poll, and reads from several threads.
    pub fn start(world: &'static World) -> Self {
        let mut threads = read(world, "library by inotify", Detector::Auto, NEVER);
        threads.extend(read(world, "library by poll", Detector::Poll, OFTEN));
        Self(threads)
    }

    /// Waits until nothing looks at the volumes any more: while they are removed file by file, with
    /// `..data` still there, nobody could tell what is left of a set from a whole one.
    pub fn join(self) {
        for thread in self.0 {
            thread.join().unwrap();
        }
    }
}

fn read(
    world: &'static World,
    name: &'static str,
    detector: Detector,
    interval: Duration,
) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    let mut builder = Secrets::builder();
    for volume in volumes() {
        let options = VolumeOptions::new(world.volume(volume)).named(volume).require(REQUIRED);
        builder = builder.volume(options);
    }
    let builder = builder.detector(detector).poll_interval(interval).start_timeout(DEADLINE);
    let secrets = builder.open().unwrap();
    for volume in volumes() {
        let mut witness = Witness::new(world, format!("{name} waits"), volume);
        let mut changes = secrets.volume(volume).unwrap().changes_and_current();
        threads.push(std::thread::spawn(move || {
            while !world.is_over() {
                if let Some(snapshot) = changes.changed_timeout(PATIENCE).unwrap() {
                    saw(&mut witness, &snapshot);
                }
            }
        }));
    }
    for looker in 0..LOOKERS {
        let of = |volume| Witness::new(world, format!("{name} looks {looker}"), volume);
        let mut witnesses: Vec<_> = volumes().map(of).collect();
        let secrets = secrets.clone();
        threads.push(std::thread::spawn(move || {
            while !world.is_over() {
                for witness in &mut witnesses {
                    let volume = secrets.volume(witness.volume()).unwrap();
                    saw(witness, &volume.current());
                    pause(PACE);
                }
            }
        }));
    }
    threads
}

fn saw(witness: &mut Witness, snapshot: &Arc<Snapshot>) {
    let value = |(key, value): (&secretwatch::KeyName, &secretwatch::Secret)| {
        (key.as_str().to_owned(), value.expose().to_vec())
    };
    let values: Values = snapshot.iter().map(value).collect();
    witness.saw(snapshot.revision(), snapshot.generation(), &values);
}

//! An app of threads, without any async runtime, that follows its secret.
//!
//! The worker takes the current snapshot for each job; the main thread waits for changes. It runs
//! by itself, against a simulated kubelet, and ends after three rotations:
//!
//! ```text
//! cargo run --example blocking
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use secretwatch::kubelet::{AtomicWriter, Payload};
use secretwatch::{MissingKey, Secrets, Volume};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let mount = directory.path().join("db"); // in a pod: /etc/db
    let kubelet = AtomicWriter::new(&mount);
    kubelet.write(payload("fake"))?;

    // Everything that can fail at start fails here.
    let secrets = Secrets::builder().volume(&mount).require("password").open()?;
    let volume = secrets.volume("db")?;
    let (jobs, queue) = channel();
    let handle = volume.clone(); // the values are shared
    let worker = thread::spawn(move || work(&handle, &queue));

    let mut changes = volume.changes();
    let mut seen = volume.current();
    jobs.send(1)?;
    for (job, password) in [(2, "fake-1"), (3, "fake-22"), (4, "fake-333")] {
        kubelet.write(payload(password))?;
        // `changed_blocking` waits without a limit; `None` is "nothing has changed until then".
        let next = changes.changed_timeout(Duration::from_secs(5))?.ok_or("no change in time")?;
        println!("generation {}: {:?}", next.generation(), next.changes_since(&seen));
        seen = next;
        jobs.send(job)?;
    }
    drop(jobs);
    worker.join().map_err(|_| "the worker panicked")??;
    Ok(())
}

/// Takes one snapshot a job, so that everything a job uses is of the same generation. Taking it
/// needs no lock, and never waits for a rotation.
fn work(volume: &Volume, jobs: &Receiver<u32>) -> Result<(), MissingKey> {
    for job in jobs {
        let now = volume.current();
        let password = now.get("password")?.expose();
        println!("job {job}: works with a password of {} bytes", password.len());
    }
    Ok(())
}

fn payload(password: &str) -> Payload {
    Payload::new().with("user", "app").with("password", password)
}

//! An async app that follows its secret: no sidecar, no restart.
//!
//! It runs by itself, against a simulated kubelet, and ends after three rotations:
//!
//! ```text
//! cargo run --example embed
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use secretwatch::kubelet::{AtomicWriter, Payload};
use secretwatch::{Secrets, Snapshot};
use serde::Deserialize;

/// What the app makes of the secret: one field a key. Not `Debug`, so that it cannot be printed by
/// accident.
#[derive(Deserialize)]
struct Database {
    user: String,
    password: String,
    /// Numbers and booleans are parsed from the text of the value.
    port: u16,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let mount = directory.path().join("db"); // in a pod: /etc/db
    let kubelet = AtomicWriter::new(&mount);
    kubelet.write(payload("fake-0", "1"))?;

    // Everything that can fail at start fails here. `open` waits for the first snapshots, so it
    // comes before the app serves anything.
    let secrets = Secrets::builder().volume(&mount).require("user").require("password").open()?;
    let volume = secrets.volume("db")?;
    // Before the first use: no rotation can slip in between.
    let mut changes = volume.changes();
    connect(&volume.current())?;

    let rotations = tokio::spawn(rotate(kubelet));
    loop {
        // Latest-wins: an app that is slow skips versions, and never misses the last one.
        let snapshot = changes.changed().await?;
        connect(&snapshot)?;
        if snapshot.version() == Some("4") {
            break;
        }
    }
    Ok(rotations.await??)
}

/// Uses one snapshot as a whole: user and password are of the same generation.
fn connect(snapshot: &Snapshot) -> Result<(), Box<dyn Error>> {
    let database: Database = snapshot.deserialize()?;
    println!(
        "generation {}, version {}: {} connects to port {} with a password of {} bytes",
        snapshot.generation(),
        snapshot.version().unwrap_or("unknown"),
        database.user,
        database.port,
        database.password.len(),
    );
    Ok(())
}

async fn rotate(kubelet: AtomicWriter) -> std::io::Result<()> {
    for (password, version) in [("fake-1", "2"), ("fake-22", "3"), ("fake-333", "4")] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        kubelet.write(payload(password, version))?;
    }
    Ok(())
}

fn payload(password: &str, version: &str) -> Payload {
    Payload::new()
        .with("user", "app")
        .with("password", password)
        .with("port", "5432")
        .with(secretwatch::VERSION_KEY, version)
}

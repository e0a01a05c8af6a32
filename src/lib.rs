//! Rotate a mounted secret without restarting anything, and know that it worked.
//!
//! A secret that is mounted into a pod changes under the running process. secretwatch watches the
//! mounted directory, reads it consistently, and gives the current values to the app: in process
//! with this crate, or over a Unix socket with the `secretwatch` command.
//!
#![cfg_attr(feature = "test-util", doc = "```")]
#![cfg_attr(not(feature = "test-util"), doc = "```ignore")]
//! # use secretwatch::kubelet::{AtomicWriter, Payload};
//! use secretwatch::Secrets;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mount = tempfile::tempdir()?;
//! # let path = mount.path().join("my-generic-secret");
//! # let kubelet = AtomicWriter::new(&path);
//! # kubelet.write(Payload::new().with("some-credential", "one"))?;
//! let secrets = Secrets::builder()
//!     .volume(&path) // such as "/etc/my-generic-secret"
//!     .require("some-credential")
//!     .open()?; // everything that can fail at start fails here
//! let volume = secrets.volume("my-generic-secret")?;
//!
//! // Take one snapshot per unit of work: all its values are of one generation.
//! let now = volume.current();
//! assert_eq!(now.get("some-credential")?.expose(), b"one");
//!
//! // Latest-wins, and never misses the last one; `changed().await` is the async twin.
//! let mut changes = volume.changes();
//! # kubelet.write(Payload::new().with("some-credential", "two"))?;
//! let next = changes.changed_blocking()?;
//! assert_eq!(next.get("some-credential")?.expose(), b"two");
//!
//! // The same metrics as the sidecar's, in a registry of the app's.
//! secrets.register_metrics(prometheus::default_registry())?;
//! # Ok(())
//! # }
//! ```
//!
//! # Architecture
//!
//! Data flows in one direction:
//!
//! ```text
//! kubelet ──rename(..data)──▶ directory
//!    inotify hint │               ▲ one consistent look
//!        detect ──Hint──▶ engine ──▶ volume ──▶ gate ──Accepted──▶ store ══▶ library users
//!    poll tick ───┘                               └─ otherwise: the      ══▶ api (Unix socket)
//!                                                    last good one stays
//!    metrics and health are told; they import nothing of the rest
//! ```
//!
//! | module | what it is | what it never does |
//! |---|---|---|
//! | `detect` | inotify events become hints, filtered before anything wakes | opens a secret |
//! | `volume` | one look at a directory: whole, or not at all | follows a link out of it |
//! | `gate` | whether contents may replace what is served | I/O, or reads a clock |
//! | `snapshot`, `secret`, `name` | what is served | lets bytes out other than by [`Secret::expose`] |
//! | `certificate` | when the certificates among the values expire | trusts a length it reads |
//! | `adoption` | which revision each consumer says it uses | keeps a value, or does I/O |
//! | `store` | the current snapshot of each volume, read without a lock | publishes what was not accepted |
//! | `engine` | one loop; the only writer | ends because something went wrong |
//! | `changes`, `callback` | waiting for the next snapshot | misses the last one |
//! | `metrics`, `health`, `status` | what operators see | hold a value, or a hash of one |
//! | `supervise` | the app as a child of the sidecar (`run`) | starts a child again that ended by itself |
//! | `reload`, `process`, `reaper` | telling apps of a change (feature `cli`) | change a secret, or signal who has no handler |
//! | `shutdown`, `tasks` | ending in order (feature `cli`) | wait for ever |
//! | `doctor` | why a mount will never update (feature `cli`) | open a key, or write into a volume |
//! | `api`, `client`, `cli`, `config` | the `secretwatch` command (feature `cli`) | change a secret |
//! | `kubelet` | a simulated kubelet (feature `test-util`) | run in production |
//!
//! Invariants, as absences: a failed step never makes a served value disappear; no reader sees a
//! generation older than one that any thread has seen; no value reaches a log, a metric, an error,
//! or a core file; nothing but `main` ends the process.
//!
//! # Adoption
//!
//! That a volume has a new revision does not mean that the app uses it. Whoever wants to revoke the
//! old credential has to know, so apps say so: [`Volume::adopt`] when the new values are in use and
//! the old ones no longer; or by themselves, with [`Changes::adopting`], at the moment a change is
//! handed out, or with [`Changes::on_change`] as well, when the callback has returned. Nothing is
//! adopted unless one of them is asked for. [`Volume::adoptions`] tells who is behind.
//!
//! # Features
//!
//! * `cli` (default): the `secretwatch` command, with an HTTP server and an argument parser.
//! * `test-util`: the simulated `kubelet`, for testing your own reload code.
//!
//! With `default-features = false` the crate is the engine and its handles, and nothing else.
//!
//! # Guides
//!
//! The repository has a page for each question, in `examples/`: `library` for more on this crate,
//! `adoption` and `runbook` for when an old credential may be revoked, `socket-api` and `clients`
//! for apps in other languages, `supervisor` and `quickstart` for running the command, `faults` for
//! what is served when something is wrong, and `security` for who can read what. Examples that run
//! by themselves are `cargo run --example embed` (async), `blocking` (threads) and `pool` (a
//! connection pool is swapped without losing a request).

mod adoption;
#[cfg(feature = "cli")]
mod api;
mod builder;
mod callback;
mod certificate;
mod changes;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod client;
#[cfg(feature = "cli")]
mod config;
mod detect;
#[cfg(feature = "cli")]
mod doctor;
#[cfg(feature = "cli")]
mod duration;
mod engine;
mod error;
mod gate;
mod health;
#[cfg(any(test, feature = "test-util"))]
pub mod kubelet;
mod metrics;
mod name;
#[cfg(feature = "cli")]
mod process;
#[cfg(feature = "cli")]
mod reaper;
#[cfg(feature = "cli")]
mod reload;
mod secret;
mod secrets;
#[cfg(feature = "cli")]
mod shutdown;
mod snapshot;
mod status;
mod store;
#[cfg(feature = "cli")]
mod supervise;
#[cfg(feature = "cli")]
mod tasks;
mod typed;
mod volume;

pub use adoption::{
    AdoptError, Adoption, Adoptions, DEFAULT_ADOPTION_EXPIRY, MAX_ADOPTION_EXPIRY, MAX_CONSUMERS,
    MAX_KNOWN_REVISIONS, MIN_ADOPTION_EXPIRY,
};
pub use builder::{
    Builder, DEFAULT_POLL_INTERVAL, DEFAULT_START_TIMEOUT, Detector, MAX_POLL_INTERVAL,
    MAX_VOLUMES, MIN_POLL_INTERVAL, VolumeOptions,
};
pub use callback::CallbackGuard;
pub use certificate::{Certificate, MAX_CERTIFICATES};
pub use changes::Changes;
pub use error::{Error, MissingKey, Stopped};
pub use name::{ConsumerName, KeyName, MAX_CONSUMER_BYTES, MAX_NAME_BYTES, NameError, VolumeName};
pub use secret::{NotText, Secret};
pub use secrets::{Secrets, Volume};
pub use snapshot::{KeyChanges, Snapshot, VERSION_KEY};
pub use status::{Reason, State, Status, Trouble, Watch};
pub use typed::DeserializeError;
pub use volume::{MAX_DEPTH, MAX_KEYS, MAX_VALUE_BYTES, MAX_VOLUME_BYTES};

//! What all threads of the soak share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use crate::chaos::Faults;
use crate::hook;
use crate::ledger::Ledger;
use crate::server;
use crate::tally::Tally;

/// Volumes that are replaced as a whole.
pub const ATOMIC: [&str; 3] = ["db", "tls", "token"];
/// A volume that is written file by file.
pub const PLAIN: &str = "plain";
/// Those that the supervisor watches.
pub const SUPERVISED: [&str; 2] = ["db", "tls"];

/// All volumes.
pub fn volumes() -> impl Iterator<Item = &'static str> {
    ATOMIC.into_iter().chain([PLAIN])
}

pub struct World {
    pub directory: PathBuf,
    pub seed: u64,
    pub start: Instant,
    pub ledgers: BTreeMap<&'static str, Ledger>,
    pub tally: Tally,
    pub server: Faults<server::Fault>,
    pub hook: Faults<hook::Fault>,
    /// How long each app takes to install its handler.
    pub delays: Mutex<fastrand::Rng>,
    /// The last number that each reader has seen of each volume.
    pub seen: Mutex<BTreeMap<(String, &'static str), u64>>,
    /// The last revision and number that each target was told of each volume.
    pub told: Mutex<BTreeMap<(String, String), (String, u64)>>,
    is_over: AtomicBool,
}

static WORLD: OnceLock<World> = OnceLock::new();

pub fn create(directory: PathBuf, seed: u64) -> &'static World {
    let ledgers = volumes().map(|volume| (volume, Ledger::default())).collect();
    WORLD.get_or_init(|| World {
        directory,
        seed,
        start: Instant::now(),
        ledgers,
        tally: Tally::default(),
        server: Faults::new(seed ^ 1, server::Fault::ALL),
        hook: Faults::new(seed ^ 2, hook::Fault::ALL),
        delays: Mutex::new(fastrand::Rng::with_seed(seed ^ 9)),
        seen: Mutex::default(),
        told: Mutex::default(),
        is_over: AtomicBool::new(false),
    })
}

pub fn try_get() -> Option<&'static World> {
    WORLD.get()
}

impl World {
    pub fn ledger(&self, volume: &str) -> &Ledger {
        &self.ledgers[volume]
    }

    pub fn volume(&self, volume: &str) -> PathBuf {
        self.directory.join("volumes").join(volume)
    }

    pub fn tell(&self, target: &str, volume: &str, revision: &str, number: u64) {
        let place = (target.to_owned(), volume.to_owned());
        self.told.lock().unwrap().insert(place, (revision.to_owned(), number));
    }

    /// From here on, whoever reads is not surprised that nobody answers.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

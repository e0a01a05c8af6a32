//! Somebody who writes into a plain directory, file by file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::chaos::Deck;
use crate::edition::{self, EXTRAS};
use crate::ledger::Ledger;
use crate::tally::increase;
use crate::time::pause;
use crate::world::{PLAIN, World};
use crate::writer::write;

/// A directory is believed once it has been the same for 50 ms. Who takes half of that between two
/// files has to expect that half a set is taken for a whole one.
const PROMPT: Duration = Duration::from_millis(25);

#[derive(Debug, Clone, Copy)]
pub enum Act {
    InPlace,
    Replace,
    Unchanged,
}

impl Act {
    pub const ALL: &[Self] = &[Self::InPlace, Self::Replace, Self::Unchanged];

    pub fn title(self) -> &'static str {
        match self {
            Self::InPlace => "plain: files written in place",
            Self::Replace => "plain: files replaced",
            Self::Unchanged => "plain: the same bytes again",
        }
    }
}

pub struct PlainWriter {
    world: &'static World,
    path: PathBuf,
    random: fastrand::Rng,
    deck: Deck<Act>,
}

impl PlainWriter {
    pub fn new(world: &'static World, seed: u64) -> Self {
        let (random, deck) = (fastrand::Rng::with_seed(seed), Deck::new(seed ^ 7, Act::ALL));
        Self { world, path: world.volume(PLAIN), random, deck }
    }

    pub fn run_until(&mut self, end: Instant) {
        while Instant::now() < end {
            pause(Duration::from_millis(self.random.u64(10..250)));
            let act = self.deck.draw();
            self.world.tally.count(act.title());
            let outcome = match act {
                Act::InPlace => self.rotate(),
                Act::Replace => self.rotate_by(|path, value| self.replace(path, value)),
                Act::Unchanged => self.write_all(self.ledger().last(), &write).map(drop),
            };
            outcome.unwrap();
        }
    }

    fn ledger(&self) -> &'static Ledger {
        self.world.ledger(PLAIN)
    }

    pub fn rotate(&self) -> io::Result<()> {
        self.rotate_by(write)
    }

    fn rotate_by(&self, put: impl Fn(&Path, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let number = self.ledger().next();
        self.ledger().publishing(number);
        self.write_all(number, &put)?;
        self.ledger().published(number);
        increase(&self.world.tally.rotations);
        Ok(())
    }

    /// Writes all files, and removes the others.
    fn write_all(
        &self,
        number: u64,
        put: &impl Fn(&Path, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = Instant::now();
        let values = edition::values(number);
        for (key, value) in &values {
            put(&self.path.join(key), value)?;
        }
        for key in EXTRAS.iter().filter(|key| !values.contains_key(**key)) {
            let path = self.path.join(key);
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        if start.elapsed() > PROMPT {
            self.ledger().slow(number);
        }
        Ok(())
    }

    /// What editors do. The new file is made outside, where it is no key.
    fn replace(&self, path: &Path, value: &[u8]) -> io::Result<()> {
        let temporary = self.world.directory.join("plain.tmp");
        fs::write(&temporary, value)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(temporary, path)
    }
}

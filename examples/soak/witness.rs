//! What one reader sees of one volume, and what it must never see.
//!
//! Never a set that is torn, a number that was not published, a number lower than the one before,
//! or a generation lower than the one before of the same start of the server.

use crate::edition::{self, Values};
use crate::failure::fail;
use crate::tally::increase;
use crate::world::{PLAIN, World};

pub struct Witness {
    world: &'static World,
    reader: String,
    volume: &'static str,
    boot: String,
    generation: u64,
    number: u64,
}

impl Witness {
    pub fn new(world: &'static World, reader: impl Into<String>, volume: &'static str) -> Self {
        let (reader, boot) = (reader.into(), String::new());
        world.seen.lock().unwrap().insert((reader.clone(), volume), 0);
        Self { world, reader, volume, boot, generation: 0, number: 0 }
    }

    pub fn volume(&self) -> &'static str {
        self.volume
    }

    /// A whole snapshot was read.
    pub fn saw(&mut self, revision: &str, generation: u64, values: &Values) {
        match edition::number(values) {
            Ok(number) => self.saw_number(revision, generation, number),
            Err(found) => self.saw_torn(values, &found),
        }
    }

    /// The number of a snapshot was read.
    pub fn saw_number(&mut self, revision: &str, generation: u64, number: u64) {
        increase(&self.world.tally.reads);
        let (reader, volume) = (&self.reader, self.volume);
        let Some(age) = self.world.ledger(volume).since(number) else {
            fail(&format!("{reader}: {volume} has number {number}, which was never published"))
        };
        // A revision is opaque to everybody else.
        let boot = revision.rsplit_once('.').map_or(revision, |(boot, _)| boot);
        if boot == self.boot && generation < self.generation {
            let before = self.generation;
            fail(&format!("{reader}: {volume} went back from generation {before} to {generation}"));
        }
        if number < self.number {
            let before = self.number;
            fail(&format!("{reader}: {volume} went back from number {before} to {number}"));
        }
        if number > self.number {
            self.note(number, boot, age);
        }
        boot.clone_into(&mut self.boot);
        self.generation = generation;
        self.number = number;
    }

    fn note(&self, number: u64, boot: &str, age: std::time::Duration) {
        // The first one after a start may have waited for that.
        if boot == self.boot && self.is_prompt() {
            self.world.tally.picked_up(age);
        }
        self.world.seen.lock().unwrap().insert((self.reader.clone(), self.volume), number);
    }

    /// Whether it is told of rotations, rather than looking from time to time, and whether the
    /// moment of publication is known.
    fn is_prompt(&self) -> bool {
        self.volume != PLAIN && self.reader.contains("waits")
    }

    fn saw_torn(&self, values: &Values, found: &str) {
        let what = format!("{}: {} is torn: {found}", self.reader, self.volume);
        match edition::newest(values) {
            // A plain directory has no moment at which all is there.
            Some(newest) if self.volume == PLAIN => {
                self.world.ledger(PLAIN).suspect(newest, what);
            }
            _ => fail(&what),
        }
    }
}

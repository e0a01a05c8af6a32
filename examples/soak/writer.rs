//! The kubelet of one volume, and people who do its work by hand.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use secretwatch::kubelet::{AtomicWriter, LinkOrder, Payload, Step};

use crate::chaos::Deck;
use crate::edition::{self, REQUIRED};
use crate::ledger::Ledger;
use crate::tally::increase;
use crate::time::pause;
use crate::world::World;

/// As many rotations without a pause: a look is sure to meet the end of what it is reading.
const BURST: u32 = 60;

#[derive(Debug, Clone, Copy)]
pub enum Act {
    Rotate,
    Burst,
    Unchanged,
    Crash,
    Reject,
    Swap,
    Relink,
    Recreate,
}

impl Act {
    /// Rotations are more usual than all else.
    const DEALT: &[Self] = &[
        Self::Rotate,
        Self::Rotate,
        Self::Rotate,
        Self::Rotate,
        Self::Rotate,
        Self::Rotate,
        Self::Burst,
        Self::Unchanged,
        Self::Crash,
        Self::Crash,
        Self::Reject,
        Self::Swap,
        Self::Relink,
        Self::Recreate,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Rotate => "volume: a rotation after a pause",
            Self::Burst => "volume: a burst of rotations",
            Self::Unchanged => "volume: an unchanged payload",
            Self::Crash => "volume: the kubelet dies half-way",
            Self::Reject => "volume: a payload that is to be rejected",
            Self::Swap => "volume: swapped by hand",
            Self::Relink => "volume: unlinked and linked by hand",
            Self::Recreate => "volume: removed and made anew",
        }
    }

    pub fn titles() -> impl Iterator<Item = &'static str> {
        Self::DEALT.iter().map(|act| act.title())
    }
}

pub struct Writer {
    world: &'static World,
    name: &'static str,
    path: PathBuf,
    random: fastrand::Rng,
    deck: Deck<Act>,
}

impl Writer {
    pub fn new(world: &'static World, name: &'static str, seed: u64) -> Self {
        let (random, deck) = (fastrand::Rng::with_seed(seed), Deck::new(seed ^ 6, Act::DEALT));
        Self { world, name, path: world.volume(name), random, deck }
    }

    pub fn run_until(&mut self, end: Instant) {
        while Instant::now() < end {
            pause(Duration::from_millis(self.random.u64(5..80)));
            let act = self.deck.draw();
            self.world.tally.count(act.title());
            let outcome = match act {
                Act::Rotate => self.rotate(),
                Act::Burst => (0..BURST).try_for_each(|_| self.rotate()),
                Act::Unchanged => self.unchanged(),
                Act::Crash => self.crash(),
                Act::Reject => self.reject(),
                Act::Swap => self.by_hand(|from, to| fs::rename(from, to)),
                Act::Relink => self.by_hand(relink),
                Act::Recreate => self.recreate(),
            };
            outcome.unwrap();
        }
    }

    fn ledger(&self) -> &'static Ledger {
        self.world.ledger(self.name)
    }

    /// Kubelets differ.
    fn kubelet(&mut self) -> AtomicWriter {
        let order = if self.random.bool() { LinkOrder::AfterSwap } else { LinkOrder::BeforeSwap };
        let kubelet = AtomicWriter::new(&self.path).link_order(order);
        if self.random.bool() { kubelet.fs_group() } else { kubelet }
    }

    /// A whole rotation.
    pub fn rotate(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        self.steps(usize::MAX)
    }

    /// So many steps of a rotation, of which one publishes.
    fn steps(&mut self, count: usize) -> io::Result<()> {
        let number = self.ledger().next();
        let mut rotation = self.kubelet().rotation(edition::payload(number))?;
        for _ in 0..count {
            let is_swap = rotation.steps().next().is_some_and(Step::is_swap);
            if is_swap {
                self.ledger().publishing(number);
            }
            if rotation.step()?.is_none() {
                break;
            }
            if is_swap {
                self.published(number);
            }
        }
        Ok(())
    }

    fn published(&self, number: u64) {
        self.ledger().published(number);
        increase(&self.world.tally.rotations);
    }

    fn unchanged(&mut self) -> io::Result<()> {
        let kubelet = self.kubelet();
        let payload = kubelet.current()?;
        kubelet.write(payload).map(drop)
    }

    /// A rotation takes some sixty steps; the place of the swap among them varies.
    fn crash(&mut self) -> io::Result<()> {
        let count = self.random.usize(..60);
        self.steps(count)
    }

    /// Published by the kubelet, and not to be served by anybody.
    fn reject(&mut self) -> io::Result<()> {
        let number = self.ledger().next();
        let payload: Payload = edition::payload(number).without(REQUIRED);
        self.kubelet().write(payload).map(drop)
    }

    /// What people do with `mkdir`, `cp` and `ln`.
    fn by_hand(&mut self, replace: fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        let (data, temporary) = (self.path.join("..data"), self.path.join("..data_tmp"));
        let old = fs::read_link(&data)?;
        let number = self.ledger().next();
        let name = format!("..by-hand-{number}");
        let values = edition::values(number);
        for (key, value) in &values {
            write(&self.path.join(&name).join(key), value)?;
            let top = key.split('/').next().unwrap_or(key);
            ignore(
                symlink(Path::new("..data").join(top), self.path.join(top)),
                ErrorKind::AlreadyExists,
            )?;
        }
        ignore(fs::remove_file(&temporary), ErrorKind::NotFound)?;
        symlink(&name, &temporary)?;
        self.ledger().publishing(number);
        replace(&temporary, &data)?;
        self.published(number);
        fs::remove_dir_all(self.path.join(old))
    }

    /// Moved away first: while it is removed file by file, it is no volume any more.
    fn recreate(&mut self) -> io::Result<()> {
        let away = self.world.directory.join(format!("{}-away", self.name));
        fs::rename(&self.path, &away)?;
        fs::remove_file(away.join("..data"))?;
        fs::remove_dir_all(&away)?;
        pause(Duration::from_millis(self.random.u64(..200)));
        self.rotate()
    }
}

/// For a moment there is no link.
fn relink(from: &Path, to: &Path) -> io::Result<()> {
    let target = fs::read_link(from)?;
    fs::remove_file(from)?;
    fs::remove_file(to)?;
    symlink(target, to)
}

/// Writes a file, and makes the directories that it lies in.
pub fn write(path: &Path, value: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, value)
}

fn ignore(outcome: io::Result<()>, kind: ErrorKind) -> io::Result<()> {
    outcome.or_else(|error| if error.kind() == kind { Ok(()) } else { Err(error) })
}

//! Who decides what goes wrong next.

use std::sync::Mutex;

/// So many faults a target still meets after the last rotation of a round.
const LAST_FAULTS: u32 = 2;

/// Deals every kind once before any kind comes again, in a random order.
pub struct Deck<T> {
    random: fastrand::Rng,
    kinds: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    pub fn new(seed: u64, kinds: &[T]) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), kinds: kinds.to_vec(), left: Vec::new() }
    }

    pub fn draw(&mut self) -> T {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.random.shuffle(&mut self.left);
        }
        self.left.pop().unwrap()
    }
}

/// The faults of one target: some of the time, or a few more and then no more.
pub struct Faults<T>(Mutex<Dealt<T>>);

struct Dealt<T> {
    deck: Deck<T>,
    /// `None` while there is disorder.
    left: Option<u32>,
}

impl<T: Copy> Faults<T> {
    pub fn new(seed: u64, kinds: &[T]) -> Self {
        Self(Mutex::new(Dealt { deck: Deck::new(seed, kinds), left: Some(0) }))
    }

    pub fn begin(&self) {
        self.0.lock().unwrap().left = None;
    }

    pub fn end(&self) {
        self.0.lock().unwrap().left = Some(LAST_FAULTS);
    }

    /// What goes wrong this time, if anything.
    pub fn draw(&self) -> Option<T> {
        let mut dealt = self.0.lock().unwrap();
        let is_fault = match &mut dealt.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => dealt.deck.random.bool(),
        };
        is_fault.then(|| dealt.deck.draw())
    }
}

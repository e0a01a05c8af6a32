//! What was published in one volume, as its writer knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Default)]
struct Book {
    next: u64,
    last: u64,
    /// When each number was about to be published.
    published: BTreeMap<u64, Instant>,
    /// Written file by file, with more time between two files than anybody has to expect.
    slow: BTreeSet<u64>,
    /// Sets in a plain directory that are torn, unless their newest number was written slowly.
    torn: BTreeMap<u64, String>,
}

impl Ledger {
    /// A number that was not there before.
    pub fn next(&self) -> u64 {
        let mut book = self.0.lock().unwrap();
        book.next += 1;
        book.next
    }

    /// To be called just before the first reader can see it.
    pub fn publishing(&self, number: u64) {
        self.0.lock().unwrap().published.insert(number, Instant::now());
    }

    pub fn published(&self, number: u64) {
        self.0.lock().unwrap().last = number;
    }

    pub fn last(&self) -> u64 {
        self.0.lock().unwrap().last
    }

    /// How long ago it was published; `None` where it never was.
    pub fn since(&self, number: u64) -> Option<Duration> {
        self.0.lock().unwrap().published.get(&number).map(Instant::elapsed)
    }

    pub fn slow(&self, number: u64) {
        self.0.lock().unwrap().slow.insert(number);
    }

    pub fn suspect(&self, newest: u64, what: String) {
        self.0.lock().unwrap().torn.insert(newest, what);
    }

    /// What no slow write explains. To be asked when nobody writes.
    pub fn torn(&self) -> Vec<String> {
        let book = self.0.lock().unwrap();
        let torn = book.torn.iter().filter(|(newest, _)| !book.slow.contains(newest));
        torn.map(|(_, what)| what.clone()).collect()
    }
}

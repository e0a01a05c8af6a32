//! The command line.

use std::time::Duration;

pub const USAGE: &str = "usage: soak [--seconds 1..86400] [--seed NUMBER]";
/// Long enough for each kind of fault to happen several times.
const DEFAULT_SECONDS: u64 = 60;
const MAX_SECONDS: u64 = 86_400;

#[derive(Debug)]
pub struct Arguments {
    /// How long there is disorder, about.
    pub time: Duration,
    /// Decides what happens, though not when the machine gets to it.
    pub seed: u64,
}

impl Arguments {
    /// `None` where only help is asked for.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut seconds, mut seed) = (DEFAULT_SECONDS, fastrand::u64(..100_000));
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => seconds = number(&word, words.next())?,
                "--seed" => seed = number(&word, words.next())?,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("{word:?} is not known")),
            }
        }
        if !(1..=MAX_SECONDS).contains(&seconds) {
            return Err(format!("--seconds {seconds}: a number from 1 to {MAX_SECONDS}"));
        }
        Ok(Some(Self { time: Duration::from_secs(seconds), seed }))
    }
}

fn number(option: &str, word: Option<String>) -> Result<u64, String> {
    let word = word.ok_or_else(|| format!("{option} needs a number"))?;
    word.parse().map_err(|_| format!("{option} {word:?}: not a number"))
}

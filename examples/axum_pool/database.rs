//! The database as requests see it: the pool that is current.

use std::error::Error;
use std::sync::Arc;

use arc_swap::ArcSwap;
use secretwatch::Snapshot;

use crate::pool::{Drained, Generation};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Gives each request the current pool, to be kept until the request is done.
pub(crate) struct Database(ArcSwap<Generation>);

impl Database {
    /// The database with its first pool, and when that is drained.
    pub(crate) async fn open(snapshot: &Snapshot) -> Result<(Self, Drained), Failure> {
        let (generation, drained) = Generation::open(snapshot).await?;
        Ok((Self(ArcSwap::from_pointee(generation)), drained))
    }

    /// The pool for one request.
    pub(crate) fn current(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// Opens a pool for `snapshot` and swaps it in. Where it cannot be opened, the old one stays.
    pub(crate) async fn switch_to(&self, snapshot: &Snapshot) -> Result<Drained, Failure> {
        let (generation, drained) = Generation::open(snapshot).await?;
        self.0.store(Arc::new(generation));
        Ok(drained)
    }
}

/// A failure with its causes. None of them quotes a password.
pub(crate) fn describe(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        let cause_text = error.to_string();
        // Some libraries have their causes in their own text already.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        cause = error.source();
    }
    text
}

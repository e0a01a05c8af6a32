//! How a target is doing, for whoever asks: the API and `secretwatch status`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::name::VolumeName;

/// Whether a target knows of every rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TargetState {
    /// It does.
    #[default]
    Idle,
    /// It is about to be told, for the first time since it knew all.
    Pending,
    /// It cannot take it yet.
    Held,
    /// Telling it has failed, and is tried again.
    Failing,
}

impl TargetState {
    /// The word used in JSON and on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Failing => "failing",
        }
    }
}

/// What is known of a target at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    pub(crate) state: TargetState,
    /// Since when the target does not know all.
    pub(crate) since: Option<SystemTime>,
    /// Attempts since then.
    pub(crate) attempts: u64,
    /// The revision that the target was last told with success.
    pub(crate) revision: Option<String>,
    pub(crate) last_success: Option<SystemTime>,
    /// Why it has not been told. Never a value.
    pub(crate) detail: Option<String>,
}

/// Where one target's standing is written and read.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) volumes: Vec<VolumeName>,
    standing: Mutex<Standing>,
}

impl Board {
    pub(super) fn new(name: String, kind: &'static str, volumes: Vec<VolumeName>) -> Self {
        Self { name, kind, volumes, standing: Mutex::default() }
    }

    /// A board that stays as it is.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, volumes: Vec<VolumeName>, standing: Standing) -> Self {
        Self { name: name.into(), kind: "exec", volumes, standing: Mutex::new(standing) }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // No panic can leave it half written in a way that matters.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

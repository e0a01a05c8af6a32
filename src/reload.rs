//! Telling the app that a secret has changed: each thing to tell is a *target*.
//!
//! ```text
//! Changes (one a volume) ─▶ keys ─▶ pending ─▶ runner ─▶ signal · http · exec · child
//!                                                 └─ told or not ─▶ board ─▶ status, metrics
//! ```
//!
//! How it works. Every target is a task of its own with its own [`Changes`](crate::Changes), so a
//! dead or slow one delays nobody else. What a target still has to be told is *pending*: a newer
//! snapshot joins what is pending and never waits behind it, and what has failed is tried again
//! until it succeeds. So a target is told at least once of every rotation, with the newest revision
//! and all keys that have changed since it was last told.
//!
//! An attempt that never blocks leaves from the very thread that publishes: see [`prompt`].
//!
//! Absences: nothing here can change a secret; no target learns a value; nothing is sent to a
//! process that does not handle it; no failure is ever the last attempt.

use std::future::pending;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::name::VolumeName;
use crate::process::ProcessError;
use crate::secrets::Secrets;
use crate::snapshot::KeyChanges;
use crate::tasks::Tasks;

mod board;
mod exec;
mod http;
mod keys;
mod metrics;
mod output;
mod pause;
mod pending;
mod prompt;
mod runner;
mod signal;

pub(crate) use board::{Board, Standing, TargetState};
pub(crate) use exec::ExecTarget;
pub(crate) use http::{HttpTarget, Url};
pub(crate) use keys::KeyPattern;
pub(crate) use metrics::ReloadMetrics;
pub(crate) use prompt::without_hurry;
pub(crate) use signal::{Receiver, SignalTarget};

use prompt::Push;
use runner::Runner;

/// What a target is told: which volumes have changed, and how. Never a value.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// One for each volume that has changed, in the order of the configuration; at least one.
    pub(crate) volumes: Vec<Changed>,
}

/// How one volume has changed since the target was last told of it with success.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) name: VolumeName,
    /// Where the volume is mounted.
    pub(crate) path: PathBuf,
    pub(crate) revision: String,
    pub(crate) generation: u64,
    pub(crate) keys: KeyChanges,
}

impl Notice {
    /// The revisions, with commas where there are several.
    pub(crate) fn revision(&self) -> String {
        let revisions: Vec<_> = self.volumes.iter().map(|v| v.revision.as_str()).collect();
        revisions.join(",")
    }
}

/// Why a target was not told. It is tried again in both cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// It went wrong: counted as a failure, and tried again with growing pauses.
    Failed(String),
    /// The target cannot take it yet: not a failure, looked at again soon.
    Held {
        /// The label `reason` of `secretwatch_signal_deferred_total`.
        reason: &'static str,
        detail: String,
    },
}

impl From<ProcessError> for Undelivered {
    fn from(error: ProcessError) -> Self {
        let reason = match &error {
            ProcessError::NoHandler { .. } => "no_handler",
            ProcessError::Ignored { .. } => "ignored",
            ProcessError::Gone(_) => NO_PROCESS,
            _ => return Self::Failed(error.to_string()),
        };
        Self::Held { reason, detail: error.to_string() }
    }
}

/// The reason while there is nobody to signal.
const NO_PROCESS: &str = "no_process";
/// Every reason for which a signal is held.
const HELD_REASONS: [&str; 3] = ["no_handler", "ignored", NO_PROCESS];

/// Tells a supervised child, and returns how that went. It never blocks the thread.
pub(crate) type Deliver = Box<dyn Fn() -> Delivery + Send + Sync>;
/// An attempt of [`Deliver`].
pub(crate) type Delivery = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send>>;

/// How a target is told.
pub(crate) enum Action {
    Signal(SignalTarget),
    Http(Box<HttpTarget>),
    Exec(ExecTarget),
    /// The supervisor's own child. It bounds its attempts by itself.
    Child(Deliver),
}

impl Action {
    fn kind(&self) -> &'static str {
        match self {
            Self::Signal(_) => "signal",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::Child(_) => "child",
        }
    }

    /// Whether the publishing thread may make an attempt.
    fn push(&self) -> Push {
        match self {
            Self::Child(_) => Push::Allowed,
            Self::Http(target) if target.never_blocks() => Push::Allowed,
            Self::Signal(_) | Self::Http(_) | Self::Exec(_) => Push::Never,
        }
    }

    /// Looks after what is kept between attempts.
    async fn rest(&mut self) {
        match self {
            Self::Http(target) => target.rest().await,
            Self::Signal(_) | Self::Exec(_) | Self::Child(_) => pending().await,
        }
    }

    async fn deliver(&mut self, notice: &Notice, timeout: Duration) -> Result<(), Undelivered> {
        match self {
            Self::Signal(target) => target.deliver(notice).await,
            Self::Http(target) => target.deliver(notice, timeout).await,
            Self::Exec(target) => target.deliver(notice, timeout).await,
            Self::Child(deliver) => deliver().await,
        }
    }
}

/// When a target is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The label `target` of the metrics.
    pub(crate) name: String,
    /// Every volume where empty.
    pub(crate) volumes: Vec<VolumeName>,
    /// Every key where empty.
    pub(crate) keys: Vec<KeyPattern>,
    /// Up to so long is waited before each call but that for the first snapshot; how long exactly
    /// follows from the host's name.
    pub(crate) splay: Duration,
    pub(crate) retry_min: Duration,
    pub(crate) retry_max: Duration,
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
    /// Whether the first snapshot counts as a change.
    pub(crate) first: bool,
    /// Volumes that change within this time of each other are told of in one call; each in a call
    /// of its own where zero.
    pub(crate) merge: Duration,
}

impl Rules {
    /// The defaults, for a target of this name.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            volumes: Vec::new(),
            keys: Vec::new(),
            splay: Duration::ZERO,
            retry_min: DEFAULT_RETRY_MIN,
            retry_max: DEFAULT_RETRY_MAX,
            timeout: DEFAULT_TIMEOUT,
            first: false,
            merge: Duration::ZERO,
        }
    }
}

/// An app that restarts is back within a second.
pub(crate) const DEFAULT_RETRY_MIN: Duration = Duration::from_millis(500);
/// An app that comes back after a long outage learns of the rotation within this time.
pub(crate) const DEFAULT_RETRY_MAX: Duration = Duration::from_secs(30);
/// Reloading takes an app seconds, not minutes.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The targets before they run. What they will do can be seen on their boards already.
#[derive(Default)]
pub(crate) struct Targets {
    runners: Vec<Runner>,
    boards: Vec<Arc<Board>>,
}

impl Targets {
    /// Makes a target follow `secrets` from here on: the snapshots that are current now are the
    /// first ones. Volumes that are not among `secrets` are left out.
    pub(crate) fn add(
        &mut self,
        secrets: &Secrets,
        rules: Rules,
        action: Action,
        metrics: &ReloadMetrics,
    ) {
        let runner = Runner::new(secrets, rules, action, metrics);
        self.boards.push(runner.board());
        self.runners.push(runner);
    }

    /// How each target is doing.
    pub(crate) fn boards(&self) -> Vec<Arc<Board>> {
        self.boards.clone()
    }

    /// Starts one task a target, which starts no further attempt once it is asked to end, and lets
    /// the one at work finish. To be called inside a tokio runtime.
    pub(crate) fn start(self) -> Tasks {
        let mut tasks = Tasks::new();
        for runner in self.runners {
            tasks.spawn(runner.start(tasks.stopping()));
        }
        tasks
    }
}

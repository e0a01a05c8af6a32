//! Telling the app: what is done when a volume has changed.

use crate::name::VolumeName;
use crate::process::ProcessError;
use crate::snapshot::KeyChanges;

/// What a target is told: which volumes have changed, and how. Never a value.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// One for each volume that has changed, in the order of the configuration; at least one.
    pub(crate) volumes: Vec<Changed>,
}

/// How one volume has changed since the target was last told with success.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) name: VolumeName,
    /// Where the volume is mounted.
    pub(crate) path: std::path::PathBuf,
    pub(crate) revision: String,
    pub(crate) generation: u64,
    pub(crate) keys: KeyChanges,
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

/// What a closure that tells a target returns.
pub(crate) type Delivery = std::pin::Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send>>;
/// Tells a supervised child; see `Action::Child`.
pub(crate) type Deliver = Box<dyn Fn(Notice) -> Delivery + Send + Sync>;

impl From<ProcessError> for Undelivered {
    fn from(error: ProcessError) -> Self {
        let reason = match &error {
            ProcessError::NoHandler { .. } => "no_handler",
            ProcessError::Ignored { .. } => "ignored",
            ProcessError::Gone(_) => "no_process",
            _ => return Self::Failed(error.to_string()),
        };
        Self::Held { reason, detail: error.to_string() }
    }
}

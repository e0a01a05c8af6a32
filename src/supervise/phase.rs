//! Where the supervisor is with its child.

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::reload::Undelivered;

/// Asks the supervisor to bring a rotation to the child.
pub(super) type Request = oneshot::Sender<Result<(), Undelivered>>;

/// What the end of the child, and the next deadline, mean.
pub(super) enum Phase {
    /// Nothing is expected: the end of the child is the end.
    Running,
    /// The child was restarted, and has to prove itself until then.
    Settling { until: Instant, request: Request },
    /// The child was told to end; `None` once it has been killed.
    Stopping { kill_at: Option<Instant>, then: Then },
    /// The restarted child has failed; the next delivery starts another.
    Resting,
}

/// What comes after the child.
pub(super) enum Then {
    Restart(Request),
    End,
}

impl Phase {
    /// The next deadline.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Settling { until, .. } => Some(*until),
            Self::Stopping { kill_at, .. } => *kill_at,
            Self::Running | Self::Resting => None,
        }
    }
}

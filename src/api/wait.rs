//! Waiting for another revision: the long poll.

use std::sync::Arc;

use tokio::time::sleep;

use super::Api;
use super::problem::Problem;
use super::query::Wait;
use crate::secrets::Volume;
use crate::snapshot::Snapshot;

/// What there is to answer with.
pub(super) enum Waited {
    Snapshot(Arc<Snapshot>),
    /// Nothing has changed until the timeout: this is still the snapshot the client knows.
    Unchanged(Arc<Snapshot>),
}

/// The current snapshot or, for a long poll, the first one of another revision. A client that goes
/// away takes the wait with it.
pub(super) async fn snapshot(
    api: &Api,
    volume: &Volume,
    wait: Option<&Wait>,
) -> Result<Waited, Problem> {
    let now = current(volume);
    let Some(wait) = wait else { return now.map(Waited::Snapshot) };
    match now {
        Ok(snapshot) if snapshot.revision() != wait.after => {
            return Ok(Waited::Snapshot(snapshot));
        }
        _ => {}
    }
    let _permit = api.waiting.try_acquire().map_err(|_| api.denied.waiting())?;
    tokio::select! {
        biased;
        () = api.stopped() => Err(Problem::shutting_down()),
        next = another_revision(volume, &wait.after) => next.map(Waited::Snapshot),
        () = sleep(wait.timeout) => current(volume).map(Waited::Unchanged),
    }
}

fn current(volume: &Volume) -> Result<Arc<Snapshot>, Problem> {
    let snapshot = volume.current();
    if snapshot.generation() > 0 { Ok(snapshot) } else { Err(Problem::not_ready(volume)) }
}

async fn another_revision(volume: &Volume, after: &str) -> Result<Arc<Snapshot>, Problem> {
    let mut changes = volume.changes_and_current();
    loop {
        let snapshot = changes.changed().await.map_err(|_| Problem::watch_ended())?;
        if snapshot.revision() != after {
            return Ok(snapshot);
        }
    }
}

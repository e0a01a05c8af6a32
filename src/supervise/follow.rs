//! Brings rotations to the child: latest-wins, at least once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::changes::Changes;
use crate::error::Stopped;
use crate::reload::{Changed, Deliver, Notice, Undelivered};
use crate::secrets::Secrets;
use crate::snapshot::Snapshot;

/// Between two deliveries: many rotations in a row become few signals, the last of which comes
/// after the last rotation.
const INTERVAL: Duration = Duration::from_millis(200);
/// How soon a child that could not take the signal is looked at again. A look reads one file.
const HELD: Pauses = Pauses { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
/// How soon a restart that failed is tried again.
const FAILED: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

struct Pauses {
    first: Duration,
    longest: Duration,
}

impl Pauses {
    fn after(&self, attempts: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(attempts)).min(self.longest)
    }
}

/// Delivers every change after `told`, until the watch ends.
pub(crate) async fn follow(secrets: Secrets, mut told: Vec<Arc<Snapshot>>, deliver: Deliver) {
    let mut changes: Vec<_> =
        secrets.volumes().map(|volume| volume.changes_and_current()).collect();
    while any(&mut changes).await.is_ok() {
        let mut attempts = 0;
        let mut last = None;
        loop {
            let now: Vec<_> = secrets.volumes().map(|volume| volume.current()).collect();
            let Some(notice) = notice(&secrets, &told, &now) else { break };
            let undelivered = match deliver(notice).await {
                Ok(()) => {
                    if last.is_some() {
                        info!("the rotation has reached the child");
                    }
                    told = now;
                    break;
                }
                Err(undelivered) => undelivered,
            };
            let pause = say(&undelivered, last.as_ref(), attempts);
            attempts += 1;
            last = Some(undelivered);
            tokio::select! {
                () = sleep(pause) => {}
                newer = any(&mut changes) => match newer {
                    // Newer values may be better ones.
                    Ok(()) => attempts = 0,
                    Err(Stopped) => return,
                }
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Says once why the child was not told, and gives the pause.
fn say(undelivered: &Undelivered, last: Option<&Undelivered>, attempts: u32) -> Duration {
    let is_new = last != Some(undelivered);
    match undelivered {
        Undelivered::Held { reason, detail } => {
            if is_new {
                warn!(reason, detail, "the rotation waits for the child");
            }
            HELD.after(attempts)
        }
        Undelivered::Failed(error) => {
            let pause = FAILED.after(attempts);
            warn!(error, retry_in = ?pause, "the rotation did not reach the child");
            pause
        }
    }
}

/// What has changed since the child was told; `None` for nothing.
fn notice(secrets: &Secrets, told: &[Arc<Snapshot>], now: &[Arc<Snapshot>]) -> Option<Notice> {
    let pairs = secrets.volumes().zip(told.iter().zip(now));
    let changed = pairs.filter(|(_, (old, new))| new.generation() > old.generation());
    let volumes: Vec<_> = changed
        .map(|(volume, (old, new))| Changed {
            name: volume.name().clone(),
            path: volume.path().to_owned(),
            revision: new.revision().to_owned(),
            generation: new.generation(),
            keys: new.changes_since(old),
        })
        .collect();
    (!volumes.is_empty()).then_some(Notice { volumes })
}

/// Waits until any volume has changed.
async fn any(changes: &mut [Changes]) -> Result<(), Stopped> {
    let all = changes.iter_mut().map(|changes| Box::pin(changes.changed()));
    select_all(all).await.0.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let pauses: Vec<_> = (0..8).map(|attempt| FAILED.after(attempt).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(FAILED.after(u32::MAX), FAILED.longest);
    }
}

//! One target at work.
//!
//! How it works. The loop waits for a snapshot of a volume or for the time at which something is
//! due. A snapshot joins what is pending; an attempt takes what is due, and clears it only with
//! success. While an attempt runs nothing is noted, and nothing is lost: the volumes remember.
//!
//! All of it may happen in the one poll by the publishing thread, see [`Prompt`](super::prompt); what
//! comes after an attempt is left to the runtime's thread.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::board::{Board, TargetState};
use super::metrics::{ReloadMetrics, TargetMetrics};
use super::pause::{self, Pause};
use super::pending::{Followed, News};
use super::prompt::Prompt;
use super::{Action, Notice, Rules, Undelivered, without_hurry};
use crate::secrets::{Secrets, Volume};
use crate::snapshot::Snapshot;

/// A target is not told of the same volume again within this time: many rotations in a row become
/// a few calls, and no app that is asked ten times a second is slow because of it.
const CALM: Duration = Duration::from_millis(100);

pub(super) struct Runner {
    rules: Rules,
    action: Action,
    followed: Vec<Followed>,
    /// Before this time nothing is tried: the last attempt has not succeeded.
    not_before: Option<Instant>,
    retry: Pause,
    held: Pause,
    splay: Duration,
    board: Arc<Board>,
    metrics: TargetMetrics,
}

impl Runner {
    pub(super) fn new(
        secrets: &Secrets,
        rules: Rules,
        action: Action,
        metrics: &ReloadMetrics,
    ) -> Self {
        let is_meant =
            |volume: &Volume| rules.volumes.is_empty() || rules.volumes.contains(volume.name());
        let followed: Vec<_> = secrets.volumes().filter(is_meant).map(Followed::new).collect();
        let names = followed.iter().map(|followed| followed.volume.name().clone()).collect();
        Self {
            retry: Pause::new(rules.retry_min, rules.retry_max),
            held: Pause::held(),
            splay: pause::splay(rules.splay, &host(), &rules.name),
            board: Arc::new(Board::new(rules.name.clone(), action.kind(), names)),
            metrics: metrics.target(&rules.name),
            not_before: None,
            rules,
            action,
            followed,
        }
    }

    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// The task that tells the target of every change, until asked to stop. To be called inside a
    /// tokio runtime.
    pub(super) fn start(self, stopping: watch::Receiver<bool>) -> Prompt {
        let span = tracing::info_span!("target", name = self.rules.name);
        let volumes: Vec<Volume> =
            self.followed.iter().map(|followed| followed.volume.clone()).collect();
        let push = self.action.push();
        Prompt::new(self.run(stopping), span, push, &volumes)
    }

    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        loop {
            let due = self.due();
            // What is most urgent comes first, so that nothing else is touched on its way.
            tokio::select! {
                biased;
                (at, snapshot) = next(&mut self.followed) => self.note(at, snapshot),
                () = until(due) => {
                    if *stopping.borrow() {
                        break;
                    }
                    self.attempt().await;
                }
                () = stopped(&mut stopping) => break,
                () = self.action.rest() => {}
            }
        }
        let left = self.followed.iter().filter(|followed| followed.pending.is_some()).count();
        if left > 0 {
            warn!(volumes = left, "stopped before the target could be told");
        }
    }

    fn note(&mut self, at: usize, snapshot: Arc<Snapshot>) {
        let Some(followed) = self.followed.get_mut(at) else { return };
        let is_new = followed.pending.is_none();
        let news = followed.note(snapshot, &self.rules.keys, self.rules.first);
        let Some(pending) = followed.pending.as_mut().filter(|_| news != News::Nothing) else {
            return;
        };
        let now = Instant::now();
        if is_new {
            let splay = if news == News::First { Duration::ZERO } else { self.splay };
            let calm = followed.told.map_or(now, |told| told + CALM);
            pending.due = (now + splay + self.rules.merge).max(calm);
        }
        // The newer revision may be what the target was waiting for.
        if let Some(not_before) = &mut self.not_before {
            self.retry.reset();
            *not_before = (*not_before).min(now + self.rules.retry_min);
        }
        self.metrics.pending(true);
        self.board.update(|standing| {
            standing.since.get_or_insert_with(SystemTime::now);
            if standing.state == TargetState::Idle {
                standing.state = TargetState::Pending;
            }
        });
    }

    /// When the next attempt is due; `None` where the target knows all.
    fn due(&self) -> Option<Instant> {
        let pending = self.followed.iter().filter_map(|followed| followed.pending.as_ref());
        let due = pending.map(|pending| pending.due).min()?;
        Some(self.not_before.map_or(due, |not_before| not_before.max(due)))
    }

    /// Which volumes the next call is about: all that are pending where they may be merged,
    /// otherwise the one that has waited longest.
    fn chosen(&self) -> Vec<usize> {
        let due = |at: usize| self.followed[at].pending.as_ref().map(|pending| pending.due);
        let mut pending: Vec<_> =
            (0..self.followed.len()).filter(|at| due(*at).is_some()).collect();
        if self.rules.merge.is_zero() {
            pending.sort_by_key(|at| due(*at));
            pending.truncate(1);
        }
        pending
    }

    async fn attempt(&mut self) {
        let chosen = self.chosen();
        let volumes = chosen.iter().filter_map(|at| self.followed[*at].changed()).collect();
        let notice = Notice { volumes };
        self.board.update(|standing| standing.attempts += 1);
        let start = Instant::now();
        let outcome = self.action.deliver(&notice, self.rules.timeout).await;
        let took = start.elapsed();
        without_hurry().await;
        match outcome {
            Ok(()) => self.succeeded(&chosen, &notice, took),
            Err(Undelivered::Failed(detail)) => self.failed(&notice, detail, took),
            Err(Undelivered::Held { reason, detail }) => self.hold(&notice, reason, detail),
        }
    }

    fn succeeded(&mut self, chosen: &[usize], notice: &Notice, took: Duration) {
        let (now, at) = (Instant::now(), SystemTime::now());
        let mut since = at;
        for at in chosen {
            if let Some(pending) = self.followed[*at].pending.take() {
                since = since.min(pending.since);
            }
            self.followed[*at].told = Some(now);
        }
        self.not_before = None;
        self.retry.reset();
        self.held.reset();
        let is_pending = self.due().is_some();
        self.metrics.succeeded(since, at, took);
        self.metrics.pending(is_pending);
        let revision = notice.revision();
        info!(revision, took = %humantime::format_duration(rounded(took)), "target told");
        self.board.update(|standing| {
            standing.state = if is_pending { TargetState::Pending } else { TargetState::Idle };
            standing.since = is_pending.then_some(at);
            standing.attempts = 0;
            standing.revision = Some(revision);
            standing.last_success = Some(at);
            standing.detail = None;
        });
    }

    fn failed(&mut self, notice: &Notice, detail: String, took: Duration) {
        let pause = pause::jittered(self.retry.step());
        self.not_before = Some(Instant::now() + pause);
        self.metrics.failed(took);
        warn!(
            revision = notice.revision(),
            detail,
            next_in = %humantime::format_duration(rounded(pause)),
            "target not told"
        );
        self.board.update(|standing| {
            standing.state = TargetState::Failing;
            standing.detail = Some(detail);
        });
    }

    fn hold(&mut self, notice: &Notice, reason: &'static str, detail: String) {
        self.not_before = Some(Instant::now() + self.held.step());
        self.metrics.held(reason);
        let before = self.board.standing();
        // Said once, and again only where there is something else to say.
        if before.state == TargetState::Held && before.detail.as_ref() == Some(&detail) {
            debug!(reason, "target still held");
        } else {
            warn!(revision = notice.revision(), reason, detail, "target held, looked at again");
        }
        self.board.update(|standing| {
            standing.state = TargetState::Held;
            standing.detail = Some(detail);
        });
    }
}

/// The next snapshot of any volume, with the volume's index. Never ends where no volume can change
/// any more.
async fn next(followed: &mut [Followed]) -> (usize, Arc<Snapshot>) {
    // Nothing wakes for one: the task is polled at each, see `Prompt`.
    poll_fn(|_| {
        let new = followed.iter_mut().enumerate().find_map(|(at, followed)| {
            // An error says that the engine has ended; what is pending is still worth telling.
            Some((at, followed.changes.take()?.ok()?))
        });
        new.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that whoever could ask is gone.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

async fn until(due: Option<Instant>) {
    match due {
        // The timer is only as fine as a millisecond, and late rather than early.
        Some(due) if due <= Instant::now() => {}
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What tells replicas apart: in a pod, the pod's name.
fn host() -> String {
    let name = nix::sys::utsname::uname();
    name.map(|name| name.nodename().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Without digits that nobody reads.
fn rounded(time: Duration) -> Duration {
    Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

//! The in-container supervisor: the first process of a container, with the app as its child.
//!
//! How it works. The first child is started once every volume has an accepted snapshot. From then
//! on one loop picks the next event and a plain function handles it: a signal is passed on, a
//! rotation is delivered, the end of the child is the end of the supervisor. The [`Phase`] says
//! what the end of the child and the next deadline mean.
//!
//! Rules:
//! * A rotation signals the child only once it has a handler for that signal, or restarts it: TERM,
//!   the grace, KILL, and a new child with a fresh environment.
//! * A child that ends by itself ends the supervisor with its status; the platform decides what
//!   comes then. The one exception is a child that fails within [`SETTLE`] of a restart: the
//!   delivery has failed, and is tried again with back-off, and soon after the next rotation.
//! * A child that is restarted for each rotation adopts by that: at its first start, and whenever a
//!   restart has proven itself. No other child does; it says itself what it uses.
//! * A new environment is made before the old child is told to end. Where that fails, the old one
//!   stays.
//! * TERM, INT, QUIT, HUP, USR1, USR2 and WINCH are passed on to the child and to nobody else. TERM
//!   starts the grace; the second TERM or the end of the grace kills.
//! * With a terminal the child stays in the group of the supervisor, so that job control works
//!   without either of them taking part in it; what the terminal sends to the whole group is not
//!   passed on a second time. Without one the child leads a group of its own, all of which is
//!   killed at the end of the grace.
//! * The limit of open files is not raised, as `serve` does: the child would inherit it.

mod addressee;
mod environment;
mod exit;
mod forward;
mod phase;

use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::config::{OnRotation, RunConfig};
use crate::name::ConsumerName;
use crate::process::SignalName;
use crate::reaper::{Child, Reaper};
use crate::reload::{Action, Deliver, Rules, Undelivered, without_hurry};
use crate::secrets::Secrets;
use crate::snapshot::Snapshot;
use addressee::{Addressee, present};
use environment::{Environment, EnvironmentError};
use exit::{NOT_EXECUTABLE, NOT_FOUND, code, end_without_child};
pub(crate) use forward::Forwarded;
use forward::Received;
use phase::{Phase, Request, Then};

/// How long a restarted child has to run before the restart has succeeded: a bad credential shows
/// in the first connections.
const SETTLE: Duration = Duration::from_secs(2);
/// The name of the child among the targets, and among the consumers.
pub(crate) const TARGET: &str = "child";
/// How soon a restart that has failed is tried again: a crash loop must not burn the node.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// As for the other crash loops of the platform, within a minute better luck is noticed.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Why nothing more is delivered.
const ENDING: &str = "the supervisor is ending";
/// Deliveries that wait: there is one sender, which waits for the answer.
const MAX_REQUESTS: usize = 1;

/// Why there is no child.
#[derive(Debug, Error)]
pub(crate) enum SuperviseError {
    #[error(transparent)]
    Start(#[from] crate::Error),
    #[error("the environment of the command cannot be made")]
    Environment(#[from] EnvironmentError),
    #[error("the command {0:?} cannot be started")]
    Spawn(OsString, #[source] io::Error),
}

impl SuperviseError {
    /// The exit code that shells would give.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Spawn(_, error) if error.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Spawn(..) => NOT_EXECUTABLE,
            Self::Start(_) | Self::Environment(_) => 1,
        }
    }
}

/// Runs the child; see the module.
pub(crate) struct Supervisor {
    command: Vec<OsString>,
    config: RunConfig,
    environment: Environment,
    /// In whose name a restarted child adopts.
    consumer: ConsumerName,
    secrets: Secrets,
    reaper: Reaper,
    signals: Forwarded,
    requests: (mpsc::Sender<Request>, mpsc::Receiver<Request>),
    /// Whether a terminal sends its signals to the child as well.
    has_terminal: bool,
    current: Option<Current>,
    /// The same child, for whoever signals it.
    addressee: watch::Sender<Option<Arc<Addressee>>>,
    phase: Phase,
}

/// The child, and the revisions of all volumes that it was started with.
struct Current {
    child: Child,
    revisions: Vec<String>,
}

enum Event {
    Signal(Received),
    Ended(Option<ExitStatus>),
    Request(Request),
    Due,
}

impl Supervisor {
    /// Takes over the signals, and starts nothing yet. Has to be called within a runtime.
    ///
    /// # Errors
    /// Where the system refuses the handler for SIGCHLD.
    pub(crate) fn new(
        command: Vec<OsString>,
        config: RunConfig,
        secrets: Secrets,
        signals: Forwarded,
    ) -> io::Result<Self> {
        Ok(Self {
            environment: Environment::new(&config),
            consumer: TARGET.parse().expect("the name of the target is a consumer's, too"),
            command,
            config,
            secrets,
            reaper: Reaper::start()?,
            signals,
            requests: mpsc::channel(MAX_REQUESTS),
            has_terminal: std::fs::File::open("/dev/tty").is_ok(),
            current: None,
            addressee: watch::Sender::default(),
            phase: Phase::Running,
        })
    }

    /// The reaper of this process, for the hooks.
    pub(crate) fn reaper(&self) -> Reaper {
        self.reaper.clone()
    }

    /// The child as a target; `None` where a rotation does nothing to it. To be added before the
    /// child is started: what changes in between is then delivered.
    pub(crate) fn target(&self) -> Option<(Rules, Action)> {
        let rules = Rules { retry_min: RETRY_MIN, retry_max: RETRY_MAX, ..Rules::new(TARGET) };
        let deliver = match self.config.on_rotation {
            OnRotation::Nothing => return None,
            OnRotation::Signal(signal) => self.by_signal(signal),
            OnRotation::Restart => self.by_restart(),
        };
        Some((rules, Action::Child(deliver)))
    }

    fn by_signal(&self, signal: Signal) -> Deliver {
        let child = self.addressee.subscribe();
        Box::new(move || {
            let mut child = child.clone();
            Box::pin(async move {
                let child = present(&mut child).await?;
                child.tell(signal)?;
                without_hurry().await;
                let (signal, pid) = (SignalName(signal), child.pid());
                info!(%signal, pid, "signalled the child for new values");
                Ok(())
            })
        })
    }

    fn by_restart(&self) -> Deliver {
        let requests = self.requests.0.clone();
        Box::new(move || {
            let requests = requests.clone();
            Box::pin(async move {
                let (request, answer) = oneshot::channel();
                let ended = |_| Undelivered::Failed(ENDING.to_owned());
                requests.send(request).await.map_err(|_| ended(()))?;
                answer.await.map_err(|_| ended(()))?
            })
        })
    }

    /// Waits for the first snapshots, and starts the child. An exit code where a signal asked for the
    /// end before that.
    ///
    /// # Errors
    /// Where a volume has nothing acceptable in time, or the child cannot be started.
    pub(crate) async fn start(&mut self) -> Result<ControlFlow<u8>, SuperviseError> {
        let deadline = Instant::now() + self.config.start_timeout;
        let all_ready = async {
            for volume in self.secrets.volumes() {
                let mut changes = volume.changes_and_current();
                tokio::select! {
                    first = changes.changed() => drop(first.map_err(crate::Error::stopped)?),
                    () = sleep_until(deadline) => {
                        let status = volume.status();
                        return Err(crate::Error::start_timeout(volume.name(), volume.path(), &status));
                    }
                }
            }
            Ok(())
        };
        tokio::pin!(all_ready);
        loop {
            tokio::select! {
                ready = &mut all_ready => break ready?,
                received = self.signals.next() => if let Some(code) = end_without_child(received) {
                    return Ok(ControlFlow::Break(code));
                }
            }
        }
        self.current = Some(self.spawn()?);
        self.adopt();
        Ok(ControlFlow::Continue(()))
    }

    fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.secrets.volumes().map(|volume| volume.current()).collect()
    }

    /// Runs until the child has ended for good, and gives the exit code.
    pub(crate) async fn run(mut self) -> u8 {
        loop {
            let event = tokio::select! {
                biased;
                received = self.signals.next() => Event::Signal(received),
                status = ended(self.current.as_ref()) => Event::Ended(status),
                () = until(self.phase.due()) => Event::Due,
                Some(request) = self.requests.1.recv() => Event::Request(request),
            };
            if let ControlFlow::Break(code) = self.handle(event) {
                let orphans = self.reaper.orphans();
                info!(code, orphans, "the child has ended");
                return code;
            }
        }
    }

    fn handle(&mut self, event: Event) -> ControlFlow<u8> {
        match event {
            Event::Signal(received) => return self.signalled(received),
            Event::Ended(status) => return self.child_ended(status),
            Event::Request(request) => self.restart(request),
            Event::Due => self.due(),
        }
        ControlFlow::Continue(())
    }

    fn signalled(&mut self, received: Received) -> ControlFlow<u8> {
        let Some(current) = &self.current else {
            return end_without_child(received)
                .map_or(ControlFlow::Continue(()), ControlFlow::Break);
        };
        let is_second = matches!(self.phase, Phase::Stopping { then: Then::End, .. });
        match received.signal {
            Signal::SIGTERM if is_second => {
                self.kill("the second SIGTERM");
                return ControlFlow::Continue(());
            }
            Signal::SIGTERM => {
                let kill_at = Some(Instant::now() + self.config.stop_grace);
                self.phase = Phase::Stopping { kill_at, then: Then::End };
            }
            // The child that is being replaced gets it, and no other child may come after that.
            Signal::SIGINT | Signal::SIGQUIT => {
                if let Phase::Stopping { then, .. } = &mut self.phase {
                    *then = Then::End;
                }
            }
            _ => {}
        }
        if self.has_terminal && received.is_from_terminal {
            return ControlFlow::Continue(());
        }
        let (signal, pid) = (SignalName(received.signal), current.child.pid.as_raw());
        match current.child.signal(received.signal) {
            Ok(()) => info!(%signal, pid, "passed a signal on to the child"),
            // It has just ended, which is the next event.
            Err(Errno::ESRCH) => {}
            Err(error) => warn!(%signal, pid, %error, "a signal cannot be passed on to the child"),
        }
        ControlFlow::Continue(())
    }

    fn child_ended(&mut self, status: Option<ExitStatus>) -> ControlFlow<u8> {
        self.current = None;
        self.addressee.send_replace(None);
        let is_success = status.is_some_and(|status| status.success());
        match std::mem::replace(&mut self.phase, Phase::Resting) {
            Phase::Stopping { then: Then::Restart(request), .. } => self.start_again(request),
            Phase::Settling { request, .. } if !is_success => {
                let end = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
                let message = format!("the restarted child failed within {SETTLE:?}: {end}");
                warn!(status = end, "the restarted child has failed at once");
                answer(request, Err(Undelivered::Failed(message)));
            }
            _ => return ControlFlow::Break(code(status)),
        }
        ControlFlow::Continue(())
    }

    fn restart(&mut self, request: Request) {
        let revisions = revisions(&self.snapshots());
        match &mut self.phase {
            Phase::Stopping { then: Then::End, .. } => {
                return answer(request, Err(Undelivered::Failed("the child is ending".to_owned())));
            }
            // Whoever asked before has given up waiting.
            Phase::Stopping { then, .. } => {
                *then = Then::Restart(request);
                return;
            }
            Phase::Resting => return self.start_again(request),
            Phase::Running | Phase::Settling { .. } => {}
        }
        let Some(current) = &self.current else { return };
        if current.revisions == revisions {
            match &mut self.phase {
                Phase::Settling { request: waiting, .. } => *waiting = request,
                _ => answer(request, Ok(())),
            }
            return;
        }
        if let Err(error) = self.environment.check(&self.snapshots()) {
            return answer(request, Err(Undelivered::Failed(error.to_string())));
        }
        info!(pid = current.child.pid.as_raw(), "restarting the child for new values");
        // ESRCH: it has just ended, which is the next event.
        let _ = current.child.signal(Signal::SIGTERM);
        let kill_at = Some(Instant::now() + self.config.stop_grace);
        self.phase = Phase::Stopping { kill_at, then: Then::Restart(request) };
    }

    fn start_again(&mut self, request: Request) {
        match self.spawn() {
            Ok(current) => {
                self.current = Some(current);
                self.phase = Phase::Settling { until: Instant::now() + SETTLE, request };
            }
            Err(error) => {
                self.phase = Phase::Resting;
                warn!(%error, "the child cannot be started again");
                answer(request, Err(Undelivered::Failed(error.to_string())));
            }
        }
    }

    fn due(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Settling { request, .. } => {
                self.adopt();
                answer(request, Ok(()));
            }
            phase @ Phase::Stopping { .. } => {
                self.phase = phase;
                self.kill("the end of its grace");
            }
            phase => self.phase = phase,
        }
    }

    /// Says for the child that it uses what it was started with. A child that is only signalled, or
    /// asks by itself, knows better what it uses, and has to say so itself.
    fn adopt(&self) {
        let Some(current) = self.current.as_ref() else { return };
        if self.config.on_rotation != OnRotation::Restart {
            return;
        }
        for (volume, revision) in self.secrets.volumes().zip(&current.revisions) {
            if let Err(error) = volume.adopt_revision(&self.consumer, revision) {
                warn!(volume = volume.name().as_str(), %error, "the child's adoption is not recorded");
            }
        }
    }

    fn kill(&mut self, because: &str) {
        let Some(Current { child, .. }) = &self.current else { return };
        warn!(pid = child.pid.as_raw(), because, "killing the child");
        let killed = if self.has_terminal {
            // The group is that of the supervisor.
            child.signal(Signal::SIGKILL)
        } else {
            child.signal_group(Signal::SIGKILL)
        };
        if let Err(error) = killed.or_else(|e| if e == Errno::ESRCH { Ok(()) } else { Err(e) }) {
            warn!(%error, "the child cannot be killed");
        }
        if let Phase::Stopping { kill_at, .. } = &mut self.phase {
            *kill_at = None;
        }
    }

    fn spawn(&self) -> Result<Current, SuperviseError> {
        let snapshots = self.snapshots();
        let mut words = self.command.iter();
        let program = words.next().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(words);
        if !self.has_terminal {
            command.process_group(0);
        }
        self.environment.apply(&snapshots, &mut command)?;
        let child = self.reaper.spawn(&mut command);
        let child = child.map_err(|error| SuperviseError::Spawn(program.clone(), error))?;
        info!(pid = child.pid.as_raw(), program = %program.display(), "started the child");
        let addressee = Addressee::new(&child, self.reaper.clone());
        self.addressee.send_replace(Some(Arc::new(addressee)));
        Ok(Current { child, revisions: revisions(&snapshots) })
    }
}

fn answer(request: Request, result: Result<(), Undelivered>) {
    // Whoever asked may have given up waiting.
    let _ = request.send(result);
}

fn revisions(snapshots: &[Arc<Snapshot>]) -> Vec<String> {
    snapshots.iter().map(|snapshot| snapshot.revision().to_owned()).collect()
}

async fn ended(current: Option<&Current>) -> Option<ExitStatus> {
    match current {
        Some(current) => current.child.wait().await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

//! The engine: the only writer of the stores.
//!
//! How it works. A loop on a thread of its own waits for an [`Event`] or for the next time at which a
//! volume wants to be looked at; a plain function then handles it. Each volume has its own state in
//! [`Watched`](watched::Watched), which reads, judges and publishes. Nothing here can fail for good:
//! what goes wrong is counted, said once, and tried again.
//!
//! Of a swap inotify's thread hears first, and waking another one takes as long as a look. So it
//! looks itself, if the engine is at rest: whoever holds the lock is the engine for that long. It
//! never waits for the lock, nor asks anything of inotify, which would be to wait for itself; where
//! either would be needed, it leaves the hint to the loop.

mod settle;
mod watch;
mod watched;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::builder::Detector;
use crate::detect::Hints;
use crate::error::Error;
use crate::gate::Gate;
use crate::health::Health;
use crate::metrics::{FoundBy, Metrics};
use crate::name::VolumeName;
use crate::status::Status;
use crate::store::{self, Reader};
use watch::Watcher;
use watched::Watched;

/// The longest that the handling of one event may take before the engine counts as stuck. A look
/// takes milliseconds; this is for a disk that has fallen asleep.
const LONGEST_WORK: Duration = Duration::from_secs(20);

/// How often the poll looks where inotify cannot be relied on, unless it is asked to look more
/// often anyway.
const FAST_POLL: Duration = Duration::from_secs(1);

/// How long at most before inotify is tried again where it could not be had.
const RETRY_INOTIFY: Duration = Duration::from_secs(30);

/// One volume to watch.
pub(crate) struct Plan {
    pub(crate) name: VolumeName,
    pub(crate) path: PathBuf,
    pub(crate) gate: Gate,
}

/// What holds for all volumes.
pub(crate) struct Settings {
    pub(crate) detector: Detector,
    pub(crate) poll_interval: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) health: Arc<Health>,
}

/// Everything that can happen to the engine.
enum Event {
    /// The volume of this index has hints.
    Hint(usize),
    /// Somebody asks for a look at every volume.
    LookNow,
    /// Somebody waits until the engine has started.
    Started(Sender<()>),
    /// The last handle is gone.
    Stop,
}

/// How often the poll looks, in good and in bad times.
#[derive(Clone, Copy)]
struct Pace {
    normal: Duration,
    fast: Duration,
}

/// Keeps the engine running; dropping it stops the engine.
pub(crate) struct EngineHandle(Sender<Event>);

impl EngineHandle {
    /// Asks for a look at every volume.
    pub(crate) fn look_now(&self) {
        // It fails only where the engine has ended, which its health tells.
        let _ = self.0.send(Event::LookNow);
    }

    /// Waits until inotify has been tried for every volume, or the deadline is over.
    pub(crate) fn wait_until_started(&self, deadline: Option<Instant>) {
        let (sender, started) = channel();
        // Each of these fails only where the engine has ended, which its health tells.
        let _ = self.0.send(Event::Started(sender));
        let _ = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(left) => started.recv_timeout(left).ok(),
            None => started.recv().ok(),
        };
    }

    /// A handle to no engine, for tests that publish by themselves.
    #[cfg(all(test, feature = "cli"))]
    pub(crate) fn for_test() -> Self {
        Self(channel().0)
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Stop);
    }
}

/// Starts the engine's thread.
pub(crate) fn start(
    plans: Vec<Plan>,
    settings: Settings,
) -> Result<(EngineHandle, Vec<Reader>), Error> {
    let boot: Arc<str> = boot_id().into();
    let (sender, receiver) = channel();
    let mut readers = Vec::new();
    let mut volumes = Vec::new();
    let pace = Pace { normal: settings.poll_interval, fast: settings.poll_interval.min(FAST_POLL) };
    for plan in plans {
        let metrics = settings.metrics.volume(plan.name.as_str());
        let initial = watched::initial_snapshot(&plan.name, &boot);
        let (publisher, reader) = store::channel(&initial, Status::default());
        readers.push(reader);
        volumes.push(Watched::new(plan, Arc::clone(&boot), publisher, metrics, pace));
    }
    let engine = Arc::new_cyclic(|engine| {
        let watcher = match settings.detector {
            Detector::Auto => Some(watcher(&volumes, engine.clone(), &sender, pace)),
            Detector::Poll => None,
        };
        Mutex::new(Engine { volumes, watcher, rests_until: Instant::now() })
    });
    let health = settings.health;
    thread::Builder::new()
        .name("secretwatch".to_owned())
        .spawn(move || run(&engine, health, &receiver))
        .map_err(Error::thread)?;
    Ok((EngineHandle(sender), readers))
}

fn watcher(
    volumes: &[Watched],
    engine: Weak<Mutex<Engine>>,
    sender: &Sender<Event>,
    pace: Pace,
) -> Watcher {
    let hinted: Vec<(PathBuf, Arc<Hints>)> =
        volumes.iter().map(|volume| (volume.path().to_owned(), volume.hints())).collect();
    let sender = sender.clone();
    let wake = move |index| {
        if !look_at_once(&engine, index) {
            // It fails only where the engine has ended.
            let _ = sender.send(Event::Hint(index));
        }
    };
    Watcher::new(hinted, Arc::new(wake), pace.normal.min(RETRY_INOTIFY))
}

/// Looks at a volume on inotify's thread; `false` where the engine's loop has something to do.
fn look_at_once(engine: &Weak<Mutex<Engine>>, index: usize) -> bool {
    let Some(engine) = engine.upgrade() else { return true };
    // At work, or ended by a panic: its loop will find the hint, or the lock.
    engine.try_lock().is_ok_and(|mut engine| engine.look_at_once(index))
}

/// Tells this process from the one before it. `RandomState` is seeded by the operating system.
fn boot_id() -> String {
    format!("{:012x}", RandomState::new().build_hasher().finish() >> 16)
}

struct Engine {
    volumes: Vec<Watched>,
    /// `None` where only the poll is wanted.
    watcher: Option<Watcher>,
    /// When the loop looks around again, if nothing happens before.
    rests_until: Instant,
}

/// The loop.
fn run(engine: &Mutex<Engine>, health: Arc<Health>, receiver: &Receiver<Event>) {
    let health = EndOfHealth(health);
    health.0.promise(LONGEST_WORK);
    let Ok(mut wait) = engine.lock().map(|mut engine| engine.begin()) else { return };
    loop {
        health.0.promise(wait);
        let event = receiver.recv_timeout(wait);
        health.0.promise(LONGEST_WORK);
        // It is poisoned by a panic on inotify's thread, after which nothing is certain.
        let Ok(mut engine) = engine.lock() else { return };
        match engine.step(event) {
            ControlFlow::Continue(next) => wait = next,
            ControlFlow::Break(()) => return,
        }
    }
}

impl Engine {
    fn begin(&mut self) -> Duration {
        self.look_first();
        self.rest()
    }

    /// Handles what has happened and does what is due; gives how long to wait.
    fn step(&mut self, event: Result<Event, RecvTimeoutError>) -> ControlFlow<(), Duration> {
        match event {
            Ok(event) => self.handle(&event)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        }
        // Also after an event, so that many events cannot keep the poll from looking.
        self.tick(Instant::now());
        ControlFlow::Continue(self.rest())
    }

    fn rest(&mut self) -> Duration {
        self.rests_until = self.next_due();
        self.rests_until.saturating_duration_since(Instant::now())
    }

    /// Looks, and says whether the loop can rest for as long as it wanted to.
    fn look_at_once(&mut self, index: usize) -> bool {
        let Some(volume) = self.volumes.get_mut(index) else { return true };
        volume.look_at_once(Instant::now()) && self.next_due() >= self.rests_until
    }

    fn handle(&mut self, event: &Event) -> ControlFlow<()> {
        let now = Instant::now();
        match event {
            Event::Hint(index) => {
                if let Some(volume) = self.volumes.get_mut(*index) {
                    volume.hinted(self.watcher.as_mut(), now);
                }
            }
            Event::LookNow => self.look_at_all(FoundBy::Poll),
            // It fails only where nobody waits any more.
            Event::Started(waiting) => drop(waiting.send(())),
            Event::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Serves what is there before inotify is armed, which takes longer than the looks. The poll
    /// arms it, and finds what has changed in between.
    fn look_first(&mut self) {
        for volume in &mut self.volumes {
            volume.look(None, FoundBy::Startup, Instant::now());
        }
        for volume in &mut self.volumes {
            volume.poll(self.watcher.as_mut(), FoundBy::Startup, Instant::now());
        }
    }

    fn look_at_all(&mut self, by: FoundBy) {
        for volume in &mut self.volumes {
            volume.look(self.watcher.as_mut(), by, Instant::now());
        }
    }

    fn tick(&mut self, now: Instant) {
        for volume in &mut self.volumes {
            if volume.next_due() <= now {
                volume.tick(self.watcher.as_mut(), now);
            }
        }
    }

    fn next_due(&self) -> Instant {
        let far = Instant::now() + LONGEST_WORK;
        self.volumes.iter().map(Watched::next_due).min().unwrap_or(far)
    }
}

/// Says that the engine has ended, also where it ends by a panic.
struct EndOfHealth(Arc<Health>);

impl Drop for EndOfHealth {
    fn drop(&mut self) {
        self.0.end();
    }
}

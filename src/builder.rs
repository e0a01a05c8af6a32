//! What to watch and how: [`Builder`] and [`VolumeOptions`], checked when the watch is opened.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adoption::{DEFAULT_ADOPTION_EXPIRY, MAX_ADOPTION_EXPIRY, MIN_ADOPTION_EXPIRY};
use crate::engine::{self, Plan};
use crate::error::Error;
use crate::gate::Gate;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::name::{KeyName, VolumeName};
use crate::secrets::Secrets;
use crate::volume::MAX_VOLUME_BYTES;

/// How often the poll looks where nothing else is asked for. inotify reports a swap at once; the
/// poll only audits it.
pub const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(30);
/// The shortest poll interval: below it the poll would burn CPU for nothing.
pub const MIN_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The longest poll interval: a day without an audit is as good as none.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long [`Builder::open`] waits for the first snapshots where nothing else is asked for.
pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(10);
/// The most volumes in one process.
pub const MAX_VOLUMES: usize = 64;

/// Which detectors may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detector {
    /// inotify and the poll, each auditing the other.
    #[default]
    Auto,
    /// The poll alone, at its fast interval: for file systems where inotify is known to be deaf.
    Poll,
}

/// One volume to watch, and the rules for what it may serve.
#[derive(Debug, Clone)]
pub struct VolumeOptions {
    path: PathBuf,
    name: Option<String>,
    require: Vec<String>,
    max_bytes: usize,
    allow_empty: bool,
}

impl VolumeOptions {
    /// A volume in the directory `path`, named after its last component.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: None,
            require: Vec::new(),
            max_bytes: MAX_VOLUME_BYTES,
            allow_empty: false,
        }
    }

    /// Gives the volume another name: 1 to 253 of `[A-Za-z0-9._-]`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Accepts only snapshots that have this key.
    #[must_use]
    pub fn require(mut self, key: impl Into<String>) -> Self {
        self.require.push(key.into());
        self
    }

    /// Accepts only snapshots whose values have at most so many bytes together; 1 to
    /// [`MAX_VOLUME_BYTES`], which is the default.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Accepts a volume without any key, which otherwise keeps the last good snapshot.
    #[must_use]
    pub fn allow_empty(mut self) -> Self {
        self.allow_empty = true;
        self
    }

    fn plan(self) -> Result<Plan, Error> {
        let path = std::path::absolute(&self.path)
            .map_err(|e| Error::config(format!("volume path {:?}: {e}", self.path)))?;
        let name = match &self.name {
            Some(name) => name.parse(),
            None => VolumeName::from_directory(&path),
        };
        let name = name.map_err(|e| Error::config(format!("name of volume {path:?}: {e}")))?;
        let key = |key: String| -> Result<KeyName, Error> {
            key.parse()
                .map_err(|e| Error::config(format!("required key {key:?} of volume `{name}`: {e}")))
        };
        let require = self.require.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
        if !(1..=MAX_VOLUME_BYTES).contains(&self.max_bytes) {
            return Err(Error::config(format!(
                "max_bytes of volume `{name}`: {} is not in 1..={MAX_VOLUME_BYTES}",
                self.max_bytes
            )));
        }
        let gate = Gate { require, max_bytes: self.max_bytes, allow_empty: self.allow_empty };
        Ok(Plan { name, path, gate })
    }
}

impl<P: Into<PathBuf>> From<P> for VolumeOptions {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

/// Collects what to watch and how.
#[derive(Debug, Clone)]
pub struct Builder {
    volumes: Vec<VolumeOptions>,
    detector: Detector,
    poll_interval: Duration,
    start_timeout: Duration,
    adoption_expiry: Duration,
}

impl Default for Builder {
    /// Nothing to watch, and the default settings.
    fn default() -> Self {
        Self {
            volumes: Vec::new(),
            detector: Detector::default(),
            poll_interval: DEFAULT_POLL_INTERVAL,
            start_timeout: DEFAULT_START_TIMEOUT,
            adoption_expiry: DEFAULT_ADOPTION_EXPIRY,
        }
    }
}

impl Builder {
    /// Adds a volume: a path, or [`VolumeOptions`].
    #[must_use]
    pub fn volume(mut self, volume: impl Into<VolumeOptions>) -> Self {
        self.volumes.push(volume.into());
        self
    }

    /// Adds a volume under a name of its own.
    #[must_use]
    pub fn volume_named(self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.volume(VolumeOptions::new(path).named(name))
    }

    /// Accepts only snapshots of the volume added last that have this key. Without any volume yet
    /// it has no effect.
    #[must_use]
    pub fn require(mut self, key: impl Into<String>) -> Self {
        if let Some(last) = self.volumes.pop() {
            self.volumes.push(last.require(key));
        }
        self
    }

    /// Chooses the detectors.
    #[must_use]
    pub fn detector(mut self, detector: Detector) -> Self {
        self.detector = detector;
        self
    }

    /// How often the poll looks: [`MIN_POLL_INTERVAL`] to [`MAX_POLL_INTERVAL`]. Where inotify
    /// cannot be relied on, the poll looks every second, or at this interval if that is shorter.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How long [`open`](Self::open) waits for the first snapshot of every volume.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long a consumer that says nothing is remembered: [`MIN_ADOPTION_EXPIRY`] to
    /// [`MAX_ADOPTION_EXPIRY`]. It should be longer than the time between two rotations, unless
    /// every consumer repeats what it has adopted from time to time.
    #[must_use]
    pub fn adoption_expiry(mut self, expiry: Duration) -> Self {
        self.adoption_expiry = expiry;
        self
    }

    /// Starts watching, and returns once the first snapshot of every volume is accepted.
    ///
    /// # Errors
    /// Where a setting is not allowed, no thread could be started, or a volume had no acceptable
    /// snapshot within the start timeout; the error then says which one and why.
    pub fn open(self) -> Result<Secrets, Error> {
        let deadline = Instant::now().checked_add(self.start_timeout);
        let secrets = self.open_pending()?;
        for volume in secrets.volumes() {
            volume.wait_for_first(deadline)?;
        }
        secrets.wait_until_started(deadline);
        Ok(secrets)
    }

    /// Starts watching and returns at once, even if directories are absent or cannot be read yet;
    /// such volumes have an empty snapshot of generation 0 until they can.
    ///
    /// # Errors
    /// Where a setting is not allowed or no thread could be started.
    pub fn open_pending(self) -> Result<Secrets, Error> {
        check_range("poll interval", self.poll_interval, MIN_POLL_INTERVAL..=MAX_POLL_INTERVAL)?;
        let expiries = MIN_ADOPTION_EXPIRY..=MAX_ADOPTION_EXPIRY;
        check_range("adoption expiry", self.adoption_expiry, expiries)?;
        if !(1..=MAX_VOLUMES).contains(&self.volumes.len()) {
            return Err(Error::config(format!(
                "{} volumes; 1 to {MAX_VOLUMES} can be watched",
                self.volumes.len()
            )));
        }
        let plans =
            self.volumes.into_iter().map(VolumeOptions::plan).collect::<Result<Vec<_>, _>>()?;
        check_distinct(&plans)?;
        let settings = engine::Settings {
            detector: self.detector,
            poll_interval: self.poll_interval,
            metrics: Metrics::new().map_err(Error::metrics)?,
            health: Arc::new(Health::new()),
        };
        Secrets::start(plans, settings, self.adoption_expiry)
    }
}

fn check_range(
    name: &str,
    found: Duration,
    allowed: RangeInclusive<Duration>,
) -> Result<(), Error> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(Error::config(format!(
        "{name} {}: {} to {} are allowed",
        humantime::format_duration(found),
        humantime::format_duration(*allowed.start()),
        humantime::format_duration(*allowed.end()),
    )))
}

/// Two volumes of one name could not be told apart, and two of one directory would share one
/// inotify watch.
fn check_distinct(plans: &[Plan]) -> Result<(), Error> {
    let mut names = HashMap::new();
    let mut paths: Vec<(PathBuf, &VolumeName)> = Vec::new();
    for plan in plans {
        if let Some(other) = names.insert(plan.name.as_str(), &plan.path) {
            return Err(Error::config(format!(
                "two volumes are named `{}`: {other:?} and {:?}; give one another name",
                plan.name, plan.path
            )));
        }
        let real = plan.path.canonicalize().unwrap_or_else(|_| plan.path.clone());
        if let Some(other) = paths.iter().find(|(path, _)| is_nested(path, &real)) {
            return Err(Error::config(format!(
                "volumes `{}` and `{}` are the same directory, or one is inside the other: {:?}",
                other.1, plan.name, plan.path
            )));
        }
        paths.push((real, &plan.name));
    }
    Ok(())
}

fn is_nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

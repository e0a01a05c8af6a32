//! The handles of the library: [`Secrets`] and [`Volume`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adoption::Gauges;
use crate::builder::Builder;
use crate::callback::CallbackGuard;
use crate::changes::Changes;
use crate::engine::{self, EngineHandle, Plan};
use crate::error::Error;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::name::VolumeName;
use crate::snapshot::Snapshot;
use crate::status::{State, Status};
use crate::store::Reader;

mod adoption;

/// The watch over one or more volumes. Copies share it; dropping the last handle (of this type,
/// [`Volume`] or [`Changes`]) stops the engine and its threads.
#[derive(Clone)]
pub struct Secrets(Arc<Core>);

struct Core {
    entries: Vec<Arc<Entry>>,
    engine: EngineHandle,
    metrics: Metrics,
    health: Arc<Health>,
    adoption_expiry: Duration,
}

struct Entry {
    name: VolumeName,
    path: PathBuf,
    reader: Reader,
}

impl Secrets {
    /// Starts with nothing to watch and the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts the engine, and gives the handles to what it publishes.
    pub(crate) fn start(
        plans: Vec<Plan>,
        settings: engine::Settings,
        adoption_expiry: Duration,
    ) -> Result<Self, Error> {
        let (metrics, health) = (settings.metrics.clone(), Arc::clone(&settings.health));
        let named: Vec<_> =
            plans.iter().map(|plan| (plan.name.clone(), plan.path.clone())).collect();
        let (engine, readers) = engine::start(plans, settings)?;
        let entries = named
            .into_iter()
            .zip(readers)
            .map(|((name, path), reader)| Arc::new(Entry { name, path, reader }))
            .collect();
        Ok(Self(Arc::new(Core { entries, engine, metrics, health, adoption_expiry })))
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// Where none is configured; the error lists those that are.
    pub fn volume(&self, name: &str) -> Result<Volume, Error> {
        let found = self.volumes().find(|volume| volume.name().as_str() == name);
        found.ok_or_else(|| {
            let known = self.0.entries.iter().map(|entry| entry.name.as_str());
            Error::unknown_volume(name, known)
        })
    }

    /// All volumes, in the order in which they were added.
    pub fn volumes(&self) -> impl ExactSizeIterator<Item = Volume> {
        self.0
            .entries
            .iter()
            .map(|entry| Volume { entry: Arc::clone(entry), core: Arc::clone(&self.0) })
    }

    /// Adds the metrics of this watch to a registry of the caller's.
    ///
    /// # Errors
    /// Where the registry already has metrics of these names, as from another watch.
    pub fn register_metrics(&self, registry: &prometheus::Registry) -> Result<(), Error> {
        self.0.metrics.register(registry).map_err(Error::metrics)?;
        let names = self.0.entries.iter().map(|entry| entry.name.as_str());
        names.for_each(|name| self.0.metrics.start_at_zero(name));
        let readers = self.0.entries.iter().map(|entry| entry.reader.clone()).collect();
        let gauges = Gauges::new(readers, self.0.adoption_expiry).map_err(Error::metrics)?;
        registry.register(Box::new(gauges)).map_err(Error::metrics)
    }

    /// Asks for a look at every volume now, as SIGHUP does in the sidecar.
    pub fn look_now(&self) {
        self.0.engine.look_now();
    }

    pub(crate) fn wait_until_started(&self, deadline: Option<Instant>) {
        self.0.engine.wait_until_started(deadline);
    }

    /// Whether the first snapshot of every volume has been accepted.
    pub fn is_ready(&self) -> bool {
        self.0.entries.iter().all(|entry| entry.reader.generation() > 0)
    }

    /// Whether the engine is doing its work; `false` once it is stuck or has ended.
    pub fn is_alive(&self) -> bool {
        self.0.health.is_alive()
    }

    /// Volumes of these names without an engine, and the publishers that stand in for it.
    #[cfg(all(test, feature = "cli"))]
    pub(crate) fn for_test(names: &[&str]) -> (Self, Vec<crate::store::Publisher>) {
        use crate::snapshot::{Contents, Label};
        let volume = |name: &&str| {
            let name: VolumeName = name.parse().expect("a test names its volumes well");
            let label = Label {
                volume: name.clone(),
                boot: "boot".into(),
                generation: 0,
                published_at: None,
                observed_at: std::time::SystemTime::UNIX_EPOCH,
            };
            let initial = Snapshot::new(label, Contents::default());
            let (publisher, reader) = crate::store::channel(&initial, Status::default());
            let path = Path::new("/etc").join(name.as_str());
            (publisher, Arc::new(Entry { name, path, reader }))
        };
        let (publishers, entries) = names.iter().map(volume).unzip();
        let core = Core {
            entries,
            engine: EngineHandle::for_test(),
            metrics: Metrics::new().expect("the metrics are valid"),
            health: Arc::new(Health::new()),
            adoption_expiry: crate::adoption::DEFAULT_ADOPTION_EXPIRY,
        };
        (Self(Arc::new(core)), publishers)
    }

    #[cfg(all(test, feature = "cli"))]
    pub(crate) fn health(&self) -> &Health {
        &self.0.health
    }

    #[cfg(feature = "cli")]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.entries.iter().map(|entry| entry.name.as_str())).finish()
    }
}

/// One watched volume. Copies share it.
#[derive(Clone)]
pub struct Volume {
    entry: Arc<Entry>,
    core: Arc<Core>,
}

impl Volume {
    /// The configured name.
    pub fn name(&self) -> &VolumeName {
        &self.entry.name
    }

    /// The watched directory.
    pub fn path(&self) -> &Path {
        &self.entry.path
    }

    /// The current snapshot. Takes no lock, from any thread, also in the middle of a rotation.
    #[inline]
    pub fn current(&self) -> Arc<Snapshot> {
        self.entry.reader.current()
    }

    /// Follows the changes from now on: the snapshot that is current now counts as seen.
    pub fn changes(&self) -> Changes {
        Changes::new(self.clone(), self.current().generation())
    }

    /// Follows the changes from the beginning: the current snapshot, if there is one, is the first.
    pub fn changes_and_current(&self) -> Changes {
        Changes::new(self.clone(), 0)
    }

    /// Calls `callback` with the current snapshot, if there is one, and then with each newer one,
    /// on a thread of its own, until the guard is dropped or the watch ends. See
    /// [`Changes::on_change`], which begins where the caller wants and can adopt.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn on_change(
        &self,
        callback: impl FnMut(Arc<Snapshot>) + Send + 'static,
    ) -> Result<CallbackGuard, Error> {
        self.changes_and_current().on_change(callback)
    }

    /// How the volume is doing.
    pub fn status(&self) -> Arc<Status> {
        self.entry.reader.status()
    }

    /// Whether the first snapshot has been accepted.
    pub fn is_ready(&self) -> bool {
        self.entry.reader.generation() > 0
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.entry.reader
    }

    pub(crate) fn wait_for_first(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let mut changes = self.changes_and_current();
        let first = match deadline {
            None => changes.changed_blocking().map(Some),
            Some(deadline) => {
                changes.changed_timeout(deadline.saturating_duration_since(Instant::now()))
            }
        };
        match first {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::start_timeout(self.name(), self.path(), &self.status())),
            Err(stopped) => Err(Error::stopped(stopped)),
        }
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_holding = self.status().state == State::Holding;
        f.debug_struct("Volume")
            .field("name", &self.name().as_str())
            .field("path", &self.path())
            .field("generation", &self.entry.reader.generation())
            .field("is_holding", &is_holding)
            .field("is_alive", &self.core.health.is_alive())
            .finish()
    }
}

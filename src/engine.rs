//! The engine (being written).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::gate::Gate;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::name::VolumeName;
use crate::secrets::Detector;
use crate::snapshot::{Contents, Label, Snapshot};
use crate::status::Status;
use crate::store::{self, Publisher, Reader};

pub(crate) struct Plan {
    pub(crate) name: VolumeName,
    pub(crate) path: PathBuf,
    pub(crate) gate: Gate,
}

pub(crate) struct Settings {
    pub(crate) detector: Detector,
    pub(crate) poll_interval: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) health: Arc<Health>,
}

pub(crate) enum Control {
    LookNow,
}

pub(crate) struct EngineHandle(#[allow(dead_code)] Vec<Publisher>);

impl EngineHandle {
    /// A handle to no engine, for tests that publish by themselves.
    #[cfg(all(test, feature = "cli"))]
    pub(crate) fn for_test() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn send(&self, _control: Control) {}
}

pub(crate) fn start(
    plans: &[Plan],
    settings: Settings,
) -> Result<(EngineHandle, Vec<Reader>), Error> {
    let boot: Arc<str> = "boot".into();
    let _ = (settings.detector, settings.poll_interval, settings.metrics, settings.health);
    let label = |plan: &Plan| Label {
        volume: plan.name.clone(),
        boot: boot.clone(),
        generation: 0,
        published_at: None,
        observed_at: SystemTime::now(),
    };
    let (p, r) = plans
        .iter()
        .map(|plan| {
            store::channel(Snapshot::new(label(plan), Contents::default()), Status::default())
        })
        .unzip();
    Ok((EngineHandle(p), r))
}

//! What `GET /metrics` answers with.

use std::error::Error;
use std::sync::OnceLock;

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};
use tracing::error;

use super::problem::Problem;
use crate::reload::ReloadMetrics;
use crate::secrets::Secrets;

/// The registry, made when somebody first asks: that takes longer than the first look at a volume,
/// and nobody scrapes a process in its first milliseconds.
pub(super) struct Scrape {
    mode: &'static str,
    reload: Option<ReloadMetrics>,
    registry: OnceLock<Registry>,
}

impl Scrape {
    /// `mode` is the label of `secretwatch_build_info`.
    pub(super) fn new(mode: &'static str, reload: Option<ReloadMetrics>) -> Self {
        Self { mode, reload, registry: OnceLock::new() }
    }

    /// Every metric, in the Prometheus text format.
    pub(super) fn text(&self, secrets: &Secrets) -> Result<String, Problem> {
        self.encode(secrets).map_err(|error| {
            error!(%error, "the metrics cannot be shown; this is a defect of secretwatch");
            Problem::internal("the metrics cannot be shown")
        })
    }

    fn encode(&self, secrets: &Secrets) -> Result<String, Box<dyn Error>> {
        let registry = match self.registry.get() {
            Some(registry) => registry,
            None => {
                let made = self.registry(secrets)?;
                self.registry.get_or_init(|| made)
            }
        };
        Ok(TextEncoder::new().encode_to_string(&registry.gather())?)
    }

    fn registry(&self, secrets: &Secrets) -> Result<Registry, Box<dyn Error>> {
        let registry = Registry::new();
        secrets.register_metrics(&registry)?;
        if let Some(reload) = &self.reload {
            reload.register(&registry)?;
        }
        let info = Opts::new("secretwatch_build_info", "What is running, and how; always 1.");
        let info = IntGaugeVec::new(info, &["version", "mode"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), self.mode]).set(1);
        registry.register(Box::new(info))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(registry)
    }
}

//! What operators see of the targets. Labels are configured names and fixed words, never a value.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::HELD_REASONS;

/// Seconds. A signal takes microseconds, a hook up to its timeout.
const DURATION_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// The families of all targets. Copies share the numbers.
#[derive(Debug, Clone)]
pub(crate) struct ReloadMetrics {
    reloads: IntCounterVec,
    failed: IntCounterVec,
    last_successful: IntGaugeVec,
    last_success: GaugeVec,
    last_lag: GaugeVec,
    duration: HistogramVec,
    pending: IntGaugeVec,
    deferred: IntCounterVec,
}

impl ReloadMetrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("secretwatch_{name}"), help);
        Ok(Self {
            reloads: IntCounterVec::new(
                opts("reloads_total", "Times the target was told with success."),
                &["target"],
            )?,
            failed: IntCounterVec::new(
                opts("reloads_failed_total", "Attempts to tell the target that failed."),
                &["target"],
            )?,
            last_successful: IntGaugeVec::new(
                opts("last_reload_successful", "1 unless the last attempt failed."),
                &["target"],
            )?,
            last_success: GaugeVec::new(
                opts(
                    "last_reload_success_timestamp_seconds",
                    "When the target was last told with success, as Unix time.",
                ),
                &["target"],
            )?,
            last_lag: GaugeVec::new(
                opts(
                    "last_reload_lag_seconds",
                    "From the accepted snapshot to the success, when the target was last told.",
                ),
                &["target"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "secretwatch_reload_duration_seconds",
                    "How long an attempt took, from its start to its success or failure.",
                )
                .buckets(DURATION_BUCKETS.to_vec()),
                &["target"],
            )?,
            pending: IntGaugeVec::new(
                opts("reload_pending", "1 while the target does not know of every rotation."),
                &["target"],
            )?,
            deferred: IntCounterVec::new(
                opts(
                    "signal_deferred_total",
                    "Times a signal was held back, by reason; it is tried again.",
                ),
                &["reason"],
            )?,
        })
    }

    /// Adds every family to `registry`.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let families: [Box<dyn Collector>; 8] = [
            Box::new(self.reloads.clone()),
            Box::new(self.failed.clone()),
            Box::new(self.last_successful.clone()),
            Box::new(self.last_success.clone()),
            Box::new(self.last_lag.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.pending.clone()),
            Box::new(self.deferred.clone()),
        ];
        families.into_iter().try_for_each(|family| registry.register(family))
    }

    /// The metrics of one target, all of them present from the start.
    pub(super) fn target(&self, name: &str) -> TargetMetrics {
        for reason in HELD_REASONS {
            self.deferred.with_label_values(&[reason]);
        }
        let last_successful = self.last_successful.with_label_values(&[name]);
        last_successful.set(1);
        TargetMetrics {
            reloads: self.reloads.with_label_values(&[name]),
            failed: self.failed.with_label_values(&[name]),
            last_successful,
            last_success: self.last_success.with_label_values(&[name]),
            last_lag: self.last_lag.with_label_values(&[name]),
            duration: self.duration.with_label_values(&[name]),
            pending: self.pending.with_label_values(&[name]),
            deferred: self.deferred.clone(),
        }
    }
}

/// The metrics of one target.
pub(super) struct TargetMetrics {
    reloads: IntCounter,
    failed: IntCounter,
    last_successful: IntGauge,
    last_success: Gauge,
    last_lag: Gauge,
    duration: Histogram,
    pending: IntGauge,
    deferred: IntCounterVec,
}

impl TargetMetrics {
    pub(super) fn pending(&self, is_pending: bool) {
        self.pending.set(is_pending.into());
    }

    /// The target was told `at` of what had been accepted at the time `since`.
    pub(super) fn succeeded(&self, since: SystemTime, at: SystemTime, took: Duration) {
        self.reloads.inc();
        self.last_successful.set(1);
        self.last_success.set(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        self.last_lag.set(at.duration_since(since).unwrap_or_default().as_secs_f64());
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self, took: Duration) {
        self.failed.inc();
        self.last_successful.set(0);
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn held(&self, reason: &str) {
        self.deferred.with_label_values(&[reason]).inc();
    }
}

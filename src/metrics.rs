//! Metrics: what operators see. It is told things and imports nothing of the rest.
//!
//! Every family is registered under the name `secretwatch_…` with the label `volume`, the
//! configured name. No value, and no hash of a value, is ever a label or a number here.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use std::time::SystemTime;

use crate::certificate::Certificate;
use crate::snapshot::Snapshot;
use crate::status::Reason;

/// Seconds. A swap is picked up within a millisecond; the poll takes up to its interval.
const LATENCY_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0];

/// What can go wrong with inotify: the label `kind` of `secretwatch_watch_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchError {
    /// No inotify instance can be had.
    Instances,
    /// No inotify watch can be had.
    Watches,
    /// The queue overflowed.
    Overflow,
    /// The poll found a change that inotify did not report.
    Deaf,
    /// The directory vanished.
    Gone,
    /// Something else.
    Other,
}

impl WatchError {
    const ALL: [Self; 6] =
        [Self::Instances, Self::Watches, Self::Overflow, Self::Deaf, Self::Gone, Self::Other];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Instances => "instances",
            Self::Watches => "watches",
            Self::Overflow => "overflow",
            Self::Deaf => "deaf",
            Self::Gone => "gone",
            Self::Other => "other",
        }
    }
}

/// Who found a snapshot: the label `detector` of `secretwatch_snapshots_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundBy {
    Startup,
    Inotify,
    Poll,
}

impl FoundBy {
    const ALL: [Self; 3] = [Self::Startup, Self::Inotify, Self::Poll];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Inotify => "inotify",
            Self::Poll => "poll",
        }
    }
}

/// All metric families of one watch. Copies share the numbers.
#[derive(Clone)]
pub(crate) struct Metrics {
    generation: IntGaugeVec,
    secret_info: IntGaugeVec,
    snapshot_timestamp: GaugeVec,
    snapshot_observed: GaugeVec,
    snapshot_keys: IntGaugeVec,
    certificate_not_after: GaugeVec,
    snapshots: IntCounterVec,
    rejected: IntCounterVec,
    holding: IntGaugeVec,
    trouble: IntGaugeVec,
    skipped: IntGaugeVec,
    looks: IntCounterVec,
    read_retries: IntCounterVec,
    watch_up: IntGaugeVec,
    watch_events: IntCounterVec,
    watch_errors: IntCounterVec,
    latency: HistogramVec,
    /// Requests answered by the socket API.
    pub(crate) api_requests: IntCounterVec,
    /// Requests and connections refused by the socket API.
    pub(crate) api_denied: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            generation: gauge(
                "generation",
                "Accepted snapshots of the volume since the start of the process.",
                &["volume"],
            )?,
            secret_info: gauge(
                "secret_info",
                "The version label that the operator put into the secret; always 1.",
                &["volume", "version"],
            )?,
            snapshot_timestamp: GaugeVec::new(
                Opts::new(
                    "secretwatch_snapshot_timestamp_seconds",
                    "When the kubelet wrote the current snapshot, as Unix time.",
                ),
                &["volume"],
            )?,
            snapshot_observed: GaugeVec::new(
                Opts::new(
                    "secretwatch_snapshot_observed_timestamp_seconds",
                    "When the current snapshot was accepted, as Unix time.",
                ),
                &["volume"],
            )?,
            snapshot_keys: gauge("snapshot_keys", "Keys in the current snapshot.", &["volume"])?,
            certificate_not_after: GaugeVec::new(
                Opts::new(
                    "secretwatch_certificate_not_after_timestamp_seconds",
                    "When the first certificate under the key expires, as Unix time.",
                ),
                &["volume", "key"],
            )?,
            snapshots: counter(
                "snapshots_total",
                "Accepted snapshots, by the detector that found them.",
                &["volume", "detector"],
            )?,
            rejected: counter(
                "snapshots_rejected_total",
                "Times the directory's contents were not accepted, by reason.",
                &["volume", "reason"],
            )?,
            holding: gauge(
                "holding_last_good",
                "1 while the last good snapshot is served because the directory's contents were not accepted.",
                &["volume"],
            )?,
            trouble: gauge(
                "trouble_info",
                "Why the directory's contents are not accepted; always 1, absent where all is well.",
                &["volume", "reason"],
            )?,
            skipped: gauge(
                "skipped_entries",
                "Directory entries that cannot be keys and are left out.",
                &["volume"],
            )?,
            looks: counter(
                "looks_total",
                "Times the volume was read, for whatever reason.",
                &["volume"],
            )?,
            read_retries: counter(
                "read_retries_total",
                "Reads that were begun again because the volume changed under them.",
                &["volume"],
            )?,
            watch_up: gauge(
                "watch_up",
                "1 while inotify watches the volume, 0 while the poll alone does.",
                &["volume"],
            )?,
            watch_events: counter(
                "watch_events_total",
                "inotify events that called for a look.",
                &["volume"],
            )?,
            watch_errors: counter(
                "watch_errors_total",
                "Times inotify could not be relied on, by kind.",
                &["volume", "kind"],
            )?,
            latency: HistogramVec::new(
                HistogramOpts::new(
                    "secretwatch_detection_latency_seconds",
                    "From the kubelet's write to the accepted snapshot.",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
                &["volume"],
            )?,
            api_requests: counter(
                "api_requests_total",
                "Requests answered, by route and status code.",
                &["route", "code"],
            )?,
            api_denied: counter(
                "api_denied_total",
                "Requests and connections refused, by reason.",
                &["reason"],
            )?,
        })
    }

    /// Adds every family to `registry`.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let families: [Box<dyn Collector>; 19] = [
            Box::new(self.generation.clone()),
            Box::new(self.secret_info.clone()),
            Box::new(self.snapshot_timestamp.clone()),
            Box::new(self.snapshot_observed.clone()),
            Box::new(self.snapshot_keys.clone()),
            Box::new(self.certificate_not_after.clone()),
            Box::new(self.snapshots.clone()),
            Box::new(self.rejected.clone()),
            Box::new(self.holding.clone()),
            Box::new(self.trouble.clone()),
            Box::new(self.skipped.clone()),
            Box::new(self.looks.clone()),
            Box::new(self.read_retries.clone()),
            Box::new(self.watch_up.clone()),
            Box::new(self.watch_events.clone()),
            Box::new(self.watch_errors.clone()),
            Box::new(self.latency.clone()),
            Box::new(self.api_requests.clone()),
            Box::new(self.api_denied.clone()),
        ];
        families.into_iter().try_for_each(|family| registry.register(family))
    }

    /// Lets whoever sees the metrics see zeros where nothing of the kind has happened to a volume.
    /// They cost more than its first look, so nobody has them who sees no metrics.
    pub(crate) fn start_at_zero(&self, name: &str) {
        for detector in FoundBy::ALL {
            self.snapshots.with_label_values(&[name, detector.as_str()]);
        }
        for reason in Reason::ALL {
            self.rejected.with_label_values(&[name, reason.as_str()]);
        }
        for kind in WatchError::ALL {
            self.watch_errors.with_label_values(&[name, kind.as_str()]);
        }
    }

    /// The metrics of one volume.
    pub(crate) fn volume(&self, name: &str) -> VolumeMetrics {
        VolumeMetrics {
            name: name.into(),
            all: self.clone(),
            generation: self.generation.with_label_values(&[name]),
            timestamp: self.snapshot_timestamp.with_label_values(&[name]),
            observed: self.snapshot_observed.with_label_values(&[name]),
            keys: self.snapshot_keys.with_label_values(&[name]),
            holding: self.holding.with_label_values(&[name]),
            skipped: self.skipped.with_label_values(&[name]),
            looks: self.looks.with_label_values(&[name]),
            retries: self.read_retries.with_label_values(&[name]),
            watch_up: self.watch_up.with_label_values(&[name]),
            watch_events: self.watch_events.with_label_values(&[name]),
            latency: self.latency.with_label_values(&[name]),
        }
    }
}

/// The metrics of one volume.
pub(crate) struct VolumeMetrics {
    name: Box<str>,
    all: Metrics,
    pub(crate) generation: IntGauge,
    pub(crate) timestamp: Gauge,
    pub(crate) observed: Gauge,
    pub(crate) keys: IntGauge,
    pub(crate) holding: IntGauge,
    pub(crate) skipped: IntGauge,
    pub(crate) looks: IntCounter,
    pub(crate) retries: IntCounter,
    pub(crate) watch_up: IntGauge,
    pub(crate) watch_events: IntCounter,
    pub(crate) latency: Histogram,
}

impl VolumeMetrics {
    /// The name of the volume.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A snapshot has become the current one.
    pub(crate) fn published(&self, snapshot: &Snapshot, by: FoundBy) {
        self.all.snapshots.with_label_values(&[&*self.name, by.as_str()]).inc();
        self.generation.set(number(snapshot.generation()));
        self.keys.set(number(snapshot.len()));
        self.observed.set(unix(snapshot.observed_at()));
        let Some(published_at) = snapshot.published_at() else { return };
        self.timestamp.set(unix(published_at));
        // At the start nothing was detected: the snapshot may have been there for weeks.
        if by != FoundBy::Startup
            && let Ok(latency) = snapshot.observed_at().duration_since(published_at)
        {
            self.latency.observe(latency.as_secs_f64());
        }
    }

    pub(crate) fn rejected(&self, reason: Reason) {
        self.all.rejected.with_label_values(&[&*self.name, reason.as_str()]).inc();
    }

    pub(crate) fn watch_error(&self, kind: WatchError) {
        self.all.watch_errors.with_label_values(&[&*self.name, kind.as_str()]).inc();
    }

    /// Replaces the reason `old` for which contents are not accepted by `new`.
    pub(crate) fn trouble(&self, old: Option<Reason>, new: Option<Reason>) {
        if let Some(old) = old.filter(|_| old != new) {
            // It was set when it became the reason, so it is there.
            let _ = self.all.trouble.remove_label_values(&[&*self.name, old.as_str()]);
        }
        if let Some(new) = new {
            self.all.trouble.with_label_values(&[&*self.name, new.as_str()]).set(1);
        }
    }

    /// Replaces the version label `old` by `new`.
    pub(crate) fn version(&self, old: Option<&str>, new: Option<&str>) {
        if let Some(old) = old.filter(|_| old != new) {
            // It is not there only if it was never set, and then there is nothing to remove.
            let _ = self.all.secret_info.remove_label_values(&[&*self.name, old]);
        }
        if let Some(new) = new {
            self.all.secret_info.with_label_values(&[&*self.name, new]).set(1);
        }
    }

    /// Replaces the certificates `old` by `new`.
    pub(crate) fn certificates(&self, old: &[Certificate], new: &[Certificate]) {
        let family = &self.all.certificate_not_after;
        let is_gone = |before: &&Certificate| new.iter().all(|now| now.key != before.key);
        for before in old.iter().filter(is_gone) {
            // It is not there only if it was never set, and then there is nothing to remove.
            let _ = family.remove_label_values(&[&*self.name, before.key.as_str()]);
        }
        for now in new {
            if let Ok(since) = now.not_after.duration_since(SystemTime::UNIX_EPOCH) {
                let series = family.with_label_values(&[&*self.name, now.key.as_str()]);
                series.set(since.as_secs_f64());
            }
        }
    }
}

/// Seconds since the epoch; 0 before it, where no clock that matters is.
fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Gauges are signed; no count here comes near the end of their range.
fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(format!("secretwatch_{name}"), help), labels)
}

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("secretwatch_{name}"), help), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn registering_twice_is_an_error_not_a_panic() {
        let (metrics, registry) = (Metrics::new().unwrap(), Registry::new());
        metrics.register(&registry).unwrap();
        assert!(metrics.register(&registry).is_err());
    }

    #[test]
    fn counters_of_a_volume_start_at_zero() {
        let (metrics, registry) = (Metrics::new().unwrap(), Registry::new());
        metrics.register(&registry).unwrap();
        metrics.start_at_zero("db");
        let text = text(&registry);
        for line in [
            r#"secretwatch_snapshots_total{detector="poll",volume="db"} 0"#,
            r#"secretwatch_snapshots_rejected_total{reason="missing_key",volume="db"} 0"#,
            r#"secretwatch_watch_errors_total{kind="overflow",volume="db"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn version_label_is_replaced_and_removed() {
        let (metrics, registry) = (Metrics::new().unwrap(), Registry::new());
        metrics.register(&registry).unwrap();
        let volume = metrics.volume("db");
        volume.version(None, Some("1"));
        volume.version(Some("1"), Some("2"));
        assert!(!text(&registry).contains(r#"version="1""#));
        assert!(text(&registry).contains(r#"version="2""#));
        volume.version(Some("2"), None);
        assert!(!text(&registry).contains("version="));
    }

    #[test]
    fn reason_of_a_trouble_is_there_for_as_long_as_the_trouble() {
        let (metrics, registry) = (Metrics::new().unwrap(), Registry::new());
        metrics.register(&registry).unwrap();
        let volume = metrics.volume("db");
        let troubles = || {
            let text = text(&registry);
            let is_trouble = |line: &&str| line.starts_with("secretwatch_trouble_info{");
            text.lines().filter(is_trouble).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(troubles().is_empty());
        volume.trouble(None, Some(Reason::Absent));
        volume.trouble(Some(Reason::Absent), Some(Reason::Absent));
        assert_eq!(troubles(), [r#"secretwatch_trouble_info{reason="absent",volume="db"} 1"#]);
        volume.trouble(Some(Reason::Absent), Some(Reason::MissingKey));
        assert_eq!(troubles(), [r#"secretwatch_trouble_info{reason="missing_key",volume="db"} 1"#]);
        volume.trouble(Some(Reason::MissingKey), None);
        assert!(troubles().is_empty());
    }
}

//! What the tests share: volumes to rotate, and waiting for what can be observed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secretwatch::kubelet::{AtomicWriter, LinkOrder, Payload};
use secretwatch::{Builder, Changes, Detector, Secrets, Snapshot, Volume};
use tempfile::TempDir;

/// No test waits longer than this; none but a failing one comes near it.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// So long that within a test only inotify can find anything.
pub const NEVER: Duration = Duration::from_secs(60 * 60);
/// So short that tests of the poll need not wait.
pub const SOON: Duration = Duration::from_millis(20);

/// Both detectors, each alone.
pub const DETECTORS: [(Detector, Duration); 2] = [(Detector::Auto, NEVER), (Detector::Poll, SOON)];

/// Waits until `look` sees something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A directory that a simulated kubelet writes.
pub struct Mount {
    parent: TempDir,
    pub writer: AtomicWriter,
}

impl Mount {
    pub fn new() -> Self {
        Self::with_order(LinkOrder::AfterSwap)
    }

    pub fn with_order(order: LinkOrder) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let writer = AtomicWriter::new(parent.path().join("db")).link_order(order);
        Self { parent, writer }
    }

    /// The volume's directory.
    pub fn path(&self) -> PathBuf {
        self.parent.path().join("db")
    }

    /// Makes one rotation.
    pub fn rotate(&self, pairs: &[(&str, &str)]) {
        self.writer.write(payload(pairs)).unwrap();
    }
}

pub fn payload(pairs: &[(&str, &str)]) -> Payload {
    pairs.iter().fold(Payload::new(), |payload, &(key, value)| payload.with(key, value))
}

/// A watch over one volume, with one detector.
pub struct Watch {
    pub secrets: Secrets,
    pub volume: Volume,
    pub changes: Changes,
}

impl Watch {
    pub fn open(path: &Path, detector: (Detector, Duration)) -> Self {
        Self::build(builder(detector).volume(path))
    }

    pub fn build(builder: Builder) -> Self {
        let secrets = builder.open_pending().unwrap();
        let volume = secrets.volumes().next().unwrap();
        let changes = volume.changes_and_current();
        Self { secrets, volume, changes }
    }

    /// The next snapshot.
    pub fn next(&mut self) -> Arc<Snapshot> {
        self.changes.changed_timeout(DEADLINE).unwrap().expect("no change within the deadline")
    }

    /// Waits for the snapshot in which `key` has this value.
    pub fn until(&mut self, key: &str, value: &str) -> Arc<Snapshot> {
        loop {
            let snapshot = self.next();
            if snapshot.get(key).is_ok_and(|found| found.expose() == value.as_bytes()) {
                return snapshot;
            }
        }
    }

    /// Asks for a look, and waits until there was one.
    pub fn until_looked(&self) {
        let looks = || self.metric(r#"secretwatch_looks_total{volume="db"}"#).unwrap();
        let before = looks();
        self.secrets.look_now();
        eventually("a look", || (looks() > before).then_some(()));
    }

    /// The value of a metric with these labels, as the exposition shows it.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let registry = prometheus::Registry::new();
        self.secrets.register_metrics(&registry).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        metric_in(&text, line)
    }
}

/// Finds `name{labels}` in an exposition.
pub fn metric_in(text: &str, line: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
}

pub fn builder((detector, poll_interval): (Detector, Duration)) -> Builder {
    Secrets::builder().detector(detector).poll_interval(poll_interval)
}

use std::fs;
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

use super::*;
use crate::gate::Gate;
use crate::kubelet::{AtomicWriter, Payload};
use crate::metrics::Metrics;
use crate::store::{self, Reader};

/// Longer than an event takes to arrive; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// One volume without an engine: the test is the loop, and its clock.
struct Bench {
    _root: TempDir,
    writer: AtomicWriter,
    volume: Watched,
    reader: Reader,
    watcher: Watcher,
    woken: Receiver<usize>,
    registry: prometheus::Registry,
    now: Instant,
}

impl Bench {
    /// `hears` says whether inotify's events reach the volume.
    fn unarmed(hears: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("db");
        let writer = AtomicWriter::new(&path);
        writer.write(Payload::new().with("k", "1")).unwrap();
        let (metrics, registry) = (Metrics::new().unwrap(), prometheus::Registry::new());
        metrics.register(&registry).unwrap();
        let gate = Gate { require: Vec::new(), max_bytes: 1000, allow_empty: false };
        let plan = Plan { name: "db".parse().unwrap(), path: path.clone(), gate };
        let boot = Arc::from("boot");
        let (publisher, reader) =
            store::channel(&initial_snapshot(&plan.name, &boot), Status::default());
        let pace = Pace { normal: Duration::from_secs(30), fast: Duration::from_secs(1) };
        let volume = Watched::new(plan, boot, publisher, metrics.volume("db"), pace);
        let (sender, woken) = channel();
        let hinted = if hears { vec![(path, volume.hints())] } else { Vec::new() };
        let wake = Arc::new(move |index| sender.send(index).unwrap());
        let watcher = Watcher::new(hinted, wake, pace.normal);
        let now = Instant::now();
        let mut bench = Self { _root: root, writer, volume, reader, watcher, woken, registry, now };
        bench.volume.look(None, FoundBy::Startup, now);
        bench
    }

    /// One whose watch is armed.
    fn new(hears: bool) -> Self {
        let mut bench = Self::unarmed(hears);
        bench.volume.poll(Some(&mut bench.watcher), FoundBy::Startup, bench.now);
        bench
    }

    fn rotate(&self, value: &str) {
        self.writer.write(Payload::new().with("k", value)).unwrap();
    }

    /// Lets time pass until the volume has something to do, and lets it do that.
    fn next_tick(&mut self) -> Duration {
        let waited = self.volume.next_due().saturating_duration_since(self.now);
        self.now = self.now.max(self.volume.next_due());
        self.volume.tick(Some(&mut self.watcher), self.now);
        waited
    }

    /// Takes the hint of a real event.
    fn hear(&mut self) {
        self.woken.recv_timeout(DEADLINE).expect("an event");
        self.volume.hinted(Some(&mut self.watcher), self.now);
    }

    fn served(&self) -> String {
        self.reader.current().get("k").unwrap().expose_str().unwrap().to_owned()
    }

    fn metric(&self, line: &str) -> f64 {
        let families = self.registry.gather();
        let text = prometheus::TextEncoder::new().encode_to_string(&families).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{line} is not in\n{text}"))
    }

    fn is_up(&self) -> bool {
        self.metric(r#"secretwatch_watch_up{volume="db"}"#) > 0.5
    }
}

#[test]
fn poll_that_finds_what_inotify_did_not_report_proves_it_deaf() {
    let mut bench = Bench::new(false);
    assert!(bench.is_up());
    bench.rotate("2");
    assert_eq!(bench.next_tick(), Duration::from_secs(30));
    assert_eq!(bench.served(), "2");
    assert!(bench.is_up(), "it may still report");
    bench.next_tick();
    assert!(!bench.is_up());
    assert!(
        (bench.metric(r#"secretwatch_watch_errors_total{kind="deaf",volume="db"}"#) - 1.0).abs()
            < 0.1
    );
    // From now on the poll looks often; it has looked at once, too.
    assert_eq!(bench.next_tick(), Duration::from_secs(1));
    bench.rotate("3");
    assert!(bench.next_tick() <= Duration::from_secs(1));
    assert_eq!(bench.served(), "3");
}

#[test]
fn poll_that_is_merely_faster_proves_nothing() {
    let mut bench = Bench::new(true);
    bench.rotate("2");
    bench.next_tick();
    assert_eq!(bench.served(), "2");
    bench.hear();
    for _ in 0..3 {
        assert_eq!(bench.next_tick(), Duration::from_secs(30));
        assert!(bench.is_up());
    }
}

#[test]
fn event_proves_that_inotify_hears_again() {
    let mut bench = Bench::new(true);
    bench.rotate("2");
    // The event is there, and nobody takes it in time.
    bench.next_tick();
    bench.next_tick();
    assert!(!bench.is_up());
    bench.hear();
    assert!(bench.is_up());
    bench.rotate("3");
    bench.hear();
    assert_eq!(bench.served(), "3");
    assert_eq!(bench.next_tick(), Duration::from_secs(30));
}

#[test]
fn swap_is_looked_at_by_whoever_hears_of_it() {
    let mut bench = Bench::new(true);
    bench.rotate("2");
    bench.woken.recv_timeout(DEADLINE).expect("an event");
    assert!(bench.volume.look_at_once(bench.now));
    assert_eq!(bench.served(), "2");
    assert!(!bench.volume.look_at_once(bench.now), "there is nothing any more");
    assert_eq!(bench.next_tick(), Duration::from_secs(30));
}

#[test]
fn what_may_need_another_watch_is_left_to_the_loop() {
    let mut bench = Bench::new(true);
    fs::rename(bench.writer.dir(), bench.writer.dir().with_extension("old")).unwrap();
    bench.woken.recv_timeout(DEADLINE).expect("an event");
    assert!(!bench.volume.look_at_once(bench.now));
    bench.volume.hinted(Some(&mut bench.watcher), bench.now);
    bench.rotate("2");
    bench.next_tick();
    assert_eq!(bench.served(), "2");
    assert!(bench.is_up());
}

/// The touch is taken, and the look that it asks for is overtaken by one on request.
#[test]
fn look_on_request_takes_nothing_from_the_event_that_was_there_first() {
    let mut bench = Bench::new(true);
    fs::remove_dir_all(bench.writer.dir()).unwrap();
    fs::create_dir(bench.writer.dir()).unwrap();
    fs::write(bench.writer.dir().join("k"), "plain").unwrap();
    while bench.served() != "plain" {
        bench.next_tick();
    }
    while bench.woken.try_recv().is_ok() {
        bench.volume.hinted(Some(&mut bench.watcher), bench.now);
    }
    fs::write(bench.writer.dir().join("k"), "again").unwrap();
    bench.hear();
    bench.volume.look(Some(&mut bench.watcher), FoundBy::Poll, bench.now);
    while bench.served() != "again" {
        bench.next_tick();
    }
    for _ in 0..3 {
        assert_eq!(bench.next_tick(), Duration::from_secs(30));
        assert!(bench.is_up());
    }
}

#[test]
fn change_before_inotify_is_armed_is_found_at_once() {
    let mut bench = Bench::unarmed(true);
    bench.rotate("2");
    bench.volume.poll(Some(&mut bench.watcher), FoundBy::Startup, bench.now);
    assert_eq!(bench.served(), "2");
    assert!(bench.is_up());
    assert!(bench.woken.try_recv().is_err());
}

/// As `rm -r` may do it, which empties the directory before it takes the link away.
#[test]
fn payload_that_is_taken_away_under_its_link_is_not_believed_at_once() {
    let mut bench = Bench::new(true);
    bench.writer.write(Payload::new().with("k", "1").with("l", "1")).unwrap();
    bench.hear();
    let data = bench.writer.dir().join("..data").canonicalize().unwrap();
    fs::remove_file(data.join("l")).unwrap();
    bench.volume.look(Some(&mut bench.watcher), FoundBy::Poll, bench.now);
    assert_eq!(bench.reader.current().len(), 2);
    fs::remove_dir_all(bench.writer.dir()).unwrap();
    for _ in 0..5 {
        bench.next_tick();
    }
    assert_eq!(bench.reader.current().len(), 2);
    assert_eq!(bench.reader.status().state, State::Holding);
}

#[test]
fn payload_that_is_rewritten_under_its_link_is_believed_once_it_rests() {
    let mut bench = Bench::new(true);
    fs::write(bench.writer.dir().join("..data/k"), "2").unwrap();
    bench.volume.look(Some(&mut bench.watcher), FoundBy::Poll, bench.now);
    assert_eq!(bench.served(), "1");
    assert_eq!(bench.next_tick(), SETTLE);
    assert_eq!(bench.served(), "2");
}

#[test]
fn payload_that_comes_after_its_link_is_believed_once_it_rests() {
    let mut bench = Bench::new(true);
    fs::remove_file(bench.writer.dir().join("..data")).unwrap();
    std::os::unix::fs::symlink("..late", bench.writer.dir().join("..data")).unwrap();
    bench.volume.look(Some(&mut bench.watcher), FoundBy::Poll, bench.now);
    assert_eq!(bench.reader.status().trouble.as_ref().unwrap().reason, Reason::LinkBroken);
    let late = bench.writer.dir().join("..late");
    fs::create_dir(&late).unwrap();
    fs::write(late.join("k"), "").unwrap();
    bench.volume.look(Some(&mut bench.watcher), FoundBy::Poll, bench.now);
    fs::write(late.join("k"), "late").unwrap();
    while bench.served() == "1" {
        assert_eq!(bench.next_tick(), SETTLE);
    }
    assert_eq!(bench.served(), "late");
}

#[test]
fn quiet_volume_is_only_polled() {
    let mut bench = Bench::new(true);
    for _ in 0..5 {
        assert_eq!(bench.next_tick(), Duration::from_secs(30));
    }
    assert!(bench.woken.try_recv().is_err(), "own looks wake nobody");
}

#[test]
fn preparing_a_rotation_wakes_nobody() {
    let bench = Bench::new(true);
    let mut rotation = bench.writer.rotation(Payload::new().with("k", "2")).unwrap();
    rotation.run_until(crate::kubelet::Step::is_swap).unwrap();
    rotation.step().unwrap();
    // Events come in order, so the first one that wakes is the swap and there is just one.
    bench.woken.recv_timeout(DEADLINE).expect("the swap");
    rotation.finish().unwrap();
    assert!(bench.woken.try_recv().is_err());
}

#[test]
fn rejection_is_counted_once_however_often_the_poll_looks() {
    let mut bench = Bench::new(true);
    bench.writer.write(Payload::new()).unwrap();
    bench.hear();
    for _ in 0..5 {
        bench.next_tick();
    }
    let line = r#"secretwatch_snapshots_rejected_total{reason="empty",volume="db"}"#;
    assert!((bench.metric(line) - 1.0).abs() < 0.1);
    assert_eq!(bench.served(), "1");
}

//! The crate as a Rust app uses it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use secretwatch::{Detector, Secrets, VolumeOptions};

use crate::fixture::{DEADLINE, DETECTORS, Mount, NEVER, Watch, builder, eventually};

#[test]
fn open_returns_with_the_first_snapshot_of_every_volume() {
    let (one, two) = (Mount::new(), Mount::new());
    one.rotate(&[("k", "1")]);
    two.rotate(&[("k", "2")]);
    let secrets = Secrets::builder()
        .volume(one.path())
        .require("k")
        .volume_named("two", two.path())
        .open()
        .unwrap();
    assert!(secrets.is_ready() && secrets.is_alive());
    let value = |name: &str| {
        let snapshot = secrets.volume(name).unwrap().current();
        snapshot.get("k").unwrap().expose_str().unwrap().to_owned()
    };
    assert_eq!((value("db").as_str(), value("two").as_str()), ("1", "2"));
}

#[test]
fn open_says_which_volume_had_nothing_acceptable_and_why() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let volume = VolumeOptions::new(mount.path()).require("password");
    let error = Secrets::builder()
        .volume(volume)
        .start_timeout(Duration::from_millis(100))
        .open()
        .unwrap_err();
    assert!(error.is_start_timeout());
    let text = error.to_string();
    assert!(
        text.contains("volume `db`") && text.contains("required but not there: password"),
        "{text}"
    );
}

#[test]
fn settings_that_are_not_allowed_are_refused_by_name() {
    let mount = Mount::new();
    let error = |builder: secretwatch::Builder| {
        let error = builder.open_pending().unwrap_err();
        assert!(error.is_config());
        error.to_string()
    };
    let volume = || VolumeOptions::new(mount.path());
    for (builder, said) in [
        (Secrets::builder(), "1 to 64 can be watched"),
        (Secrets::builder().volume(volume().named("a/b")), "name of volume"),
        (Secrets::builder().volume(volume().require("../x")), "required key"),
        (Secrets::builder().volume(volume().max_bytes(0)), "max_bytes of volume `db`"),
        (Secrets::builder().volume(volume()).volume(volume()), "two volumes are named `db`"),
        (
            Secrets::builder().volume(volume()).volume(volume().named("x")),
            "are the same directory, or one is inside",
        ),
        (
            Secrets::builder().volume(volume()).volume_named("x", mount.path().join("sub")),
            "one is inside",
        ),
        (Secrets::builder().volume(volume()).poll_interval(Duration::ZERO), "poll interval 0s"),
    ] {
        let text = error(builder);
        assert!(text.contains(said), "{text:?} does not say {said:?}");
    }
}

#[test]
fn unknown_volume_is_an_error_that_lists_the_known_ones() {
    let mount = Mount::new();
    let secrets = Secrets::builder().volume(mount.path()).open_pending().unwrap();
    let error = secrets.volume("dB").unwrap_err();
    assert!(error.is_unknown_volume());
    assert_eq!(error.to_string(), r#"no volume is named "dB"; there are: db"#);
}

#[test]
fn changed_is_never_missed_between_two_calls() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "0")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        for n in 1..50 {
            mount.rotate(&[("k", &n.to_string())]);
            let volume = &watch.volume;
            eventually("the rotation", || {
                let snapshot = volume.current();
                (snapshot.get("k").unwrap().expose() == n.to_string().as_bytes()).then_some(())
            });
            // It has happened already; the call must not wait for the next one.
            assert_eq!(watch.next().get("k").unwrap().expose(), n.to_string().as_bytes());
        }
    }
}

#[test]
fn changed_times_out_where_nothing_changes() {
    let mount = Mount::new();
    mount.rotate(&[("k", "0")]);
    let mut watch = Watch::open(&mount.path(), DETECTORS[0]);
    watch.next();
    assert!(watch.changes.changed_timeout(Duration::from_millis(1)).unwrap().is_none());
}

/// Polls a future with no runtime at all: a thread that parks.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let start = std::time::Instant::now();
        std::thread::park_timeout(DEADLINE);
        assert!(start.elapsed() < DEADLINE, "nobody has woken the future");
    }
}

#[test]
fn async_changes_need_no_runtime() {
    let mount = Mount::new();
    mount.rotate(&[("k", "0")]);
    let mut watch = Watch::open(&mount.path(), DETECTORS[0]);
    watch.next();
    let mut changes = watch.volume.changes();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || block_on(changes.changed()).unwrap());
        mount.rotate(&[("k", "1")]);
        assert_eq!(waiter.join().unwrap().get("k").unwrap().expose(), b"1");
    });
}

#[tokio::test(flavor = "current_thread")]
async fn async_changes_work_within_tokio() {
    let mount = Mount::new();
    mount.rotate(&[("k", "0")]);
    let secrets = Secrets::builder().volume(mount.path()).poll_interval(NEVER).open().unwrap();
    let mut changes = secrets.volume("db").unwrap().changes();
    mount.rotate(&[("k", "1")]);
    let snapshot = tokio::time::timeout(DEADLINE, changes.changed()).await.unwrap().unwrap();
    assert_eq!(snapshot.get("k").unwrap().expose(), b"1");
    // A future that is dropped while it waits loses nothing.
    let never = tokio::time::timeout(Duration::from_millis(5), changes.changed()).await;
    assert!(never.is_err());
    mount.rotate(&[("k", "2")]);
    let snapshot = tokio::time::timeout(DEADLINE, changes.changed()).await.unwrap().unwrap();
    assert_eq!(snapshot.get("k").unwrap().expose(), b"2");
}

/// Threads of this process whose name begins with `name`.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let comm = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(comm).filter(|comm| comm.starts_with(name)).count()
}

/// In a process of its own, as the other tests have watches of their own.
#[test]
fn dropping_the_last_handle_stops_everything() {
    const CHILD: &str = "SECRETWATCH_TEST_DROP";
    if std::env::var_os(CHILD).is_none() {
        let test = "library::dropping_the_last_handle_stops_everything";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--test-threads=1"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let mount = Mount::new();
    mount.rotate(&[("k", "0")]);
    let secrets = Secrets::builder().volume(mount.path()).open().unwrap();
    let volume = secrets.volume("db").unwrap();
    let mut changes = volume.changes();
    assert_eq!((threads("secretwatch"), threads("notify-rs")), (1, 1));
    drop((secrets, volume));
    // A handle is left, and it works.
    mount.rotate(&[("k", "1")]);
    assert_eq!(changes.changed_blocking().unwrap().get("k").unwrap().expose(), b"1");
    drop(changes);
    eventually("the threads end", || {
        (threads("secretwatch") + threads("notify-rs") == 0).then_some(())
    });
}

#[test]
fn metrics_go_into_the_registry_of_the_app() {
    let mount = Mount::new();
    mount.rotate(&[("k", "0"), ("secretwatch.version", "v7")]);
    let secrets = builder((Detector::Auto, NEVER)).volume(mount.path()).open().unwrap();
    let registry = prometheus::Registry::new();
    secrets.register_metrics(&registry).unwrap();
    assert!(secrets.register_metrics(&registry).is_err(), "twice into one registry");
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        r#"secretwatch_generation{volume="db"} 1"#,
        r#"secretwatch_snapshot_keys{volume="db"} 2"#,
        r#"secretwatch_secret_info{version="v7",volume="db"} 1"#,
        r#"secretwatch_watch_up{volume="db"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn expiry_of_a_certificate_is_a_series_for_as_long_as_there_is_one() {
    const SOON: &str = include_str!("../../src/certificate/data/ec-v3.pem");
    const LATE: &str = include_str!("../../src/certificate/data/ec-2059.pem");
    let series = |key: &str| {
        format!(r#"secretwatch_certificate_not_after_timestamp_seconds{{key="{key}",volume="db"}}"#)
    };
    let mount = Mount::new();
    mount.rotate(&[("ca.crt", LATE), ("tls.crt", SOON), ("tls.key", "-----BEGIN X-----")]);
    let mut watch = Watch::open(&mount.path(), (Detector::Auto, NEVER));
    let snapshot = watch.next();
    let keys: Vec<_> = snapshot.certificates().iter().map(|found| found.key.as_str()).collect();
    assert_eq!(keys, ["ca.crt", "tls.crt"]);
    assert_eq!(watch.metric(&series("ca.crt")), Some(2_832_204_711.0));
    assert_eq!(watch.metric(&series("tls.crt")), Some(1_826_940_710.0));
    assert_eq!(watch.metric(&series("tls.key")), None);
    mount.rotate(&[("ca.crt", "none any more"), ("tls.crt", LATE)]);
    watch.next();
    assert_eq!(watch.metric(&series("ca.crt")), None);
    assert_eq!(watch.metric(&series("tls.crt")), Some(2_832_204_711.0));
    mount.rotate(&[("ca.crt", LATE)]);
    watch.next();
    assert_eq!(watch.metric(&series("ca.crt")), Some(2_832_204_711.0));
    assert_eq!(watch.metric(&series("tls.crt")), None);
}

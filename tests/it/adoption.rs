//! Who uses what: said to a real sidecar by hand and by its commands, and by users of the library.

use std::panic::panic_any;
use std::sync::mpsc::channel;

use secretwatch::{AdoptError, ConsumerName, Volume};

use crate::fixture::{DEADLINE, DETECTORS, Mount, NEVER, Watch, builder, eventually};
use crate::sidecar::{Sidecar, stderr, stdout, volume};

/// A sidecar of one volume `db` whose key `k` is `1`.
fn sidecar(mount: &Mount, args: &[&str]) -> Sidecar {
    mount.rotate(&[("k", "1")]);
    let volume = volume("db", &mount.path());
    let sidecar = Sidecar::start(&[&["--volume", &volume], args].concat());
    sidecar.until("db/k", "1");
    sidecar
}

fn revision(sidecar: &Sidecar) -> String {
    sidecar.get("/v1/secrets/db").revision()
}

#[test]
fn adoption_said_by_hand_and_by_command_is_seen_everywhere() {
    let mount = Mount::new();
    let sidecar = sidecar(&mount, &[]);
    let first = revision(&sidecar);
    let answer = sidecar.adopt("db", "by-hand", &first);
    assert_eq!((answer.status, &answer.json()["is_current"]), (200, &true.into()));
    mount.rotate(&[("k", "2")]);
    sidecar.until("db/k", "2");
    let second = revision(&sidecar);
    let output = sidecar.client(&["adopted", "db", "--consumer", "by-command"]);
    assert_eq!(stdout(&output).trim_end(), second, "{}", stderr(&output));
    let table = stdout(&sidecar.client(&["status"]));
    assert!(table.contains("ADOPTED") && table.contains(" 1/2 "), "{table}");
    let json: serde_json::Value =
        serde_json::from_slice(&sidecar.client(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["secrets"][0]["adoption"]["consumers"], 2);
    let generation = |consumer: &str| {
        let labels = format!(r#"{{consumer="{consumer}",volume="db"}}"#);
        sidecar.metric(&format!("secretwatch_adopted_generation{labels}"))
    };
    assert_eq!((generation("by-hand"), generation("by-command")), (Some(1.0), Some(2.0)));
    assert_eq!(sidecar.metric(r#"secretwatch_adopted_all{volume="db"}"#), Some(0.0));
    assert!(sidecar.metric(r#"secretwatch_adoption_lag_seconds{volume="db"}"#).unwrap() > 0.0);
    let since = |consumer: &str| {
        let labels = format!(r#"{{consumer="{consumer}",volume="db"}}"#);
        sidecar.metric(&format!("secretwatch_adopted_timestamp_seconds{labels}"))
    };
    let observed =
        sidecar.metric(r#"secretwatch_snapshot_observed_timestamp_seconds{volume="db"}"#);
    assert!(since("by-hand") < observed && observed <= since("by-command"), "{observed:?}");
    let output = sidecar.client(&["adopted", "db", "--consumer", "by-hand", "--leave"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(since("by-hand"), None);
    assert_eq!(generation("by-hand"), None);
    assert_eq!(sidecar.metric(r#"secretwatch_adopted_all{volume="db"}"#), Some(1.0));
    // An app that was rolled back.
    let output =
        sidecar.client(&["adopted", "db", "--consumer", "by-command", "--revision", &first]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(generation("by-command"), Some(1.0));
}

#[test]
fn revision_of_another_process_is_refused_with_the_current_one() {
    let mount = Mount::new();
    let sidecar = sidecar(&mount, &[]);
    let answer = sidecar.adopt("db", "web", "other.1");
    assert_eq!(answer.status, 409);
    assert_eq!(answer.json()["error"]["current"], revision(&sidecar).as_str());
    let output =
        sidecar.client(&["adopted", "db", "--revision", "canary-value", "--consumer", "web"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&revision(&sidecar)), "{}", stderr(&output));
    assert!(!stderr(&output).contains("canary-value"), "{}", stderr(&output));
    let output = sidecar.client(&["adopted", "nope", "--consumer", "web"]);
    assert_eq!(output.status.code(), Some(4));
    let output = sidecar.client(&["adopted", "db", "--consumer", "a/b"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn wait_returns_only_after_everybody_has_said_so_through_a_further_rotation() {
    let mount = Mount::new();
    let sidecar = sidecar(&mount, &[]);
    let first = revision(&sidecar);
    sidecar.adopt("db", "a", &first);
    sidecar.adopt("db", "b", &first);
    let args = ["wait", "db", "--adopted", "--after", &first, "--timeout", "5m"];
    let mut waiting = sidecar.start_client(&args);
    let still_waits = |waiting: &mut crate::sidecar::Process| {
        // The sidecar has heard of everything said so far when it answers this.
        assert_eq!(sidecar.get("/livez").status, 200);
        assert!(!waiting.has_ended(), "it ended: {}", waiting.output());
    };
    mount.rotate(&[("k", "2")]);
    sidecar.until("db/k", "2");
    let second = revision(&sidecar);
    sidecar.adopt("db", "a", &second);
    still_waits(&mut waiting);
    mount.rotate(&[("k", "3")]);
    sidecar.until("db/k", "3");
    let third = revision(&sidecar);
    sidecar.adopt("db", "b", &second);
    still_waits(&mut waiting);
    let output = sidecar.client(&["wait", "db", "--adopted", "--timeout", "20ms"]);
    assert_eq!(output.status.code(), Some(124));
    assert!(stderr(&output).contains("is not used by a, b"), "{}", stderr(&output));
    sidecar.adopt("db", "a", &third);
    still_waits(&mut waiting);
    sidecar.adopt("db", "b", &third);
    assert_eq!(waiting.wait().code(), Some(0));
    assert_eq!(waiting.output().trim_end(), third);
}

#[test]
fn silent_consumer_expires_and_nobody_waits_for_it_any_more() {
    let mount = Mount::new();
    let sidecar = sidecar(&mount, &["--adoption-expiry", "1s"]);
    sidecar.adopt("db", "silent", &revision(&sidecar));
    mount.rotate(&[("k", "2")]);
    sidecar.until("db/k", "2");
    let second = revision(&sidecar);
    let mut waiting = sidecar.start_client(&["wait", "db", "--adopted", "--timeout", "1m"]);
    eventually("the silent one is forgotten", || {
        // To say it again is what keeps this one known.
        assert_eq!(sidecar.adopt("db", "faithful", &second).status, 200);
        let metrics = sidecar.get("/metrics").text();
        (!metrics.contains(r#"consumer="silent""#)).then_some(())
    });
    sidecar.adopt("db", "faithful", &second);
    assert_eq!(waiting.wait().code(), Some(0));
    let output = sidecar.process.output();
    assert!(output.contains("forgotten") && output.contains("silent"), "{output}");
}

#[test]
fn consumers_are_not_remembered_across_a_restart_and_can_be_asked_for_by_name() {
    let mount = Mount::new();
    let sidecar = sidecar(&mount, &[]);
    sidecar.adopt("db", "a", &revision(&sidecar));
    let args = ["wait", "db", "--adopted", "--consumer", "b", "--timeout", "20ms"];
    let output = sidecar.client(&args);
    assert_eq!(output.status.code(), Some(124));
    assert!(stderr(&output).contains("is not used by b"), "{}", stderr(&output));
    let (_, _) = sidecar.stop();
    let sidecar = crate::adoption::sidecar(&mount, &[]);
    let output = sidecar.client(&["wait", "db", "--adopted", "--timeout", "20ms"]);
    assert!(stderr(&output).contains("no consumer has said yet"), "{}", stderr(&output));
}

fn consumer() -> ConsumerName {
    "app".parse().unwrap()
}

/// The generation that the app has adopted.
fn adopted(volume: &Volume) -> Option<u64> {
    volume.adoptions().consumers.first().map(|consumer| consumer.generation)
}

#[test]
fn library_user_adopts_what_it_holds_and_not_what_it_does_not() {
    let (one, two) = (Mount::new(), Mount::new());
    one.rotate(&[("k", "1")]);
    two.rotate(&[("k", "1")]);
    let builder = builder(DETECTORS[0]).volume(one.path()).volume_named("two", two.path());
    let secrets = builder.open().unwrap();
    let (db, two) = (secrets.volume("db").unwrap(), secrets.volume("two").unwrap());
    let adoption = db.adopt(&consumer(), &db.current()).unwrap();
    assert!(adoption.is_current && db.adoptions().all_adopted());
    let error = db.adopt(&consumer(), &two.current()).unwrap_err();
    assert!(matches!(error, AdoptError::OtherVolume { .. }), "{error}");
    assert!(db.leave(&consumer()) && !db.leave(&consumer()));
    let error = db.adopt_revision(&consumer(), "x").unwrap_err();
    assert!(matches!(error, AdoptError::UnknownRevision { .. }), "{error}");
}

#[test]
fn expiry_that_is_not_allowed_is_refused_by_name() {
    let mount = Mount::new();
    let builder = builder(DETECTORS[0]).volume(mount.path()).adoption_expiry(DEADLINE / 1000);
    let error = builder.open_pending().unwrap_err();
    assert!(error.is_config() && error.to_string().contains("adoption expiry 30ms"), "{error}");
}

#[test]
fn changes_adopt_what_they_hand_out_only_where_asked_to() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        assert_eq!(adopted(&watch.volume), None, "nobody has asked for it");
        let mut changes = watch.volume.changes_and_current().adopting(consumer());
        assert_eq!(adopted(&watch.volume), None, "nothing is handed out yet");
        changes.changed_timeout(DEADLINE).unwrap().unwrap();
        assert_eq!(adopted(&watch.volume), Some(1));
        mount.rotate(&[("k", "2")]);
        watch.until("k", "2");
        assert_eq!(adopted(&watch.volume), Some(1), "it is there and was not handed out");
        changes.changed_blocking().unwrap();
        assert_eq!(adopted(&watch.volume), Some(2));
        assert!(watch.volume.adoptions().all_adopted());
    }
}

#[test]
fn callback_sees_the_current_snapshot_and_each_later_one_until_its_guard_is_dropped() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let mut watch = Watch::open(&mount.path(), DETECTORS[0]);
    watch.next();
    let (sender, called) = channel();
    let guard = watch.volume.on_change(move |snapshot| {
        sender.send(snapshot.get("k").unwrap().expose_str().unwrap().to_owned()).unwrap();
    });
    let guard = guard.unwrap();
    assert_eq!(called.recv_timeout(DEADLINE).unwrap(), "1");
    mount.rotate(&[("k", "2")]);
    assert_eq!(called.recv_timeout(DEADLINE).unwrap(), "2");
    // Joins the thread, and the callback with the sender in it goes away.
    drop(guard);
    assert!(called.recv().is_err());
    mount.rotate(&[("k", "3")]);
    watch.until("k", "3");
}

#[test]
fn callback_that_panics_is_called_again_and_adopts_only_what_it_got_through() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let secrets = builder((DETECTORS[0].0, NEVER)).volume(mount.path()).open().unwrap();
    let volume = secrets.volume("db").unwrap();
    let (sender, called) = channel();
    let changes = volume.changes_and_current().adopting(consumer());
    let _guard = changes
        .on_change(move |snapshot| {
            sender.send(snapshot.generation()).unwrap();
            if snapshot.generation() == 2 {
                panic_any("a callback that fails");
            }
        })
        .unwrap();
    let next = || called.recv_timeout(DEADLINE).unwrap();
    assert_eq!(next(), 1);
    eventually("the first is adopted", || (adopted(&volume) == Some(1)).then_some(()));
    mount.rotate(&[("k", "2")]);
    assert_eq!(next(), 2);
    mount.rotate(&[("k", "3")]);
    // The call for this one begins after the one that panics has ended.
    assert_eq!(next(), 3);
    eventually("the third is adopted", || {
        let now = adopted(&volume);
        assert_ne!(now, Some(2), "what panicked was adopted");
        (now == Some(3)).then_some(())
    });
}

#[test]
fn guard_can_be_dropped_within_its_own_callback() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let watch = Watch::open(&mount.path(), DETECTORS[0]);
    let (sender, guards) = channel::<secretwatch::CallbackGuard>();
    let (done, is_done) = channel();
    let guard = watch.volume.changes_and_current().on_change(move |_| {
        drop(guards.recv().unwrap());
        done.send(()).unwrap();
    });
    sender.send(guard.unwrap()).unwrap();
    is_done.recv_timeout(DEADLINE).unwrap();
    // The thread ends after this call, and the sender goes with the callback.
    assert!(is_done.recv_timeout(DEADLINE).is_err());
}

//! Detection: every case by inotify alone and by polling alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use secretwatch::kubelet::LinkOrder;
use secretwatch::{Reason, State, VolumeOptions};

use crate::fixture::{
    DEADLINE, DETECTORS, Mount, NEVER, SOON, Watch, builder, eventually, payload,
};

#[test]
fn rotation_is_picked_up_in_both_link_orders() {
    for detector in DETECTORS {
        for order in [LinkOrder::AfterSwap, LinkOrder::BeforeSwap] {
            let mount = Mount::with_order(order);
            mount.rotate(&[("password", "one")]);
            let mut watch = Watch::open(&mount.path(), detector);
            assert_eq!(watch.next().get("password").unwrap().expose(), b"one");
            mount.rotate(&[("password", "two"), ("extra", "x")]);
            let snapshot = watch.next();
            assert_eq!(snapshot.get("password").unwrap().expose(), b"two");
            assert_eq!(snapshot.generation(), 2);
            mount.rotate(&[("password", "three")]);
            assert_eq!(watch.next().keys().count(), 1);
        }
    }
}

#[test]
fn each_snapshot_is_counted_under_the_detector_that_found_it() {
    for (detector, name) in DETECTORS.into_iter().zip(["inotify", "poll"]) {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        // Asked for before its start is over, the engine looks after it.
        watch.until_looked();
        mount.rotate(&[("k", "2")]);
        watch.next();
        let count = |by: &str| {
            let line = format!(r#"secretwatch_snapshots_total{{detector="{by}",volume="db"}}"#);
            watch.metric(&line).unwrap()
        };
        assert_eq!((count("startup"), count(name)), (1.0, 1.0));
        let up = watch.metric(r#"secretwatch_watch_up{volume="db"}"#).unwrap();
        assert_eq!(up, if name == "inotify" { 1.0 } else { 0.0 });
    }
}

#[test]
fn swap_made_by_hand_is_picked_up() {
    for detector in DETECTORS {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        for (version, value) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(path.join(version)).unwrap();
            fs::write(path.join(version).join("k"), value).unwrap();
        }
        symlink("v1", path.join("..data")).unwrap();
        let mut watch = Watch::build(builder(detector).volume_named("hand", path));
        watch.until("k", "one");
        // As `ln -s` and `mv -T` do.
        symlink("v2", path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
        watch.until("k", "two");
        // As `ln -sfn` did before it was atomic.
        fs::remove_file(path.join("..data")).unwrap();
        symlink("v1", path.join("..data")).unwrap();
        watch.until("k", "one");
    }
}

#[test]
fn unchanged_payload_is_no_new_generation() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        // The same contents in another directory, as after a restart of the kubelet.
        let data = mount.path().join("..data");
        let copy = mount.path().join("..2026_11_22_10_00_00.7");
        fs::create_dir(&copy).unwrap();
        fs::write(copy.join("k"), "1").unwrap();
        symlink(copy.file_name().unwrap(), mount.path().join("..data_tmp")).unwrap();
        fs::rename(mount.path().join("..data_tmp"), &data).unwrap();
        watch.until_looked();
        mount.rotate(&[("k", "2")]);
        assert_eq!(watch.until("k", "2").generation(), 2);
    }
}

#[test]
fn flapping_back_is_a_generation_of_its_own() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "a")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        mount.rotate(&[("k", "b")]);
        watch.until("k", "b");
        mount.rotate(&[("k", "a")]);
        assert_eq!(watch.until("k", "a").generation(), 3);
    }
}

#[test]
fn volume_absent_at_start_is_picked_up_when_it_comes() {
    for detector in DETECTORS {
        let mount = Mount::new();
        let mut watch = Watch::open(&mount.path(), detector);
        assert!(!watch.secrets.is_ready());
        eventually("the absence is known", || {
            let status = watch.volume.status();
            (status.trouble.as_ref()?.reason == Reason::Absent).then_some(())
        });
        assert_eq!(watch.volume.current().generation(), 0);
        mount.rotate(&[("k", "1")]);
        watch.until("k", "1");
        assert!(watch.secrets.is_ready());
    }
}

#[test]
fn removed_directory_keeps_the_last_good_snapshot_until_it_is_back() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        fs::remove_dir_all(mount.path()).unwrap();
        eventually("the absence is known", || {
            let status = watch.volume.status();
            (status.trouble.as_ref()?.reason == Reason::Absent).then_some(())
        });
        assert_eq!(watch.volume.status().state, State::Holding);
        assert_eq!(watch.volume.current().get("k").unwrap().expose(), b"1");
        assert_eq!(watch.metric(r#"secretwatch_holding_last_good{volume="db"}"#), Some(1.0));
        let trouble = || watch.metric(r#"secretwatch_trouble_info{reason="absent",volume="db"}"#);
        assert_eq!(trouble(), Some(1.0));
        mount.rotate(&[("k", "2")]);
        watch.until("k", "2");
        assert_eq!(watch.metric(r#"secretwatch_holding_last_good{volume="db"}"#), Some(0.0));
        let trouble = watch.metric(r#"secretwatch_trouble_info{reason="absent",volume="db"}"#);
        assert_eq!(trouble, None);
        // The watch is on the new directory.
        mount.rotate(&[("k", "3")]);
        watch.until("k", "3");
    }
}

#[test]
fn directory_that_is_moved_away_and_replaced_is_followed() {
    for detector in DETECTORS {
        let (mount, other) = (Mount::new(), Mount::new());
        mount.rotate(&[("k", "1")]);
        other.rotate(&[("k", "2")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        fs::rename(mount.path(), mount.path().with_extension("old")).unwrap();
        fs::rename(other.path(), mount.path()).unwrap();
        watch.until("k", "2");
        mount.rotate(&[("k", "3")]);
        watch.until("k", "3");
    }
}

/// The watch stays on the directory that the path led to; only the poll can see the change.
#[test]
fn path_that_leads_elsewhere_is_found_by_the_poll() {
    for detector in [DETECTORS[0].0, DETECTORS[1].0] {
        let (one, two) = (Mount::new(), Mount::new());
        one.rotate(&[("k", "1")]);
        two.rotate(&[("k", "2")]);
        let links = tempfile::tempdir().unwrap();
        let path = links.path().join("db");
        symlink(one.path(), &path).unwrap();
        let mut watch = Watch::open(&path, (detector, SOON));
        watch.next();
        symlink(two.path(), links.path().join("tmp")).unwrap();
        fs::rename(links.path().join("tmp"), &path).unwrap();
        watch.until("k", "2");
        two.rotate(&[("k", "3")]);
        watch.until("k", "3");
    }
}

#[test]
fn missing_required_key_holds_the_last_good_snapshot() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("user", "u"), ("password", "1")]);
        let options = VolumeOptions::new(mount.path()).require("password");
        let mut watch = Watch::build(builder(detector).volume(options));
        watch.next();
        mount.rotate(&[("user", "v")]);
        let status = eventually("the volume is held", || {
            let status = watch.volume.status();
            (status.state == State::Holding).then_some(status)
        });
        let trouble = status.trouble.as_ref().unwrap();
        assert_eq!(trouble.to_string(), "missing_key: required but not there: password");
        let line = r#"secretwatch_snapshots_rejected_total{reason="missing_key",volume="db"}"#;
        assert_eq!(watch.metric(line), Some(1.0));
        assert_eq!(watch.volume.current().get("user").unwrap().expose(), b"u");
        mount.rotate(&[("user", "w"), ("password", "2")]);
        assert_eq!(watch.until("password", "2").generation(), 2);
        assert_eq!(watch.volume.status().state, State::Current);
    }
}

#[test]
fn returning_to_what_is_served_ends_the_hold() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let options = VolumeOptions::new(mount.path()).require("k");
        let mut watch = Watch::build(builder(detector).volume(options));
        watch.next();
        mount.rotate(&[("other", "1")]);
        eventually("held", || (watch.volume.status().state == State::Holding).then_some(()));
        mount.rotate(&[("k", "1")]);
        eventually("current", || (watch.volume.status().state == State::Current).then_some(()));
        assert_eq!(watch.volume.current().generation(), 1);
    }
}

#[test]
fn deleted_optional_secret_is_held_unless_empty_is_allowed() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let mut strict = Watch::open(&mount.path(), detector);
        let lax = VolumeOptions::new(mount.path()).allow_empty();
        let mut lax = Watch::build(builder(detector).volume(lax));
        strict.next();
        lax.next();
        mount.rotate(&[]);
        assert!(lax.next().is_empty());
        eventually("held", || {
            let status = strict.volume.status();
            (status.trouble.as_ref()?.reason == Reason::Empty).then_some(())
        });
        assert_eq!(strict.volume.current().len(), 1);
    }
}

#[test]
fn plain_file_rewritten_in_place_is_picked_up() {
    for detector in DETECTORS {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("db");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("k"), "1").unwrap();
        let mut watch = Watch::open(&path, detector);
        watch.until("k", "1");
        fs::write(path.join("k"), "2").unwrap();
        watch.until("k", "2");
        // Same size, by rename, as editors do.
        fs::write(path.join("k.tmp"), "3").unwrap();
        fs::rename(path.join("k.tmp"), path.join("k")).unwrap();
        watch.until("k", "3");
        fs::remove_file(path.join("k")).unwrap();
        fs::write(path.join("l"), "4").unwrap();
        let snapshot = watch.until("l", "4");
        assert!(snapshot.get("k").is_err());
    }
}

#[test]
fn plain_nested_files_are_picked_up() {
    for detector in DETECTORS {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("db");
        fs::create_dir_all(path.join("a")).unwrap();
        fs::write(path.join("a/k"), "1").unwrap();
        let mut watch = Watch::open(&path, detector);
        watch.until("a/k", "1");
        fs::write(path.join("a/k"), "2").unwrap();
        watch.until("a/k", "2");
        fs::create_dir(path.join("b")).unwrap();
        fs::write(path.join("b/l"), "3").unwrap();
        watch.until("b/l", "3");
        fs::write(path.join("b/l"), "4").unwrap();
        watch.until("b/l", "4");
    }
}

#[test]
fn plain_directory_behind_a_link_is_watched_at_every_level() {
    for detector in DETECTORS {
        let root = tempfile::tempdir().unwrap();
        let (real, path) = (root.path().join("real"), root.path().join("db"));
        fs::create_dir_all(real.join("sub")).unwrap();
        fs::write(real.join("k"), "1").unwrap();
        fs::write(real.join("sub/l"), "1").unwrap();
        symlink(&real, &path).unwrap();
        let mut watch = Watch::open(&path, detector);
        watch.until("k", "1");
        fs::write(path.join("k"), "2").unwrap();
        watch.until("k", "2");
        fs::write(path.join("sub/l"), "2").unwrap();
        watch.until("sub/l", "2");
    }
}

#[test]
fn mount_that_was_taken_away_is_held_even_where_empty_is_allowed() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let options = VolumeOptions::new(mount.path()).allow_empty();
        let mut watch = Watch::build(builder(detector).volume(options));
        watch.next();
        fs::remove_dir_all(mount.path()).unwrap();
        fs::create_dir(mount.path()).unwrap();
        eventually("the volume is held", || {
            let status = watch.volume.status();
            (status.trouble.as_ref()?.reason == Reason::Unpublished).then_some(())
        });
        assert_eq!(watch.volume.current().get("k").unwrap().expose(), b"1");
        mount.rotate(&[("k", "2")]);
        watch.until("k", "2");
    }
}

/// As `cp -a` and `tar` may do: the link comes first.
#[test]
fn payload_that_comes_after_its_link_is_picked_up() {
    for detector in DETECTORS {
        let mount = Mount::new();
        fs::create_dir(mount.path()).unwrap();
        symlink("..late", mount.path().join("..data")).unwrap();
        let mut watch = Watch::open(&mount.path(), detector);
        eventually("the link is seen", || {
            let status = watch.volume.status();
            (status.trouble.as_ref()?.reason == Reason::LinkBroken).then_some(())
        });
        fs::create_dir(mount.path().join("..late")).unwrap();
        fs::write(mount.path().join("..late/k"), "1").unwrap();
        watch.until("k", "1");
    }
}

/// The kernel has one watch for a directory, so one of the two has to be polled.
#[test]
fn two_paths_that_turn_out_to_be_one_directory_are_both_followed() {
    let mount = Mount::new();
    let links = tempfile::tempdir().unwrap();
    let other = links.path().join("other");
    symlink(mount.path(), &other).unwrap();
    let builder = builder(DETECTORS[0]).volume(mount.path()).volume(&other);
    let secrets = builder.open_pending().unwrap();
    let mut both: Vec<_> = secrets.volumes().map(|volume| volume.changes_and_current()).collect();
    for value in ["1", "2", "3"] {
        mount.rotate(&[("k", value)]);
        for changes in &mut both {
            let snapshot = changes.changed_timeout(DEADLINE).unwrap().expect("a change");
            assert_eq!(snapshot.get("k").unwrap().expose(), value.as_bytes());
        }
    }
}

#[test]
fn plain_directory_that_becomes_atomic_is_followed() {
    for detector in DETECTORS {
        let mount = Mount::new();
        fs::create_dir(mount.path()).unwrap();
        fs::write(mount.path().join("k"), "plain").unwrap();
        let mut watch = Watch::open(&mount.path(), detector);
        watch.until("k", "plain");
        fs::remove_file(mount.path().join("k")).unwrap();
        mount.rotate(&[("k", "atomic")]);
        watch.until("k", "atomic");
        mount.rotate(&[("k", "again")]);
        watch.until("k", "again");
    }
}

#[test]
fn storm_of_mode_changes_is_no_new_generation() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        for _ in 0..20 {
            for entry in fs::read_dir(mount.path().join("..data")).unwrap() {
                let mode = fs::Permissions::from_mode(0o440);
                fs::set_permissions(entry.unwrap().path(), mode).unwrap();
            }
            fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        mount.rotate(&[("k", "2")]);
        assert_eq!(watch.until("k", "2").generation(), 2);
        // Only the swap has woken anybody.
        let woken = watch.metric(r#"secretwatch_watch_events_total{volume="db"}"#).unwrap();
        assert!(woken < 1.5, "woken {woken} times");
    }
}

#[test]
fn writer_that_crashed_before_the_swap_changes_nothing() {
    for detector in DETECTORS {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let mut watch = Watch::open(&mount.path(), detector);
        watch.next();
        let mut rotation = mount.writer.rotation(payload(&[("k", "lost")])).unwrap();
        while rotation.steps().next().is_some_and(|step| !step.is_swap()) {
            rotation.step().unwrap();
        }
        drop(rotation);
        mount.rotate(&[("k", "2")]);
        assert_eq!(watch.until("k", "2").generation(), 2);
    }
}

#[test]
fn look_now_finds_a_change_at_once() {
    // A watch that only this question can end: the poll is far away and inotify is not used.
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let links = tempfile::tempdir().unwrap();
    let path = links.path().join("db");
    symlink(mount.path(), &path).unwrap();
    let mut watch = Watch::open(&path, (DETECTORS[0].0, NEVER));
    watch.next();
    let other = Mount::new();
    other.rotate(&[("k", "2")]);
    relink(&other.path(), &path);
    watch.secrets.look_now();
    watch.until("k", "2");
}

fn relink(target: &Path, link: &Path) {
    let temporary = link.with_extension("tmp");
    symlink(target, &temporary).unwrap();
    fs::rename(temporary, link).unwrap();
}

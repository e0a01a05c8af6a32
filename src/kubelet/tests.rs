//! Whole rotations.

use super::*;
use std::collections::BTreeMap;

use tempfile::TempDir;

const ORDERS: [LinkOrder; 2] = [LinkOrder::AfterSwap, LinkOrder::BeforeSwap];

type Pairs = BTreeMap<String, Vec<u8>>;

fn volume() -> (TempDir, AtomicWriter) {
    let dir = tempfile::tempdir().unwrap();
    let writer = AtomicWriter::new(dir.path());
    (dir, writer)
}

fn payload(pairs: &[(&str, &str)]) -> Payload {
    pairs.iter().copied().collect()
}

fn pairs(payload: &Payload) -> Pairs {
    let bytes = |key| payload.get(key).unwrap().expose().to_vec();
    payload.keys().map(|key| (key.to_owned(), bytes(key))).collect()
}

/// The steps that are left, without the directory, `OLD` and `NEW` for the versions.
fn plan(writer: &AtomicWriter, rotation: &Rotation) -> Vec<String> {
    let base = format!("{}/", writer.dir().display());
    let old = fs::read_link(writer.dir().join(DATA)).unwrap_or_else(|_| "no version".into());
    let new = rotation.steps().find_map(|step| match step {
        Step::MakeDir { path, .. } => Some(path.file_name().unwrap().to_str().unwrap().to_owned()),
        _ => None,
    });
    let new = new.unwrap_or_else(|| "no version".to_owned());
    rotation
        .steps()
        .map(|step| step.to_string().replace(&base, "").replace(old.to_str().unwrap(), "OLD"))
        .map(|step| step.replace(&new, "NEW").replace(writer.dir().to_str().unwrap(), "."))
        .collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What a reader sees who opens the keys through their links.
fn through_links(dir: &Path, keys: &Pairs) -> Pairs {
    keys.keys().map(|key| (key.clone(), fs::read(dir.join(key)).unwrap())).collect()
}

#[test]
fn first_write_takes_the_steps_of_the_kubelet() {
    let (_dir, writer) = volume();
    let version = ["mkdir NEW", "chmod 755 NEW"];
    let files = ["create NEW/a", "write NEW/a", "chmod 644 NEW/a"];
    let nested =
        ["mkdir NEW/db", "create NEW/db/user", "write NEW/db/user", "chmod 644 NEW/db/user"];
    let links = ["symlink a -> ..data/a", "symlink db -> ..data/db"];
    let swap = ["symlink ..data_tmp -> NEW", "rename ..data_tmp -> ..data"];
    for order in ORDERS {
        let writer = writer.clone().link_order(order);
        let rotation = writer.rotation(payload(&[("a", "1"), ("db/user", "2")])).unwrap();
        let ends = match order {
            LinkOrder::AfterSwap => [swap, links],
            LinkOrder::BeforeSwap => [links, swap],
        };
        let expected = [&version[..], &files, &nested, ends.as_flattened()].concat();
        assert_eq!(plan(&writer, &rotation), expected, "{order:?}");
    }
}

#[test]
fn rotation_links_added_keys_unlinks_vanished_ones_and_removes_the_old_version() {
    for order in ORDERS {
        let (_dir, writer) = volume();
        let writer = writer.link_order(order);
        writer.write(payload(&[("a", "1"), ("gone", "1"), ("old/x/y", "1")])).unwrap();
        let rotation = writer.rotation(payload(&[("a", "2"), ("new/x", "2"), ("old/z", "2")]));
        let steps = plan(&writer, &rotation.unwrap());
        let at =
            |step: &str| steps.iter().position(|s| s == step).unwrap_or_else(|| panic!("{step}"));
        let swap = at("rename ..data_tmp -> ..data");
        assert_eq!(at("symlink new -> ..data/new") < swap, order == LinkOrder::BeforeSwap);
        let removal = [
            "unlink gone",
            "unlink OLD/a",
            "unlink OLD/gone",
            "unlink OLD/old/x/y",
            "rmdir OLD/old/x",
            "rmdir OLD/old",
            "rmdir OLD",
        ];
        assert_eq!(steps[steps.len() - removal.len()..], removal);
        assert!(swap < at("unlink gone"));
        assert_eq!(steps.iter().filter(|step| step.starts_with("symlink")).count(), 2);
    }
}

#[test]
fn rotation_leaves_nothing_but_the_new_version() {
    for order in ORDERS {
        let (dir, writer) = volume();
        let writer = writer.link_order(order);
        assert!(writer.write(payload(&[("a", "1"), ("db/user", "1")])).unwrap());
        assert!(writer.write(payload(&[("a", "2"), ("b/c/d", ""), ("e", "x")])).unwrap());
        let now = writer.current().unwrap();
        assert_eq!(pairs(&now), pairs(&payload(&[("a", "2"), ("b/c/d", ""), ("e", "x")])));
        assert_eq!(through_links(dir.path(), &pairs(&now)), pairs(&now));
        let version = fs::read_link(dir.path().join(DATA)).unwrap().into_os_string();
        assert_eq!(names(dir.path()), [version.to_str().unwrap(), DATA, "a", "b", "e"]);
    }
}

#[test]
fn unchanged_payload_takes_no_step() {
    let (_dir, writer) = volume();
    let same = || payload(&[("a", "1"), ("db/user", "2")]);
    writer.write(same()).unwrap();
    assert_eq!(writer.rotation(same()).unwrap().remaining(), 0);
    let other_mode = same().with_mode("a", "1", 0o400);
    assert_eq!(writer.rotation(other_mode).unwrap().remaining(), 0);
    assert!(!writer.write(same()).unwrap());
    assert!(writer.write(same().without("a")).unwrap());
    assert!(writer.write(same().with("db/user", "3")).unwrap());
}

#[test]
fn first_payload_is_written_even_if_it_is_empty() {
    let (dir, writer) = volume();
    assert!(writer.current().unwrap().is_empty());
    assert!(writer.write(Payload::new()).unwrap());
    assert!(dir.path().join(DATA).is_dir());
    assert!(!writer.write(Payload::new()).unwrap());
}

#[test]
fn emptied_volume_has_no_key_left() {
    let (dir, writer) = volume();
    writer.write(payload(&[("a", "1"), ("db/user", "1")])).unwrap();
    assert!(writer.write(Payload::new()).unwrap());
    assert!(writer.current().unwrap().is_empty());
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn file_is_empty_before_it_is_written_and_has_its_mode_after() {
    let (_dir, writer) = volume();
    let mut rotation = writer.rotation(Payload::new().with_mode("a", "value", 0o400)).unwrap();
    assert!(rotation.run_until(|step| matches!(step, Step::Write { .. })).unwrap());
    let path = rotation.steps().next().unwrap().path().to_owned();
    assert_eq!(fs::read(&path).unwrap(), b"");
    rotation.step().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"value");
    rotation.step().unwrap();
    assert_eq!(mode(&path), 0o400);
}

#[test]
fn modes_are_those_of_the_payload_whatever_the_umask() {
    let (dir, writer) = volume();
    let modes = [("a", 0o777), ("b", 0o640), ("c", 0o000), ("d", 0o666)];
    let all = || modes.iter().fold(Payload::new(), |p, (key, mode)| p.with_mode(*key, "x", *mode));
    writer.write(all()).unwrap();
    for (key, expected) in modes {
        assert_eq!(mode(&dir.path().join(key)), expected, "{key}");
    }
    let version = fs::canonicalize(dir.path().join(DATA)).unwrap();
    assert_eq!(mode(&version), 0o755);
    // Neither may an unreadable value stand in the way of the next rotation.
    assert!(writer.write(all().with("e", "x")).unwrap());
}

#[test]
fn fs_group_opens_the_old_and_the_new_version_before_the_swap() {
    let (dir, writer) = volume();
    writer.write(Payload::new().with_mode("db/a", "1", 0o400)).unwrap();
    let writer = writer.fs_group();
    let mut rotation = writer.rotation(Payload::new().with_mode("db/a", "2", 0o400)).unwrap();
    let storm: Vec<_> =
        plan(&writer, &rotation).into_iter().filter(|step| step.contains('+')).collect();
    let expected = [
        "chmod +440 OLD/db/a",
        "chmod +2550 OLD/db",
        "chmod +2550 OLD",
        "chmod +440 NEW/db/a",
        "chmod +2550 NEW/db",
        "chmod +2550 NEW",
        "chmod +2550 .",
    ];
    assert_eq!(storm, expected);
    rotation.run_until(Step::is_swap).unwrap();
    assert_eq!(mode(&dir.path().join("db/a")), 0o440, "the old one");
    rotation.finish().unwrap();
    assert_eq!(mode(&dir.path().join("db/a")), 0o440, "the new one");
    assert_eq!(mode(dir.path()) & 0o2050, 0o2050);
}

#[test]
fn readers_through_the_published_version_never_see_a_part_of_it() {
    let (old, new) = ([("a", "1"), ("b/c", "1")], [("a", "2"), ("b/c", "2"), ("d", "2")]);
    for order in ORDERS {
        let (_dir, writer) = volume();
        let writer = writer.link_order(order).fs_group();
        writer.write(payload(&old)).unwrap();
        let mut rotation = writer.rotation(payload(&new)).unwrap();
        let mut is_published = false;
        while let Some(step) = rotation.step().unwrap() {
            is_published |= step.is_swap();
            let expected = if is_published { payload(&new) } else { payload(&old) };
            assert_eq!(pairs(&writer.current().unwrap()), pairs(&expected), "after {step}");
        }
        assert!(is_published);
    }
}

#[test]
fn crash_at_any_step_is_healed_by_the_next_rotation() {
    let first = || payload(&[("a", "1"), ("gone", "1"), ("db/user", "1")]);
    let second = || payload(&[("a", "2"), ("b", "2"), ("db/password", "2"), ("e/f", "2")]);
    let third = || payload(&[("a", "3"), ("b", "3"), ("e/f", "3"), ("g", "3")]);
    for (order, is_first) in ORDERS.into_iter().flat_map(|o| [(o, true), (o, false)]) {
        for taken in 0.. {
            let (dir, writer) = volume();
            let writer = writer.link_order(order).fs_group();
            if !is_first {
                writer.write(first()).unwrap();
            }
            let mut crashed = writer.rotation(second()).unwrap();
            for _ in 0..taken {
                crashed.step().unwrap();
            }
            let is_over = crashed.remaining() == 0;
            drop(crashed);
            let next = third();
            let expected = pairs(&next);
            assert!(writer.write(next).unwrap());
            assert_eq!(pairs(&writer.current().unwrap()), expected, "{order:?} {taken}");
            assert_eq!(through_links(dir.path(), &expected), expected, "{order:?} {taken}");
            assert!(!names(dir.path()).contains(&DATA_TMP.to_owned()), "{order:?} {taken}");
            if is_over {
                break;
            }
        }
    }
}

#[test]
fn crashes_leave_what_they_leave_with_the_kubelet() {
    let (dir, writer) = volume();
    writer.write(payload(&[("a", "1"), ("gone", "1")])).unwrap();
    let crash = |stop: fn(&Step) -> bool| {
        let next = payload(&[("a", "2"), ("new", "2")]);
        assert!(writer.rotation(next).unwrap().run_until(stop).unwrap());
    };
    crash(|step| matches!(step, Step::Write { .. }));
    assert_eq!(names(dir.path()).len(), 5, "half a directory");
    crash(Step::is_swap);
    assert_eq!(names(dir.path()).len(), 7, "another directory and `..data_tmp`");
    assert_eq!(pairs(&writer.current().unwrap()), pairs(&payload(&[("a", "1"), ("gone", "1")])));
    crash(|step| step.path().ends_with("new") && matches!(step, Step::Symlink { .. }));
    assert!(writer.current().unwrap().get("new").is_some());
    assert!(!dir.path().join("new").exists(), "a key without a link");
    assert!(dir.path().join("gone").is_symlink(), "a link without a key");

    // Kubelets of today make up for the missing link though the payload is the same.
    let same = || payload(&[("a", "2"), ("new", "2")]);
    let older = writer.clone().link_order(LinkOrder::BeforeSwap);
    assert_eq!(older.rotation(same()).unwrap().remaining(), 0);
    assert!(!writer.write(same()).unwrap());
    assert_eq!(fs::read(dir.path().join("new")).unwrap(), b"2");
}

#[test]
fn version_that_was_removed_by_hand_is_written_again() {
    let (dir, writer) = volume();
    writer.write(payload(&[("a", "1")])).unwrap();
    fs::remove_dir_all(fs::canonicalize(dir.path().join(DATA)).unwrap()).unwrap();
    assert!(writer.write(payload(&[("a", "1")])).unwrap());
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"1");
}

#[test]
fn link_out_of_the_volume_is_never_followed() {
    let (dir, writer) = volume();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "x").unwrap();
    let entry = dir.path().join("entry");
    std::os::unix::fs::symlink(outside.path(), &entry).unwrap();
    for target in [outside.path(), Path::new(".."), Path::new("."), Path::new("entry")] {
        let link = dir.path().join(DATA);
        std::os::unix::fs::symlink(target, &link).unwrap();
        let error = writer.write(payload(&[("a", "canary-value")])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains("not a directory of this volume"), "{error}");
        assert!(writer.current().is_err());
        fs::remove_file(link).unwrap();
    }
    assert!(outside.path().join("precious").exists());
}

#[test]
fn file_in_the_place_of_a_link_is_refused_and_kept() {
    let (dir, writer) = volume();
    fs::write(dir.path().join("a"), "mine").unwrap();
    let error = writer.write(payload(&[("a", "canary-value")])).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(names(dir.path()), ["a"]);
    // Nor is it removed as the link of a vanished key.
    fs::remove_file(dir.path().join("a")).unwrap();
    writer.write(payload(&[("a", "1")])).unwrap();
    fs::remove_file(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a"), "mine").unwrap();
    writer.write(Payload::new()).unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"mine");
}

#[test]
fn failed_step_names_the_call_and_the_path_and_stays_the_next() {
    let (dir, _) = volume();
    let missing = AtomicWriter::new(dir.path().join("missing"));
    let mut rotation = missing.rotation(payload(&[("a", "canary-value")])).unwrap();
    let error = rotation.step().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.starts_with("mkdir ") && text.contains("/missing/..2"), "{text}");
    fs::create_dir(missing.dir()).unwrap();
    rotation.finish().unwrap();
    assert_eq!(missing.current().unwrap().keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn debug_and_steps_show_no_value() {
    let (_dir, writer) = volume();
    let mut rotation = writer.rotation(payload(&[("user", "canary-value")])).unwrap();
    loop {
        let shown = format!("{rotation:?}");
        assert!(shown.contains("user") && !shown.contains("canary-value"), "{shown}");
        let Some(step) = rotation.step().unwrap() else { break };
        assert!(!format!("{step} {step:?}").contains("canary-value"));
    }
    let shown = format!("{:?}", writer.current().unwrap());
    assert!(shown.contains("user") && !shown.contains("canary-value"), "{shown}");
}

#[test]
fn write_makes_the_directory_of_the_volume() {
    let (dir, _) = volume();
    let writer = AtomicWriter::new(dir.path().join("run/secrets/db"));
    assert!(writer.current().unwrap().is_empty());
    assert!(writer.write(payload(&[("a", "1")])).unwrap());
    assert_eq!(writer.current().unwrap().keys().collect::<Vec<_>>(), ["a"]);
}

//! `secretwatch doctor` on real directories, mounts, users and limits.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use secretwatch::kubelet::{AtomicWriter, Payload, Step};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::payload;
use crate::sidecar::{BINARY, Process, Sidecar, stderr, stdout, volume};

mod mounts;
mod start;
mod users;

/// Set in every container of Kubernetes; some findings make sense only there.
const IN_POD: &str = "KUBERNETES_SERVICE_HOST";

/// Without the settings of whoever runs the tests, and outside of any pod.
fn plain(command: &mut Command) -> &mut Command {
    for (name, _) in
        std::env::vars_os().filter(|(n, _)| n.as_encoded_bytes().starts_with(b"SECRETWATCH_"))
    {
        command.env_remove(name);
    }
    command.env_remove(IN_POD)
}

/// What the doctor has said.
#[derive(Debug)]
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    fn of(output: &Output) -> Self {
        let json = serde_json::from_slice(&output.stdout);
        let json = json.unwrap_or_else(|e| panic!("{e}: {} {}", stdout(output), stderr(output)));
        Self { code: output.status.code().unwrap(), json }
    }

    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().unwrap()
    }

    fn codes(&self) -> BTreeSet<&str> {
        self.findings().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
    }

    fn finding(&self, code: &str) -> &Value {
        let found = self.findings().iter().find(|finding| finding["code"] == code);
        found.unwrap_or_else(|| panic!("no {code}: {self:#?}"))
    }

    /// That this is the only code, with this path, in the message, too.
    fn is_only(&self, code: &str, path: &Path) {
        assert_eq!(self.codes(), BTreeSet::from([code]), "{self:#?}");
        assert_eq!(self.finding(code)["path"], path.to_str().unwrap(), "{self:#?}");
    }
}

/// Without inotify, which has tests of its own, and with a socket that can be made.
fn doctor(directory: &Path, args: &[&str]) -> Report {
    let socket = directory.join("s.sock");
    let mut command = Command::new(BINARY);
    plain(&mut command).args(["doctor", "--json", "--detector", "poll"]).args(args);
    Report::of(&command.arg("--socket").arg(socket).output().unwrap())
}

/// A directory for a test, and what the doctor says about the volume `v` in it.
struct Case(TempDir);

impl Case {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn volume(&self) -> PathBuf {
        self.path("v")
    }

    fn writer(&self) -> AtomicWriter {
        AtomicWriter::new(self.volume())
    }

    fn write(&self, pairs: &[(&str, &str)]) {
        self.writer().write(payload(pairs)).unwrap();
    }

    fn at(&self, path: &Path, args: &[&str]) -> Report {
        let volume = volume("db", path);
        doctor(self.0.path(), &[&["--volume", &volume], args].concat())
    }

    fn report(&self, args: &[&str]) -> Report {
        self.at(&self.volume(), args)
    }
}

#[test]
fn healthy_volume_is_no_finding_also_after_rotations() {
    let case = Case::new();
    for value in ["1", "2", "3"] {
        case.write(&[("k", value), ("sub/k", value)]);
        let report = case.report(&["--require", "db:sub/k", "--older-than", "1d"]);
        assert_eq!((report.code, report.findings().len()), (0, 0), "{report:#?}");
        assert_eq!(report.json["worst"], Value::Null);
        assert_eq!(report.json["volumes"][0]["name"], "db");
    }
}

#[test]
fn file_and_missing_directory_are_errors_that_name_the_next_directory() {
    let case = Case::new();
    fs::write(case.path("file"), "").unwrap();
    let report = case.at(&case.path("file"), &[]);
    report.is_only("not-a-directory", &case.path("file"));
    assert_eq!(report.code, 1);
    let missing = case.path("a/b");
    let report = case.at(&missing, &[]);
    report.is_only("missing-directory", &missing);
    let message = report.finding("missing-directory")["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("is {:?}.", case.0.path())), "{message}");
}

#[test]
fn plain_directory_is_a_note() {
    let case = Case::new();
    fs::create_dir(case.volume()).unwrap();
    fs::write(case.volume().join("k"), "1").unwrap();
    let report = case.report(&[]);
    report.is_only("plain-directory", &case.volume());
    assert_eq!((report.code, report.json["worst"].as_str()), (0, Some("note")));
}

#[test]
fn directory_above_or_inside_of_a_volume_is_told_from_it() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    let report = case.at(case.0.path(), &[]);
    report.is_only("parent-directory", case.0.path());
    assert_eq!(report.code, 7);
    let link = case.volume().join("..data");
    let report = case.at(&link, &[]);
    assert_eq!(report.finding("inside-volume")["path"], link.to_str().unwrap());
    assert_eq!(report.code, 1);
}

#[test]
fn link_to_nothing_is_an_error_whichever_it_is() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    let key = case.volume().join("gone");
    symlink("..data/gone", &key).unwrap();
    case.report(&[]).is_only("broken-link", &key);
    fs::remove_file(&key).unwrap();
    let link = case.volume().join("..data");
    let version = fs::read_link(&link).unwrap();
    fs::rename(case.volume().join(version), case.path("elsewhere")).unwrap();
    case.report(&[]).is_only("broken-link", &link);
    for target in ["../elsewhere", "k"] {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        let report = case.report(&[]);
        assert!(report.codes().contains("broken-link"), "{target}: {report:#?}");
    }
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    assert!(case.report(&[]).codes().contains("broken-link"));
}

#[test]
fn what_a_crashed_writer_leaves_is_found_and_a_rotation_is_not() {
    let case = Case::new();
    let crash = |value: &str| {
        let mut rotation = case.writer().rotation(payload(&[("k", value)])).unwrap();
        rotation.run_until(Step::is_swap).unwrap();
    };
    fs::create_dir(case.volume()).unwrap();
    crash("1");
    case.report(&[]).is_only("interrupted-write", &case.volume());
    case.write(&[("k", "1")]);
    crash("2");
    let report = case.report(&[]);
    report.is_only("interrupted-write", &case.volume());
    assert!(
        report.finding("interrupted-write")["message"].as_str().unwrap().contains("..data_tmp")
    );
    // While somebody rotates all the time, nothing is ever left for long.
    let fresh = Case::new();
    fresh.write(&[("k", "0")]);
    let (is_over, rotated) = (std::sync::atomic::AtomicBool::new(false), fresh.writer());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 0;
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                value += 1;
                rotated.write(payload(&[("k", &value.to_string())])).unwrap();
                std::thread::park_timeout(std::time::Duration::from_millis(20));
            }
        });
        let reports: Vec<_> = (0..20).map(|_| fresh.report(&["--require=db:k"])).collect();
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        for report in reports {
            assert_eq!(report.findings().len(), 0, "{report:#?}");
        }
    });
}

#[test]
fn empty_volume_is_a_warning_unless_it_is_allowed() {
    let case = Case::new();
    case.writer().write(Payload::new().with("k", "1")).unwrap();
    case.writer().write(Payload::new()).unwrap();
    let report = case.report(&[]);
    report.is_only("empty", &case.volume());
    assert_eq!(report.code, 7);
    assert_eq!(case.report(&["--allow-empty=db"]).findings().len(), 0);
}

#[test]
fn required_key_that_is_missing_names_the_one_that_is_alike() {
    let case = Case::new();
    case.write(&[("someCredential", "1")]);
    let report = case.report(&["--require", "db:some-credential"]);
    report.is_only("missing-key", &case.volume().join("some-credential"));
    let message = report.finding("missing-key")["message"].as_str().unwrap();
    assert!(message.contains("but \"someCredential\" is"), "{message}");
    // A variable of `run` requires its key as well.
    let report = case.report(&["--restart", "--env", "A=db/other"]);
    report.is_only("missing-key", &case.volume().join("other"));
}

#[test]
fn directory_with_more_than_a_secret_has_is_a_mistake() {
    let case = Case::new();
    fs::create_dir_all(case.volume().join("1/2/3/4/5/6/7/8/9")).unwrap();
    let report = case.report(&[]);
    assert!(report.codes().contains("too-many-entries"), "{report:#?}");
    assert_eq!(report.code, 1);
}

/// Renames the version that is published, as if it had been written at another time.
fn date(volume: &Path, stamp: &str) {
    let link = volume.join("..data");
    let version = fs::read_link(&link).unwrap();
    fs::rename(volume.join(version), volume.join(stamp)).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(stamp, &link).unwrap();
}

#[test]
fn age_and_future_come_from_the_kubelets_own_time() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    date(&case.volume(), "..2020_01_02_03_04_05.1");
    assert_eq!(case.report(&[]).findings().len(), 0, "age is no matter unless asked for");
    let report = case.report(&["--older-than", "90d"]);
    report.is_only("old-secret", &case.volume());
    assert_eq!(report.code, 7);
    let message = report.finding("old-secret")["message"].as_str().unwrap();
    assert!(message.contains("2020-01-02T03:04:05Z"), "{message}");
    date(&case.volume(), "..2900_01_02_03_04_05.1");
    case.report(&[]).is_only("clock-skew", &case.volume());
}

#[test]
fn volumes_that_serve_would_refuse_are_findings() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    symlink("v", case.path("link")).unwrap();
    let (one, two) = (volume("a", &case.volume()), volume("b", &case.path("link")));
    let report = doctor(case.0.path(), &["--volume", &one, "--volume", &two]);
    report.is_only("same-directory", &case.path("link"));
    case.at(&case.path("x"), &[]).is_only("missing-directory", &case.path("x"));
    let other = AtomicWriter::new(case.path("other"));
    other.write(payload(&[("k", "1")])).unwrap();
    let named = volume("a", &case.path("other"));
    let report = doctor(case.0.path(), &["--volume", &one, "--volume", &named]);
    report.is_only("same-name", &case.path("other"));
}

#[test]
fn variables_without_restart_stay_as_they_are() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    let report = case.report(&["--env-from=db"]);
    assert_eq!((report.codes(), report.code), (BTreeSet::from(["environment-stale"]), 7));
    assert_eq!(case.report(&["--env-from=db", "--restart"]).findings().len(), 0);
}

#[test]
fn place_of_the_socket_is_examined() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    fs::write(case.path("file"), "").unwrap();
    let args = |socket: &Path| {
        let mut command = Command::new(BINARY);
        plain(&mut command).args(["doctor", "--json", "--detector=poll", "--volume"]);
        command.arg(volume("db", &case.volume())).arg("--socket").arg(socket);
        Report::of(&command.output().unwrap())
    };
    args(&case.path("file")).is_only("socket-taken", &case.path("file"));
    args(&case.path("file/s.sock")).is_only("socket-directory", &case.path("file"));
    let long = case.path(&"x".repeat(120));
    args(&long).is_only("socket-path", &long);
    assert_eq!(args(&case.path("made/later/s.sock")).findings().len(), 0);
}

#[test]
fn inotify_is_tried_and_leaves_nothing_behind() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    let before = listing(&case.volume());
    let scratch = case.path("tmp");
    fs::create_dir(&scratch).unwrap();
    let mut command = Command::new(BINARY);
    plain(&mut command).args(["doctor", "--json", "--volume"]).arg(case.volume());
    command.arg("--socket").arg(case.path("s.sock")).env("TMPDIR", &scratch);
    let report = Report::of(&command.output().unwrap());
    // Other users of this machine may hold nearly all that there is.
    let is_about_limits = |code: &&str| code.starts_with("inotify-") && !code.ends_with("untested");
    assert!(report.codes().iter().all(is_about_limits), "{report:#?}");
    assert_eq!(listing(&scratch), [] as [String; 0]);
    assert_eq!(listing(&case.volume()), before);
}

fn listing(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn settings_come_from_the_file_and_wrong_ones_are_usage() {
    let case = Case::new();
    let file = case.path("sw.toml");
    let table = format!("[[volume]]\nname = \"of-file\"\npath = \"{}\"\n", case.volume().display());
    fs::write(&file, table).unwrap();
    let report = doctor(case.0.path(), &["--config", file.to_str().unwrap()]);
    report.is_only("missing-directory", &case.volume());
    assert_eq!(report.finding("missing-directory")["volume"], "of-file");
    for args in [
        &["--older-than", "soon"][..],
        &["--volume", ""],
        &["--volume", "/v", "--require", "x:k"],
        &["--config", "/nonexistent.toml"],
        &["--poll-interval", "soon"],
        &["--nonsense"],
    ] {
        let mut command = Command::new(BINARY);
        let output = plain(&mut command).arg("doctor").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && !stderr(&output).contains("panicked"), "{args:?}");
    }
}

#[test]
fn text_has_a_sentence_each_for_what_why_and_what_to_do() {
    let case = Case::new();
    let mut command = Command::new(BINARY);
    plain(&mut command).args(["doctor", "--detector=poll", "--volume"]).arg(case.volume());
    let output = command.arg("--socket").arg(case.path("s.sock")).output().unwrap();
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "error: missing-directory (volume v)");
    for (line, label) in lines[1..4].iter().zip(["  what: ", "  why:  ", "  do:   "]) {
        assert!(line.starts_with(label) && line.ends_with('.'), "{text}");
    }
    let end =
        format!("1 error, 0 warnings, 0 notes; volumes examined: v={}", case.volume().display());
    assert_eq!(lines[5], end);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
}

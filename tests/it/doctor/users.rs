//! What another user may not read or write.

use super::*;
use crate::faults::{as_nobody, binary_for_others, open_up};

/// What the doctor says to a user without rights; `None`, loudly, where there can be none.
fn as_other(case: &Case, socket: &Path) -> Option<Report> {
    open_up(case.0.path());
    let mut command = Command::new(binary_for_others(case.0.path()));
    if !as_nobody(&mut command) {
        return None;
    }
    plain(&mut command).args(["doctor", "--json", "--detector=poll", "--volume"]);
    command.arg(volume("db", &case.volume())).arg("--socket").arg(socket);
    Some(Report::of(&command.output().unwrap()))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A place where everybody may make a socket.
fn open_socket(case: &Case) -> PathBuf {
    let directory = case.path("open");
    fs::create_dir_all(&directory).unwrap();
    set_mode(&directory, 0o777);
    directory.join("s.sock")
}

#[test]
fn key_that_only_its_owner_reads_is_named_with_mode_and_owner() {
    let case = Case::new();
    let payload = Payload::new().with("a", "1").with_mode("k", "canary-value", 0o400);
    case.writer().write(payload).unwrap();
    let socket = open_socket(&case);
    let Some(report) = as_other(&case, &socket) else { return };
    let version = fs::read_link(case.volume().join("..data")).unwrap();
    report.is_only("unreadable", &case.volume().join(version).join("k"));
    let finding = report.finding("unreadable");
    let message = finding["message"].as_str().unwrap();
    assert!(message.starts_with("uid 65534 may not read"), "{message}");
    assert!(message.ends_with("mode 0400, owner 0:0."), "{message}");
    assert!(finding["advice"].as_str().unwrap().contains("fsGroup"));
    assert!(!report.json.to_string().contains("canary"));
    assert_eq!(report.code, 1);
}

#[test]
fn directory_that_is_closed_is_named_wherever_it_is() {
    let case = Case::new();
    case.write(&[("k", "1"), ("sub/k", "1")]);
    let socket = open_socket(&case);
    let version = case.volume().join(fs::read_link(case.volume().join("..data")).unwrap());
    for closed in [version.join("sub"), version.clone(), case.volume()] {
        set_mode(&closed, 0o700);
        let Some(report) = as_other(&case, &socket) else { return };
        report.is_only("unreadable", &closed);
        set_mode(&closed, 0o755);
    }
    let Some(report) = as_other(&case, &socket) else { return };
    assert_eq!(report.findings().len(), 0, "{report:#?}");
}

#[test]
fn directory_above_the_volume_that_is_closed_is_the_one_named() {
    let case = Case::new();
    let below = case.volume().join("below");
    AtomicWriter::new(&below).write(payload(&[("k", "1")])).unwrap();
    set_mode(&case.volume(), 0o700);
    let socket = open_socket(&case);
    open_up(case.0.path());
    let mut command = Command::new(binary_for_others(case.0.path()));
    if !as_nobody(&mut command) {
        return;
    }
    plain(&mut command).args(["doctor", "--json", "--detector=poll", "--volume"]).arg(&below);
    let report = Report::of(&command.arg("--socket").arg(socket).output().unwrap());
    report.is_only("unreadable", &case.volume());
}

#[test]
fn socket_directory_that_this_user_may_not_write_to_is_an_error() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    let closed = case.path("closed");
    fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o755);
    let Some(report) = as_other(&case, &closed.join("s.sock")) else { return };
    report.is_only("socket-directory", &closed);
    let missing = closed.join("later");
    let Some(report) = as_other(&case, &missing.join("s.sock")) else { return };
    report.is_only("socket-directory", &missing);
    let message = report.finding("socket-directory")["message"].as_str().unwrap();
    assert!(message.contains("uid 65534") && message.contains("0755"), "{message}");
}

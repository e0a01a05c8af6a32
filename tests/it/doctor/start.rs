//! What `serve` and `run` say by themselves.

use super::*;

const SAID: &str = "the doctor has found something";

fn count(process: &Process) -> usize {
    process.output().matches(SAID).count()
}

#[test]
fn serve_warns_once_after_it_is_ready() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    fs::create_dir(case.volume().join("..2020_01_02_03_04_05.1")).unwrap();
    let sidecar = Sidecar::start(&["--volume", &volume("db", &case.volume())]);
    sidecar.until("db/k", "1");
    sidecar.process.until_said(SAID);
    let output = sidecar.process.output();
    let line = output.lines().find(|line| line.contains(SAID)).unwrap();
    assert!(line.contains(r#"code="interrupted-write""#) && line.contains(" WARN "), "{line}");
    assert!(output.find("snapshot accepted").unwrap() < output.find(SAID).unwrap(), "{output}");
    case.write(&[("k", "2")]);
    sidecar.until("db/k", "2");
    assert_eq!(count(&sidecar.process), 1);
}

#[test]
fn healthy_volume_is_no_line_of_the_log() {
    let case = Case::new();
    case.write(&[("k", "1")]);
    let mut command = Command::new(BINARY);
    let socket = case.path("s.sock");
    plain(&mut command).args(["serve", "--log-level", "debug", "--volume"]).arg(case.volume());
    let sidecar = Sidecar::spawn(&socket, command.arg("--socket").arg(&socket));
    sidecar.process.until_said("the doctor has looked findings=0");
    assert_eq!(count(&sidecar.process), 0, "{}", sidecar.process.output());
}

/// A look right at the start would call it missing.
#[test]
fn volume_that_is_about_to_be_mounted_is_waited_for() {
    let case = Case::new();
    let sidecar =
        Sidecar::start(&["--log-level", "debug", "--volume", &volume("db", &case.volume())]);
    sidecar.process.until_said("nothing acceptable yet");
    // It answers once everything has been started, the doctor's thread among it.
    assert_eq!(sidecar.get("/readyz").status, 503);
    case.write(&[("k", "1")]);
    sidecar.process.until_said("the doctor has looked");
    let output = sidecar.process.output();
    assert!(!output.contains("missing-directory"), "{output}");
}

/// The volume never becomes ready, and the doctor says why all the same.
#[test]
fn run_warns_of_a_volume_that_does_not_become_ready() {
    let case = Case::new();
    let mut command = Command::new(BINARY);
    plain(&mut command).arg("run").arg("--volume").arg(case.volume());
    command.arg("--socket").arg(case.path("s.sock")).args(["--", "true"]);
    let process = Process::spawn(&mut command);
    process.until_said(SAID);
    assert!(process.output().contains(r#"code="missing-directory""#), "{}", process.output());
}

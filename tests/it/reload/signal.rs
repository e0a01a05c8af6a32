//! Signals to real programs: with a handler, without one, and with one that comes later.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::Stage;
use crate::fixture::{Mount, eventually};
use crate::sidecar::{BINARY, Process, Sidecar, stdout, volume};

/// Counts its signals in a file; installs its handler once the file `go` is there.
const LATE: &str = "
import os, signal, sys, time
def handler(*_):
    with open(sys.argv[1] + '/told', 'a') as told: told.write('x')
print('ready', flush=True)
while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.01)
signal.signal(signal.SIGHUP, handler)
while True: signal.pause()
";

fn python(directory: &Path) -> Process {
    let process = Process::spawn(Command::new("python3").args(["-c", LATE]).arg(directory));
    process.until_said("ready");
    process
}

fn shell(script: &str) -> Process {
    let process = Process::spawn(Command::new("sh").args(["-c", script]));
    process.until_said("ready");
    process
}

fn write_pid(stage: &Stage, process: &Process) {
    fs::write(stage.path("pid"), format!("{}\n", process.pid())).unwrap();
}

fn with_pid_file() -> Stage {
    let table = "[[target]]\nname = \"app\"\npid_file = \"{dir}/pid\"\nsignal = \"hup\"\n\
                 retry_min = \"20ms\"\nretry_max = \"50ms\"\n";
    Stage::with_file(tempfile::tempdir().unwrap(), table)
}

fn detail(target: &serde_json::Value) -> String {
    target["detail"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the target is not told for this reason.
fn until_detail(stage: &Stage, expected: &str) -> String {
    eventually(expected, || Some(detail(&stage.target())).filter(|d| d.contains(expected)))
}

#[test]
fn handler_that_comes_late_is_waited_for() {
    let stage = with_pid_file();
    let mut app = python(stage.directory.path());
    write_pid(&stage, &app);
    stage.rotate("1");
    let target = stage.until_state("held");
    assert!(detail(&target).contains("does not handle SIGHUP"), "{target}");
    assert!(!app.has_ended());
    fs::write(stage.path("go"), "").unwrap();
    stage.until_told("1");
    let told = || fs::read_to_string(stage.path("told")).unwrap_or_default();
    eventually("the handler runs", || (told() == "x").then_some(()));
    let deferred = "secretwatch_signal_deferred_total{reason=\"no_handler\"}";
    assert!(stage.sidecar.metric(deferred).unwrap() >= 1.0);
    assert_eq!(stage.metric("reloads_failed_total"), 0.0);
    let line = format!("process {} does not handle SIGHUP", app.pid());
    stage.sidecar.process.until_said("target told");
    let log = stage.sidecar.process.output();
    assert_eq!(log.matches(&line).count(), 1, "{log}");
    assert!(!app.has_ended());
}

#[test]
fn program_without_a_handler_is_never_killed_and_status_says_why() {
    let stage = with_pid_file();
    let mut app = shell("echo ready; while :; do sleep 1; done");
    write_pid(&stage, &app);
    let deferred = "secretwatch_signal_deferred_total{reason=\"no_handler\"}";
    stage.rotate("1");
    stage.sidecar.until_metric(deferred, 3.0);
    stage.rotate("2");
    stage.sidecar.until_metric(deferred, 5.0);
    assert!(!app.has_ended());
    let shown = stdout(&stage.sidecar.client(&["status"]));
    let row = shown.lines().find(|line| line.starts_with("app ")).unwrap();
    let why = format!("process {} does not handle SIGHUP, which would kill it", app.pid());
    assert!(row.contains("held") && row.contains(&why), "{shown}");
    let json = stdout(&stage.sidecar.client(&["status", "--json"]));
    assert!(json.contains("\"state\":\"held\""), "{json}");
}

#[test]
fn program_that_ignores_the_signal_is_not_counted_as_told() {
    let stage = with_pid_file();
    let app = shell("trap '' HUP; echo ready; while :; do sleep 1; done");
    write_pid(&stage, &app);
    stage.rotate("1");
    until_detail(&stage, "ignores SIGHUP");
}

#[test]
fn program_that_comes_back_under_another_pid_is_told() {
    let stage = with_pid_file();
    fs::write(stage.path("go"), "").unwrap();
    let mut app = python(stage.directory.path());
    write_pid(&stage, &app);
    stage.rotate("1");
    stage.until_told("1");
    let told = || fs::read_to_string(stage.path("told")).unwrap_or_default();
    eventually("the handler runs", || (told() == "x").then_some(()));
    app.signal(nix::sys::signal::Signal::SIGKILL);
    app.wait();
    stage.rotate("2");
    until_detail(&stage, "is stale: no process has the pid");
    let app = python(stage.directory.path());
    write_pid(&stage, &app);
    stage.until_told("2");
    eventually("the handler runs", || (told() == "xx").then_some(()));
}

#[test]
fn pid_file_that_is_absent_or_holds_no_pid_says_so() {
    let stage = with_pid_file();
    stage.rotate("1");
    until_detail(&stage, "is not there: has the app been started?");
    for text in ["", "nginx", "-1", "0", "12 34", "99999999999"] {
        fs::write(stage.path("pid"), text).unwrap();
        until_detail(&stage, "holds no pid");
        fs::remove_file(stage.path("pid")).unwrap();
        until_detail(&stage, "is not there");
    }
    nix::unistd::mkfifo(&stage.path("pid"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    until_detail(&stage, "holds no pid");
}

#[test]
fn process_is_found_by_its_name_whenever_it_starts() {
    let name = format!("sw-app-{}", std::process::id());
    let stage = Stage::start(&["--notify-process", &name, "--notify-signal", "SIGUSR1"]);
    stage.rotate("1");
    until_detail(&stage, "no process has an executable or a comm named");
    let program = stage.path(&name);
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), &program).unwrap();
    let script = "trap 'echo told' USR1; echo ready; while :; do read line < fifo; done";
    nix::unistd::mkfifo(&stage.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = Command::new(&program);
    let app = Process::spawn(command.args(["-c", script]).current_dir(stage.directory.path()));
    app.until_said("ready");
    stage.until_told("1");
    app.until_said("told");
}

#[test]
fn process_of_another_user_is_explained() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mount = Mount::new();
    mount.rotate(&[("password", "0")]);
    let app = shell("trap 'echo told' HUP; echo ready; while :; do sleep 0.1; done");
    let directory = tempfile::tempdir().unwrap();
    let mut permissions = fs::metadata(directory.path()).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o777);
    fs::set_permissions(directory.path(), permissions.clone()).unwrap();
    let above = mount.path();
    fs::set_permissions(above.parent().unwrap(), permissions).unwrap();
    let binary = directory.path().join("secretwatch");
    fs::copy(BINARY, &binary).unwrap();
    let pid_file = directory.path().join("pid");
    fs::write(&pid_file, app.pid().to_string()).unwrap();
    let socket = directory.path().join("s.sock");
    let mut command = Command::new(&binary);
    command
        .args(["serve", "--volume", &volume("db", &above), "--socket-mode", "0666"])
        .args(["--allow-uid", "0"])
        .arg("--socket")
        .arg(&socket)
        .arg("--notify-pid-file")
        .arg(&pid_file)
        .uid(65534)
        .gid(65534);
    let sidecar = Sidecar::spawn(&socket, &mut command);
    sidecar.until("db/password", "0");
    mount.rotate(&[("password", "1")]);
    let detail = eventually("the failure is shown", || {
        let target = sidecar.get("/v1/secrets").json()["targets"][0].clone();
        (target["state"] == "failing").then(|| detail(&target))
    });
    let expected = format!(
        "process {} runs as uid 0, this process as uid 65534, and may not signal it: give both \
         the same uid",
        app.pid()
    );
    assert_eq!(detail, expected);
}

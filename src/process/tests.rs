//! Tests with real processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;

struct Running(Child);

impl Running {
    /// Waits until the program has printed its first line.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn shell(script: &str) -> Self {
        Self::start(Command::new("sh").args(["-c", script]))
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn signal_goes_only_to_a_process_that_handles_it() {
    for (trap, expected) in [
        ("trap 'exit 7' HUP", Disposition::Handled),
        ("trap '' HUP", Disposition::Ignored),
        (":", Disposition::Default),
    ] {
        let mut running = Running::shell(&format!("{trap}; echo ready; read line"));
        let process = Process::open(running.pid()).unwrap();
        assert_eq!(process.disposition(Signal::SIGHUP).unwrap(), expected, "{trap}");
        let outcome = signal_if_handled(&process, Signal::SIGHUP);
        match expected {
            Disposition::Handled => {
                outcome.unwrap();
                drop(running.0.stdin.take());
                assert_eq!(running.0.wait().unwrap().code(), Some(7));
            }
            Disposition::Ignored => {
                assert!(matches!(outcome, Err(ProcessError::Ignored { .. })), "{outcome:?}");
            }
            Disposition::Default => {
                assert!(matches!(outcome, Err(ProcessError::NoHandler { .. })), "{outcome:?}");
                assert!(process.is_alive());
            }
        }
    }
}

/// A program that handles HUP by ending with 7, under this pid, which is free. `None` where the
/// kernel does not let a process choose.
fn with_pid(pid: i32) -> Option<Running> {
    const ATTEMPTS: usize = 1000;
    for _ in 0..ATTEMPTS {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let running = Running::shell("trap 'exit 7' HUP; echo ready; read line");
        if running.pid() == pid {
            return Some(running);
        }
    }
    panic!("other processes took pid {pid} in each of {ATTEMPTS} attempts");
}

#[test]
fn process_with_a_reused_pid_is_never_signalled() {
    let mut first = Running::shell("trap : HUP; echo ready; read line");
    let process = Process::open(first.pid()).unwrap();
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let Some(mut second) = with_pid(first.pid()) else {
        eprintln!("NOT RUN: this user may not choose a pid, so that one is reused");
        assert!(std::env::var_os("CI").is_none(), "in CI every test has to run");
        return;
    };
    let outcome = signal_if_handled(&process, Signal::SIGHUP);
    assert!(matches!(outcome, Err(ProcessError::Gone(_))), "{outcome:?}");
    assert!(matches!(process.send(Signal::SIGKILL), Err(ProcessError::Gone(_))));
    drop(second.0.stdin.take());
    assert_eq!(second.0.wait().unwrap().code(), Some(1));
}

#[test]
fn process_that_has_ended_is_gone_before_and_after_it_is_waited_for() {
    let mut running = Running::shell("trap : HUP; echo ready; read line");
    let process = Process::open(running.pid()).unwrap();
    process.send(Signal::SIGKILL).unwrap();
    while process.is_alive() {
        std::thread::yield_now();
    }
    let gone = |outcome| matches!(outcome, Err(ProcessError::Gone(_)));
    assert!(gone(signal_if_handled(&process, Signal::SIGHUP)));
    assert!(gone(Process::open(running.pid()).map(|_| ())));
    assert!(process.started().is_none());
    running.0.wait().unwrap();
    assert!(gone(Process::open(running.pid()).map(|_| ())));
    assert!(matches!(process.send(Signal::SIGHUP), Err(ProcessError::Gone(_))));
}

#[test]
fn impossible_pids_are_refused() {
    for pid in [0, -1, i32::MIN] {
        assert!(matches!(Process::open(pid), Err(ProcessError::NotAPid(_))), "{pid}");
    }
}

#[test]
fn processes_are_found_by_the_exact_name_of_the_executable_or_comm() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sw-find-me");
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), &program).unwrap();
    let start = || {
        Running::start(Command::new(&program).arg0("other").args(["-c", "echo ready; read line"]))
    };
    let (first, second) = (start(), start());
    assert_eq!(find("sw-find-me", Which::Oldest).unwrap(), [first.pid()]);
    let mut all = find("sw-find-me", Which::All).unwrap();
    all.sort_unstable();
    let mut expected = [first.pid(), second.pid()];
    expected.sort_unstable();
    assert_eq!(all, expected);
    assert!(find("sw-find", Which::All).unwrap().is_empty());
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let own_pid: i32 = std::process::id().try_into().unwrap();
    assert!(!find(own.trim_end(), Which::All).unwrap().contains(&own_pid));
}

#[test]
fn other_user_is_named_with_what_to_do() {
    let error = ProcessError::NotPermitted { pid: 7, theirs: "0".to_owned(), ours: 65534 };
    let text = error.to_string();
    assert!(text.contains("uid 0") && text.contains("uid 65534"), "{text}");
    assert!(text.ends_with("give both the same uid"), "{text}");
}

#[test]
fn process_with_a_name_that_is_no_text_is_examined_all_the_same() {
    let script = r"trap : HUP; printf '\377' >/proc/$$/comm; echo ready; read line";
    let running = Running::shell(script);
    let process = Process::open(running.pid()).unwrap();
    assert_eq!(process.disposition(Signal::SIGHUP).unwrap(), Disposition::Handled);
}

#[test]
fn status_of_any_length_is_read_to_its_end() {
    for length in [0, 1, STATUS_BYTES - 1, STATUS_BYTES, STATUS_BYTES + 1, 5 * STATUS_BYTES] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![b'x'; length]).unwrap();
        assert_eq!(read_whole(file.as_file()).unwrap().len(), length);
    }
}

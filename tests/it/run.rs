//! `secretwatch run` with real children.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::faults::unshare;
use crate::fixture::{Mount, eventually};
use crate::reload::server::{Behaviour, OK, Server};
use crate::sidecar::{BINARY, Process, children, stderr, stdout, volume};

/// Says what it is told: `up`, then each signal with the value of the key `k` at that time.
const APP: &str = r#"
import os, signal, sys, time
def told(number, frame):
    # Not `print`, which fails where the next signal comes before it has returned.
    value = open(sys.argv[1] + "/k").read()
    os.write(1, f"got {signal.Signals(number).name} {value}\n".encode())
for name in sys.argv[2].split(","):
    signal.signal(getattr(signal, name), told)
print("up", os.getpid(), flush=True)
while True:
    # Not `pause`: a signal just before it would be seen only with the next one.
    time.sleep(0.02)
"#;

/// A volume with the key `k`, and a supervisor over it.
struct Run {
    mount: Mount,
    directory: TempDir,
    process: Process,
}

fn command(mount: &Mount, socket: &std::path::Path, args: &[&str], child: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("run").arg("--socket").arg(socket);
    command.args(["--volume", &volume("db", &mount.path())]).args(args).arg("--").args(child);
    command
}

impl Run {
    fn start(args: &[&str], child: &[&str]) -> Self {
        let (mount, directory) = (Mount::new(), tempfile::tempdir().unwrap());
        mount.rotate(&[("k", "1")]);
        let child: Vec<_> =
            child.iter().map(|word| word.replace("{db}", mount.path().to_str().unwrap())).collect();
        let child: Vec<_> = child.iter().map(String::as_str).collect();
        let socket = directory.path().join("s.sock");
        let process = Process::spawn(&mut command(&mount, &socket, args, &child));
        Self { mount, directory, process }
    }

    /// Starts the Python app with handlers for these signals, and waits until it is up.
    fn app(args: &[&str], signals: &str) -> Self {
        let run = Self::start(args, &["python3", "-c", APP, "{db}", signals]);
        run.process.until_said("up ");
        run
    }

    fn rotate(&self, value: &str) {
        self.mount.rotate(&[("k", value)]);
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s.sock")
    }

    fn said(&self, text: &str) {
        self.process.until_said(text);
    }

    fn count(&self, text: &str) -> usize {
        self.process.output().matches(text).count()
    }

    fn said_times(&self, text: &str, times: usize) {
        let what = format!("{text:?} is said {times} times");
        eventually(&what, || (self.count(text) >= times).then_some(()));
    }

    /// What a client command prints.
    fn client(&self, args: &[&str]) -> String {
        let mut command = Command::new(BINARY);
        let output = command.args(args).arg("--socket").arg(self.socket()).output().unwrap();
        stdout(&output) + &stderr(&output)
    }

    /// Ends it by SIGTERM, and gives its code.
    fn stop(mut self) -> Option<i32> {
        self.process.signal(Signal::SIGTERM);
        self.code()
    }

    fn code(&mut self) -> Option<i32> {
        self.process.wait().code()
    }
}

/// What a process shows after this label in `/proc/<pid>/status`.
fn status(pid: Pid, label: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(label)).unwrap().trim().to_owned()
}

fn only_child(run: &Run) -> Pid {
    eventually("there is a child", || {
        run.count("started the child").checked_sub(1)?;
        children(run.process.pid()).first().map(|(pid, _)| *pid)
    })
}

fn finish(args: &[&str], child: &[&str]) -> Output {
    let (mount, directory) = (Mount::new(), tempfile::tempdir().unwrap());
    mount.rotate(&[("k", "1")]);
    let mut command = command(&mount, &directory.path().join("s.sock"), args, child);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn running_app_is_signalled_after_each_rotation() {
    let run = Run::app(&["--signal", "HUP"], "SIGHUP");
    for value in ["2", "3"] {
        run.rotate(value);
        run.said(&format!("got SIGHUP {value}"));
    }
    assert_eq!(run.count("started the child"), 1);
    assert_eq!(run.stop(), Some(143));
}

#[test]
fn all_other_targets_are_told_as_well() {
    let server = Server::start(Behaviour::Answer(OK));
    let directory = tempfile::tempdir().unwrap();
    let (told, pid_file) = (directory.path().join("told"), directory.path().join("pid"));
    let other =
        Process::spawn(Command::new("sh").args([
            "-c",
            "trap 'echo told; exit 7' USR1; echo ready; while :; do sleep 0.05; done",
        ]));
    other.until_said("ready");
    fs::write(&pid_file, other.pid().to_string()).unwrap();
    let hook = format!("cp {{path}}/k {}", told.display());
    let pid_file = pid_file.display().to_string();
    let url = server.url("/-/reload");
    let args = ["--signal", "HUP", "--notify-http", &url, "--notify-exec", &hook];
    let more = ["--notify-pid-file", &pid_file, "--notify-signal", "USR1"];
    let run = Run::app(&[args.as_slice(), &more].concat(), "SIGHUP");
    run.rotate("2");
    run.said("got SIGHUP 2");
    let received = server.until_requests(1);
    assert!(received[0].head.starts_with("POST /-/reload"), "{received:?}");
    eventually("the hook has run", || (fs::read_to_string(&told).ok()? == "2").then_some(()));
    other.until_said("told");
    assert_eq!(run.stop(), Some(143));
}

#[test]
fn signal_waits_until_the_app_has_its_handler() {
    let late = format!("import time\nprint('early', flush=True)\ntime.sleep(2)\n{APP}");
    let run = Run::start(&["--signal", "SIGHUP"], &["python3", "-c", &late, "{db}", "SIGHUP"]);
    run.said("early");
    run.rotate("2");
    run.said("target held");
    run.said("got SIGHUP 2");
    assert_eq!(run.count("target held"), 1, "said once");
}

#[test]
fn app_that_never_handles_the_signal_is_never_killed() {
    for child in [["python3", "-c", "import time; time.sleep(1000)"], ["sleep", "1000", ""]] {
        let child: Vec<_> = child.into_iter().filter(|word| !word.is_empty()).collect();
        let run = Run::start(&["--signal", "USR1"], &child);
        let pid = only_child(&run);
        for value in ["2", "3"] {
            run.rotate(value);
            run.said(&format!("generation={value}"));
        }
        run.said("target held");
        let log = run.process.output();
        assert!(log.contains(&format!("process {pid} does not handle")), "{log}");
        let status = run.client(&["status"]);
        assert!(status.contains(&format!("process {pid} does not handle")), "{status}");
        assert_eq!(only_child(&run), pid);
        assert_eq!(run.stop(), Some(143));
    }
}

#[test]
fn many_rotations_are_few_signals_and_the_last_value() {
    let run = Run::app(&["--signal", "HUP"], "SIGHUP");
    for value in 2..=200 {
        run.rotate(&value.to_string());
    }
    run.said("got SIGHUP 200");
    let signals = run.count("signalled the child");
    assert!(signals <= 30, "{signals} signals");
}

const SHOW: &str = "echo value=$K; exec sleep 1000";

#[test]
fn restarted_app_has_the_new_environment() {
    let run = Run::start(&["--restart", "--env", "K=db/k"], &["sh", "-c", SHOW]);
    run.said("value=1");
    run.rotate("2");
    run.said("value=2");
    assert_eq!(run.count("restarting the child"), 1);
    // The restarted app has adopted the rotation by that, once it has run for a while.
    let adopted = ["wait", "db", "--adopted", "--consumer", "child", "--timeout", "30s"];
    let printed = run.client(&adopted);
    assert!(!printed.contains("secretwatch:"), "{printed}");
    assert_eq!(run.stop(), Some(143));
}

#[test]
fn every_key_of_a_volume_becomes_a_variable() {
    let (mount, directory) = (Mount::new(), tempfile::tempdir().unwrap());
    mount.rotate(&[("some-credential", "a b"), ("tls.crt", "c")]);
    let child = ["sh", "-c", "echo \"$SOME_CREDENTIAL,$TLS_CRT\""];
    let args = ["--restart", "--env-from", "db"];
    let mut command = command(&mount, &directory.path().join("s.sock"), &args, &child);
    assert_eq!(stdout(&command.output().unwrap()), "a b,c\n");
    mount.rotate(&[("a-b", "canary"), ("a.b", "canary")]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("variable `A_B` would come from key `db/a-b`"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn old_app_stays_where_a_new_environment_cannot_be_made() {
    let run = Run::start(&["--restart", "--env-from", "db"], &["sh", "-c", SHOW]);
    run.said("value=1");
    run.mount.rotate(&[("k", "2"), ("K", "clash")]);
    run.said("target not told");
    assert_eq!(run.count("restarting the child"), 0);
    run.rotate("3");
    run.said("value=3");
}

#[test]
fn app_that_ignores_term_is_killed_at_the_end_of_its_grace() {
    let deaf = format!("trap '' TERM; {SHOW}");
    let args = ["--restart", "--env", "K=db/k", "--stop-grace", "100ms"];
    let mut run = Run::start(&args, &["sh", "-c", &deaf]);
    run.said("value=1");
    run.rotate("2");
    run.said("because=\"the end of its grace\"");
    run.said("value=2");
    run.process.signal(Signal::SIGTERM);
    assert_eq!(run.code(), Some(137));
}

#[test]
fn second_term_kills() {
    let deaf = "trap '' TERM; echo deaf; exec sleep 1000";
    let mut run = Run::start(&["--stop-grace", "1h"], &["sh", "-c", deaf]);
    run.said("deaf");
    run.process.signal(Signal::SIGTERM);
    run.said("passed a signal on to the child signal=TERM");
    run.process.signal(Signal::SIGTERM);
    assert_eq!(run.code(), Some(137));
    assert!(run.process.output().contains("the second SIGTERM"));
}

/// Ends only once somebody has written to the fifo.
const SLOW: &str = r#"
import os, signal, time
def end(number, frame):
    print("ending", flush=True)
    open("fifo").readline()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("value=" + os.environ["K"], flush=True)
while True:
    time.sleep(0.02)
"#;

#[test]
fn rotation_during_a_restart_reaches_the_new_app() {
    let (mount, directory) = (Mount::new(), tempfile::tempdir().unwrap());
    mount.rotate(&[("k", "1")]);
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let args = ["--restart", "--env", "K=db/k"];
    let mut command =
        command(&mount, &directory.path().join("s.sock"), &args, &["python3", "-c", SLOW]);
    let process = Process::spawn(command.current_dir(directory.path()));
    process.until_said("value=1");
    mount.rotate(&[("k", "2")]);
    process.until_said("ending");
    mount.rotate(&[("k", "3")]);
    process.until_said("generation=3");
    fs::write(&fifo, "go\n").unwrap();
    process.until_said("value=3");
    assert!(!process.output().contains("value=2"));
}

#[test]
fn app_that_fails_after_a_restart_is_tried_again_and_heals_with_better_values() {
    let picky = "echo value=$K; [ \"$K\" = bad ] && exit 9; exec sleep 1000";
    let run = Run::start(&["--restart", "--env", "K=db/k"], &["sh", "-c", picky]);
    run.said("value=1");
    run.rotate("bad");
    run.said_times("value=bad", 2);
    run.said("the restarted child failed within 2s: exit status: 9");
    run.rotate("good");
    run.said("value=good");
    assert_eq!(run.stop(), Some(143));
}

#[test]
fn status_of_the_app_is_the_status_of_the_supervisor() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("kill -9 $$", 137),
        ("kill -15 $$", 143),
        ("kill -40 $$", 168),
    ] {
        for mode in [&["--restart"][..], &["--signal=HUP"], &[]] {
            let output = finish(mode, &["sh", "-c", script]);
            assert_eq!(output.status.code(), Some(code), "{script}: {}", stderr(&output));
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    for (program, code) in [("/nowhere/app", 127), (file.path().to_str().unwrap(), 126)] {
        let output = finish(&[], &[program]);
        assert_eq!(output.status.code(), Some(code));
        assert!(stderr(&output).contains(program), "{}", stderr(&output));
    }
}

#[test]
fn signals_are_passed_on() {
    let all = "SIGTERM,SIGINT,SIGQUIT,SIGHUP,SIGUSR1,SIGUSR2,SIGWINCH";
    let mut run = Run::app(&[], all);
    for name in all.split(',').skip(1) {
        run.process.signal(name.parse().unwrap());
        run.said(&format!("got {name} 1"));
    }
    run.process.signal(Signal::SIGTERM);
    run.said("got SIGTERM 1");
    run.process.signal(Signal::SIGTERM);
    assert_eq!(run.code(), Some(137));
    for name in all.split(',') {
        assert_eq!(run.count(&format!("got {name}")), 1, "{name}");
    }
}

#[test]
fn first_contents_are_waited_for_up_to_the_start_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount::new();
    let socket = directory.path().join("s.sock");
    let child = ["sh", "-c", "echo started"];
    let output = command(&mount, &socket, &["--start-timeout", "50ms"], &child).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("volume `db` ("), "{}", stderr(&output));
    assert!(stderr(&output).contains("within the start timeout: "), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let mut process = Process::spawn(&mut command(&mount, &socket, &[], &child));
    process.until_said("started version");
    mount.rotate(&[("k", "1")]);
    assert_eq!(process.wait().code(), Some(0));
    // Asked to end before there is a child.
    let empty = Mount::new();
    let mut process = Process::spawn(&mut command(&empty, &socket, &[], &child));
    process.until_said("started version");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code(), Some(143));
}

#[test]
fn contents_without_a_key_of_the_environment_are_not_accepted() {
    let output = finish(&["--env", "X=db/other", "--restart", "--start-timeout=100ms"], &["true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("other"), "{}", stderr(&output));
}

/// As many as a busy shell script leaves behind in a day.
const ORPHANS: usize = 1000;

const MAKE_ORPHANS: &str = r#"
import os, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
print("made", flush=True)
sys.stdin = open(sys.argv[2])
sys.stdin.readline()
"#;

#[test]
fn orphans_are_reaped() {
    let (mount, directory) = (Mount::new(), tempfile::tempdir().unwrap());
    mount.rotate(&[("k", "1")]);
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let count = ORPHANS.to_string();
    let child = ["python3", "-c", MAKE_ORPHANS, &count, fifo.to_str().unwrap()];
    let mut process =
        Process::spawn(&mut command(&mount, &directory.path().join("s.sock"), &[], &child));
    process.until_said("made");
    eventually("only the app is left", || (children(process.pid()).len() == 1).then_some(()));
    fs::write(&fifo, "go\n").unwrap();
    assert_eq!(process.wait().code(), Some(0));
    let log = process.output();
    assert!(log.contains(&format!("orphans={ORPHANS}")), "{log}");
}

#[test]
fn first_process_of_a_pid_namespace_reaps_and_passes_the_status_on() {
    let flags = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let Some(mut unshare) = unshare(&flags) else { return };
    let (mount, directory) = (Mount::new(), tempfile::tempdir().unwrap());
    mount.rotate(&[("k", "1")]);
    let script = "echo parent=$PPID; for i in 1 2 3; do (true &); done; kill -TERM $$";
    let socket = directory.path().join("s.sock");
    let inner = command(&mount, &socket, &["--restart"], &["sh", "-c", script]);
    let output = unshare.arg(inner.get_program()).args(inner.get_args()).output().unwrap();
    assert!(stdout(&output).contains("parent=1"), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
}

#[test]
fn app_inherits_neither_descriptors_nor_blocked_signals() {
    let run = Run::app(&["--signal", "HUP"], "SIGHUP");
    let pid = only_child(&run);
    // Python itself ignores PIPE and XFSZ, so those are of a shell.
    let shell = Run::start(&[], &["sleep", "1000"]);
    let sleeper = only_child(&shell);
    let mut plain = Command::new("sleep").arg("1000").spawn().unwrap();
    let plain_pid = Pid::from_raw(plain.id().cast_signed());
    for label in ["SigBlk:", "SigIgn:"] {
        eventually("both have been executed", || {
            (status(sleeper, label) == status(plain_pid, label)).then_some(())
        });
    }
    plain.kill().unwrap();
    plain.wait().unwrap();
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    for link in links.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()) {
        let link = link.display().to_string();
        for ours in ["socket:", "inotify", "eventpoll", "pidfd"] {
            assert!(!link.contains(ours), "{link}");
        }
    }
    // Readable again after `exec`, other than the supervisor itself.
    fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(status(pid, "SigBlk:"), "0".repeat(16));
}

/// Values are where they were asked for, and nowhere else.
#[test]
fn value_is_in_the_environment_of_the_app_and_nowhere_else() {
    let canary = "canary-7d1f4e90";
    let run = Run::start(
        &["--restart", "--env", "K=db/k", "--log-level", "trace"],
        &["sh", "-c", "echo awake; exec sleep 1000"],
    );
    run.said("awake\n");
    run.rotate(canary);
    run.said_times("awake\n", 2);
    let (supervisor, child) = (run.process.pid(), only_child(&run));
    let of = |pid: Pid, file: &str| {
        String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned()
    };
    assert!(of(child, "environ").contains(canary));
    for text in [of(child, "cmdline"), of(supervisor, "cmdline"), of(supervisor, "environ")] {
        assert!(!text.contains(canary), "{text}");
    }
    for args in [&["status"][..], &["status", "--json"], &["list"]] {
        let printed = run.client(args);
        assert!(printed.contains("db") && !printed.contains(canary), "{printed}");
    }
    let metrics = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(run.socket())
        .arg("http://x/metrics")
        .output();
    if let Ok(metrics) = metrics {
        assert!(stdout(&metrics).contains("mode=\"run\""), "{}", stderr(&metrics));
        assert!(!stdout(&metrics).contains(canary));
    }
    assert!(!run.process.output().contains(canary));
}

/// Runs its arguments under a terminal of their own, types Ctrl-C once the output says `up`, and
/// ends with the status.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen, typed = b"", 0
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    seen += data
    if typed == 0 and b"up " in seen:
        os.write(terminal, b"\x03")
        typed = 1
    if typed == 1 and b"got SIGINT" in seen:
        os.write(terminal, b"\x1c")
        typed = 2
os.write(1, seen)
status = os.waitpid(pid, 0)[1]
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
"#;

#[test]
fn keys_of_a_terminal_reach_the_app_once() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let directory = tempfile::tempdir().unwrap();
    let path = mount.path();
    let child = ["python3", "-c", APP, path.to_str().unwrap(), "SIGINT"];
    let inner = command(&mount, &directory.path().join("s.sock"), &[], &child);
    let mut outer = Command::new("python3");
    outer.args(["-c", TERMINAL]).arg(inner.get_program()).args(inner.get_args());
    let output = outer.stdin(Stdio::null()).output().unwrap();
    let seen = stdout(&output);
    assert_eq!(seen.matches("got SIGINT").count(), 1, "{seen}");
    assert!(!seen.contains("passed a signal on"), "{seen}");
    // Ctrl-\ has no handler: it ends the app, and the supervisor says so.
    assert_eq!(output.status.code(), Some(131), "{seen} {}", stderr(&output));
    assert_eq!(output.status.signal(), None);
}

#[test]
fn default_socket_that_cannot_be_made_is_only_a_warning() {
    let flags = ["--user", "--map-root-user", "--mount"];
    let Some(mut unshare) = unshare(&flags) else { return };
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let script = "mount -t tmpfs -o ro none /run && exec \"$@\"";
    let dir = volume("db", &mount.path());
    unshare.args(["sh", "-c", script, "sh", BINARY, "run", "--volume", &dir]);
    let mut asked = Command::new("unshare");
    asked.args(flags).args(["sh", "-c", script, "sh", BINARY, "run", "--volume", &dir]);
    let output = unshare.args(["--", "echo", "hello"]).output().unwrap();
    assert_eq!(stdout(&output), "hello\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("there is no socket"), "{}", stderr(&output));
    let output = asked.args(["--socket=/run/a/b.sock", "--", "echo", "hello"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

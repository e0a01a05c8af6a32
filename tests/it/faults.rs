//! Faults of the world around a sidecar: each is an ordinary state that heals by itself.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tempfile::TempDir;

use crate::fixture::{Mount, eventually};
use crate::sidecar::{BINARY, Process, Sidecar, stderr, volume};

/// More than the kernel queues for one inotify instance.
fn queue_limit() -> usize {
    let text = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    text.trim().parse().unwrap()
}

/// A test that cannot run here says so loudly, and is a failure where everything must have run.
pub fn not_run(why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {why}");
    assert!(std::env::var_os("CI").is_none(), "in CI every test has to run: {why}");
}

/// `unshare` with these flags, if this machine lets it.
pub fn unshare(flags: &[&str]) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(flags);
    let works = Command::new("unshare").args(flags).arg("true").output();
    match works {
        Ok(output) if output.status.success() => Some(command),
        Ok(output) => {
            not_run(&format!("unshare {flags:?}: {}", stderr(&output)));
            None
        }
        Err(error) => {
            not_run(&format!("unshare: {error}"));
            None
        }
    }
}

/// The process is stopped while more happens than the kernel can queue for it, so the swap is among
/// the events that are lost. The poll is an hour away.
#[test]
fn overflow_of_the_queue_is_looked_after() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let args = ["--volume", &volume("db", &mount.path()), "--poll-interval", "1h"];
    let sidecar = Sidecar::start(&args);
    sidecar.until("db/k", "1");
    sidecar.until_watched();
    let pid = sidecar.process.pid();
    sidecar.process.signal(Signal::SIGSTOP);
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    let noise = mount.path().join("..noise");
    for _ in 0..=queue_limit() / 2 {
        fs::write(&noise, "").unwrap();
        fs::remove_file(&noise).unwrap();
    }
    mount.rotate(&[("k", "2")]);
    sidecar.process.signal(Signal::SIGCONT);
    sidecar.until("db/k", "2");
    sidecar.until_metric(r#"secretwatch_watch_errors_total{kind="overflow",volume="db"}"#, 1.0);
    sidecar.until_metric(r#"secretwatch_snapshots_total{detector="inotify",volume="db"}"#, 1.0);
    sidecar.process.until_said("inotify lost events");
}

/// Writes into a FIFO, without waiting for somebody to read it.
fn tell(fifo: &Path, line: &str) {
    let mut fifo = fs::OpenOptions::new().read(true).write(true).open(fifo).unwrap();
    fifo.write_all(line.as_bytes()).unwrap();
}

/// A sidecar in a user namespace of its own, where an inotify limit is ours to set.
struct Limited {
    sidecar: Sidecar,
    set: PathBuf,
    _directory: TempDir,
}

impl Limited {
    /// `limit` is `instances` or `watches`; none of them is to be had at first.
    fn start(limit: &str, mount: &Mount) -> Option<Self> {
        let mut command = unshare(&["--user", "--map-root-user"])?;
        let directory = tempfile::tempdir().unwrap();
        let (socket, set) = (directory.path().join("s.sock"), directory.path().join("set"));
        // A shell stays in the namespace and sets the limit to what it is told through a FIFO,
        // until it is told nothing more.
        nix::unistd::mkfifo(&set, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!(
            "limit=/proc/sys/user/max_inotify_{limit}; echo 0 > $limit || exit 9; \
             exec 3<>'{}'; \
             (while read -r number <&3 && [ -n \"$number\" ]; do echo $number > $limit; done) & \
             exec 3<&-; exec \"$@\"",
            set.display()
        );
        command.args(["sh", "-c", &script, "sh", BINARY, "serve", "--poll-interval", "100ms"]);
        command.args(["--volume", &volume("db", &mount.path()), "--socket"]).arg(&socket);
        let sidecar = Sidecar::spawn(&socket, &mut command);
        Some(Self { sidecar, set, _directory: directory })
    }

    fn set(&self, number: &str) {
        tell(&self.set, &format!("{number}\n"));
    }

    fn until_up(&self, is_up: f64) {
        eventually("the watch is up or down", || {
            let now = self.sidecar.metric(r#"secretwatch_watch_up{volume="db"}"#)?;
            ((now - is_up).abs() < 0.1).then_some(())
        });
    }

    fn said(&self, text: &str) -> usize {
        self.sidecar.process.output().matches(text).count()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.set("");
    }
}

#[test]
fn without_inotify_the_poll_takes_over_until_there_is_some() {
    for limit in ["instances", "watches"] {
        let mount = Mount::new();
        mount.rotate(&[("k", "1")]);
        let Some(limited) = Limited::start(limit, &mount) else { return };
        let sidecar = &limited.sidecar;
        sidecar.until("db/k", "1");
        limited.until_up(0.0);
        let errors = format!(r#"secretwatch_watch_errors_total{{kind="{limit}",volume="db"}}"#);
        // Tried again, and said once.
        sidecar.until_metric(&errors, 2.0);
        mount.rotate(&[("k", "2")]);
        sidecar.until("db/k", "2");
        sidecar.until_metric(r#"secretwatch_snapshots_total{detector="poll",volume="db"}"#, 1.0);
        limited.set("128");
        limited.until_up(1.0);
        mount.rotate(&[("k", "3")]);
        sidecar.until("db/k", "3");
        assert_eq!(limited.said("inotify cannot watch the volume"), 1, "{limit}");
        assert_eq!(limited.said("inotify watches the volume again"), 1, "{limit}");
    }
}

/// The directory is replaced when no watch is to be had any more.
#[test]
fn watch_that_cannot_be_renewed_is_replaced_by_the_poll() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let Some(limited) = Limited::start("watches", &mount) else { return };
    limited.set("128");
    limited.until_up(1.0);
    limited.set("0");
    fs::remove_dir_all(mount.path()).unwrap();
    mount.rotate(&[("k", "2")]);
    limited.sidecar.until("db/k", "2");
    limited.until_up(0.0);
    mount.rotate(&[("k", "3")]);
    limited.sidecar.until("db/k", "3");
    limited.set("128");
    limited.until_up(1.0);
}

/// In a mount namespace of its own: a failed set-up by the kubelet unmounts the volume under a
/// running container, and another mount on top is seen by no inotify watch at all.
#[test]
fn unmounted_and_remounted_volume_is_followed() {
    let Some(mut command) = unshare(&["--mount", "--user", "--map-root-user"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (socket, step) = (directory.path().join("s.sock"), directory.path().join("step"));
    let mount_point = directory.path().join("db");
    fs::create_dir(&mount_point).unwrap();
    nix::unistd::mkfifo(&step, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!(
        "v='{v}'; b='{bin}'; exec 3<>'{step}'; next() {{ read -r _ <&3; }}\n\
         mount -t tmpfs one \"$v\" && \"$b\" simulate \"$v\" k=1 || exit 9\n\
         (next; umount -l \"$v\"\n\
          next; mount -t tmpfs two \"$v\" && \"$b\" simulate \"$v\" k=2\n\
          next; mount -t tmpfs three \"$v\" && \"$b\" simulate \"$v\" k=3\n\
          next; \"$b\" simulate \"$v\" k=4) >&2 & exec 3<&-; exec \"$@\"",
        v = mount_point.display(),
        bin = BINARY,
        step = step.display(),
    );
    command.args(["sh", "-c", &script, "sh", BINARY, "serve", "--poll-interval", "100ms"]);
    command.args(["--volume", &volume("db", &mount_point), "--socket"]).arg(&socket);
    let sidecar = Sidecar::spawn(&socket, &mut command);
    let next = || tell(&step, "\n");
    sidecar.until("db/k", "1");
    next();
    eventually("the volume is held", || {
        let listed = sidecar.get("/v1/secrets").json();
        (listed["secrets"][0]["state"] == "holding").then_some(())
    });
    assert_eq!(sidecar.get("/v1/secrets/db/k").body, b"1");
    for value in ["2", "3", "4"] {
        next();
        sidecar.until("db/k", value);
    }
    assert_eq!(sidecar.metric(r#"secretwatch_holding_last_good{volume="db"}"#), Some(0.0));
}

/// Gives a command another user, if this one may.
pub fn as_nobody(command: &mut Command) -> bool {
    if !nix::unistd::geteuid().is_root() {
        not_run("only root can start a process of another user");
        return false;
    }
    command.uid(65534).gid(65534);
    true
}

/// Lets every user pass: temporary directories are closed to others.
pub fn open_up(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The binary where every user can run it.
pub fn binary_for_others(directory: &Path) -> PathBuf {
    let copy = directory.join("secretwatch");
    fs::copy(BINARY, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn file_that_only_root_can_read_is_held_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    open_up(directory.path());
    let mut command = Command::new(binary_for_others(directory.path()));
    if !as_nobody(&mut command) {
        return;
    }
    let run = directory.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
    let (socket, path) = (run.join("s.sock"), directory.path().join("db"));
    let writer = secretwatch::kubelet::AtomicWriter::new(&path);
    let payload = || secretwatch::kubelet::Payload::new().with("user", "app");
    writer.write(payload().with("k", "1")).unwrap();
    command.args(["serve", "--poll-interval", "100ms", "--volume", &volume("db", &path)]);
    command.args(["--socket-mode", "0666", "--allow-uid", "0", "--socket"]).arg(&socket);
    let sidecar = Sidecar::spawn(&socket, &mut command);
    sidecar.until("db/k", "1");
    writer.write(payload().with_mode("k", "2", 0o400)).unwrap();
    let listed = eventually("the volume is held", || {
        let listed = sidecar.get("/v1/secrets").json();
        (listed["secrets"][0]["state"] == "holding").then_some(listed)
    });
    assert_eq!(listed["secrets"][0]["reason"], "unreadable");
    let detail = listed["secrets"][0]["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "key `k` may not be read by uid 65534");
    assert_eq!(sidecar.get("/v1/secrets/db/k").body, b"1");
    // The kubelet's `fsGroup` storm may come later than the swap.
    let file = path.join("..data").join("k");
    fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
    sidecar.until("db/k", "2");
}

#[test]
fn peer_of_another_user_is_refused_and_told_what_would_let_it_in() {
    let directory = tempfile::tempdir().unwrap();
    open_up(directory.path());
    let mount = Mount::new();
    mount.rotate(&[("k", "canary-of-root")]);
    let socket = directory.path().join("s.sock");
    let args = ["--volume", &volume("db", &mount.path()), "--socket-mode", "0666"];
    let mut client = Command::new(binary_for_others(directory.path()));
    if !as_nobody(&mut client) {
        return;
    }
    client.args(["get", "db", "k", "--socket"]).arg(&socket);
    let sidecar = Sidecar::start_at(&socket, &args);
    sidecar.until("db/k", "canary-of-root");
    let refused = client.output().unwrap();
    assert_eq!(refused.status.code(), Some(5));
    assert!(stderr(&refused).contains("--allow-uid"), "{}", stderr(&refused));
    assert!(refused.stdout.is_empty());
    sidecar.until_metric(r#"secretwatch_api_denied_total{reason="peer"}"#, 1.0);
    sidecar.stop();
    let let_in = [&args[..], &["--allow-uid", "65534"]].concat();
    let sidecar = Sidecar::start_at(&socket, &let_in);
    sidecar.until("db/k", "canary-of-root");
    assert_eq!(client.output().unwrap().stdout, b"canary-of-root");
}

#[test]
fn token_is_asked_for_and_may_rotate() {
    let (mount, tokens) = (Mount::new(), Mount::new());
    mount.rotate(&[("k", "1")]);
    tokens.rotate(&[("token", "token-one\n")]);
    let file = tokens.path().join("token");
    let args = ["--volume", &volume("db", &mount.path()), "--token-file", file.to_str().unwrap()];
    let sidecar = Sidecar::start(&args);
    let with = |token: &str| {
        sidecar.get_with("/v1/secrets", &format!("authorization: Bearer {token}\r\n")).status
    };
    assert_eq!(sidecar.get("/v1/secrets").status, 401);
    assert_eq!((with("token-one"), with("token-two")), (200, 401));
    eventually("ready, and no token is asked for", || {
        (sidecar.get("/readyz").status == 200).then_some(())
    });
    tokens.rotate(&[("token", "token-two\n")]);
    eventually("the new token is taken", || (with("token-two") == 200).then_some(()));
    assert_eq!(with("token-one"), 401);
    // Without a token file there is no token any more, but nobody gets in without one either.
    fs::remove_dir_all(tokens.path()).unwrap();
    assert_eq!((with("token-two"), with("")), (200, 401));
    let client = sidecar.client(&["list"]);
    assert_eq!(client.status.code(), Some(5));
}

/// The first signal asks for an orderly end, which a client that takes its time holds up; the
/// second one does not ask.
#[test]
fn second_signal_ends_it_at_once() {
    let mount = Mount::new();
    let large = "x".repeat(900 * 1024);
    mount.rotate(&[("a", &large), ("b", &large), ("c", &large), ("d", &large)]);
    let args = ["--volume", &volume("db", &mount.path()), "--shutdown-timeout", "10m"];
    let mut sidecar = Sidecar::start(&args);
    sidecar.until("db/a", &large);
    // More than the kernel holds for a client that does not read.
    let mut stream = sidecar.connect();
    stream.write_all(b"GET /v1/secrets/db HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    sidecar.process.signal(Signal::SIGTERM);
    sidecar.process.until_said("stopping");
    assert!(!sidecar.process.has_ended(), "{}", sidecar.process.output());
    sidecar.process.signal(Signal::SIGTERM);
    assert_eq!(sidecar.process.wait().code(), Some(143));
}

/// Clients take every connection that they are given; what the engine needs is not among them.
#[test]
fn crowd_of_clients_does_not_hide_a_rotation() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s.sock");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 300 && exec \"$@\"", "sh", BINARY, "serve", "--volume"]);
    command.arg(volume("db", &mount.path())).arg("--socket").arg(&socket);
    let sidecar = Sidecar::spawn(&socket, &mut command);
    sidecar.until("db/k", "1");
    sidecar.process.until_said("fewer connections than wanted");
    let mut first = admitted(&sidecar).expect("there is room");
    let crowd: Vec<_> = (0..400).map(|_| sidecar.connect()).collect();
    mount.rotate(&[("k", "2")]);
    eventually("the rotation is served in the crowd", || {
        first.write_all(b"GET /v1/secrets/db/k HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = [0; 2048];
        let count = first.read(&mut answer).unwrap();
        answer[..count].ends_with(b"\r\n\r\n2").then_some(())
    });
    drop(crowd);
}

#[test]
fn bad_command_lines_say_what_is_wrong() {
    let mount = Mount::new();
    let dir = volume("db", &mount.path());
    for (args, said) in [
        (vec!["serve"], "volume"),
        (vec!["serve", "--volume", "/"], "name"),
        (vec!["serve", "--volume", &dir, "--poll-interval", "0s"], "poll-interval"),
        (vec!["serve", "--volume", &dir, "--poll-interval", "soon"], "poll-interval"),
        (vec!["serve", "--volume", &dir, "--socket-mode", "999"], "socket-mode"),
        (vec!["serve", "--volume", &dir, "--require", "x:k"], "not configured"),
        (vec!["serve", "--volume", &dir, "--metrics-addr", "nowhere"], "metrics-addr"),
        (vec!["serve", "--volume", &dir, "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (vec!["serve", "--volume", &dir, "--log-level", "loud"], "log-level"),
        (vec!["serve", "--volume", "/etc/passwd"], "directory"),
    ] {
        let output = Command::new(BINARY).args(&args).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?} does not say {said:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn socket_that_cannot_be_made_is_an_error_that_names_it() {
    let mount = Mount::new();
    let dir = volume("db", &mount.path());
    let long = format!("/tmp/{}/s.sock", "x".repeat(120));
    for (socket, said) in [("/proc/nowhere/s.sock", "/proc/nowhere"), (&long, "--socket")] {
        let mut command = Command::new(BINARY);
        let output =
            command.args(["serve", "--volume", &dir, "--socket", socket]).output().unwrap();
        assert!(!output.status.success());
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn thousand_clients_more_than_allowed_get_an_answer_and_block_nobody() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let args = ["--volume", &volume("db", &mount.path()), "--max-connections", "50"];
    let sidecar = Sidecar::start(&args);
    // Clients that stay, until there is no place for one more.
    let mut staying = Vec::new();
    while let Some(client) = admitted(&sidecar) {
        staying.push(client);
        assert!(staying.len() <= 50, "more than are allowed");
    }
    assert!(staying.len() >= 40, "only {} were let in", staying.len());
    // A thousand more are turned away, and those that are in are served as before.
    let turned_away: Vec<_> = (0..1_000).map(|_| sidecar.connect()).collect();
    for client in &mut staying {
        assert_eq!(ask(client), Some(200));
    }
    drop(turned_away);
    staying.truncate(20);
    sidecar.until("db/k", "1");
    assert!(sidecar.metric(r#"secretwatch_api_denied_total{reason="connections"}"#) >= Some(1.0));
}

/// A client that has been served and stays connected; `None` where it was refused.
fn admitted(sidecar: &Sidecar) -> Option<UnixStream> {
    let mut client = sidecar.connect();
    match ask(&mut client)? {
        200 => Some(client),
        status => {
            assert_eq!(status, 503);
            None
        }
    }
}

/// Asks on a connection that stays open, and gives the status; `None` where it was closed.
fn ask(client: &mut UnixStream) -> Option<u16> {
    client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
    let mut head = [0; 1024];
    let count = client.read(&mut head).ok().filter(|count| *count > 12)?;
    std::str::from_utf8(&head[9..12.min(count)]).ok()?.parse().ok()
}

#[test]
fn process_says_when_it_starts_and_stops() {
    let mount = Mount::new();
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    let process: &Process = &sidecar.process;
    process.until_said("nothing acceptable yet");
    mount.rotate(&[("k", "1")]);
    process.until_said("snapshot accepted");
    let (_, output) = sidecar.stop();
    assert!(output.contains("stopped"), "{output}");
}

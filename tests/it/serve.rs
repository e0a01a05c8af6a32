//! `secretwatch serve` as a process: what it follows, what its clients see, how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::fixture::{Mount, eventually};
use crate::sidecar::{Answer, BINARY, Process, Sidecar, stderr, stdout, volume};

fn simulate(mount: &Mount, args: &[&str]) {
    let output =
        Command::new(BINARY).arg("simulate").arg(mount.path()).args(args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn rotations_by_simulate_and_by_hand_are_served() {
    let mount = Mount::new();
    simulate(&mount, &["password=one", "nested/key=n"]);
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    sidecar.until("db/password", "one");
    assert_eq!(sidecar.get("/v1/secrets/db/nested/key").body, b"n");
    simulate(&mount, &["password=two"]);
    sidecar.until("db/password", "two");
    // By hand, as `ln -s` and `mv -T` do.
    let by_hand = mount.path().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    fs::write(by_hand.join("password"), "three").unwrap();
    symlink("by-hand", mount.path().join("..data_tmp")).unwrap();
    fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    sidecar.until("db/password", "three");
    assert_eq!(sidecar.metric(r#"secretwatch_generation{volume="db"}"#), Some(3.0));
}

#[test]
fn long_poll_answers_with_the_next_revision() {
    let mount = Mount::new();
    mount.rotate(&[("password", "one")]);
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    sidecar.until("db/password", "one");
    let first = sidecar.get("/v1/secrets/db/password");
    let target = format!("/v1/secrets/db/password?after={}&timeout=30s", first.revision());
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sidecar.get(&target));
        mount.rotate(&[("password", "two")]);
        waiting.join().unwrap()
    });
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"two"[..]));
    assert_ne!(answer.revision(), first.revision());
    let target = format!("/v1/secrets/db?after={}&timeout=1ms", answer.revision());
    assert_eq!(sidecar.get(&target).status, 304);
}

#[test]
fn revision_of_an_earlier_process_is_answered_at_once() {
    let mount = Mount::new();
    mount.rotate(&[("password", "one")]);
    let args = ["--volume", &volume("db", &mount.path())];
    let sidecar = Sidecar::start(&args);
    sidecar.until("db/password", "one");
    let before = sidecar.get("/v1/secrets/db").revision();
    sidecar.stop();
    let sidecar = Sidecar::start(&args);
    let answer = sidecar.get(&format!("/v1/secrets/db?after={before}&timeout=300s"));
    assert_eq!(answer.status, 200);
    assert_ne!(answer.revision(), before);
}

#[test]
fn events_tell_of_each_rotation_by_name_and_never_by_value() {
    let mount = Mount::new();
    mount.rotate(&[("password", "value-one"), ("gone", "x")]);
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    sidecar.until("db/password", "value-one");
    let mut stream = sidecar.connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut next = || loop {
        let line = lines.next().unwrap();
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str::<serde_json::Value>(data).unwrap();
        }
        assert!(!line.contains("value-"), "{line}");
    };
    assert_eq!(next()["initial"], true);
    mount.rotate(&[("password", "value-two"), ("new", "y")]);
    let event = next();
    assert_eq!(event["added"], serde_json::json!(["new"]));
    assert_eq!(event["removed"], serde_json::json!(["gone"]));
    assert_eq!(event["modified"], serde_json::json!(["password"]));
    assert!(!event.to_string().contains("value-"));
}

#[test]
fn client_commands_work_against_it() {
    let mount = Mount::new();
    mount.rotate(&[("password", "one\n"), ("db/user", "app")]);
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    sidecar.until("db/password", "one\n");
    let ok = |args: &[&str]| {
        let output = sidecar.client(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(ok(&["get", "db", "password"]), "one\n");
    assert_eq!(ok(&["get", "db", "db/user"]), "app");
    let document: serde_json::Value = serde_json::from_str(&ok(&["get", "db"])).unwrap();
    assert_eq!(document["data"]["password"], "b25lCg==");
    assert!(ok(&["list"]).contains("db/user"));
    sidecar.until_watched();
    assert!(ok(&["status"]).contains("inotify"));
    assert!(ok(&["status", "--json"]).contains(r#""current""#));
    ok(&["healthcheck"]);
    let revision = document["revision"].as_str().unwrap();
    let code = |args: &[&str]| sidecar.client(args).status.code().unwrap();
    assert_eq!(code(&["wait", "db", "--after", revision, "--timeout", "1ms"]), 124);
    assert_eq!(code(&["get", "nothing"]), 4);
    assert_eq!(code(&["get", "db", "nothing"]), 4);
    let next = std::thread::scope(|scope| {
        let wait = scope.spawn(|| ok(&["wait", "db", "--after", revision, "--timeout", "30s"]));
        mount.rotate(&[("password", "two")]);
        wait.join().unwrap()
    });
    assert_eq!(next.trim(), sidecar.get("/v1/secrets/db").revision());
}

/// As manifests write them that leave a setting open.
#[test]
fn empty_variables_count_as_absent_for_clients_too() {
    let output = Command::new(BINARY)
        .arg("list")
        .env("SECRETWATCH_SOCKET", "")
        .env("SECRETWATCH_TOKEN_FILE", "")
        .output()
        .unwrap();
    let text = stderr(&output);
    assert!(text.contains("/run/secretwatch/secretwatch.sock"), "{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
}

#[test]
fn follow_prints_a_line_for_each_rotation() {
    let mount = Mount::new();
    mount.rotate(&[("password", "value-one")]);
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    let mut command = Command::new(BINARY);
    command.args(["follow", "db", "--socket"]).arg(sidecar.socket());
    let mut follow = Process::spawn(&mut command);
    follow.until_said("db");
    mount.rotate(&[("password", "value-two")]);
    follow.until_said("~password");
    assert!(!follow.output().contains("value-"), "{}", follow.output());
    follow.signal(Signal::SIGINT);
    follow.wait();
}

#[test]
fn several_volumes_from_a_file_and_from_variables() {
    let (one, two) = (Mount::new(), Mount::new());
    one.rotate(&[("k", "1")]);
    two.rotate(&[("k", "2")]);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("secretwatch.toml");
    let table = |name: &str, path: &std::path::Path| {
        format!("[[volume]]\nname = \"{name}\"\npath = \"{}\"\nrequire = [\"k\"]\n", path.display())
    };
    let text = table("one", &one.path()) + &table("two", &two.path());
    fs::write(&config, text).unwrap();
    let sidecar = Sidecar::start(&["--config", config.to_str().unwrap()]);
    sidecar.until("one/k", "1");
    sidecar.until("two/k", "2");
    let socket = directory.path().join("by-variables.sock");
    let mut command = Command::new(BINARY);
    command.arg("serve").env("SECRETWATCH_SOCKET", &socket).env(
        "SECRETWATCH_VOLUME",
        format!("a={},b={}", one.path().display(), two.path().display()),
    );
    let sidecar = Sidecar::spawn(&socket, &mut command);
    sidecar.until("a/k", "1");
    sidecar.until("b/k", "2");
}

#[test]
fn health_follows_the_volumes() {
    let mount = Mount::new();
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    assert_eq!(sidecar.get("/livez").status, 200);
    let answer = sidecar.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("db"), "{}", answer.text());
    assert_eq!(sidecar.client(&["healthcheck"]).status.code(), Some(1));
    assert_eq!(sidecar.get("/v1/secrets/db").status, 503);
    mount.rotate(&[("k", "1")]);
    eventually("ready", || (sidecar.get("/readyz").status == 200).then_some(()));
}

#[test]
fn metrics_port_never_serves_values() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let args = ["--volume", &volume("db", &mount.path()), "--metrics-addr", "127.0.0.1:0"];
    let sidecar = Sidecar::start(&[&args[..], &["--log-format", "json"]].concat());
    sidecar.until("db/k", "1");
    let address = eventually("the address is logged", || {
        let output = sidecar.process.output();
        let start = output.find("\"metrics_addr\":\"")? + "\"metrics_addr\":\"".len();
        Some(output[start..].split('"').next()?.to_owned())
    });
    let ask = |target: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(ask("/metrics").contains("secretwatch_build_info{mode=\"serve\""));
    assert!(ask("/metrics").contains("process_resident_memory_bytes"));
    assert!(ask("/readyz").starts_with("HTTP/1.1 200"));
    let page = ask("/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<code>k</code>"), "{page}");
    for target in ["/v1/secrets", "/v1/secrets/db", "/v1/secrets/db/k", "/v1/events", "/db/k"] {
        assert!(ask(target).starts_with("HTTP/1.1 404"), "{target}");
    }
}

#[test]
fn hangup_looks_at_every_volume_now() {
    let (one, two) = (Mount::new(), Mount::new());
    one.rotate(&[("k", "1")]);
    two.rotate(&[("k", "2")]);
    let links = tempfile::tempdir().unwrap();
    let path = links.path().join("db");
    symlink(one.path(), &path).unwrap();
    let args = ["--volume", &volume("db", &path), "--poll-interval", "1h"];
    let sidecar = Sidecar::start(&args);
    sidecar.until("db/k", "1");
    symlink(two.path(), links.path().join("tmp")).unwrap();
    fs::rename(links.path().join("tmp"), &path).unwrap();
    sidecar.process.signal(Signal::SIGHUP);
    sidecar.until("db/k", "2");
}

#[test]
fn socket_has_its_mode_and_is_removed_at_the_end() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("new/secretwatch.sock");
    let args = ["--volume", &volume("db", &mount.path()), "--socket-mode", "0660"];
    let sidecar = Sidecar::start_at(&socket, &args);
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    let (status, output) = sidecar.stop();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(!socket.exists());
}

#[test]
fn terminating_in_the_middle_of_a_long_poll_answers_it() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let sidecar = Sidecar::start(&["--volume", &volume("db", &mount.path())]);
    sidecar.until("db/k", "1");
    let revision = sidecar.get("/v1/secrets/db").revision();
    let mut stream = sidecar.connect();
    let target = format!("/v1/secrets/db?after={revision}&timeout=300s");
    let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // A second request on another connection is answered only after the first one was read.
    sidecar.get("/livez");
    let (status, output) = sidecar.stop();
    assert_eq!(status.code(), Some(0), "{output}");
    assert_eq!(Answer::read(stream).status, 503);
}

#[test]
fn two_instances_on_one_socket_are_refused_and_a_stale_one_is_replaced() {
    let mount = Mount::new();
    mount.rotate(&[("k", "1")]);
    let args = ["--volume", &volume("db", &mount.path())];
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("secretwatch.sock");
    let mut first = Sidecar::start_at(&socket, &args);
    let mut command = Command::new(BINARY);
    command.arg("serve").args(args).arg("--socket").arg(&socket);
    let second = command.output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("secretwatch.sock"), "{}", stderr(&second));
    first.until("db/k", "1");
    first.process.signal(Signal::SIGKILL);
    first.process.wait();
    assert!(socket.exists(), "a killed process leaves its socket");
    Sidecar::start_at(&socket, &args).until("db/k", "1");
}

#[test]
fn path_that_is_no_socket_is_left_alone() {
    let mount = Mount::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("precious");
    fs::write(&file, "precious").unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--volume", &volume("db", &mount.path()), "--socket"]).arg(&file);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not a socket"), "{}", stderr(&output));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn demo_runs_to_its_end_without_a_terminal() {
    let output = Command::new(BINARY).arg("demo").output().unwrap();
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert_eq!(text.matches("  rotation").count(), 5, "{text}");
    assert!(text.contains(r#"secretwatch_generation{volume="my-generic-secret"} 6"#), "{text}");
    let place = text.lines().last().unwrap().split(' ').nth(2).unwrap().to_owned();
    assert!(!std::path::Path::new(&place).exists(), "{place}");
}

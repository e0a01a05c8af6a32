//! A value that nobody could have written by chance goes through every path, at the most talkative
//! level, and must appear nowhere but where it was asked for.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use base64::Engine as _;
use secretwatch::kubelet::{AtomicWriter, Payload};

use crate::fixture::{DETECTORS, Watch, builder, eventually};
use crate::reload::server::{Behaviour, OK, Server};
use crate::sidecar::{BINARY, Process, Sidecar, stderr, stdout};

/// The canary, and the other forms in which it could leak.
struct Canary {
    text: String,
    forms: Vec<String>,
}

impl Canary {
    fn new() -> Self {
        let mut bytes = [0; 18];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_owned();
        let base64 = base64::engine::general_purpose::STANDARD.encode(&text);
        let forms = vec![text.clone(), base64.trim_end_matches('=').to_owned(), hex, list];
        Self { text, forms }
    }

    fn assert_absent(&self, place: &str, text: &str) {
        for form in &self.forms {
            assert!(!text.contains(form.as_str()), "a value is in {place}:\n{text}");
        }
    }
}

fn of_process(process: &Process, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{}/{file}", process.pid())).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn value_leaves_only_where_it_was_asked_for() {
    let canary = Canary::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let writer = AtomicWriter::new(&path);
    let value = canary.text.as_str();
    writer.write(Payload::new().with("password", value)).unwrap();
    let token = directory.path().join("token");
    fs::write(&token, value).unwrap();
    let mut outputs = Vec::new();
    for format in ["text", "json"] {
        let socket = directory.path().join("s.sock");
        let config = directory.path().join("config.toml");
        let table = format!("[[volume]]\nname = \"db\"\npath = \"{}\"\n", path.display());
        fs::write(&config, table + "require = [\"password\"]\nmax_bytes = 200\n").unwrap();
        let args = ["--config", config.to_str().unwrap(), "--log-level", "trace"];
        let token_args = ["--log-format", format, "--token-file", token.to_str().unwrap()];
        let mut command = Command::new(BINARY);
        command.arg("serve").args(args).args(token_args).arg("--socket").arg(&socket);
        let sidecar = Sidecar::spawn(&socket, &mut command);
        outputs.push(exercise(&canary, &sidecar, &writer, &token));
        for file in ["cmdline", "environ"] {
            canary.assert_absent(file, &of_process(&sidecar.process, file));
        }
        canary.assert_absent("the metrics", &sidecar.get("/metrics").text());
        let bearer = format!("authorization: Bearer {}\r\n", canary.text);
        let page = sidecar.get_with("/", &bearer).text();
        assert!(page.contains("password") && page.contains("broken.crt"), "not the page: {page}");
        canary.assert_absent("the page", &page);
        canary.assert_absent("the page without the token", &sidecar.get("/").text());
        canary.assert_absent("the readiness", &sidecar.get("/readyz").text());
        let (_, log) = sidecar.stop();
        assert!(log.contains("DEBUG"), "not talkative: {log}");
        assert!(log.contains("a certificate cannot be read"), "{log}");
        canary.assert_absent("the log", &log);
    }
    for output in outputs.into_iter().flatten() {
        canary.assert_absent("the output of a command", &output);
    }
}

/// Sends the value through every path, and gives what the commands have printed.
fn exercise(
    canary: &Canary,
    sidecar: &Sidecar,
    writer: &AtomicWriter,
    token: &std::path::Path,
) -> Vec<String> {
    let value = canary.text.as_str();
    let bearer = format!("authorization: Bearer {value}\r\n");
    let token = token.to_str().unwrap();
    let client = |args: &[&str]| {
        let output = sidecar.client(&[args, &["--token-file", token]].concat());
        stdout(&output) + &stderr(&output)
    };
    writer.write(Payload::new().with("password", value).with("more", value)).unwrap();
    eventually("the value is served to who asks for it", || {
        let answer = sidecar.get_with("/v1/secrets/db/more", &bearer);
        (answer.body == value.as_bytes()).then_some(())
    });
    let mut printed = vec![client(&["status"]), client(&["status", "--json"]), client(&["list"])];
    // Rejected: a required key is missing, too many bytes, a link, a hostile name.
    let data = writer.dir().join("..data");
    writer.write(Payload::new().with("other", value)).unwrap();
    printed.push(client(&["status"]));
    writer.write(Payload::new().with("password", value.repeat(10))).unwrap();
    printed.push(client(&["status"]));
    std::os::unix::fs::symlink("/etc/hostname", data.join("link")).unwrap();
    fs::write(data.join("line\nbreak"), value).unwrap();
    // What looks like a certificate is looked into.
    let pem = format!("-----BEGIN CERTIFICATE-----\n{value}\n-----END CERTIFICATE-----\n");
    writer.write(Payload::new().with("password", value).with("broken.crt", pem)).unwrap();
    eventually("what looks like a certificate is served", || {
        let answer = sidecar.get_with("/v1/secrets/db/broken.crt", &bearer);
        (answer.status == 200).then_some(())
    });
    printed.push(client(&["status"]));
    printed.push(client(&["get", "db", "nothing"]));
    printed.push(client(&["get", "nothing"]));
    printed.push(client(&["wait", "db", "--after", "x.1", "--timeout", "1s"]));
    // Requests that carry the value where it does not belong.
    for (target, headers) in [
        (format!("/v1/secrets/db?format={value}"), bearer.clone()),
        (format!("/v1/secrets/db?timeout={value}"), bearer.clone()),
        (format!("/{value}"), bearer.clone()),
        ("/v1/secrets".to_owned(), format!("authorization: Basic {value}\r\n")),
        ("/v1/secrets".to_owned(), format!("authorization: Bearer {value}x\r\n")),
        ("/v1/secrets".to_owned(), bearer),
    ] {
        sidecar.get_with(&target, &headers);
    }
    let mut stream = sidecar.connect();
    stream.write_all(format!("{value} {value}\r\n\r\n").as_bytes()).unwrap();
    let mut garbage = String::new();
    stream.read_to_string(&mut garbage).unwrap();
    printed.push(garbage);
    printed
}

#[test]
fn value_on_standard_input_is_not_repeated() {
    let canary = Canary::new();
    let directory = tempfile::tempdir().unwrap();
    let base64 = base64::engine::general_purpose::STANDARD.encode(&canary.text);
    for line in [format!("{{\"k\":\"{base64}\"}}"), format!("{{\"k\":\"{}!\"", canary.text)] {
        let mut child = Command::new(BINARY)
            .arg("simulate")
            .arg(directory.path().join("db"))
            .arg("--stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        canary.assert_absent("the output", &(stdout(&output) + &stderr(&output)));
    }
}

#[test]
fn configuration_errors_do_not_repeat_what_was_written() {
    let canary = Canary::new();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("c.toml");
    let value = &canary.text;
    for text in [
        format!("token = \"{value}\"\n"),
        format!("poll_interval = \"{value}\"\n"),
        format!("socket = \"{value}\n"),
        format!("max_connections = \"{value}\"\n"),
        format!("[[volume]]\npath = \"/etc\"\nmax_bytes = \"{value}\"\n"),
    ] {
        fs::write(&config, &text).unwrap();
        let mut command = Command::new(BINARY);
        let output = command.args(["check-config", "--config"]).arg(&config).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        canary.assert_absent("the error", &(stdout(&output) + &stderr(&output)));
    }
}

#[test]
fn handles_of_the_library_show_no_value() {
    for detector in DETECTORS {
        let canary = Canary::new();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let payload = Payload::new().with("password", canary.text.as_str());
        let shown = format!("{payload:?}");
        canary.assert_absent("Payload", &shown);
        AtomicWriter::new(&path).write(payload).unwrap();
        let mut watch = Watch::build(builder(detector).volume(&path));
        let snapshot = watch.next();
        let secret = snapshot.get("password").unwrap();
        assert_eq!(secret.expose_str().unwrap(), canary.text);
        let shown = format!(
            "{snapshot:?} {secret:?} {:?} {:?} {:?} {:?}",
            watch.secrets,
            watch.volume,
            watch.changes,
            watch.volume.status()
        );
        canary.assert_absent("Debug", &shown);
        let error = snapshot.deserialize::<Numbers>().unwrap_err();
        canary.assert_absent("the error", &format!("{error} {error:?}"));
    }
}

#[derive(Debug, serde::Deserialize)]
struct Numbers {
    #[serde(rename = "password")]
    _password: u16,
}

#[test]
fn hooks_and_webhooks_learn_no_value() {
    let canary = Canary::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let writer = AtomicWriter::new(&path);
    writer.write(Payload::new().with("password", "first")).unwrap();
    let server = Server::start(Behaviour::Answer(OK));
    // An answer that repeats what a header has said, and a header that is a secret itself.
    let echo = format!("HTTP/1.1 500 {0}\r\ncontent-length: 36\r\n\r\n{0}", canary.text);
    let hostile = Server::start(Behaviour::Answer(echo.leak()));
    let headers = directory.path().join("headers");
    fs::write(&headers, format!("authorization: Bearer {}\n", canary.text)).unwrap();
    let bad_headers = directory.path().join("bad-headers");
    fs::write(&bad_headers, &canary.text).unwrap();
    let pid_file = directory.path().join("pid");
    fs::write(&pid_file, &canary.text).unwrap();
    let seen = directory.path().join("seen");
    let hook = format!(
        "tr '\\\\0' '\\\\n' < /proc/$$/environ > {0}; tr '\\\\0' '\\\\n' < /proc/$$/cmdline >> {0}; env | grep SECRETWATCH_",
        seen.display()
    );
    let config = directory.path().join("c.toml");
    let mut text = format!(
        "[[volume]]\npath = \"{}\"\n\
         [[target]]\nname = \"hook\"\nexec = [\"sh\", \"-c\", \"{hook}\", \"{{path}}\"]\n\
         [[target]]\nname = \"web\"\nhttp = \"{}\"\nbody = true\n",
        path.display(),
        server.url("/")
    );
    for (name, url, headers) in
        [("hostile", hostile.url("/"), &headers), ("headers", server.url("/"), &bad_headers)]
    {
        let headers = headers.display();
        text += &format!("[[target]]\nname = \"{name}\"\nhttp = \"{url}\"\n");
        text += &format!("headers_file = \"{headers}\"\n");
    }
    text += &format!("[[target]]\nname = \"pid\"\npid_file = \"{}\"\n", pid_file.display());
    fs::write(&config, text).unwrap();
    let sidecar = Sidecar::start(&["--config", config.to_str().unwrap(), "--log-level", "trace"]);
    sidecar.until("db/password", "first");
    let value = canary.text.as_str();
    writer.write(Payload::new().with("password", value)).unwrap();
    let list = eventually("every target has been tried", || {
        let answer = sidecar.get("/v1/secrets").text();
        let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let states: Vec<_> = json["targets"].as_array()?.iter().map(|t| &t["state"]).collect();
        let has_been_told = json["targets"][0]["revision"] == json["secrets"][0]["revision"];
        let expected = ["idle", "idle", "failing", "failing", "failing"];
        (has_been_told && states == expected).then_some(answer)
    });
    canary.assert_absent("the list", &list);
    canary.assert_absent("the hook's surroundings", &fs::read_to_string(&seen).unwrap());
    for received in server.received() {
        canary.assert_absent("the webhook", &format!("{received:?}"));
    }
    assert!(hostile.received()[0].head.contains(value), "asked for by the headers file");
    canary.assert_absent("the status", &stdout(&sidecar.client(&["status"])));
    canary.assert_absent("the metrics", &sidecar.get("/metrics").text());
    let (_, log) = sidecar.stop();
    assert!(log.contains("SECRETWATCH_CHANGED_KEYS=password"), "{log}");
    canary.assert_absent("the log", &log);
}

//! The commands of the templates, run: with a simulated mount in place of the platform's, a small app
//! in place of the user's, and paths of the test in place of those in the container.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use secretwatch::kubelet::{AtomicWriter, Payload};
use tempfile::TempDir;

use super::command::Call;
use super::{systemd, template};
use crate::fixture::eventually;
use crate::reload::server::{Behaviour, OK, Server};
use crate::sidecar::{BINARY, Process, Sidecar};

/// Says what it is told, under whatever name it is started.
const APP: &str = r#"
import os, signal, time
def told(number, frame):
    os.write(1, f"told {signal.Signals(number).name}\n".encode())
signal.signal(signal.SIGHUP, told)
signal.signal(signal.SIGUSR1, told)
print("up", os.getpid(), flush=True)
while True:
    time.sleep(0.02)
"#;

/// A call with the places of a container moved into a directory of the test.
struct Moved {
    directory: TempDir,
    call: Call,
}

impl Moved {
    fn new(call: Call) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut moved = Self { directory, call };
        for (at, place) in moved.call.directories().into_iter().enumerate() {
            let here = moved.directory.path().join(format!("volume-{at}"));
            moved.replace(&place, here.to_str().unwrap());
        }
        let socket = moved.socket();
        std::fs::create_dir(socket.parent().unwrap()).unwrap();
        let socket = socket.to_str().unwrap().to_owned();
        moved.call.env.insert("SECRETWATCH_SOCKET".to_owned(), socket);
        // Any free port: others may be tested at the same time.
        for host in ["0.0.0.0", "127.0.0.1"] {
            moved.replace(&format!("{host}:9180"), "127.0.0.1:0");
        }
        moved
    }

    fn replace(&mut self, from: &str, to: &str) {
        let texts = self.call.args.iter_mut().chain(self.call.env.values_mut());
        texts.for_each(|text| *text = text.replace(from, to));
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/secretwatch.sock")
    }

    /// Rotates every volume: the required keys get this value.
    fn rotate(&self, value: &str) {
        let mut payloads = BTreeMap::<String, Payload>::new();
        for required in self.call.values("require") {
            let (volume, key) = required.split_once(':').unwrap();
            let payload = payloads.remove(volume).unwrap_or_default();
            payloads.insert(volume.to_owned(), payload.with(key, value));
        }
        for volume in self.call.values("volume") {
            let (name, directory) = volume.split_once('=').unwrap();
            let payload = payloads.remove(name).expect("a key is required of every volume");
            AtomicWriter::new(directory).write(payload).unwrap();
        }
        assert!(payloads.is_empty(), "keys of no volume: {:?}", payloads.keys());
    }

    /// The command, with the app of this test in place of the template's.
    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.arg(self.call.subcommand()).args(self.call.settings()).envs(&self.call.env);
        if self.call.args.iter().any(|arg| arg == "--") {
            command.args(["--", "python3", "-c", APP]);
        }
        command
    }

    fn start(&self) -> Sidecar {
        Sidecar::spawn(&self.socket(), &mut self.command())
    }
}

fn only_call(path: &str) -> Call {
    let pod = template(path).pods().unwrap().remove(0);
    pod.containers().find_map(Call::of_container).unwrap()
}

fn until_ready(sidecar: &Sidecar) {
    eventually("it is ready", || (sidecar.get("/readyz").status == 200).then_some(()));
}

/// The revision of a volume, once it has one.
fn revision(sidecar: &Sidecar, volume: &str) -> String {
    until_ready(sidecar);
    sidecar.get(&format!("/v1/secrets/{volume}")).revision()
}

fn until_changed(sidecar: &Sidecar, volume: &str, revision: &str) {
    let path = format!("/v1/secrets/{volume}?after={revision}&timeout=30s");
    assert_eq!(sidecar.get(&path).status, 200, "{}", sidecar.process.output());
}

#[test]
fn supervised_app_is_told_as_the_templates_say() {
    let unit = systemd::call("/run/credentials/app.service");
    for (call, said) in [
        (only_call("ai-core/serving-supervisor.yaml"), "told SIGHUP"),
        (only_call("ai-core/workflow.yaml"), "told SIGUSR1"),
        (unit, "told SIGHUP"),
    ] {
        let moved = Moved::new(call);
        moved.rotate("1");
        let sidecar = moved.start();
        sidecar.process.until_said("up ");
        moved.rotate("2");
        sidecar.process.until_said(said);
        let (status, output) = sidecar.stop();
        assert_eq!(status.code(), Some(143), "{output}");
    }
}

#[test]
fn supervised_app_waits_for_the_required_key() {
    let moved = Moved::new(only_call("ai-core/serving-supervisor.yaml"));
    let [directory] = moved.call.directories().try_into().unwrap();
    let writer = AtomicWriter::new(&directory as &str);
    writer.write(Payload::new().with("other", "1")).unwrap();
    let sidecar = moved.start();
    sidecar.process.until_said("missing_key");
    assert!(!sidecar.process.output().contains("up "), "{}", sidecar.process.output());
    moved.rotate("1");
    sidecar.process.until_said("up ");
}

#[test]
fn sidecars_are_ready_with_the_secret_and_follow_it() {
    for (path, volume) in
        [("kubernetes/native-sidecar.yaml", "db"), ("kubernetes/projected.yaml", "app")]
    {
        let moved = Moved::new(only_call(path));
        let sidecar = moved.start();
        assert_eq!(sidecar.get("/readyz").status, 503, "{path}: there is no secret yet");
        moved.rotate("1");
        let before = revision(&sidecar, volume);
        moved.rotate("2");
        until_changed(&sidecar, volume, &before);
    }
}

#[test]
fn sidecar_of_ai_core_asks_the_app_to_reload() {
    let server = Server::start(Behaviour::Answer(OK));
    let mut moved = Moved::new(only_call("ai-core/serving-sidecar.yaml"));
    moved.replace("127.0.0.1:8080", &server.addr.to_string());
    moved.rotate("1");
    let sidecar = moved.start();
    until_ready(&sidecar);
    moved.rotate("2");
    let request = server.until_requests(1).remove(0);
    assert!(request.head.starts_with("POST /-/reload "), "{}", request.head);
    assert_eq!(request.body, "", "values and names stay here");
}

#[test]
fn sidecar_signals_the_process_of_that_name() {
    let mut moved = Moved::new(only_call("kubernetes/shared-process.yaml"));
    // Nothing else on the machine is called so. The kernel keeps 15 characters of a name.
    let name = format!("nginx-{}", std::process::id());
    moved.replace("--notify-process=nginx", &format!("--notify-process={name}"));
    moved.replace("--splay=10s", "--splay=0s");
    moved.rotate("1");
    let program = moved.directory.path().join(&name);
    symlink(python(), &program).unwrap();
    let app = Process::spawn(Command::new(&program).args(["-c", APP]));
    app.until_said("up ");
    let sidecar = moved.start();
    until_ready(&sidecar);
    moved.rotate("2");
    app.until_said("told SIGHUP");
}

/// The interpreter itself: a wrapper would replace the name of the process.
fn python() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let output = output.expect("python3 is installed (Debian: python3)");
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).to_owned()
}

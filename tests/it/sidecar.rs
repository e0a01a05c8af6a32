//! A real sidecar process, and a client that writes its requests by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::fixture::{DEADLINE, eventually, metric_in};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_secretwatch");

/// Reads a stream to its end in the background, so that nobody blocks on a full pipe.
fn collect(mut stream: impl Read + Send + 'static, output: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            output.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    })
}

/// A process whose output is kept; it is killed at the end of the test, if it still runs, with all
/// that it has started.
pub struct Process {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::default();
        let readers = vec![
            collect(child.stderr.take().unwrap(), &output),
            collect(child.stdout.take().unwrap(), &output),
        ];
        Self { child, output, readers }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Everything printed so far, to standard output and standard error.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until the output has this text.
    pub fn until_said(&self, text: &str) {
        eventually(&format!("{text:?} is said"), || self.output().contains(text).then_some(()));
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end, and for the last of the output.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let started = if self.has_ended() { Vec::new() } else { descendants(self.pid()) };
        // Errors where it has ended, as most have.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (pid, _) in started {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// The children of a process, with their states.
pub fn children(parent: Pid) -> Vec<(Pid, char)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let parsed = stats.filter_map(|stat| {
        let pid = stat.split(' ').next()?.parse().ok()?;
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse() == Ok(parent.as_raw())).then_some((Pid::from_raw(pid), state))
    });
    parsed.collect()
}

fn descendants(ancestor: Pid) -> Vec<(Pid, char)> {
    let mut found = children(ancestor);
    let mut next = 0;
    while let Some((pid, _)) = found.get(next) {
        found.extend(children(*pid));
        next += 1;
    }
    found
}

/// A running `secretwatch serve`.
pub struct Sidecar {
    pub process: Process,
    socket: PathBuf,
    _directory: Option<TempDir>,
}

impl Sidecar {
    /// Starts one on a socket of its own and waits until it answers.
    pub fn start(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/secretwatch.sock");
        let mut sidecar = Self::start_at(&socket, args);
        sidecar._directory = Some(directory);
        sidecar
    }

    /// Starts one on this socket and waits until it answers.
    pub fn start_at(socket: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--socket").arg(socket).args(args);
        Self::spawn(socket, &mut command)
    }

    /// Waits until what was started answers on `socket`.
    pub fn spawn(socket: &Path, command: &mut Command) -> Self {
        let mut process = Process::spawn(command);
        eventually("the sidecar answers", || {
            assert!(!process.has_ended(), "it ended: {}", process.output());
            UnixStream::connect(socket).ok()
        });
        Self { process, socket: socket.to_owned(), _directory: None }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Asks once, on a connection of its own.
    pub fn get(&self, target: &str) -> Answer {
        self.get_with(target, "")
    }

    /// Asks with more headers, each ending in CRLF.
    pub fn get_with(&self, target: &str, headers: &str) -> Answer {
        let mut stream = self.connect();
        let request =
            format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    /// Says which revision a consumer uses.
    pub fn adopt(&self, name: &str, consumer: &str, revision: &str) -> Answer {
        let body = format!(r#"{{"revision":"{revision}"}}"#);
        let mut stream = self.connect();
        let request = format!(
            "PUT /v1/adoptions/{name}/{consumer} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    /// Waits until a key has this value.
    pub fn until(&self, key: &str, value: &str) {
        eventually(&format!("{key} is {value:?}"), || {
            (self.get(&format!("/v1/secrets/{key}")).body == value.as_bytes()).then_some(())
        });
    }

    /// Waits until inotify watches every volume.
    pub fn until_watched(&self) {
        eventually("inotify watches every volume", || {
            let list = self.get("/v1/secrets").json();
            let volumes = list["secrets"].as_array()?;
            volumes.iter().all(|volume| volume["watch"] == "inotify").then_some(())
        });
    }

    pub fn metric(&self, line: &str) -> Option<f64> {
        metric_in(&self.get("/metrics").text(), line)
    }

    pub fn until_metric(&self, line: &str, at_least: f64) {
        eventually(&format!("{line} is at least {at_least}"), || {
            (self.metric(line)? >= at_least).then_some(())
        });
    }

    /// Runs a client command against it.
    pub fn client(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts a client command and does not wait for its end.
    pub fn start_client(&self, args: &[&str]) -> Process {
        Process::spawn(&mut self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).arg("--socket").arg(&self.socket).stdin(Stdio::null());
        command
    }

    /// Ends it and gives everything it has printed.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait();
        (status, self.process.output())
    }
}

/// An answer, read until the connection closed.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads an answer on a connection that will be closed after it.
    pub fn read(mut stream: UnixStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let _ = stream.shutdown(Shutdown::Both);
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = bytes[end + 4..].to_vec();
        assert!(!head.contains("transfer-encoding"), "chunked bodies are not taken apart here");
        Self { status, head, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The revision, from the ETag.
    pub fn revision(&self) -> String {
        let line = self.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        line.trim_matches('"').to_owned()
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `NAME=DIR`, as `--volume` takes it.
pub fn volume(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

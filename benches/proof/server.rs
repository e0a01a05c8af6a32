//! Servers in processes of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::mount::Mount;
use crate::role::Role;

/// Starting takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A process that is ended with this.
pub struct Process(Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors where it has ended by itself, which the measurement will have noticed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub struct Server {
    process: Process,
    socket: PathBuf,
}

impl Server {
    /// The sidecar, with one volume and everything else as it is by default.
    pub fn sidecar(mount: &Mount) -> Self {
        let volume = format!("db={}", mount.path().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretwatch"));
        command.arg("serve").arg("--volume").arg(volume).arg("--socket").arg(mount.socket());
        let server = Self::start(&mut command, &mount.socket());
        server.wait_until_ready();
        server
    }

    /// The bare server.
    pub fn bare(socket: &Path) -> Self {
        Self::start(&mut Role::Server { socket: socket.to_owned() }.command(), socket)
    }

    pub fn start(command: &mut Command, socket: &Path) -> Self {
        let server = Self { process: Process::spawn(command), socket: socket.to_owned() };
        until("the server answers", || Connection::try_open(socket));
        server
    }

    /// Waits until the sidecar has its first snapshots.
    pub fn wait_until_ready(&self) {
        let ready = || self.connect().ask("/readyz").starts_with(b"HTTP/1.1 200");
        until("the sidecar is ready", || ready().then_some(()));
    }

    pub fn connect(&self) -> Connection {
        Connection::try_open(&self.socket).unwrap()
    }

    /// How long its main thread, which does all the answering, has been on a processor.
    pub fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.process.0.id());
        let text = fs::read_to_string(path).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

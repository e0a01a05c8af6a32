//! Servers in processes of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bare;
use crate::connection::Connection;
use crate::mount::Mount;

/// Starting takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running server; it is ended with this.
pub struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    /// The sidecar, with one volume and everything else as it is by default.
    pub fn sidecar(mount: &Mount) -> Self {
        let volume = format!("db={}", mount.path().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretwatch"));
        command.arg("serve").arg("--volume").arg(volume).arg("--socket").arg(mount.socket());
        let server = Self::start(&mut command, &mount.socket());
        let ready = || server.connect().ask("/readyz").starts_with(b"HTTP/1.1 200");
        until("the sidecar is ready", || ready().then_some(()));
        server
    }

    /// The bare server.
    pub fn bare(socket: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(bare::WANTED, socket);
        Self::start(&mut command, socket)
    }

    fn start(command: &mut Command, socket: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { child: command.spawn().unwrap(), socket: socket.to_owned() };
        until("the server answers", || Connection::try_open(socket));
        server
    }

    pub fn connect(&self) -> Connection {
        Connection::try_open(&self.socket).unwrap()
    }

    /// How long its main thread, which does all the answering, has been on a processor.
    pub fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = fs::read_to_string(path).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors where it has ended by itself, which the measurement will have noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

//! The apps: they read all volumes at the start and on SIGHUP, adopt, and report.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;

use crate::client::Client;
use crate::line::Line;
use crate::supervisor;
use crate::time::{DEADLINE, pause};
use crate::world::{self, PLAIN, SUPERVISED};
use crate::{edition, sidecar};

/// What is counted where an app takes its time.
pub const LATE_HANDLER: &str = "app: installs its handler late";
/// The names of the targets, under which the apps also adopt.
pub const INDEPENDENT: &str = "pid";
pub const SUPERVISED_APP: &str = "app";
/// The key that the supervisor may put into the environment of its app, and the variable.
pub const VARIABLE: &str = "SOAK_NUMBER";
/// Before a socket is tried again that nobody serves yet.
const PATIENCE: Duration = Duration::from_millis(10);

/// Where the app says which process it is.
pub fn pid_file(directory: &Path) -> PathBuf {
    directory.join("app.pid")
}

struct App {
    line: Line,
    socket: PathBuf,
    volumes: Vec<&'static str>,
    name: &'static str,
}

pub fn run_independent(directory: &Path) {
    // Before there is a handler: whoever signals it now would kill it.
    fs::write(pid_file(directory), std::process::id().to_string()).unwrap();
    let volumes = world::volumes().collect();
    let socket = sidecar::socket(directory);
    let line = Line::open(directory, "independent");
    App { line, socket, volumes, name: INDEPENDENT }.run();
}

pub fn run_supervised(directory: &Path) {
    let mut ends = Signals::new([SIGTERM]).unwrap();
    std::thread::spawn(move || {
        if ends.forever().next().is_some() {
            end();
        }
    });
    let socket = supervisor::socket(directory);
    let mut line = Line::open(directory, "supervised");
    if let Ok(number) = std::env::var(VARIABLE) {
        line.say(&format!("told variable {} - {number}", SUPERVISED[0]));
    }
    App { line, socket, volumes: SUPERVISED.to_vec(), name: SUPERVISED_APP }.run();
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "an app that ends when it is told to")]
fn end() {
    std::process::exit(0)
}

impl App {
    fn run(mut self) {
        self.load();
        let delay = self.line.answer.parse().unwrap();
        pause(Duration::from_millis(delay));
        let mut signals = Signals::new([SIGHUP]).unwrap();
        for _ in signals.forever() {
            self.load();
        }
    }

    fn load(&mut self) {
        for volume in self.volumes.clone() {
            let start = Instant::now();
            // The server may have been killed a moment ago, and this process is about to be.
            while let Err(error) = self.load_one(volume) {
                if start.elapsed() > DEADLINE {
                    self.line.say(&format!("wrong: the app {}: {volume}: {error}", self.name));
                }
                pause(PATIENCE);
            }
        }
    }

    fn load_one(&mut self, volume: &str) -> io::Result<()> {
        let mut client = Client::open(&self.socket)?;
        let set = client.set(&format!("/v1/secrets/{volume}"))?;
        let set = set.ok_or_else(|| io::Error::other("nothing there"))?;
        let number = match edition::number(&set.values) {
            Ok(number) => number,
            Err(_) if volume == PLAIN => 0,
            Err(found) => {
                self.line.say(&format!("wrong: the app {}: {volume} is torn: {found}", self.name));
                return Ok(());
            }
        };
        client.adopt(volume, self.name, &set.revision)?;
        self.line.say(&format!("told {} {volume} {} {number}", self.name, set.revision));
        Ok(())
    }
}

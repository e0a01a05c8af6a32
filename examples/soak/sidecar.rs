//! The sidecar, which nothing may kill: `secretwatch serve` with five volumes and three targets.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::Client;
use crate::edition::REQUIRED;
use crate::failure::fail;
use crate::role::{self, Role};
use crate::time::until;
use crate::world::{World, volumes};
use crate::{app, hook, process, server};

pub struct Sidecar {
    child: Child,
    socket: PathBuf,
}

/// What the sidecar says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub resident_kib: u64,
    pub descriptors: u64,
    /// Accepted so far.
    pub snapshots: u64,
}

pub fn socket(directory: &Path) -> PathBuf {
    directory.join("sidecar.sock")
}

/// The targets are tried again soon. The poll must not find what inotify has missed.
fn configuration(world: &World) -> String {
    let directory = &world.directory;
    let mut text = format!(
        "socket = {:?}\npoll_interval = \"1day\"\nadoption_expiry = \"1day\"\n",
        socket(directory)
    );
    for volume in volumes() {
        let path = world.volume(volume);
        text +=
            &format!("[[volume]]\nname = {volume:?}\npath = {path:?}\nrequire = [{REQUIRED:?}]\n");
    }
    let url = format!("unix:{}:/reload", server::socket(world).display());
    let command = [role::program().display().to_string(), Role::Hook.word().to_owned()];
    let targets = [
        (server::TARGET, format!("http = {url:?}\nbody = true\ntimeout = \"1s\"")),
        (hook::TARGET, format!("exec = {command:?}\ntimeout = \"2s\"")),
        (app::INDEPENDENT, format!("pid_file = {:?}\nsignal = \"HUP\"", app::pid_file(directory))),
    ];
    for (name, how) in targets {
        text += &format!(
            "[[target]]\nname = {name:?}\nretry_min = \"50ms\"\nretry_max = \"500ms\"\n{how}\n"
        );
    }
    text
}

impl Sidecar {
    pub fn start(world: &World) -> Self {
        let directory = &world.directory;
        let path = directory.join("sidecar.toml");
        fs::write(&path, configuration(world)).unwrap();
        let log = File::create(directory.join("sidecar.log")).unwrap();
        let mut command = Role::Secretwatch.command(directory);
        command.args(["serve", "--config"]).arg(&path);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let sidecar = Self { child: command.spawn().unwrap(), socket: socket(directory) };
        until("the sidecar is ready", || sidecar.probe("/readyz"));
        sidecar
    }

    fn probe(&self, path: &str) -> Result<(), String> {
        let ask = || Client::open(&self.socket)?.ask("GET", path, "");
        let answer = ask().map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{path}: {}", answer.status)) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Fails where it has ended, or says that it is stuck.
    pub fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            fail(&format!("the sidecar has ended: {status}"));
        }
        if let Err(error) = self.probe("/livez") {
            fail(&format!("the sidecar: {error}"));
        }
    }

    /// The sum of a metric over all its labels.
    pub fn metric(&self, name: &str) -> u64 {
        let ask = || Client::open(&self.socket)?.ask("GET", "/metrics", "");
        let text = String::from_utf8(ask().unwrap().body).unwrap();
        let mut values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())??.parse::<f64>().ok()
        });
        let first = values.next().unwrap_or_else(|| fail(&format!("there is no metric {name}")));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
        let sum = (first + values.sum::<f64>()) as u64;
        sum
    }

    pub fn sample(&self) -> Sample {
        Sample {
            resident_kib: self.metric("process_resident_memory_bytes") / 1024,
            descriptors: self.metric("process_open_fds"),
            snapshots: self.metric("secretwatch_snapshots_total"),
        }
    }

    /// Waits until everything that it has started has ended and was reaped.
    pub fn until_childless(&self) {
        until("the sidecar has no child", || match process::children(self.pid()) {
            children if children.is_empty() => Ok(()),
            children => Err(format!("(pid, is a zombie): {children:?}")),
        });
    }

    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = until("the sidecar ends after SIGTERM", || {
            self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        });
        if status.into_raw() != 0 {
            fail(&format!("the sidecar ended with {status} after SIGTERM"));
        }
        if self.socket.exists() {
            fail("the sidecar has left its socket behind");
        }
    }
}

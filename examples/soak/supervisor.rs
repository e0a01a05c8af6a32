//! The supervisor, which is killed with its app and started again, as the kubelet would.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::VARIABLE;
use crate::edition::REQUIRED;
use crate::failure::fail;
use crate::process;
use crate::role::{self, Role};
use crate::time::until;
use crate::world::{SUPERVISED, World};

pub const SIGNALS: &str = "supervisor: signals its app";
pub const RESTARTS: &str = "supervisor: restarts its app";

pub struct Supervisor {
    world: &'static World,
    random: fastrand::Rng,
    child: Child,
    /// Whether a rotation restarts the app rather than signalling it.
    restarts: bool,
}

pub fn socket(directory: &Path) -> PathBuf {
    directory.join("supervisor.sock")
}

impl Supervisor {
    pub fn start(world: &'static World) -> Self {
        let mut random = fastrand::Rng::with_seed(world.seed ^ 3);
        let restarts = random.bool();
        Self { world, random, child: spawn(world, restarts), restarts }
    }

    fn start_again(&mut self) {
        self.restarts = self.random.bool();
        self.child = spawn(self.world, self.restarts);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn restarts(&self) -> bool {
        self.restarts
    }

    /// Fails where it has ended although nobody has asked for it.
    pub fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            fail(&format!("the supervisor has ended by itself: {status}"));
        }
    }

    /// Kills the app, after which the supervisor ends with the app's status, or, where the app was
    /// being replaced, has another one.
    pub fn kill_app(&mut self) {
        let app = until("the supervisor has an app", || {
            self.check();
            process::children(self.pid()).first().copied().ok_or_else(|| "none".to_owned())
        });
        if !process::kill_child(app.0, self.pid()) {
            return;
        }
        let ended = until("the supervisor sees that its app was killed", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ok(Some(status));
            }
            let is_other = |(pid, is_zombie): &(i32, bool)| *pid != app.0 && !is_zombie;
            let has_other = self.restarts && process::children(self.pid()).iter().any(is_other);
            if has_other { Ok(None) } else { Err("it goes on".to_owned()) }
        });
        let killed = 128 + Signal::SIGKILL as i32;
        if let Some(status) = ended {
            self.expect(status, &[killed]);
            self.start_again();
        }
    }

    /// Kills the supervisor, and then the app, which would go down with the container.
    pub fn kill(&mut self, known: &[u32]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        process::end_orphans(known);
        self.start_again();
    }

    /// Asks it to end, and starts another. An app that has no handler yet dies of the signal.
    pub fn replace(&mut self) {
        let status = self.terminate();
        self.expect(status, &[0, 128 + Signal::SIGTERM as i32]);
        self.start_again();
    }

    /// Ends it for good.
    pub fn stop(mut self) {
        let status = self.terminate();
        self.expect(status, &[0]);
    }

    fn terminate(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM).unwrap();
        let status = until("the supervisor ends after SIGTERM", || {
            self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        });
        if socket(&self.world.directory).exists() {
            fail("the supervisor has left its socket behind");
        }
        status
    }

    fn expect(&self, status: ExitStatus, codes: &[i32]) {
        // Killed before it could take the signal: it had just been started.
        let is_early = status.signal() == Some(Signal::SIGTERM as i32) && codes.len() > 1;
        if !is_early && !status.code().is_some_and(|code| codes.contains(&code)) {
            fail(&format!("the supervisor ended with {status}, expected one of {codes:?}"));
        }
    }
}

fn spawn(world: &World, restarts: bool) -> Child {
    world.tally.count(if restarts { RESTARTS } else { SIGNALS });
    let directory = &world.directory;
    let mut command = Role::Secretwatch.command(directory);
    command.args(["run", "--detector", "poll", "--poll-interval", "50ms", "--stop-grace", "5s"]);
    command.args(["--require", REQUIRED]).arg("--socket").arg(socket(directory));
    for volume in SUPERVISED {
        command.arg("--volume").arg(format!("{volume}={}", world.volume(volume).display()));
    }
    if restarts {
        let variable = format!("{VARIABLE}={}/{REQUIRED}", SUPERVISED[0]);
        command.args(["--restart", "--env", &variable]);
    } else {
        command.args(["--signal", "HUP"]);
    }
    command.arg("--").arg(role::program()).arg(Role::Supervised.word());
    let path = directory.join("supervisor.log");
    let log: File = OpenOptions::new().create(true).append(true).open(path).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

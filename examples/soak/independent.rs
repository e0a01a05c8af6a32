//! The app that the sidecar finds by its pid file. It is killed, and comes back under another pid.

use std::fs::{self, File, OpenOptions};
use std::process::{Child, Stdio};

use crate::app;
use crate::failure::fail;
use crate::role::Role;
use crate::world::World;

pub struct Independent {
    world: &'static World,
    child: Child,
}

impl Independent {
    pub fn start(world: &'static World) -> Self {
        Self { world, child: spawn(world) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails where it has ended: the sidecar may have signalled it without a handler.
    pub fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            fail(&format!("the app with the pid file has ended: {status}"));
        }
    }

    /// Kills it. Its pid file stays, or is removed as well.
    pub fn kill(&mut self, removes_pid_file: bool) {
        self.check();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if removes_pid_file {
            fs::remove_file(app::pid_file(&self.world.directory)).unwrap();
        }
    }

    pub fn start_again(&mut self) {
        self.child = spawn(self.world);
    }
}

fn spawn(world: &World) -> Child {
    let path = world.directory.join("app.log");
    let log: File = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let mut command = Role::Independent.command(&world.directory);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

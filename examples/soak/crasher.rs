//! Kills and disturbs processes.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::chaos::Deck;
use crate::independent::Independent;
use crate::sidecar::Sidecar;
use crate::supervisor::Supervisor;
use crate::time::pause;
use crate::world::World;

#[derive(Debug, Clone, Copy)]
pub enum Act {
    KillApp,
    KillSupervisor,
    ReplaceSupervisor,
    KillIndependent,
    RemovePidFile,
    Freeze,
    Look,
}

impl Act {
    pub const ALL: &[Self] = &[
        Self::KillApp,
        Self::KillSupervisor,
        Self::ReplaceSupervisor,
        Self::KillIndependent,
        Self::RemovePidFile,
        Self::Freeze,
        Self::Look,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::KillApp => "supervisor: its app is killed",
            Self::KillSupervisor => "supervisor: is killed",
            Self::ReplaceSupervisor => "supervisor: is asked to end",
            Self::KillIndependent => "app: is killed",
            Self::RemovePidFile => "app: is killed, its pid file removed",
            Self::Freeze => "sidecar: is stopped for a moment",
            Self::Look => "sidecar: gets SIGHUP",
        }
    }

    /// How many of these are crashes.
    pub fn is_crash(self) -> bool {
        !matches!(self, Self::Freeze | Self::Look)
    }
}

pub struct Crasher {
    world: &'static World,
    random: fastrand::Rng,
    deck: Deck<Act>,
    pub sidecar: Sidecar,
    pub supervisor: Supervisor,
    pub independent: Independent,
}

impl Crasher {
    pub fn new(world: &'static World, sidecar: Sidecar) -> Self {
        Self {
            world,
            random: fastrand::Rng::with_seed(world.seed ^ 4),
            deck: Deck::new(world.seed ^ 5, Act::ALL),
            sidecar,
            supervisor: Supervisor::start(world),
            independent: Independent::start(world),
        }
    }

    pub fn run_until(&mut self, end: Instant) {
        while Instant::now() < end {
            pause(Duration::from_millis(self.random.u64(50..500)));
            self.check();
            let act = self.deck.draw();
            self.act(act);
        }
    }

    /// The crashes that a last rotation meets.
    pub fn strike_last(&mut self) {
        let act = self.deck.draw();
        self.act(act);
        self.act(Act::KillIndependent);
    }

    /// Fails where one of the processes has ended by itself.
    pub fn check(&mut self) {
        self.sidecar.check();
        self.supervisor.check();
        self.independent.check();
    }

    fn act(&mut self, act: Act) {
        self.world.tally.count(act.title());
        match act {
            Act::KillApp => self.supervisor.kill_app(),
            Act::KillSupervisor => {
                self.supervisor.kill(&[self.sidecar.pid(), self.independent.pid()]);
            }
            Act::ReplaceSupervisor => self.supervisor.replace(),
            Act::KillIndependent => self.kill_independent(false),
            Act::RemovePidFile => self.kill_independent(true),
            Act::Freeze => {
                self.sidecar.signal(Signal::SIGSTOP);
                self.pause(300);
                self.sidecar.signal(Signal::SIGCONT);
            }
            Act::Look => self.sidecar.signal(Signal::SIGHUP),
        }
    }

    fn kill_independent(&mut self, removes_pid_file: bool) {
        self.independent.kill(removes_pid_file);
        self.pause(300);
        self.independent.start_again();
    }

    fn pause(&mut self, longest_millis: u64) {
        pause(Duration::from_millis(self.random.u64(0..longest_millis)));
    }
}

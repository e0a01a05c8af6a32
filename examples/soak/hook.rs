//! The command that the sidecar runs, with everything that such a command does wrong.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::libc::SIGTERM;

use crate::client::Client;
use crate::line::Line;
use crate::role::Role;
use crate::sidecar;
use crate::time::pause;
use crate::{edition, world};

/// The target's name, and that under which it adopts.
pub const TARGET: &str = "exec";
/// Less than the timeout of the target.
const SLOW: Duration = Duration::from_millis(300);
/// More than the timeout of the target and the time that it has to end.
const VERY_SLOW: Duration = Duration::from_secs(60);
/// How long a grandchild keeps the pipe.
const GRANDCHILD: Duration = Duration::from_millis(700);
/// More than is logged of a command's output, and more than fits into a pipe.
const LINES: usize = 5_000;

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Fail,
    Print,
    Leave,
    Slow,
    Hang,
    HangOn,
}

impl Fault {
    pub const ALL: &[Self] =
        &[Self::Fail, Self::Print, Self::Leave, Self::Slow, Self::Hang, Self::HangOn];

    pub fn title(self) -> &'static str {
        match self {
            Self::Fail => "exec: fails",
            Self::Print => "exec: prints a lot",
            Self::Leave => "exec: leaves a grandchild with the pipe",
            Self::Slow => "exec: is slow",
            Self::Hang => "exec: hangs",
            Self::HangOn => "exec: hangs and ignores TERM",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Print => "print",
            Self::Leave => "leave",
            Self::Slow => "slow",
            Self::Hang => "hang",
            Self::HangOn => "hang-on",
        }
    }
}

pub fn run(directory: &Path) -> ExitCode {
    let mut line = Line::open(directory, "hook");
    match line.answer.as_str() {
        "fail" => return ExitCode::FAILURE,
        "print" => print(),
        "leave" => leave(directory),
        "slow" => pause(SLOW),
        "hang" => pause(VERY_SLOW),
        "hang-on" => {
            signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false))).unwrap();
            pause(VERY_SLOW);
        }
        _ => {}
    }
    match work(directory, &mut line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            line.say(&format!("wrong: the hook: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Reads the volume that it is told of, adopts it, and reports the revision that it was told.
fn work(directory: &Path, line: &mut Line) -> io::Result<()> {
    let variable = |name| std::env::var(name).map_err(io::Error::other);
    let (volume, told) = (variable("SECRETWATCH_VOLUME")?, variable("SECRETWATCH_REVISION")?);
    let mut client = Client::open(&sidecar::socket(directory))?;
    let Some(set) = client.set(&format!("/v1/secrets/{volume}"))? else {
        return Err(io::Error::other("told of a volume that has nothing"));
    };
    let number = match edition::number(&set.values) {
        Ok(number) => number,
        Err(_) if volume == world::PLAIN => 0,
        Err(found) => return Err(io::Error::other(format!("{volume} is torn: {found}"))),
    };
    client.adopt(&volume, TARGET, &set.revision)?;
    line.say(&format!("told {TARGET} {volume} {told} {number}"));
    Ok(())
}

fn print() {
    let (mut out, mut errors) = (io::stdout().lock(), io::stderr().lock());
    for number in 0..LINES {
        // Whoever reads may have had enough.
        let _ = writeln!(out, "line {number} of many that nobody wants to read");
        let _ = writeln!(errors, "line {number} of many others");
    }
}

/// Starts a process that has the pipes of this one, and does not wait for it.
#[expect(clippy::zombie_processes, reason = "the sidecar has to reap it")]
fn leave(directory: &Path) {
    let mut command = Role::Grandchild.command(directory);
    // In a group of its own, or it would be ended with this process.
    command.stdin(Stdio::null()).process_group(0).spawn().unwrap();
}

pub fn run_grandchild(directory: &Path) {
    let _line = Line::open(directory, "grandchild");
    pause(GRANDCHILD);
}

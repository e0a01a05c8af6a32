//! (e) How soon the app has been told of a rotation: by a signal from its supervisor, by a webhook.
//!
//! Each is compared with the barest loop that does the same. The app reports to the thread that has
//! renamed `..data`, which waits for it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use criterion::Criterion;

use crate::app::Reports;
use crate::hook::Hook;
use crate::mount::Mount;
use crate::ratio::{Goal, Pair, Question, Side, Table};
use crate::role::Role;
use crate::server::{Process, Server};

/// A target is told at most ten times a second of the same volume, so that many rotations in a row
/// are no storm. This is about the first one after quiet.
const QUIET: Duration = Duration::from_millis(120);
/// With QUIET, which is nearly all of it: eighty pairs, as single ones differ by a half.
const TIME: Duration = Duration::from_secs(20);

pub fn run(criterion: &mut Criterion, table: &mut Table) {
    let question = Question {
        id: "tell/signal",
        what: "rename of `..data` → the child's signal handler runs; a bare inotify + `kill` loop",
        goal: Goal::Time(2.0),
        time: TIME,
    };
    table.compare(criterion, &question, || Pair {
        subject: signal(|mount, socket| {
            let mut command = sidecar("run", mount);
            command.args(["--signal", "HUP", "--"]).arg(std::env::current_exe().unwrap());
            Role::App { socket }.give_to(&mut command);
            command
        }),
        baseline: signal(|mount, socket| {
            Role::Signaller { socket, directory: mount.path() }.command()
        }),
    });
    let question = Question {
        id: "tell/webhook",
        what: "rename of `..data` → the webhook has the request; a bare inotify + read + POST loop",
        goal: Goal::Time(1.5),
        time: TIME,
    };
    table.compare(criterion, &question, || Pair { subject: webhook(), baseline: bare_webhook() });
}

fn sidecar(way: &str, mount: &Mount) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretwatch"));
    let volume = format!("db={}", mount.path().display());
    command.arg(way).arg("--volume").arg(volume).arg("--socket").arg(mount.socket());
    command
}

#[expect(clippy::disallowed_methods, reason = "time has to pass, and there is nothing to see")]
fn be_quiet() {
    std::thread::sleep(QUIET);
}

fn signal(command: impl FnOnce(&Mount, PathBuf) -> Command) -> Side {
    let mut mount = Mount::new();
    let socket = mount.path().with_file_name("reports");
    let mut reports = Reports::new(&socket);
    let process = Process::spawn(&mut command(&mount, socket));
    reports.accept();
    Side::new(1, move || {
        let _ = &process;
        be_quiet();
        mount.rotate(|start, _| {
            reports.wait();
            start.elapsed()
        })
    })
}

fn webhook() -> Side {
    let mut mount = Mount::new();
    let mut hook = Hook::new();
    let mut command = sidecar("serve", &mount);
    command.arg("--notify-http").arg(format!("http://{}/reload", hook.address()));
    let server = Server::start(&mut command, &mount.socket());
    server.wait_until_ready();
    // It connects when there is something to tell.
    mount.rotate(|_, _| hook.accept());
    hook.receive();
    hook.answer();
    called(mount, hook, server)
}

fn bare_webhook() -> Side {
    let (mount, mut hook) = (Mount::new(), Hook::new());
    let address = hook.address().to_string();
    let role = Role::Poster { address, directory: mount.path() };
    let process = Process::spawn(&mut role.command());
    hook.accept();
    called(mount, hook, process)
}

fn called(mut mount: Mount, mut hook: Hook, caller: impl Sized + 'static) -> Side {
    Side::new(1, move || {
        let _ = &caller;
        be_quiet();
        let took = mount.rotate(|start, _| {
            hook.receive();
            start.elapsed()
        });
        hook.answer();
        took
    })
}

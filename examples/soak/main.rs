//! A soak: random rotations, crashes and failing targets, and in the end nothing lost.
//!
//! ```sh
//! cargo run --release --example soak -- --seconds 60 --seed 7
//! ```
//!
//! A sidecar (`serve`) watches simulated volumes and tells an HTTP server, a hook and an app with a
//! pid file; a supervisor (`run`) watches two of them for an app of its own. Clients on both sockets
//! and the library in this process read all the time. Writers rotate the volumes in every way there
//! is, while targets fail, apps crash and the supervisor is killed.
//!
//! How it works. All values of a volume follow from one number that only goes up, so that a set that
//! is torn, was never published or comes too late is seen by whoever reads it ([`witness`]). The run
//! is made of rounds: disorder for some seconds, then a last rotation of every volume while each
//! target fails some more times, and then everybody has to arrive at that rotation before a deadline
//! ([`round`]). The sidecar's memory and descriptors are compared when all is quiet.
//!
//! The program starts itself anew as each of the other processes ([`role`]). All of them hold a
//! connection to it ([`desk`]) and end when it does, however that happens. The first thing that is
//! wrong ends the run with status 1, the seed, and the directory with the logs.

#![allow(clippy::print_stdout, reason = "the summary is what it is for")]
#![allow(clippy::unwrap_used, reason = "a panic ends the soak as any failure does")]
#![allow(unreachable_pub, reason = "nothing outside can reach an example")]

use std::process::ExitCode;

mod app;
mod arguments;
mod chaos;
mod client;
mod crasher;
mod desk;
mod edition;
mod failure;
mod hook;
mod independent;
mod ledger;
mod library;
mod line;
mod plain;
mod process;
mod reader;
mod role;
mod round;
mod server;
mod sidecar;
mod summary;
mod supervisor;
mod tally;
mod time;
mod witness;
mod world;
mod writer;

fn main() -> ExitCode {
    if let Some(role) = role::Role::of_this_process() {
        return role.run();
    }
    match arguments::Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => {
            round::run_all(&arguments);
            ExitCode::SUCCESS
        }
        Ok(None) => {
            println!("{}", arguments::USAGE);
            ExitCode::SUCCESS
        }
        Err(message) => {
            failure::say(&format!("{message}\n{}", arguments::USAGE));
            ExitCode::from(2)
        }
    }
}

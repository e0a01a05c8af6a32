//! The promises about speed, measured: `cargo bench`, or `cargo bench -- read` for one of them.
//!
//! Times on a shared machine say little, so every promise is a ratio to a baseline that does the
//! bare minimum of the same work. Subject and baseline take turns within every sample, which plain
//! criterion benchmarks, one after the other, do not: what the machine does in between would be
//! taken for a difference. So criterion runs the samples and reports the subject, compared with the
//! last run, through `iter_custom`; the ratios come from the pairs, and a table at the end has
//! them. Nothing here fails because a goal is missed.
//!
//! Servers and apps are processes of their own: the sidecar is the real binary, and what it is
//! compared with is this one, started anew in another role.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a benchmark fails")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(unreachable_pub, reason = "nothing outside can reach a benchmark")]

use criterion::Criterion;

mod app;
mod bare;
mod connection;
mod herd;
mod hook;
mod mount;
mod pickup;
mod ratio;
mod read;
mod role;
mod serve;
mod server;
mod tell;
mod teller;

fn main() {
    if let Some(role) = role::Role::of_this_process() {
        return role.run();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = ratio::Table::default();
    pickup::run(&mut criterion, &mut table);
    read::run(&mut criterion, &mut table);
    serve::run(&mut criterion, &mut table);
    herd::run(&mut criterion, &mut table);
    tell::run(&mut criterion, &mut table);
    criterion.final_summary();
    table.print();
}

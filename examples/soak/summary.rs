//! What came of it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::arguments::Arguments;
use crate::crasher::Act;
use crate::edition::MEAN_KIB;
use crate::failure::fail;
use crate::sidecar::{Sample, Sidecar};
use crate::world::World;
use crate::{app, hook, plain, server, supervisor, writer};

/// How much more memory than after the warm-up may be resident. An allocator cannot give back what
/// lies between pieces that are in use, so that some ups and downs are usual; each volume has two
/// snapshots of up to 50 KiB and the documents made of them. The summary says which leak would be
/// more than this.
const MAX_GROWTH_KIB: u64 = 2 * 1024;
/// The connection to the HTTP server is kept or not, whichever fault came last.
const MAX_MORE_DESCRIPTORS: u64 = 1;

/// What the sidecar has counted.
pub struct Metrics {
    rejected: u64,
    begun_again: u64,
    told: u64,
    failed: u64,
    held: u64,
}

impl Metrics {
    pub fn of(sidecar: &Sidecar) -> Self {
        Self {
            rejected: sidecar.metric("secretwatch_snapshots_rejected_total"),
            begun_again: sidecar.metric("secretwatch_read_retries_total"),
            told: sidecar.metric("secretwatch_reloads_total"),
            failed: sidecar.metric("secretwatch_reloads_failed_total"),
            held: sidecar.metric("secretwatch_signal_deferred_total"),
        }
    }
}

/// Makes everything that can go wrong visible, also where it does not.
pub fn expect_all(world: &World) {
    let tally = &world.tally;
    tally.expect(server::Fault::ALL.iter().map(|fault| fault.title()));
    tally.expect(hook::Fault::ALL.iter().map(|fault| fault.title()));
    tally.expect(Act::ALL.iter().map(|act| act.title()));
    tally.expect(plain::Act::ALL.iter().map(|act| act.title()));
    tally.expect(writer::Act::titles());
    tally.expect([app::LATE_HANDLER, supervisor::SIGNALS, supervisor::RESTARTS]);
}

/// Fails where there are more descriptors than ever before, but for the connection that may be kept.
pub fn check_descriptors(before: &[Sample], now: Sample) {
    let Some(most) = before.iter().map(|sample| sample.descriptors).min() else { return };
    if now.descriptors > most + MAX_MORE_DESCRIPTORS {
        let now = now.descriptors;
        fail(&format!("the sidecar has {now} descriptors when all is quiet, {most} before"));
    }
}

/// The one after the warm-up: the first of a short run.
fn warm(samples: &[Sample]) -> Sample {
    samples[samples.len() / 4]
}

pub fn check_memory(samples: &[Sample]) {
    let (before, now) = (warm(samples).resident_kib, samples[samples.len() - 1].resident_kib);
    if now > before + MAX_GROWTH_KIB {
        fail(&format!("the sidecar's memory grew from {before} KiB to {now} KiB: {samples:?}"));
    }
}

pub fn print(world: &World, arguments: &Arguments, samples: &[Sample], metrics: &Metrics) {
    let tally = &world.tally;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = tally.counts();
    let is_crash = |title: &str| Act::ALL.iter().any(|act| act.is_crash() && act.title() == title);
    let crashes: u64 = counts.iter().filter(|(title, _)| is_crash(title)).map(|(_, n)| n).sum();
    println!();
    println!("done                                          times");
    for (title, count) in &counts {
        let remark = if *count == 0 { "   did not happen in this run" } else { "" };
        println!("{title:<44} {count:>6}{remark}");
    }
    println!();
    row("rounds", samples.len());
    row("rotations", load(&tally.rotations));
    row("looks that began again", metrics.begun_again);
    row(
        "pick-ups by who waits, slowest",
        format!("{}, {:.0?}", load(&tally.pickups), tally.slowest()),
    );
    row("reads, all checked", load(&tally.reads));
    row("targets told", metrics.told);
    row("failed and tried again", metrics.failed);
    row("signals held back", metrics.held);
    row("crashes survived", crashes);
    row("connections lost to crashes", load(&tally.reconnects));
    row("torn, lost, backwards", "0, 0, 0");
    let (before, now) = (warm(samples), samples[samples.len() - 1]);
    row("accepted, rejected by the sidecar", format!("{}, {}", now.snapshots, metrics.rejected));
    let memory = format!("{} KiB, {} KiB", before.resident_kib, now.resident_kib);
    row("resident when quiet, warm and at the end", memory);
    row("descriptors, the same", format!("{}, {}", before.descriptors, now.descriptors));
    let leak = (now.snapshots - before.snapshots) * MEAN_KIB / MAX_GROWTH_KIB;
    row("a leak would show of one snapshot in", leak);
    let time = world.start.elapsed().as_secs_f64();
    println!("\nsoak: nothing lost in {time:.0} s with --seed {}", arguments.seed);
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("{what:<44} {value}");
}

//! Rounds of disorder, each of which ends with everybody at the last rotation.

use std::time::{Duration, Instant};

use nix::sys::prctl;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::client::{Client, Set};
use crate::crasher::Crasher;
use crate::failure::{self, fail};
use crate::plain::PlainWriter;
use crate::reader::{self, Source};
use crate::sidecar::{Sample, Sidecar};
use crate::summary::{self, Metrics};
use crate::time::until;
use crate::world::{self, ATOMIC, PLAIN, SUPERVISED, World, volumes};
use crate::writer::Writer;
use crate::{app, desk, hook, library, process, server, supervisor};

/// How long there is disorder in a round.
const DISORDER: Duration = Duration::from_secs(5);
/// One to compare with, and one that is compared.
const MIN_ROUNDS: usize = 2;

struct Writers {
    atomic: Vec<Writer>,
    plain: PlainWriter,
}

/// Runs the whole soak. Returns only where nothing was wrong.
pub fn run_all(arguments: &Arguments) {
    failure::catch_panics();
    // Orphans of a killed supervisor come to this process, which ends them.
    prctl::set_child_subreaper(true).unwrap();
    let directory = tempfile::Builder::new().prefix("soak-").tempdir().unwrap();
    let world = world::create(directory.path().to_owned(), arguments.seed);
    println!("soak: {} s with --seed {}", arguments.time.as_secs(), arguments.seed);
    summary::expect_all(world);

    let mut writers = Writers::new(world);
    writers.rotate_all();
    desk::open(world);
    server::start(world);
    let sidecar = Sidecar::start(world);
    let library = library::Library::start(world);
    let mut crasher = Crasher::new(world, sidecar);
    start_readers(world, &crasher.sidecar);

    let mut samples = Vec::new();
    while world.start.elapsed() < arguments.time || samples.len() < MIN_ROUNDS {
        let time = DISORDER.min(arguments.time / 2);
        samples.push(round(world, &mut writers, &mut crasher, time));
        if let [first @ .., last] = &samples[..] {
            summary::check_descriptors(first, *last);
        }
    }
    let metrics = Metrics::of(&crasher.sidecar);
    summary::check_memory(&samples);
    end(world, crasher, library);
    summary::print(world, arguments, &samples, &metrics);
}

fn start_readers(world: &'static World, sidecar: &Sidecar) {
    let socket = sidecar.socket().to_owned();
    let source = Source { name: "sidecar", socket, may_fail: false };
    reader::start(world, &source, &volumes().collect::<Vec<_>>());
    let socket = supervisor::socket(&world.directory);
    let source = Source { name: "supervisor", socket, may_fail: true };
    reader::start(world, &source, &SUPERVISED);
}

/// Disorder, a last rotation that meets some more faults, and then everybody has to have it.
fn round(
    world: &'static World,
    writers: &mut Writers,
    crasher: &mut Crasher,
    time: Duration,
) -> Sample {
    let end = Instant::now() + time;
    world.server.begin();
    world.hook.begin();
    std::thread::scope(|scope| {
        for writer in &mut writers.atomic {
            scope.spawn(|| writer.run_until(end));
        }
        scope.spawn(|| writers.plain.run_until(end));
        scope.spawn(|| crasher.run_until(end));
    });
    world.server.end();
    world.hook.end();
    std::thread::scope(|scope| {
        scope.spawn(|| writers.rotate_all());
        scope.spawn(|| crasher.strike_last());
    });
    until("everybody has the last rotation", || {
        crasher.check();
        missing(world, crasher)
    });
    if let Some(torn) = world.ledger(PLAIN).torn().first() {
        fail(torn);
    }
    crasher.sidecar.until_childless();
    crasher.sidecar.sample()
}

impl Writers {
    fn new(world: &'static World) -> Self {
        let seeds = (10..).map(|salt| world.seed ^ salt);
        let atomic = ATOMIC.into_iter().zip(seeds);
        let atomic = atomic.map(|(name, seed)| Writer::new(world, name, seed)).collect();
        Self { atomic, plain: PlainWriter::new(world, world.seed ^ 8) }
    }

    fn rotate_all(&mut self) {
        for writer in &mut self.atomic {
            writer.rotate().unwrap();
        }
        self.plain.rotate().unwrap();
    }
}

/// What is not yet as it has to be.
fn missing(world: &World, crasher: &Crasher) -> Result<(), String> {
    let targets = [server::TARGET, hook::TARGET, app::INDEPENDENT];
    server_is_done(world, "the sidecar", crasher.sidecar.socket(), volumes(), &targets)?;
    let socket = supervisor::socket(&world.directory);
    let supervised = SUPERVISED.into_iter();
    server_is_done(world, "the supervisor", &socket, supervised, &[app::SUPERVISED_APP])?;
    if crasher.supervisor.restarts() {
        let (_, number) = told(world, "variable", SUPERVISED[0])?;
        is_last(world, SUPERVISED[0], number).map_err(|e| format!("the app's variable: {e}"))?;
    }
    for ((reader, volume), number) in &*world.seen.lock().unwrap() {
        is_last(world, volume, *number).map_err(|e| format!("{reader}: {e}"))?;
    }
    Ok(())
}

/// Whether a server serves the last rotation, has told all its targets, and all have adopted.
fn server_is_done(
    world: &World,
    name: &str,
    socket: &std::path::Path,
    volumes: impl Iterator<Item = &'static str>,
    targets: &[&str],
) -> Result<(), String> {
    let of = |error: String| format!("{name}: {error}");
    let failed = |error: std::io::Error| of(error.to_string());
    let mut client = Client::open(socket).map_err(failed)?;
    for volume in volumes {
        let set = client.set(&format!("/v1/secrets/{volume}")).map_err(failed)?;
        let set = set.ok_or_else(|| of(format!("{volume} has nothing")))?;
        volume_is_done(world, volume, &set, targets).map_err(of)?;
        let adoptions = client.document(&format!("/v1/adoptions/{volume}")).map_err(failed)?;
        if adoptions["all_adopted"] != true {
            return Err(of(format!("not everybody has adopted {volume}: {adoptions}")));
        }
    }
    list_is_done(&client.document("/v1/secrets").map_err(failed)?).map_err(of)
}

fn volume_is_done(world: &World, volume: &str, set: &Set, targets: &[&str]) -> Result<(), String> {
    let number = crate::edition::number(&set.values);
    is_last(world, volume, number.map_err(|found| format!("{volume} is {found}"))?)?;
    for target in targets {
        let (revision, _) = told(world, target, volume)?;
        if revision != set.revision {
            let now = &set.revision;
            return Err(format!("{target} was told {volume} {revision}, now is {now}"));
        }
    }
    Ok(())
}

fn list_is_done(list: &Value) -> Result<(), String> {
    let entries = |field: &str| list[field].as_array().cloned().unwrap_or_default();
    let waiting = entries("targets").into_iter().find(|target| target["state"] != "idle");
    let troubled = entries("secrets").into_iter().find(|volume| volume["state"] != "current");
    waiting.or(troubled).map_or(Ok(()), |entry| Err(entry.to_string()))
}

fn told(world: &World, target: &str, volume: &str) -> Result<(String, u64), String> {
    let told = world.told.lock().unwrap();
    let entry = told.get(&(target.to_owned(), volume.to_owned()));
    entry.cloned().ok_or_else(|| format!("{target} was never told of {volume}"))
}

fn is_last(world: &World, volume: &str, number: u64) -> Result<(), String> {
    let last = world.ledger(volume).last();
    if number == last { Ok(()) } else { Err(format!("{volume} is at {number}, not at {last}")) }
}

/// Ends all processes in order, and makes sure that none is left.
fn end(world: &World, crasher: Crasher, library: library::Library) {
    world.end();
    let Crasher { sidecar, supervisor, mut independent, .. } = crasher;
    supervisor.stop();
    sidecar.stop();
    independent.kill(false);
    library.join();
    let left = process::children(std::process::id());
    if !left.is_empty() {
        fail(&format!("processes are left, as (pid, is a zombie): {left:?}"));
    }
}

//! (b) What reading a value costs, compared with reading its file each time, and whether two
//! threads read twice as much as one.

use std::fs;
use std::hint::{self, black_box};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use criterion::Criterion;
use secretwatch::{Secrets, Volume};

use crate::mount::{KEY, Mount};
use crate::ratio::{Goal, Pair, Question, Side, Table};

const READS: u32 = 100_000;
const FILE_READS: u32 = 1_000;
/// About as long as a read.
const COPIES: u32 = 4;
/// Threads on one processor would need a time slice for each of them.
const MEETINGS: u32 = 1_000;
/// Long enough that the moment at which two threads start does not count, and short enough that
/// other processes do not often come in between.
const READS_PER_THREAD: u32 = 100_000;

pub fn run(criterion: &mut Criterion, table: &mut Table) {
    let time = Duration::from_secs(4);
    let question = Question {
        id: "read/file",
        what: "`current()` + `get`; opening and reading the file",
        goal: Goal::Speed(200.0),
        time,
    };
    table.compare(criterion, &question, || {
        let mount = Arc::new(Mount::new());
        let volume = watch(&mount);
        let path = mount.path().join(KEY);
        let subject = move || timed(READS, || _ = black_box(length(&volume)));
        let baseline = move || {
            // Kept, so that the file is there.
            let _ = &mount;
            timed(FILE_READS, || _ = black_box(fs::read(&path).unwrap()))
        };
        Pair { subject: Side::new(READS, subject), baseline: Side::new(FILE_READS, baseline) }
    });
    let question = Question {
        id: "read/threads",
        what: "`current()` + `get` in two threads at once; in one",
        goal: Goal::Speed(1.8),
        time,
    };
    table.compare(criterion, &question, || {
        let volume = watch(&Mount::new());
        scaling(move || _ = black_box(length(&volume)))
    });
    let question = Question {
        id: "read/machine",
        what: "the same with an `Arc` of each thread's own: what the machine has to give",
        goal: Goal::OnlySpeed,
        time,
    };
    table.compare(criterion, &question, || scaling(|| (0..COPIES).for_each(|_| copy_own_arc())));
}

fn watch(mount: &Mount) -> Volume {
    let secrets = Secrets::builder().volume(mount.path()).open().unwrap();
    secrets.volume("db").unwrap()
}

fn length(volume: &Volume) -> usize {
    volume.current().get(KEY).unwrap().expose().len()
}

fn timed(times: u32, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        work();
    }
    start.elapsed()
}

/// Does what a read does, atomic operations, and shares nothing with any thread.
fn copy_own_arc() {
    thread_local!(static OWN: Arc<Alone> = Arc::new(Alone));
    OWN.with(|own| drop(black_box(Arc::clone(own))));
}

/// Its counter is in a cache line of its own.
#[repr(align(128))]
struct Alone;

/// Two threads that work at the same time, compared with one that does half of it.
fn scaling(work: impl Fn() + Send + Sync + 'static) -> Pair {
    let work = Arc::new(work);
    let side = |threads: u32| {
        let work = Arc::clone(&work);
        Side::new(threads * READS_PER_THREAD, move || together(threads, &*work))
    };
    Pair { subject: side(2), baseline: side(1) }
}

/// The time of the slowest.
fn together(threads: u32, work: &(impl Fn() + Sync)) -> Duration {
    let arrived = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let start = || {
            scope.spawn(|| {
                meet(threads, &arrived);
                timed(READS_PER_THREAD, work)
            })
        };
        let running: Vec<_> = (0..threads).map(|_| start()).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    })
}

/// Returns at the same time in all threads, and when each of them has a processor: new threads
/// often share one at first, and would be measured one after the other.
fn meet(threads: u32, arrived: &AtomicU32) {
    for round in 1..=MEETINGS {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < round * threads {
            hint::spin_loop();
        }
    }
}

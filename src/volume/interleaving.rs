//! Every interleaving of one look with one rotation, system call by system call.
//!
//! Before each of its system calls the look stops, and the schedule says how many steps the
//! simulated kubelet takes there. Schedules are visited in order like the digits of a counter, so
//! that none is left out.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::kubelet::{AtomicWriter, LinkOrder, Payload, Rotation};

type Values = BTreeMap<String, String>;

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn payload(values: &Values) -> Payload {
    values
        .iter()
        .fold(Payload::new(), |payload, (key, value)| payload.with(key.as_str(), value.as_str()))
}

fn seen(reading: &Reading) -> Values {
    let text = |key: &str| reading.contents.get(key).unwrap().expose_str().unwrap().to_owned();
    reading.contents.keys().map(|key| (key.to_string(), text(key.as_str()))).collect()
}

/// How many steps to take at each stop. Replays what it has recorded, and counts on from there.
#[derive(Default)]
struct Schedule {
    choices: Vec<(usize, usize)>,
    position: usize,
}

impl Schedule {
    /// The number of groups of steps to take at this stop, of `left`.
    fn choose(&mut self, left: usize) -> usize {
        if self.position == self.choices.len() {
            self.choices.push((0, left));
        }
        self.position += 1;
        self.choices[self.position - 1].0
    }

    fn preemptions(&self) -> usize {
        self.choices[..self.position].iter().filter(|(choice, _)| *choice > 0).count()
    }

    /// Goes on to the next schedule; `false` after the last one.
    fn advance(&mut self) -> bool {
        self.position = 0;
        while let Some((choice, left)) = self.choices.last_mut() {
            if *choice < *left {
                *choice += 1;
                return true;
            }
            self.choices.pop();
        }
        false
    }
}

/// Lets the kubelet go on at each stop of the look.
struct Interleaved<'a> {
    schedule: &'a mut Schedule,
    rotation: Rotation,
    /// How many steps are taken together at first: those that prepare what nobody can see yet.
    prepare: usize,
    most_preemptions: usize,
}

impl Interleaved<'_> {
    fn groups_left(&self) -> usize {
        let steps = self.rotation.remaining();
        if self.prepare > 0 { steps - self.prepare + 1 } else { steps }
    }

    fn take_group(&mut self) {
        for _ in 0..std::mem::take(&mut self.prepare).max(1) {
            self.rotation.step().unwrap();
        }
    }
}

impl Probe for Interleaved<'_> {
    fn before(&mut self, _call: &'static str) {
        let is_used_up = self.schedule.preemptions() >= self.most_preemptions;
        let left = if is_used_up { 0 } else { self.groups_left() };
        for _ in 0..self.schedule.choose(left) {
            self.take_group();
        }
    }
}

struct Case<'a> {
    order: LinkOrder,
    before: &'a Values,
    after: &'a Values,
    is_grouped: bool,
    most_preemptions: usize,
}

impl Case<'_> {
    /// Visits every schedule, and gives their number.
    fn visit(&self) -> usize {
        let mut schedule = Schedule::default();
        let mut count = 0;
        loop {
            self.run(&mut schedule);
            count += 1;
            if !schedule.advance() {
                return count;
            }
        }
    }

    fn run(&self, schedule: &mut Schedule) {
        let root = TempDir::new_in(fast_directory()).unwrap();
        let writer = AtomicWriter::new(root.path()).link_order(self.order);
        if !self.before.is_empty() {
            writer.write(payload(self.before)).unwrap();
        }
        let rotation = writer.rotation(payload(self.after)).unwrap();
        let prepare = if self.is_grouped { steps_before_swap(&rotation) } else { 0 };
        let most_preemptions = self.most_preemptions;
        let mut probe = Interleaved { schedule, rotation, prepare, most_preemptions };
        let look = look_probed(root.path(), &mut probe);
        let rotation = probe.rotation;
        self.check(&look, &schedule.choices);
        rotation.finish().unwrap();
        let last = super::look(root.path()).result.unwrap();
        assert_eq!(&seen(&last), self.after, "the last payload is what remains");
    }

    fn check(&self, look: &Look, schedule: &[(usize, usize)]) {
        match &look.result {
            Ok(reading) if reading.layout == Layout::Plain => {
                assert!(self.before.is_empty() && reading.contents.is_empty(), "{schedule:?}");
            }
            Ok(reading) => {
                let seen = seen(reading);
                let is_whole = seen == *self.before || seen == *self.after;
                assert!(is_whole, "torn or partial: {seen:?} by {schedule:?}");
            }
            Err(trouble) => {
                let is_first = self.before.is_empty() && trouble.reason == Reason::Unpublished;
                assert!(is_first, "{trouble} by {schedule:?}");
            }
        }
    }
}

/// Tens of thousands of small volumes: in memory where there is a place for that.
fn fast_directory() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

fn steps_before_swap(rotation: &Rotation) -> usize {
    rotation.steps().take_while(|step| !step.is_swap()).count()
}

const ORDERS: [LinkOrder; 2] = [LinkOrder::AfterSwap, LinkOrder::BeforeSwap];

/// All schedules. What the kubelet does before the swap happens in a directory that nothing leads
/// to, so it is one step here; the next tests take it apart.
#[test]
fn every_interleaving_with_a_rotation_reads_one_whole_payload() {
    let (before, after) = (values(&[("a", "1"), ("b", "1")]), values(&[("a", "2"), ("b", "2")]));
    for order in ORDERS {
        let case = Case {
            order,
            before: &before,
            after: &after,
            is_grouped: true,
            most_preemptions: usize::MAX,
        };
        let count = case.visit();
        assert!(count > 1_000, "only {count} schedules");
    }
}

/// Each single system call of the kubelet, with the look interrupted up to three times.
#[test]
fn every_single_step_of_a_rotation_reads_one_whole_payload() {
    let before = values(&[("a", "1"), ("gone", "1")]);
    let after = values(&[("a", "2"), ("sub/new", "2")]);
    for order in ORDERS {
        let case =
            Case { order, before: &before, after: &after, is_grouped: false, most_preemptions: 2 };
        let count = case.visit();
        assert!(count > 1_000, "only {count} schedules");
    }
}

#[test]
fn every_single_step_of_the_first_write_reads_nothing_or_everything() {
    let after = values(&[("a", "1"), ("b", "1")]);
    for order in ORDERS {
        let case = Case {
            order,
            before: &Values::new(),
            after: &after,
            is_grouped: false,
            most_preemptions: 2,
        };
        let count = case.visit();
        assert!(count > 400, "only {count} schedules");
    }
}

/// A writer that is always faster than the look.
struct Restless(AtomicWriter, u32);

impl Probe for Restless {
    fn before(&mut self, call: &'static str) {
        if call == "check the link" {
            self.1 += 1;
            self.0.write(Payload::new().with("a", self.1.to_string())).unwrap();
        }
    }
}

#[test]
fn volume_that_changes_under_every_attempt_is_unstable_and_not_read_for_ever() {
    let root = TempDir::new_in(fast_directory()).unwrap();
    let writer = AtomicWriter::new(root.path());
    writer.write(Payload::new().with("a", "0")).unwrap();
    let mut probe = Restless(writer, 0);
    let look = look_probed(root.path(), &mut probe);
    assert_eq!(look.result.unwrap_err().reason, Reason::Unstable);
    assert_eq!((look.retries, probe.1), (MAX_ATTEMPTS, MAX_ATTEMPTS));
}

//! Ratios of a subject to its baseline, from samples that are taken in turn.

use std::time::Duration;

use criterion::{Criterion, SamplingMode};

/// One of the two that are compared.
pub struct Side {
    operations: u32,
    run: Box<dyn FnMut() -> Duration>,
}

impl Side {
    /// `run` takes the time of `operations` operations.
    pub fn new(operations: u32, run: impl FnMut() -> Duration + 'static) -> Self {
        Self { operations, run: Box::new(run) }
    }

    /// Seconds of one operation.
    fn sample(&mut self) -> f64 {
        (self.run)().as_secs_f64() / f64::from(self.operations)
    }
}

/// A subject, and what it is compared with.
pub struct Pair {
    pub subject: Side,
    pub baseline: Side,
}

/// What is promised.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times the baseline's time.
    Time(f64),
    /// At least so many times the baseline's speed.
    Speed(f64),
    /// At most this time, whatever the baseline takes.
    Within(Duration),
    /// Nothing, it is there to judge the others by: how many times the baseline's time it takes.
    OnlyTime,
    /// The same for its speed.
    OnlySpeed,
}

/// A comparison: its name for the command line, and in words.
pub struct Question {
    pub id: &'static str,
    pub what: &'static str,
    pub goal: Goal,
    /// How long criterion measures. The least of its samples is one pair.
    pub time: Duration,
}

/// The comparisons that were made.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    what: &'static str,
    goal: Goal,
    subject: Vec<f64>,
    baseline: Vec<f64>,
}

impl Table {
    /// Makes one comparison, unless the command line asks for others only. `prepare` is called once,
    /// if at all.
    pub fn compare(
        &mut self,
        criterion: &mut Criterion,
        question: &Question,
        prepare: impl FnOnce() -> Pair,
    ) {
        let Question { id, what, goal, time } = *question;
        let (mut prepare, mut pair) = (Some(prepare), None);
        let mut row = Row { what, goal, subject: Vec::new(), baseline: Vec::new() };
        let mut group = criterion.benchmark_group("proof");
        group.sampling_mode(SamplingMode::Flat).sample_size(20);
        group.warm_up_time(time / 8).measurement_time(time);
        group.bench_function(id, |bencher| {
            let pair = pair.get_or_insert_with(|| prepare.take().unwrap()());
            bencher.iter_custom(|rounds| (0..rounds).map(|_| row.sample(pair)).sum());
        });
        group.finish();
        if !row.subject.is_empty() {
            self.0.push(row);
        }
    }

    /// Prints what was found, as a table that Markdown understands.
    pub fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!(
            "\nSubject and baseline took turns; medians, and the middle half of the ratios.\n"
        );
        let rows: Vec<_> = self.0.iter().map(Row::cells).collect();
        let head = ["what", "median", "baseline", "ratio (middle half)", "goal"].map(str::to_owned);
        let width = |column: usize| {
            rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        let rule = widths.map(|width| "-".repeat(width));
        for row in [&head, &rule].into_iter().chain(&rows) {
            let cells: Vec<_> = row.iter().zip(widths).map(|(c, w)| format!("{c:w$}")).collect();
            println!("| {} |", cells.join(" | "));
        }
    }
}

impl Row {
    /// Takes a sample of both. Who comes first alternates, as the second one finds warmer caches.
    fn sample(&mut self, pair: &mut Pair) -> Duration {
        let (subject, baseline);
        if self.subject.len().is_multiple_of(2) {
            subject = pair.subject.sample();
            baseline = pair.baseline.sample();
        } else {
            baseline = pair.baseline.sample();
            subject = pair.subject.sample();
        }
        self.subject.push(subject);
        self.baseline.push(baseline);
        // For criterion, which counts in nanoseconds, the time of all operations.
        Duration::from_secs_f64(subject * f64::from(pair.subject.operations))
    }

    fn cells(&self) -> [String; 5] {
        let pairs = self.subject.iter().zip(&self.baseline);
        // A ratio is one of times or of speeds, whichever the goal is about.
        let (ratios, kind): (Vec<f64>, _) = match self.goal {
            Goal::Speed(_) | Goal::OnlySpeed => (pairs.map(|(s, b)| b / s).collect(), "the speed"),
            _ => (pairs.map(|(s, b)| s / b).collect(), "the time"),
        };
        let ratio = |part| factor(quantile(&ratios, part));
        let goal = match self.goal {
            Goal::Time(most) => format!("≤ {most}×"),
            Goal::Speed(least) => format!("≥ {least}×"),
            Goal::Within(most) => format!("≤ {}", time(most.as_secs_f64())),
            Goal::OnlyTime | Goal::OnlySpeed => "–".to_owned(),
        };
        [
            self.what.to_owned(),
            time(quantile(&self.subject, 0.5)),
            time(quantile(&self.baseline, 0.5)),
            format!("{}× {kind} ({} to {})", ratio(0.5), ratio(0.25), ratio(0.75)),
            goal,
        ]
    }
}

/// The sample below which `part` of all samples lie.
fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is an index")]
    let at = ((sorted.len() - 1) as f64 * part).round() as usize;
    sorted[at]
}

fn factor(ratio: f64) -> String {
    if ratio < 100.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s => format!("{:.1} ms", s * 1e3),
    }
}

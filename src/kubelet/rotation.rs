//! A rotation under way.

use std::collections::VecDeque;
use std::fs::File;
use std::io;

use super::payload::Payload;
use super::step::Step;

/// All that is left to do of one rotation, one system call at a time.
///
/// Dropping it leaves the volume as it stands, like a kubelet that dies at that point: a half
/// written directory, a `..data_tmp`, a new version without the links of its new keys, an old
/// version that nobody removes.
#[derive(Debug)]
#[must_use = "nothing happens until steps are taken"]
pub struct Rotation {
    steps: VecDeque<Step>,
    payload: Payload,
    open: Option<File>,
}

impl Rotation {
    pub(super) fn new(steps: VecDeque<Step>, payload: Payload) -> Self {
        Self { steps, payload, open: None }
    }

    /// The number of steps that are left; 0 from the start where nothing has to be done.
    pub fn remaining(&self) -> usize {
        self.steps.len()
    }

    /// The steps that are left.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.iter()
    }

    /// Takes the next step and says which it was; `None` once all are taken.
    ///
    /// # Errors
    /// What the system call failed with, and its path. The step is then still the next one.
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        let Some(step) = self.steps.front() else { return Ok(None) };
        step.take(&self.payload, &mut self.open)?;
        Ok(self.steps.pop_front())
    }

    /// Takes all steps before the first that `stop` says yes to, and says whether there is one.
    /// Drop the rotation afterwards to leave what a crash just before that step leaves.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn run_until(&mut self, mut stop: impl FnMut(&Step) -> bool) -> io::Result<bool> {
        while let Some(next) = self.steps.front() {
            if stop(next) {
                return Ok(true);
            }
            self.step()?;
        }
        Ok(false)
    }

    /// Takes all steps that are left.
    ///
    /// # Errors
    /// As [`step`](Self::step); what has been done by then stays done.
    pub fn finish(mut self) -> io::Result<()> {
        self.run_until(|_| false).map(drop)
    }
}

//! When a state is saved: at a signal, by time, and at the end of an epoch where that costs little.

use super::{Interrupt, Job, stopped};
use crate::ranks::Ranks;
use crate::train::state::{Checkpoints, State};
use anyhow::Result;
use std::time::{Duration, Instant};

/// An epoch's end is saved where at least this many times a checkpoint's own time was trained since the last: 1 %.
const SELDOM: u32 = 100;

/// A training's checkpoints with their clock. The first process writes them for all.
pub(in crate::train) struct Saver<'a> {
    checkpoints: Checkpoints,
    every: Duration,
    interrupt: &'a Interrupt,
    ranks: &'a Ranks,
    saved: Instant,
    cost: Duration,
}

impl<'a> Saver<'a> {
    /// Counts from now.
    pub fn new(job: &Job<'a>) -> Self {
        let checkpoints = Checkpoints::new(job.folder, &job.cell.config_hash);
        let (every, interrupt, ranks) = (job.save_every, job.interrupt, job.ranks);
        Self { checkpoints, every, interrupt, ranks, saved: Instant::now(), cost: Duration::ZERO }
    }

    /// Between two pieces of work: saves what `state` gives where a signal came to any process or the time is over,
    /// which is never before `least`. An error with exit code 75 at a signal.
    pub fn pause<'s>(&mut self, least: Duration, state: impl FnOnce() -> &'s State) -> Result<()> {
        let stop = self.ranks.any(self.interrupt.requested())?;
        if stop || self.saved.elapsed() > self.every.max(least) {
            self.save(state())?;
        }
        if stop { Err(stopped()) } else { Ok(()) }
    }

    /// Whether [`Saver::pause`] would save, as far as this process knows.
    pub fn is_due(&self) -> bool {
        self.interrupt.requested() || self.saved.elapsed() > self.every
    }

    /// At the end of an epoch.
    pub fn end_epoch(&mut self, state: &State) -> Result<()> {
        if self.ranks.is_first() {
            self.checkpoints.write_metrics(&state.progress.curves)?;
        }
        if self.saved.elapsed() > self.every.min(SELDOM * self.cost) {
            self.save(state)?;
        }
        Ok(())
    }

    fn save(&mut self, state: &State) -> Result<()> {
        let started = Instant::now();
        if self.ranks.is_first() {
            self.checkpoints.save(state)?;
        }
        self.saved = Instant::now();
        self.cost = started.elapsed();
        Ok(())
    }
}

//! What a person sees while cells train: a bar with the time left on a terminal, plain lines elsewhere, and each cell's `log`.

use crate::cell::Cell;
use crate::environment::utc_now;
use crate::plan::work;
use crate::train::trainer::Tick;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Progress over the cells that are left, weighed by their estimated work.
pub struct Progress {
    bar: Option<ProgressBar>,
    done: f64,
    cells: (usize, usize),
    log: PathBuf,
}

/// Work units of the bar: integers, fine enough for a second of work on a small machine.
const MACS_A_UNIT: f64 = 1e8;

impl Progress {
    /// For the cells that will be trained.
    pub fn new(cells: &[&Cell]) -> Self {
        let total: f64 = cells.iter().map(|cell| work(cell).training_macs).sum();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{msg}\n{bar:40} {percent:>3} %  {elapsed} gone, {eta} left";
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(
                Some((total / MACS_A_UNIT) as u64),
                ProgressDrawTarget::stderr_with_hz(5),
            );
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { bar, done: 0.0, cells: (0, cells.len()), log: PathBuf::new() }
    }

    /// A cell starts; what is said of it goes to `log` in its folder too.
    pub fn start(&mut self, cell: &Cell, folder: &Path) -> Result<()> {
        self.cells.0 += 1;
        self.log = folder.join("log");
        let line = format!("[{}/{}] {}", self.cells.0, self.cells.1, cell.id);
        self.say(&line);
        self.log(&line)
    }

    /// A step of `cell` is done.
    pub fn tick(&mut self, cell: &Cell, tick: &Tick<'_>) -> Result<()> {
        let share = tick.steps.0 as f64 / tick.steps.1 as f64;
        if let Some(bar) = &self.bar {
            bar.set_position(((self.done + share * work(cell).training_macs) / MACS_A_UNIT) as u64);
            let (epoch, epochs) = (tick.epoch + 1, cell.config.stage.epochs);
            let position = format!("epoch {}/{epochs}, loss {:.4}", epoch.min(epochs), tick.loss);
            bar.set_message(format!("[{}/{}] {}  {position}", self.cells.0, self.cells.1, cell.id));
        }
        if let Some(point) = tick.finished_epoch {
            let percent = |share: Option<f64>| share.map_or("-".into(), |s| format!("{:.1} %", 100.0 * s));
            let temperature = point.temperature.map_or(String::new(), |b| format!(", b {b:.1}"));
            let line = format!(
                "  epoch {}/{}: loss {:.4}, train {}, test {}{temperature}, {:.1} s",
                point.epoch + 1,
                cell.config.stage.epochs,
                point.train_loss.unwrap_or(f64::NAN),
                percent(point.train_top1),
                percent(point.test_top1),
                point.seconds.unwrap_or(f64::NAN)
            );
            if self.bar.is_none() {
                self.say(&line);
            }
            self.log(&line)?;
        }
        Ok(())
    }

    /// A cell ended.
    pub fn finish(&mut self, cell: &Cell, outcome: &str) -> Result<()> {
        self.done += work(cell).training_macs;
        self.say(&format!("  {outcome}"));
        self.log(outcome)
    }

    /// Adds a line to the cell's log, which earlier attempts began.
    fn log(&self, line: &str) -> Result<()> {
        let written = std::fs::OpenOptions::new().append(true).create(true).open(&self.log);
        let written =
            written.and_then(|mut file| file.write_all(format!("{} {}\n", utc_now(), line.trim()).as_bytes()));
        written
            .with_context(|| format!("writing {}; is the folder writable and the disk not full?", self.log.display()))
    }

    /// A line for people, above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // A log on a full disk stops no training.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

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
    /// Cells in training: id, number, and what the bar says of them.
    running: Vec<Running>,
    /// Whether lines name their cell: several train at once.
    named: bool,
}

struct Running {
    id: String,
    number: usize,
    done: f64,
    position: String,
    /// The file in its folder that what is said of it goes to as well.
    log: PathBuf,
}

/// Work units of the bar: integers, fine enough for a second of work on a small machine.
const MACS_A_UNIT: f64 = 1e8;

impl Progress {
    /// For the cells that will be trained, `jobs` at a time.
    pub fn new(cells: &[&Cell], jobs: usize) -> Self {
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
        Self { bar, done: 0.0, cells: (0, cells.len()), running: Vec::new(), named: jobs > 1 }
    }

    /// A cell starts; what is said of it goes to `log` in its folder too.
    pub fn start(&mut self, cell: &Cell, folder: &Path) -> Result<()> {
        self.cells.0 += 1;
        let number = self.cells.0;
        let line = format!("[{number}/{}] {}", self.cells.1, cell.id);
        let (id, log) = (cell.id.clone(), folder.join("log"));
        self.running.push(Running { id, number, done: 0.0, position: String::new(), log });
        self.say(&line);
        self.log(cell, &line)
    }

    /// A step of `cell` is done.
    pub fn tick(&mut self, cell: &Cell, tick: &Tick<'_>) -> Result<()> {
        let share = tick.steps.0 as f64 / tick.steps.1 as f64;
        if let Some(bar) = &self.bar {
            let (epoch, epochs) = (tick.epoch + 1, cell.config.stage.epochs);
            if let Some(running) = self.running.iter_mut().find(|running| running.id == cell.id) {
                running.done = share * work(cell).training_macs;
                running.position = format!("epoch {}/{epochs}, loss {:.4}", epoch.min(epochs), tick.loss);
            }
            let done = self.done + self.running.iter().map(|running| running.done).sum::<f64>();
            bar.set_position((done / MACS_A_UNIT) as u64);
            let line = |r: &Running| format!("[{}/{}] {}  {}", r.number, self.cells.1, r.id, r.position);
            bar.set_message(self.running.iter().map(line).collect::<Vec<_>>().join("\n"));
        }
        if let Some(point) = tick.finished_epoch {
            let percent = |share: Option<f64>| share.map_or("-".into(), |s| format!("{:.1} %", 100.0 * s));
            let temperature = point.temperature.map_or(String::new(), |b| format!(", b {b:.1}"));
            let line = format!(
                "epoch {}/{}: loss {:.4}, train {}, test {}{temperature}, {:.1} s",
                point.epoch + 1,
                cell.config.stage.epochs,
                point.train_loss.unwrap_or(f64::NAN),
                percent(point.train_top1),
                percent(point.test_top1),
                point.seconds.unwrap_or(f64::NAN)
            );
            if self.bar.is_none() {
                self.say_of(cell, &line);
            }
            self.log(cell, &line)?;
        }
        Ok(())
    }

    /// A cell ended.
    pub fn finish(&mut self, cell: &Cell, outcome: &str) -> Result<()> {
        self.done += work(cell).training_macs;
        self.say_of(cell, outcome);
        let logged = self.log(cell, outcome);
        self.running.retain(|running| running.id != cell.id);
        logged
    }

    /// An indented line on a cell in training.
    fn say_of(&self, cell: &Cell, line: &str) {
        if self.named {
            self.say(&format!("  {line}  ({})", cell.id));
        } else {
            self.say(&format!("  {line}"));
        }
    }

    /// Adds a line to the cell's log, which earlier attempts began.
    fn log(&self, cell: &Cell, line: &str) -> Result<()> {
        let Some(Running { log, .. }) = self.running.iter().find(|running| running.id == cell.id) else {
            return Ok(());
        };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
        let written = file.and_then(|mut file| file.write_all(format!("{} {line}\n", utc_now()).as_bytes()));
        written.with_context(|| format!("writing {}; is the folder writable and the disk not full?", log.display()))
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

//! The result files' rows: one owner for every column name that the harness writes and the report reads.

mod io;

use serde::{Deserialize, Serialize};

pub(crate) use io::write_derived;
pub use io::{Table, read_csv, read_each, read_each_of, write_atomic, write_csv};

/// Version of the result files; written into every row.
pub const SCHEMA_VERSION: u32 = 1;

/// Columns that may differ between two runs of one cell. "Byte for byte" elsewhere means with these blanked.
/// Every column whose name ends in `_seconds` or `_utc` is volatile too (see [`is_volatile`]).
pub const VOLATILE_COLUMNS: [&str; 12] = [
    "peak_memory_bytes",
    "threads",
    "host",
    "os",
    "cpu",
    "gpu",
    "device",
    "rustc",
    "git_revision",
    "git_dirty",
    "seconds",
    "attempts",
];

/// Whether a column may differ between two runs of one cell.
pub fn is_volatile(column: &str) -> bool {
    column.ends_with("_seconds") || column.ends_with("_utc") || VOLATILE_COLUMNS.contains(&column)
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Trained and evaluated to the end.
    Done,
    /// Stopped by an error; see the row's `error`.
    Failed,
    /// The loss became NaN or infinite; `error` names the last finite step.
    Diverged,
}

/// One row of `rows.csv`: a finished, failed or diverged cell. `None` is an empty field: not measured, never 0.
/// Accuracies are fractions; `synops_ac`, `macs` and `energy_picojoules` are per image over all time steps.
#[allow(missing_docs)] // results/README.md is the dictionary of these columns.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Record {
    pub schema_version: u32,
    pub cell_id: String,
    pub suite: String,
    pub dataset: String,
    pub protocol_id: String,
    pub architecture: String,
    pub width: usize,
    pub norm: String,
    pub tau: Option<f64>,
    pub v_th: Option<f64>,
    pub method: String,
    pub surrogate: Option<String>,
    pub surrogate_parameter: Option<f64>,
    pub surrogate_width: Option<f64>,
    pub surrogate_peak: Option<f64>,
    pub surrogate_area: Option<f64>,
    pub fdg: bool,
    pub fdg_batch: Option<usize>,
    pub tit: bool,
    pub train_time_steps: Option<usize>,
    pub eval_time_steps: Option<usize>,
    pub seed: u64,
    pub epochs: usize,
    pub batch: usize,
    pub top1_last: Option<f64>,
    pub top1_best: Option<f64>,
    #[serde(default)]
    pub top1_held_out: Option<f64>,
    pub top5_last: Option<f64>,
    pub loss_last: Option<f64>,
    pub firing_rate: Option<f64>,
    pub synops_ac: Option<f64>,
    pub macs: Option<f64>,
    pub energy_picojoules: Option<f64>,
    pub parameters: Option<usize>,
    /// Membrane potentials kept from one time step to the next, per image; `None` for the ANN.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    pub peak_memory_bytes: Option<u64>,
    pub train_seconds: Option<f64>,
    pub numerics: Option<String>,
    pub device: Option<String>,
    pub threads: Option<usize>,
    pub host: Option<String>,
    pub os: Option<String>,
    pub cpu: Option<String>,
    pub gpu: Option<String>,
    pub rustc: Option<String>,
    pub harness_version: String,
    pub candle_version: String,
    pub git_revision: Option<String>,
    pub git_dirty: Option<bool>,
    pub config_hash: String,
    pub data_hash: Option<String>,
    pub parent_cell: Option<String>,
    pub started_utc: Option<String>,
    pub finished_utc: Option<String>,
    pub status: Status,
    pub error: Option<String>,
}

/// One row of `curves.csv`: an epoch of a cell's training.
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct CurvePoint {
    pub cell_id: String,
    /// The cell's place in its chain: `ann`, `t6`, `t5` …
    pub stage: String,
    pub epoch: usize,
    pub lr: f64,
    pub train_loss: Option<f64>,
    pub train_top1: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_top1: Option<f64>,
    pub temperature: Option<f64>,
    pub firing_rate: Option<f64>,
    pub seconds: Option<f64>,
}

/// One row of `anytime.csv`: accuracy of the mean logits of the first `t` time steps.
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AnytimePoint {
    pub cell_id: String,
    pub t: usize,
    pub top1: f64,
}

/// One row of `fdg.csv`: a candidate temperature held against the finite-difference gradient.
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct FdgPoint {
    pub cell_id: String,
    pub stage: String,
    pub epoch: usize,
    pub candidate: f64,
    pub cosine: f64,
    /// ‖surrogate gradient‖ / ‖finite-difference gradient‖.
    pub norm_ratio: f64,
    pub chosen: bool,
}

/// One row of `layers.csv`: a spiking layer of a finished cell, on the test set.
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct LayerPoint {
    pub cell_id: String,
    pub layer: String,
    pub firing_rate: f64,
    /// Accumulates that the layer's spikes cause downstream, per image over all time steps.
    pub synops: f64,
    /// Share of neurons whose membrane lies where the surrogate's derivative is not zero; `None` for an endless support.
    pub active_gradient_share: Option<f64>,
}

/// One row of `fidelity.csv`: a surrogate's gradient of one layer's weights held against the central finite
/// difference of the loss on the same batch, at the weights that the cell had after `epoch`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct FidelityPoint {
    pub cell_id: String,
    /// As in `curves.csv`: `t4` …
    pub stage: String,
    /// Epochs trained in this stage when the gradients were taken.
    pub epoch: usize,
    /// T of the forward passes.
    pub time_steps: usize,
    /// The surrogate whose gradient this is; need not be the one that trained the cell.
    pub surrogate: String,
    /// Its temperature, width or slope; `None` where it has none.
    pub parameter: Option<f64>,
    pub layer: String,
    /// Weights compared, and how many the layer has (all of them for the first layer, a sample for deeper ones).
    pub sampled: usize,
    pub weights: usize,
    pub cosine: f64,
    /// 95 % bootstrap interval over the sampled weights; `None` where all weights were compared.
    pub cosine_low: Option<f64>,
    pub cosine_high: Option<f64>,
    /// ‖surrogate gradient‖ / ‖finite-difference gradient‖ over the weights compared.
    pub norm_ratio: f64,
    /// Share of the weights whose two gradients have one sign; weights with a zero in either are left out.
    pub sign_agreement: Option<f64>,
    /// ε of the finite difference.
    pub epsilon: f64,
}

/// One row of `membrane.csv`: a bin of a layer's histogram of u − v_th, over neurons, time steps and test images.
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct MembraneBin {
    pub cell_id: String,
    pub layer: String,
    /// Edges of the bin, in units of the membrane, v_th at 0. The outermost bins also hold what lies beyond them.
    pub bin_low: f64,
    pub bin_high: f64,
    pub count: u64,
    /// The surrogate's derivative, averaged over the bin (at the cell's final temperature).
    pub derivative: f64,
}

/// `run.json` in a result folder: what was asked for, so that a report can name what is missing.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RunPlan {
    /// Name of the suite whose cells these are.
    pub suite: String,
    /// The command that makes (or completes) this folder.
    pub command: String,
    /// A sentence that must stand on top of the report, e.g. that these are not the paper's experiments.
    pub banner: Option<String>,
    /// The deviations from the paper that hold for this suite only (the general ones are in `suites/deviations.toml`).
    pub deviations: Vec<String>,
    /// Every cell of the suite, in the order in which they run.
    pub cells: Vec<PlannedCell>,
}

/// One cell of a [`RunPlan`].
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PlannedCell {
    pub cell_id: String,
    pub parent_cell: Option<String>,
    pub dataset: String,
    pub protocol_id: String,
    pub architecture: String,
    pub method: String,
    /// `None` for the ANN.
    pub time_steps: Option<usize>,
    pub seed: u64,
    pub epochs: usize,
    /// Why it cannot run here (data not found …), when that is known beforehand.
    pub missing: Option<String>,
}

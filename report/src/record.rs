//! The result files' rows: one owner for every column name that the harness writes and the report reads.

mod io;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use io::write_derived;
pub use io::{Table, read_csv, read_each, read_each_of, write_atomic, write_csv};
pub(crate) use io::{parse, records};

/// Version of the result files; written into every row.
pub const SCHEMA_VERSION: u32 = 2;

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

/// Columns that a training produces. They never tell two experiments apart; every other column that is not volatile
/// and does not name the cell does.
pub const RESULT_COLUMNS: [&str; 21] = [
    "top1_last",
    "top1_best",
    "top1_held_out",
    "held_out_top1_best",
    "top5_last",
    "loss_last",
    "firing_rate",
    "synops_ac",
    "macs",
    "energy_picojoules",
    "parameters",
    "state_bytes",
    "surrogate_parameter",
    "surrogate_width",
    "surrogate_peak",
    "surrogate_area",
    "numerics",
    "data_hash",
    "train_samples",
    "test_samples",
    "status",
];
/// Columns that name the cell, its place and its program.
const NAME_COLUMNS: [&str; 10] = [
    "schema_version",
    "cell_id",
    "series_id",
    "suite",
    "seed",
    "parent_cell",
    "config_hash",
    "harness_version",
    "candle_version",
    "error",
];

/// Whether a column says what the experiment is. Unknown columns do, unless their name begins with `note_`.
pub fn is_identity(column: &str) -> bool {
    !is_volatile(column)
        && !RESULT_COLUMNS.contains(&column)
        && !NAME_COLUMNS.contains(&column)
        && !column.starts_with("note_")
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Trained and evaluated to the end.
    #[default]
    Done,
    /// Stopped by an error; see the row's `error`.
    Failed,
    /// The loss became NaN or infinite; `error` names the last finite step.
    Diverged,
}

/// One row of `rows.csv`: a finished, failed or diverged cell. `None` is an empty field: not measured, never 0.
/// Accuracies are fractions; `synops_ac`, `macs` and `energy_picojoules` are per image over all time steps.
///
/// Only `method`, `dataset`, `protocol_id`, `train_time_steps`, `seed` and `top1_last` are required:
/// another program's rows may leave out the rest.
#[allow(missing_docs)] // results/README.md is the dictionary of these columns.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Record {
    #[serde(default)]
    pub schema_version: u32,
    #[serde(default)]
    pub cell_id: String,
    /// Hash of everything that changes the result, of the cell and of its ancestors, without the seed.
    #[serde(default)]
    pub series_id: Option<String>,
    #[serde(default)]
    pub suite: String,
    pub dataset: String,
    #[serde(alias = "protocol")]
    pub protocol_id: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub width: Option<usize>,
    #[serde(default)]
    pub stem: Option<String>,
    #[serde(default)]
    pub norm: String,
    #[serde(default)]
    pub tau: Option<f64>,
    #[serde(default)]
    pub v_th: Option<f64>,
    #[serde(default)]
    pub reset: Option<String>,
    #[serde(default)]
    pub detach_reset: Option<bool>,
    pub method: String,
    #[serde(default)]
    pub surrogate: Option<String>,
    /// Temperature, width or slope before training; `surrogate_parameter` is the one after it.
    #[serde(default)]
    pub surrogate_start: Option<f64>,
    #[serde(default)]
    pub surrogate_parameter: Option<f64>,
    #[serde(default)]
    pub surrogate_width: Option<f64>,
    #[serde(default)]
    pub surrogate_peak: Option<f64>,
    #[serde(default)]
    pub surrogate_area: Option<f64>,
    #[serde(default)]
    pub fdg: Option<bool>,
    #[serde(default)]
    pub fdg_batch: Option<usize>,
    #[serde(default)]
    pub fdg_epsilon: Option<f64>,
    #[serde(default)]
    pub fdg_step: Option<f64>,
    #[serde(default)]
    pub fdg_floor: Option<f64>,
    #[serde(default)]
    pub fdg_cap: Option<f64>,
    /// How the temperature moves where no gradient chooses it: `random-walk`, `ramp to 5`.
    #[serde(default)]
    pub temperature_schedule: Option<String>,
    #[serde(default)]
    pub tit: Option<bool>,
    /// The chain of parents in words, oldest first; see `Cell` in the harness.
    #[serde(default)]
    pub ancestors: Option<String>,
    #[serde(alias = "time_steps", alias = "T")]
    pub train_time_steps: Option<usize>,
    #[serde(default)]
    pub eval_time_steps: Option<usize>,
    pub seed: u64,
    #[serde(default)]
    pub epochs: Option<usize>,
    #[serde(default)]
    pub batch: Option<usize>,
    #[serde(default)]
    pub lr: Option<f64>,
    #[serde(default)]
    pub weight_decay: Option<f64>,
    #[serde(default)]
    pub momentum: Option<f64>,
    #[serde(default)]
    pub loss: Option<String>,
    #[serde(default)]
    pub precision: Option<String>,
    #[serde(default)]
    pub recipe_version: Option<u32>,
    /// Samples trained on (without those held out), and samples tested on.
    #[serde(default)]
    pub train_samples: Option<usize>,
    #[serde(default)]
    pub test_samples: Option<usize>,
    #[serde(alias = "top1")]
    pub top1_last: Option<f64>,
    #[serde(default)]
    pub top1_best: Option<f64>,
    #[serde(default)]
    pub top1_held_out: Option<f64>,
    /// Accuracy on the held-out training samples themselves, of their best epoch.
    #[serde(default)]
    pub held_out_top1_best: Option<f64>,
    #[serde(default)]
    pub top5_last: Option<f64>,
    #[serde(default)]
    pub loss_last: Option<f64>,
    #[serde(default)]
    pub firing_rate: Option<f64>,
    #[serde(default)]
    pub synops_ac: Option<f64>,
    #[serde(default)]
    pub macs: Option<f64>,
    #[serde(default)]
    pub energy_picojoules: Option<f64>,
    #[serde(default)]
    pub parameters: Option<usize>,
    /// Membrane potentials kept from one time step to the next, per image; `None` for the ANN.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
    #[serde(default)]
    pub train_seconds: Option<f64>,
    #[serde(default)]
    pub numerics: Option<String>,
    #[serde(default)]
    pub device: Option<String>,
    #[serde(default)]
    pub threads: Option<usize>,
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub os: Option<String>,
    #[serde(default)]
    pub cpu: Option<String>,
    #[serde(default)]
    pub gpu: Option<String>,
    #[serde(default)]
    pub rustc: Option<String>,
    #[serde(default)]
    pub harness_version: String,
    #[serde(default)]
    pub candle_version: String,
    #[serde(default)]
    pub git_revision: Option<String>,
    #[serde(default)]
    pub git_dirty: Option<bool>,
    #[serde(default)]
    pub config_hash: String,
    #[serde(default)]
    pub data_hash: Option<String>,
    #[serde(default)]
    pub parent_cell: Option<String>,
    #[serde(default)]
    pub started_utc: Option<String>,
    #[serde(default)]
    pub finished_utc: Option<String>,
    #[serde(default)]
    pub status: Status,
    #[serde(default)]
    pub error: Option<String>,
    /// Columns that this program does not know, by name; they count as a part of the experiment.
    #[serde(skip)]
    pub extra: BTreeMap<String, String>,
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
    /// The arm that the others are compared with; `None` in folders of earlier versions.
    #[serde(default)]
    pub reference: Option<String>,
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

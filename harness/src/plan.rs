//! What a suite would do: its cells with an estimate of their work, without data or device.

use crate::cell::{Cell, in_chain};
use crate::model::cost::layer_macs;
use crate::model::layout::Layout;
use crate::model::memory::StepMemory;
use report::record::{PlannedCell, RunPlan};
use serde::Serialize;

/// Work of one cell, in multiply-accumulates of dense kernels: an estimate made before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Parameters of the network.
    pub parameters: usize,
    /// Of one image through the network, all T.
    pub forward_macs: f64,
    /// Of the whole training: a step is three forward passes, an FDG two a weight and image, a test one.
    pub training_macs: f64,
}

/// Estimates a cell's work from its configuration.
pub fn work(cell: &Cell) -> Work {
    let config = &cell.config;
    let data = &config.data;
    let layout = Layout::new(&config.network, data.dataset.channels(), data.dataset.classes(), None);
    let (first, others) = layer_macs(&layout, data.size);
    let t = config.time_steps.unwrap_or(1) as f64;
    // Direct encoding: the first convolution runs once an image, unless each step has a frame of its own.
    let forward_macs = first * if data.dataset.is_event() { t } else { 1.0 } + others * t;
    let limit = |n: usize| data.limit.map_or(n, |limit| limit.min(n)) as f64;
    let (train, test) = data.dataset.declared_samples();
    let per_epoch = 3.0 * limit(train) + limit(test) + fdg_passes(cell);
    let parameters = layout.params.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    Work { parameters, forward_macs, training_macs: per_epoch * config.stage.epochs as f64 * forward_macs }
}

/// Bytes that a cell's training step takes: an estimate.
pub fn step_memory(cell: &Cell) -> u64 {
    let (config, data) = (&cell.config, &cell.config.data);
    let layout = Layout::new(&config.network, data.dataset.channels(), data.dataset.classes(), None);
    let time_steps = config.time_steps.unwrap_or(1);
    let memory = StepMemory::estimate(&layout, data.size, time_steps, data.dataset.is_event());
    memory.of(config.micro_batch.unwrap_or(config.batch))
}

/// Images that the finite-difference gradients of one epoch send through the network: two a weight and image.
pub fn fdg_passes(cell: &Cell) -> f64 {
    let layout = |cell: &Cell| {
        let (network, dataset) = (&cell.config.network, cell.config.data.dataset);
        Layout::new(network, dataset.channels(), dataset.classes(), None)
    };
    cell.config.fdg.map_or(0.0, |fdg| {
        let weights: usize = layout(cell).params[0].shape.iter().product();
        (2 * weights * fdg.batch) as f64
    })
}

/// The plan that a result folder keeps.
pub fn run_plan(suite: &crate::suite::Suite, cells: &[Cell], command: &str) -> RunPlan {
    let cells = cells.iter().map(|cell| PlannedCell {
        cell_id: cell.id.clone(),
        parent_cell: cell.config.parent_cell.clone(),
        dataset: cell.config.data.dataset.to_string(),
        protocol_id: cell.config.protocol_id.clone(),
        architecture: cell.config.network.architecture.name().to_string(),
        method: cell.method_name().to_string(),
        time_steps: cell.config.time_steps,
        seed: cell.config.seed,
        epochs: cell.config.stage.epochs,
        missing: None,
    });
    RunPlan {
        suite: suite.name.clone(),
        command: command.to_string(),
        banner: suite.banner.clone(),
        reference: suite.reference().map(str::to_string),
        deviations: suite.deviations.clone(),
        cells: cells.collect(),
    }
}

/// A cell as `list cells` and `--dry-run` show it.
#[derive(Serialize)]
pub struct Listed<'a> {
    cell_id: &'a str,
    parent: Option<&'a str>,
    suite: &'a str,
    dataset: String,
    protocol_id: &'a str,
    architecture: &'static str,
    width: usize,
    method: &'a str,
    tit: bool,
    fdg: bool,
    time_steps: Option<usize>,
    seed: u64,
    epochs: usize,
    estimated_work: Work,
}

/// Describes one cell.
pub fn listed<'a>(suite: &'a str, cell: &'a Cell) -> Listed<'a> {
    let config = &cell.config;
    Listed {
        cell_id: &cell.id,
        parent: config.parent_cell.as_deref(),
        suite,
        dataset: config.data.dataset.to_string(),
        protocol_id: &config.protocol_id,
        architecture: config.network.architecture.name(),
        width: config.network.width,
        method: cell.method_name(),
        tit: in_chain(cell),
        fdg: config.fdg.is_some(),
        time_steps: config.time_steps,
        seed: config.seed,
        epochs: config.stage.epochs,
        estimated_work: work(cell),
    }
}

/// Classes of GPUs, with the f32 rate of their data sheets in TFLOP/s (boost clock, no tensor cores).
const GPUS: [(&str, f64); 3] = [("1080 Ti", 11.3), ("A100", 19.5), ("H100 SXM", 67.0)];
/// Share of that rate which dense convolutions are taken to reach: an assumption, not a measurement.
const GPU_SHARE: f64 = 0.3;

/// What so many multiply-accumulates take on GPUs of three classes: stated rates, nothing measured.
fn gpu_hours(macs: f64) -> String {
    let hours = |tflops: f64| 2.0 * macs / (tflops * 1e12 * GPU_SHARE) / 3600.0;
    let each = GPUS.map(|(name, tflops)| format!("{name} ({tflops} TFLOP/s) {:.1}", hours(tflops)));
    format!(
        "GPU hours, estimated and not measured ({:.0} % of the data sheets' f32 rate, dense): {}\n",
        100.0 * GPU_SHARE,
        each.join(", ")
    )
}

/// A table of cells for people, with the sum of the work.
pub fn table(cells: &[Cell]) -> String {
    let mut text = String::new();
    let mut total = 0.0;
    let width = cells.iter().map(|cell| cell.id.len()).max().unwrap_or(0);
    text += &format!("{:width$}  {:>6}  {:>9}  parent\n", "cell", "epochs", "petaMAC");
    for cell in cells {
        let work = work(cell).training_macs;
        total += work;
        let parent = cell.config.parent_cell.as_deref().unwrap_or("-");
        text += &format!("{:width$}  {:>6}  {:>9.4}  {parent}\n", cell.id, cell.config.stage.epochs, work / 1e15);
    }
    text += &format!(
        "{} cells, {:.2} petaMAC of dense work (estimate: 3 forward passes a training image, 2 a weight and image of the FDG)\n",
        cells.len(),
        total / 1e15
    );
    text + &gpu_hours(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Architecture, NetworkConfig, Norm};
    use methods::lif::{Lif, Reset};

    #[test]
    fn multiply_accumulates_are_those_counted_by_hand() {
        let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
        let config = NetworkConfig {
            architecture: Architecture::Resnet18Plain,
            width: 64,
            norm: Norm::Bn,
            neuron,
            imagenet_stem: false,
        };
        let (first, others) = layer_macs(&Layout::new(&config, 3, 10, None), 32);
        assert_eq!(first, f64::from(3 * 64 * 9 * 32 * 32));
        // 64 to 64 at 32² four times; each later stage a halving 3×3, three more and a 1×1, the same work in each; the readout.
        let stage = (64 * 128 * 9 + 3 * 128 * 128 * 9 + 64 * 128) * 16 * 16;
        assert_eq!(others, f64::from(4 * 64 * 64 * 9 * 32 * 32 + 3 * stage + 512 * 10));
        assert_eq!(first + others, 555_422_720.0); // the CIFAR ResNet-18
    }

    #[test]
    fn gpu_hours_are_operations_over_the_stated_rate() {
        // 2 · 1e18 / (0.3 · 67e12) / 3600 = 27.64; the other two in proportion.
        let text = gpu_hours(1e18);
        assert!(text.contains("H100 SXM (67 TFLOP/s) 27.6") && text.contains("A100 (19.5 TFLOP/s) 95.0"), "{text}");
        assert!(text.contains("1080 Ti (11.3 TFLOP/s) 163.9") && text.contains("not measured"), "{text}");
    }
}

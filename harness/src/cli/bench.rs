//! `harness bench` on the command line.

use super::Device;
use crate::model::config::{Architecture, Norm};
use crate::ops::cuda::Precision;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `harness bench`.
#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Forward, backward and optimiser on synthetic images.
    #[command(after_help = "Examples:
  harness bench step --architecture resnet18-plain --width 16 --batch 64
  harness bench step --width 64 --norm tdbn --threads 2")]
    Step(BenchArgs),
    /// The finite-difference gradient over every first-layer weight.
    #[command(after_help = "Examples:
  harness bench fdg --width 8 --batch 8
  harness bench fdg --width 64 --batch 32 --weights 16")]
    Fdg {
        /// Network and input.
        #[command(flatten)]
        bench: BenchArgs,
        /// Measure only so many weights and scale up.
        #[arg(long, value_name = "N")]
        weights: Option<usize>,
    },
    /// The forward pass of evaluation.
    #[command(after_help = "Examples:
  harness bench eval --architecture resnet18-plain --width 16 --batch 64")]
    Eval(BenchArgs),
    /// Our elementwise kernels on the step's largest maps, and on a card the bandwidth of a plain copy.
    #[command(after_help = "Examples:
  harness bench kernels --architecture resnet18-plain --width 16 --batch 64
  harness bench kernels --device cuda")]
    Kernels(BenchArgs),
    /// What an image costs in a cell's training: the calibration of `suite --budget`.
    #[command(after_help = "Examples:
  harness bench cell results/smoke/cells/*-ann-s0-*/config.toml")]
    Cell {
        /// The cell's config.toml, as result folders keep it.
        config: PathBuf,
    },
    /// Loading and augmentation of a suite's first data set, or reading of AEDAT recordings.
    #[command(after_help = "Examples:
  harness bench data --suite paper-mini --seconds 2
  harness bench data --suite cifar10 --data-dir ~/data --augment crop4,flip
  harness bench data --recordings ~/data/cifar10-dvs/cat/*.aedat")]
    Data {
        /// The suite whose first experiment names data, augmentation and batch.
        #[arg(long, default_value = "cifar10")]
        suite: String,
        /// The folder that holds data sets.
        #[arg(long, env = "HARNESS_DATA_DIR")]
        data_dir: Option<PathBuf>,
        /// Augmentations instead of the suite's, e.g. crop4,flip.
        #[arg(long, value_delimiter = ',')]
        augment: Option<Vec<String>>,
        /// Worker threads that load ahead.
        #[arg(long, default_value_t = 2)]
        workers: usize,
        /// For so long.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Recordings to read instead: bytes a second, to events and to ten 48x48 frames.
        #[arg(long, value_name = "AEDAT", num_args = 1..)]
        recordings: Vec<PathBuf>,
        /// One line of JSON (the default; kept for scripts).
        #[arg(long)]
        json: bool,
    },
}

/// The network and input of a measurement.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Network.
    #[arg(long, value_enum, default_value = "resnet18")]
    pub architecture: Architecture,
    /// Channels of the first stage.
    #[arg(long, default_value_t = 64)]
    pub width: usize,
    /// T.
    #[arg(long, default_value_t = 4)]
    pub time_steps: usize,
    /// Images.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Channels × height × width of an image.
    #[arg(long, default_value = "3x32x32")]
    pub input: String,
    /// Norm.
    #[arg(long, value_enum, default_value = "bn")]
    pub norm: Norm,
    /// The 7×7 stride-2 stem with pooling (resnet18, resnet34).
    #[arg(long)]
    pub imagenet_stem: bool,
    /// Steps before the clock starts.
    #[arg(long, default_value_t = 3)]
    pub warmup: usize,
    /// Steps that count; the median is reported.
    #[arg(long, default_value_t = 10)]
    pub steps: usize,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    pub device: Device,
    /// What a card's convolutions compute in.
    #[arg(long, value_enum, default_value_t)]
    pub precision: Precision,
    /// One line of JSON (the default; kept for scripts).
    #[arg(long)]
    pub json: bool,
}

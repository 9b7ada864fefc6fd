//! The command line.

mod bench;
mod values;

pub use bench::{BenchArgs, BenchCommand};
pub use values::{Device, Launcher, Seeds, Shard};

use crate::ops::cuda::Precision;
use crate::slurm::script::Resources;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// The reference reproduction harness for spiking networks.
///
/// Trains one spiking ResNet-18 under Dspike, fixed surrogates and ablations, writes CSV, and renders a report that puts
/// published numbers beside measured ones.
#[derive(Parser, Debug)]
#[command(
    version,
    propagate_version = true,
    after_help = "Examples:
  harness suite paper             the paper's grid, or its small stand-in
  harness suite paper --dry-run   every cell of the paper's grid and its work
  harness suite smoke             every step of the machine in under a minute
  harness report results/smoke    renders the report again
Exit codes: 0 ok, 1 a check failed, 2 usage, 3 data, 4 nothing selected,
5 cells outstanding, 10 regression or contradicted claim, 11 a cell is missing
or no claim could be judged, 12 claims inconclusive, 20 a cell failed, 74 I/O,
75 stopped but resumable."
)]
pub struct Cli {
    /// Worker threads (results do not depend on it).
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Trains the cells of a suite that are not done yet, then renders the report.
    #[command(after_help = "Examples:
  harness suite paper-mini -f method=dspike -f method=rectangle --seeds 0..3
  harness suite cifar10 --data-dir ~/data --limit 200 --epochs 1 --width 8
  harness suite paper --exact --data-dir ~/data     never the stand-in
  harness suite paper --launcher slurm --partition cpu --time 24:00:00 --dry-run")]
    Suite(Box<SuiteArgs>),
    /// Lists suites, cells, data sets or methods.
    #[command(after_help = "Examples:
  harness list suites
  harness list cells --suite paper-mini -f method=dspike
  harness list methods --suite smoke --json")]
    List(ListArgs),
    /// Shows what a result folder has and what it still lacks; exit 5 where cells are outstanding.
    #[command(after_help = "Examples:
  harness status results/smoke
  harness status results/smoke --json")]
    Status(StatusArgs),
    /// Renders the report of a result folder, or of several in one page.
    #[command(after_help = "Examples:
  harness report results/smoke
  harness report results/smoke --splice README.md
  harness report results/smoke --published other-paper.toml
  harness report results/mine results/theirs --out both
  harness report rows.csv                         another program's rows")]
    Report(ReportArgs),
    /// Joins result folders into one; refuses conflicts.
    #[command(after_help = "Examples:
  harness suite smoke --shard 0/2 --out a
  harness suite smoke --shard 1/2 --out b
  harness merge a b --out both")]
    Merge(MergeArgs),
    /// Holds two result folders (or rows.csv files) against each other, paired where seeds allow; exit 11 where a cell is missing.
    #[command(after_help = "Examples:
  harness compare results/smoke results/reference/smoke/rows.csv
  harness compare a/rows.csv b/rows.csv --json")]
    Compare {
        /// First result folder.
        a: PathBuf,
        /// Second result folder.
        b: PathBuf,
        /// One line of JSON instead of Markdown; results/README.md explains its fields.
        #[arg(long)]
        json: bool,
    },
    /// The gate for CI: a result folder against a baseline rows.csv; exit 10 on a regression, 11 where a cell is missing.
    #[command(after_help = "Examples:
  harness check results/smoke --baseline results/reference/smoke/rows.csv
  harness check results/smoke --baseline b.csv --tolerance top1=0.01
  harness check results/smoke --baseline b.csv --junit junit.xml
  harness check rows.csv --baseline b.csv --json")]
    Check(CheckArgs),
    /// Compares a result folder (or a rows.csv) with the published numbers: says which are reproduced, which are not, and
    /// which cannot be judged here and why. Exit 0 if every number that can be judged is reproduced, 10 if a measured mean
    /// lies below or above its number, 12 if the seeds cannot tell, 11 if no number can be judged.
    #[command(after_help = "Examples:
  harness verify results/cifar10
  harness verify results/cifar10 --json
  harness verify rows.csv --published other-paper.toml")]
    Verify(VerifyArgs),
    /// Data sets: list, fetch, verify, path, inspect.
    #[command(after_help = "Examples:
  harness data list
  harness data fetch cifar10 --data-dir ~/data
  harness data verify cifar10 --data-dir ~/data")]
    Data {
        /// What to do with them.
        #[command(subcommand)]
        command: DataCommand,
    },
    /// Evaluates a cell's weights on its test split.
    #[command(after_help = "Examples:
  harness eval results/smoke/cells/sign-digits-resnet18-ann-s0-*")]
    Eval(EvalArgs),
    /// Trains one cell of a suite twice from the start and compares the results bit by bit.
    #[command(after_help = "Examples:
  harness repro-check $(ls results/smoke/cells | grep ann) --suite smoke")]
    ReproCheck(ReproArgs),
    /// Known answers: surrogates, LIF, convolutions, norms, FDG, pixels; on a card also every kernel against the CPU's.
    #[command(after_help = "Examples:
  harness selftest
  harness selftest --device cuda --json")]
    Selftest {
        /// Where to compute.
        #[arg(long, default_value = "cpu")]
        device: Device,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Recomputes a PyTorch reference dump; prints one JSON object: a verdict, and the error of every check. Exit 1 where one is
    /// beyond its tolerance, 3 where the dump is incomplete.
    #[command(after_help = "Examples:
  harness parity harness/tests/fixtures/surrogates.safetensors")]
    Parity {
        /// The dump, a safetensors file.
        fixture: PathBuf,
    },
    /// Measures speed; one JSON line a measurement.
    #[command(after_help = "Examples:
  harness bench step --width 16 --batch 16
  harness bench fdg --width 8 --batch 8 --weights 16")]
    Bench {
        /// What to measure.
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Toolchain, device, data, disk, threads.
    #[command(after_help = "Examples:
  harness doctor
  harness doctor --data-dir ~/data")]
    Doctor {
        /// The folder that holds data sets.
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
    /// Shell completions, to standard output.
    #[command(after_help = "Examples:
  harness completions bash > harness.bash")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Man pages, one a command, into a folder.
    #[command(after_help = "Examples:
  harness man man-pages")]
    Man {
        /// The folder.
        dir: PathBuf,
    },
}

/// Which cells of a suite, and what is changed in them.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// Only cells where key=value (dataset, method, time-steps, seed, architecture, stage, cell); their parents come along.
    #[arg(short = 'f', long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Seeds instead of the suite's: `3`, `0,2` or `0..3` (0, 1, 2).
    #[arg(long, value_name = "SEEDS", value_parser = values::parse_seeds)]
    pub seeds: Option<Seeds>,
    /// Epochs of every stage instead of the recipe's (other cells than the suite's: their ids differ).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: Option<u32>,
    /// Only the first N samples of each split.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Channels of the first stage instead of the suite's, e.g. 8 to try a suite on a small machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub width: Option<u32>,
    /// Images of the finite-difference gradient instead of the suite's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub fdg_batch: Option<u32>,
    /// Equal parts of each batch, for as many processes to train at once (`mpirun -n N`). Batch norms take the statistics of
    /// a part, so these are other cells than the suite's; on how many processes they are trained changes nothing.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub shards: Option<u32>,
    /// Memory that a training step may take, e.g. `8GiB`: where a batch would take more, it is trained in parts whose
    /// gradients are summed. Batch norms then take the statistics of a part, so these are other cells.
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<bytesize::ByteSize>,
    /// Only this part of the chains: `0/4` is the first of four.
    #[arg(long, value_name = "I/N", value_parser = values::parse_shard)]
    pub shard: Option<Shard>,
}

/// `harness suite`.
#[derive(Args, Debug)]
pub struct SuiteArgs {
    /// Name of the suite (`harness list suites`), or the path of one (`my-suite.toml`).
    pub name: String,
    /// Result folder; `results/SUITE` unless said.
    #[arg(long, short)]
    pub out: Option<PathBuf>,
    /// The folder that holds data sets.
    #[arg(long, env = "HARNESS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where to compute; naming one forbids the fallback.
    #[arg(long)]
    pub device: Option<Device>,
    /// What a card's convolutions compute in (other cells than f32's: their ids differ).
    #[arg(long, value_enum, default_value_t)]
    pub precision: Precision,
    /// Which cells.
    #[command(flatten)]
    pub selection: Selection,
    /// Cells that train at once, each on its share of --threads (results do not depend on it); unless said, as many as
    /// there are threads and half of the free memory holds, one on a card.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: Option<u32>,
    /// Lists the cells with parents and work, and ends.
    #[arg(long)]
    pub dry_run: bool,
    /// Forgets the selected cells' results and trains them again.
    #[arg(long)]
    pub fresh: bool,
    /// Trains failed and diverged cells again.
    #[arg(long)]
    pub retry: bool,
    /// Never falls back to another suite.
    #[arg(long)]
    pub exact: bool,
    /// Only trains; a later `harness report DIR` makes rows.csv and the report (for processes that share a folder).
    #[arg(long)]
    pub no_report: bool,
    /// Only the cells that so much time pays for (48h, 90m), the most telling first; prices them by a short calibration.
    #[arg(long, value_name = "TIME", value_parser = crate::budget::parse)]
    pub budget: Option<Duration>,
    /// Here, or as array jobs of Slurm; then --dry-run shows the script.
    #[arg(long, value_enum, default_value = "local")]
    pub launcher: Launcher,
    /// With --launcher slurm: what a task asks for.
    #[command(flatten)]
    pub slurm: Resources,
}

/// `harness list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// What to list.
    pub what: Listing,
    /// The suite whose cells or methods are listed.
    #[arg(long, default_value = "paper")]
    pub suite: String,
    /// Which cells.
    #[command(flatten)]
    pub selection: Selection,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// Suites.
    Suites,
    /// Cells of a suite.
    Cells,
    /// Data sets.
    Datasets,
    /// Methods of a suite.
    Methods,
}

/// `harness status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Result folder.
    #[arg(default_value = "results/paper-mini")]
    pub dir: PathBuf,
    /// One JSON object a cell.
    #[arg(long)]
    pub json: bool,
}

/// `harness report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Result folders (or rows.csv files); rows of several folders are drawn together and share no mean.
    #[arg(default_value = "results/paper-mini")]
    pub dirs: Vec<PathBuf>,
    /// Where the report goes: DIR/report by default, and required for several folders.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Writes plot and table between the marks of this Markdown file too.
    #[arg(long, value_name = "FILE")]
    pub splice: Option<PathBuf>,
    /// Another paper's numbers instead of suites/published.toml, in the form of that file.
    #[arg(long, value_name = "FILE")]
    pub published: Option<PathBuf>,
}

/// `harness verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Result folder, or a rows.csv.
    #[arg(default_value = "results/paper-mini")]
    pub dir: PathBuf,
    /// Another paper's numbers instead of suites/published.toml, in the form of that file.
    #[arg(long, value_name = "FILE")]
    pub published: Option<PathBuf>,
    /// One line of JSON, as the report's claims.json (results/README.md explains it).
    #[arg(long)]
    pub json: bool,
}

/// `harness merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// Result folders.
    #[arg(required = true)]
    pub from: Vec<PathBuf>,
    /// The folder to make.
    #[arg(long, short)]
    pub out: PathBuf,
}

/// `harness check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Result folder.
    pub dir: PathBuf,
    /// Baseline: a rows.csv.
    #[arg(long)]
    pub baseline: PathBuf,
    /// How far a metric may move: top1 (a fraction), loss, firing_rate, synops (relative); may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub tolerance: Vec<String>,
    /// Writes the Markdown summary there, besides standard output.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Writes JUnit XML there.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Prints one line of JSON instead of Markdown; results/README.md explains its fields.
    #[arg(long)]
    pub json: bool,
}

/// `harness data`.
#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Data sets: sizes, terms, where from, and what is here.
    #[command(after_help = "Examples:
  harness data list --data-dir ~/data
  harness data list --json")]
    List {
        /// The folder that holds data sets.
        #[arg(long, env = "HARNESS_DATA_DIR")]
        data_dir: Option<PathBuf>,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Downloads a data set (resumable, checked before use), or says how to get it.
    #[command(after_help = "Examples:
  harness data fetch cifar10 --data-dir ~/data
  harness data fetch cifar10 --data-dir ~/data --from cifar-10-binary.tar.gz
  harness data fetch imagenet                     says how to get it by hand")]
    Fetch {
        /// Data set: cifar10, cifar100, cifar10-dvs.
        dataset: String,
        /// The folder that holds data sets.
        #[arg(long, env = "HARNESS_DATA_DIR", default_value = "data")]
        data_dir: PathBuf,
        /// An own copy instead of the mirrors: a file, a folder of files, or a URL.
        #[arg(long, value_name = "FILE|URL")]
        from: Option<String>,
        /// Use no network.
        #[arg(long)]
        offline: bool,
    },
    /// Checks counts and checksums; names every bad file (exit 3).
    #[command(after_help = "Examples:
  harness data verify cifar10 --data-dir ~/data
  harness data verify sign-digits")]
    Verify(DatasetArgs),
    /// Prints where a data set lies.
    #[command(after_help = "Examples:
  harness data path cifar10 --data-dir ~/data")]
    Path(DatasetArgs),
    /// Describes one recording (.aedat) or batch file (.bin).
    #[command(after_help = "Examples:
  harness data inspect ~/data/cifar10-dvs/cat/cifar10_cat_0.aedat --json
  harness data inspect ~/data/cifar-10-batches-bin/test_batch.bin")]
    Inspect {
        /// The file.
        file: PathBuf,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A data set and the folder it lies in.
#[derive(Args, Debug)]
pub struct DatasetArgs {
    /// Data set.
    pub dataset: String,
    /// The folder that holds data sets.
    #[arg(long, env = "HARNESS_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
}

/// `harness eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// A finished cell's folder, `results/SUITE/cells/CELL`.
    pub cell: PathBuf,
    /// The folder that holds data sets.
    #[arg(long, env = "HARNESS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Writes each test image's label and prediction to this file, in NumPy's format (`numpy.load` reads it).
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
}

/// `harness repro-check`.
#[derive(Args, Debug)]
pub struct ReproArgs {
    /// The cell's id, as `harness list cells` prints it.
    pub cell: String,
    /// Its suite.
    #[arg(long, default_value = "paper-mini")]
    pub suite: String,
    /// The folder that holds data sets.
    #[arg(long, env = "HARNESS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// All commands below this one, with their names from the root.
    fn below(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
        let named = |command: &clap::Command| (format!("{name} {}", command.get_name()), command.clone());
        let children = command.get_subcommands().map(named);
        children
            .flat_map(|(name, child)| [vec![(name.clone(), child.clone())], below(&child, &name)].concat())
            .collect()
    }

    #[test]
    fn every_command_shows_examples_that_parse_and_fit_a_terminal() {
        let commands = below(&Cli::command(), "harness");
        assert!(commands.len() >= 25, "{}", commands.len());
        for (name, command) in commands.into_iter().chain([("harness".into(), Cli::command())]) {
            let help = command.get_after_help().unwrap_or_else(|| panic!("{name} --help has no examples")).to_string();
            let examples =
                help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|l| l.starts_with("harness "));
            let examples: Vec<&str> = examples.collect();
            assert!(examples.iter().any(|line| line.starts_with(&name)), "{name}: {help}");
            for line in examples {
                assert!(line.len() <= 78, "{line} is broken on a terminal of 80 columns");
                let line = line.split("   ").next().unwrap().replace("$(ls results/smoke/cells | grep ann)", "cell");
                let line = line.split(" > ").next().unwrap();
                Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }
}

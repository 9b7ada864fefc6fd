//! `harness suite`: the main path of the program.

use super::selftest;
use crate::budget;
use crate::cell::{self, Cell};
use crate::cli::{Device, Launcher, SuiteArgs};
use crate::data;
use crate::device;
use crate::environment::available_memory_bytes;
use crate::exit;
use crate::plan;
use crate::queue;
use crate::ranks::Ranks;
use crate::run::{self, Request, Rows};
use crate::selection::{default_out, overrides, select, this_command};
use crate::slurm;
use crate::slurm::script::Resources;
use crate::store::Store;
use crate::suite::Suite;
use crate::train::trainer::Interrupt;
use anyhow::Result;
use std::path::Path;

/// Runs a suite, or shows what it would run. Of several processes the first leads.
pub fn suite(args: &SuiteArgs, interrupt: Interrupt) -> Result<()> {
    let ranks = Ranks::open()?;
    let ranks = match (args.dry_run || args.launcher == Launcher::Slurm, ranks.is_first()) {
        (true, true) => Ranks::alone(),
        (true, false) => return Ok(()),
        (false, _) => ranks,
    };
    let result = if ranks.is_first() { lead(args, interrupt, &ranks) } else { follow(args, &interrupt, &ranks) };
    ranks.end(result)
}

fn follow(args: &SuiteArgs, interrupt: &Interrupt, ranks: &Ranks) -> Result<()> {
    let device = open(args, ranks)?;
    run::follow(&device, args.data_dir.as_deref(), interrupt, ranks)
}

/// The device, checked, and connected to those of the other processes.
fn open(args: &SuiteArgs, ranks: &Ranks) -> Result<device::Device> {
    let device = device::open(args.device.unwrap_or(Device::Auto), args.precision)?;
    if device.is_cuda() {
        selftest::card(&device)?;
    }
    ranks.connect(&device)?;
    Ok(device)
}

fn lead(args: &SuiteArgs, interrupt: Interrupt, ranks: &Ranks) -> Result<()> {
    let suite = Suite::load(&args.name)?;
    if args.launcher == Launcher::Slurm {
        return slurm::launch(&suite, args);
    }
    let choice = args.device.unwrap_or(Device::Auto);
    if args.slurm != Resources::default() {
        return Err(exit::usage("--partition, --account, --gpus, --cpus, --time and --memory need --launcher slurm"));
    }
    if args.dry_run {
        return dry_run(&suite, args, &device::class_of_choice(choice, args.precision)?);
    }
    let device = open(args, ranks)?;
    let suite = match fallback(&suite, args, device.is_cuda())? {
        Some(fallback) => fallback,
        None => suite,
    };
    let all = cell::cells(&suite, &overrides(&args.selection), &device::class(&device, args.precision))?;
    let mut selected = select(all.clone(), &args.selection)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&suite.name));
    enough_parts(args, &selected, ranks.size())?;
    // Several processes train one cell after the other.
    if device.is_cuda() && args.jobs.is_some_and(|jobs| jobs > 1) {
        return Err(exit::usage("--jobs: a card trains one cell at a time; leave it out, or say --device cpu"));
    }
    let jobs = if ranks.size() > 1 { 1 } else { jobs(args, &selected, device.is_cuda()) };
    if let Some(budget) = args.budget {
        selected = budget::plan(&suite, &selected, Store::existing(&out).ok().as_ref(), budget, jobs)?;
    } else if jobs > 1 {
        selected = queue::longest_first(selected);
    }
    let request = Request {
        suite: suite.name.clone(),
        plan: plan::run_plan(&suite, &all, &this_command()),
        cells: selected,
        out: out.clone(),
        data_dir: args.data_dir.clone(),
        fresh: args.fresh,
        retry: args.retry,
        audit: suite.audit,
        device,
        jobs,
        rows: if args.no_report { Rows::Later } else { Rows::Now },
        interrupt,
    };
    let outcome = run::run(&request, ranks)?;
    if !args.no_report {
        let rendered = report::render(&out)?;
        println!("{}", rendered.summary);
        println!("rows    {}", out.join("rows.csv").display());
        println!("report  {}", rendered.html.display());
    }
    match outcome.code() {
        None => Ok(()),
        Some(code) => Err(exit::failure(code, explain(&outcome, &out))),
    }
}

/// Refuses processes that would have no part of a batch to train, or several cells at once.
fn enough_parts(args: &SuiteArgs, cells: &[Cell], processes: usize) -> Result<()> {
    if processes > 1 && args.jobs.is_some_and(|jobs| jobs > 1) {
        return Err(exit::usage(
            "--jobs: several processes train one cell at a time; leave it out, or start one process",
        ));
    }
    let parts = |cell: &&Cell| cell.config.batch.div_ceil(cell.config.at_once());
    let Some(fewest) = cells.iter().min_by_key(parts).filter(|cell| parts(cell) < processes) else { return Ok(()) };
    Err(exit::usage(format!(
        "{processes} processes, but a batch of {} is trained in {} parts: say --shards {processes}, which makes other cells \
         than the suite's, or start fewer processes",
        fewest.id,
        parts(&fewest)
    )))
}

fn explain(outcome: &run::Outcome, out: &Path) -> String {
    let mut parts = Vec::new();
    for (count, what) in [
        (outcome.failed, "failed or diverged (see the report; --retry tries them again)"),
        (outcome.missing, "lack their data, or began with other data (harness status DIR says which)"),
        (outcome.busy, "are held by another process or wait for it (run the same command again)"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("of the cells of {}, {}", out.display(), parts.join("; "))
}

/// The suite that runs instead, where this one names one and cannot sensibly run here. Says so on standard error.
fn fallback(suite: &Suite, args: &SuiteArgs, card: bool) -> Result<Option<Suite>> {
    let Some(name) = suite.fallback.as_ref().filter(|_| !args.exact && args.device.is_none()) else { return Ok(None) };
    let (present, absent): (Vec<_>, Vec<_>) = datasets(suite).into_iter().partition(|dataset| {
        dataset.is_embedded() || args.data_dir.as_deref().is_some_and(|dir| data::locate(*dataset, dir).is_some())
    });
    let names = |list: &[data::DatasetName]| list.iter().map(|d| d.title()).collect::<Vec<_>>().join(", ");
    if card && !present.is_empty() {
        return Ok(None);
    }
    let missing = match (absent.is_empty(), present.is_empty()) {
        (true, _) => "no CUDA device".to_string(),
        (false, true) if card => format!("none of its data sets ({})", names(&absent)),
        (false, true) => format!("no CUDA device and none of its data sets ({})", names(&absent)),
        (false, false) => {
            format!("no CUDA device (of its data sets {} are here, {} are not)", names(&present), names(&absent))
        }
    };
    let fallback = Suite::load(name)?;
    eprintln!(
        "The suite `{}` is the paper's experiment at full scale, thousands of GPU hours, and this machine has {missing}.\n\
         So `{name}` runs instead: the same methods and the same code, narrower, on embedded data, into its own folder\n\
         results/{name}. Its numbers are not the paper's experiments, and its report says so.\n\
         To run the real grid: `harness data list` says how to get the data; then `harness suite {} --exact --data-dir DIR`.\n\
         To see it: `harness suite {} --dry-run`.\n",
        suite.name, suite.name, suite.name
    );
    Ok(Some(fallback))
}

fn datasets(suite: &Suite) -> Vec<data::DatasetName> {
    let mut list: Vec<data::DatasetName> = Vec::new();
    for experiment in &suite.experiments {
        if !list.contains(&experiment.data.dataset) {
            list.push(experiment.data.dataset);
        }
    }
    list
}

fn dry_run(suite: &Suite, args: &SuiteArgs, precision: &str) -> Result<()> {
    let cells = select(cell::cells(suite, &overrides(&args.selection), precision)?, &args.selection)?;
    print!("{}", plan::table(&cells));
    if let Some(budget) = args.budget {
        let out = args.out.clone().unwrap_or_else(|| default_out(&suite.name));
        let jobs = jobs(args, &cells, precision.starts_with("cuda"));
        budget::plan(suite, &cells, Store::existing(&out).ok().as_ref(), budget, jobs)?;
    }
    if let Some(name) = fallback(suite, args, precision.starts_with("cuda"))?.map(|suite| suite.name) {
        println!("Nothing was run. Without --dry-run, `{name}` would run here instead, as said above.");
    } else {
        println!("Nothing was run.");
    }
    Ok(())
}

/// Cells that train at once: as many as asked for, or a thread each while half of the free memory holds them. A small
/// network on one thread wastes less than on all of them, and results do not depend on it.
fn jobs(args: &SuiteArgs, cells: &[Cell], card: bool) -> usize {
    let threads = rayon::current_num_threads();
    let auto = || {
        let most = cells.iter().map(plan::step_memory).max().unwrap_or(0).max(1);
        let room = available_memory_bytes().map_or(1, |free| (free / 2 / most) as usize);
        if card { 1 } else { threads.min(room) }
    };
    let chains = queue::most_at_once(&cells.iter().collect::<Vec<_>>());
    args.jobs.map_or_else(auto, |jobs| jobs as usize).min(chains).max(1)
}

//! `harness eval` and `harness repro-check`: finished cells looked at again.

use super::merge;
use crate::cell::{self, CellConfig};
use crate::cli::{Device, EvalArgs, ReproArgs, Selection};
use crate::data;
use crate::device;
use crate::durable;
use crate::exit::{self, Code};
use crate::model::network::{Network, Neuron};
use crate::ops::cuda::Precision;
use crate::plan;
use crate::predictions;
use crate::ranks::Ranks;
use crate::run::{self, Request, Rows};
use crate::selection::overrides;
use crate::store::Store;
use crate::suite::Suite;
use crate::train::evaluate::{Depth, Manner, Sums, evaluate, test_split};
use crate::train::state::{Checkpoints, State};
use crate::train::trainer::Interrupt;
use anyhow::{Context, Result};

/// Evaluates a cell's weights on its test split; one JSON object.
pub fn eval(args: &EvalArgs) -> Result<()> {
    let path = args.cell.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        exit::data(format!("{}: {error}; expected a cell's folder, results/<suite>/cells/<cell>", path.display()))
    })?;
    let config: CellConfig =
        toml::from_str(&text).map_err(|error| exit::data(format!("{}: {error}", path.display())))?;
    let frames = config.data.dataset.is_event().then_some(config.time_steps).flatten();
    let dataset = data::open(&config.data, frames, args.data_dir.as_deref(), None)?;
    let neuron = config.time_steps.map_or(Neuron::Relu, |_| Neuron::Lif(config.network.neuron));
    let network = Network::new(&config.network, neuron, dataset.input().channels, dataset.classes(), config.seed)?;
    let state = State::load(&Checkpoints::finished(&args.cell), network, None)?;
    if let Some(trained_on) = state.progress.data_hash.filter(|hash| hash != dataset.data_hash()) {
        tracing::warn!(
            "{} were trained on data of the hash {trained_on}, but the data that are open now have the hash {}; the \
             numbers below are of the latter",
            Checkpoints::finished(&args.cell).display(),
            dataset.data_hash()
        );
    }
    let manner = Manner { time_steps: config.time_steps.unwrap_or(1), batch: config.batch, depth: Depth::Final };
    let samples = test_split(&dataset);
    let evaluation =
        evaluate(&state.network, &dataset, samples, manner, Sums::default(), &Ranks::alone(), &mut |_| Ok(()))?;
    if let Some(path) = &args.predictions {
        durable::write(path, &predictions::to_npy(&evaluation.predictions))?;
    }
    println!("{}", serde_json::to_string(&evaluation)?);
    Ok(())
}

/// Trains a cell and its ancestors twice, in two fresh folders, and compares every byte but the volatile columns.
pub fn repro_check(args: &ReproArgs, interrupt: &Interrupt) -> Result<()> {
    let suite = Suite::load(&args.suite)?;
    let device = device::open(Device::Auto, Precision::F32)?;
    let class = device::class(&device, Precision::F32);
    let cells = cell::cells(&suite, &overrides(&Selection::default()), &class)?;
    let filter = cell::Filter::parse(&[format!("cell={}", args.cell)])?;
    let cells = filter.select(cells).with_context(|| format!("suite {}", args.suite))?;
    let mut results = Vec::new();
    for attempt in ["first", "second"] {
        eprintln!("{attempt} time:");
        let folder = tempfile::tempdir()?;
        let request = Request {
            suite: suite.name.clone(),
            plan: plan::run_plan(&suite, &cells, "harness repro-check"),
            cells: cells.clone(),
            out: folder.path().to_path_buf(),
            data_dir: args.data_dir.clone(),
            fresh: false,
            retry: false,
            audit: false,
            device: device.clone(),
            rows: Rows::Now,
            jobs: 1,
            interrupt: interrupt.clone(),
        };
        let outcome = run::run(&request, &Ranks::alone())?;
        if let Some(code) = outcome.code() {
            return Err(exit::failure(code, "the cell could not be trained; nothing to compare"));
        }
        let store = Store::existing(folder.path())?;
        let result = store.result(&args.cell)?.context("the cell has no result")?;
        let weights = std::fs::read(Checkpoints::finished(&store.cell_folder(&args.cell)))?;
        let tensors = safetensors::SafeTensors::deserialize(&weights)?;
        let mut named: Vec<(String, Vec<u8>)> =
            tensors.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
        named.sort();
        let predictions = std::fs::read(store.cell_folder(&args.cell).join(predictions::FILE))?;
        results.push((merge::blanked(&result)?, named, predictions));
    }
    if results[0] != results[1] {
        return Err(exit::failure(Code::Check, format!("not deterministic: two trainings of {} differ", args.cell)));
    }
    println!("{}: result, weights and predictions are the same, bit for bit", args.cell);
    Ok(())
}

//! Cells: what a suite expands to. A cell is one training: data set × method × T × seed.

use crate::data::DataConfig;
use crate::exit;
use crate::model::config::NetworkConfig;
use crate::model::layout::Layout;
use crate::model::memory::StepMemory;
use crate::suite::{Experiment, Suite};
use anyhow::Result;
use bytesize::ByteSize;
use methods::Method;
use methods::fdg::{Fdg, Grid};
use methods::tit::{self, StageRecipe, Start};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Raised whenever the same cell would give other numbers than before.
const RECIPE_VERSION: u32 = 5;

/// File systems end names at 255 bytes; temporary files and reports add to an id.
const LONGEST_ID: usize = 200;

/// Hexadecimal digits of a `series_id`: 64 bits, so a collision within a file is out of the question.
const SERIES_DIGITS: usize = 16;

/// Everything that changes a cell's result, and nothing else: its hash is the cell's identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CellConfig {
    /// Raised whenever the same cell would give other numbers than before.
    pub recipe_version: u32,
    /// Data set, split, augmentation, with its declared checksums.
    pub protocol_id: String,
    /// `cpu-f32`, `cuda-bf16` …
    pub precision: String,
    /// The cell from whose weights this one starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_cell: Option<String>,
    /// T; absent for the ANN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_steps: Option<usize>,
    /// Seed of every random stream.
    pub seed: u64,
    /// Images a step.
    pub batch: usize,
    /// Images at once, where a batch is trained in parts (`shards`, `--max-memory`): gradients are summed over the parts
    /// in their order, norms take the statistics of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Training samples set apart to choose an epoch by.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_out: usize,
    /// Epochs, rate, weight decay.
    pub stage: StageRecipe,
    /// The network.
    pub network: NetworkConfig,
    /// The data.
    pub data: DataConfig,
    /// The arm; absent for the ANN, which all chains share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Present where the arm's temperature is chosen by the finite-difference gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdg: Option<Fdg>,
    /// Present where the arm's temperature moves without a gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_grid: Option<Grid>,
}

/// One training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Readable prefix and hash of the configuration.
    pub id: String,
    /// SHA-256 of the configuration, hex.
    pub config_hash: String,
    /// Hash of everything that changes the result, of this cell and of its ancestors, without the seed: the seeds of
    /// one experiment share it.
    pub series_id: String,
    /// The stages that it inherits from, oldest first, as the column `ancestors` says them.
    pub ancestors: Vec<String>,
    /// `ann`, `t6` …
    pub stage: String,
    /// What it trains.
    pub config: CellConfig,
    /// ε and batch of an audit, which arms without FDG have too; no part of the identity.
    pub audit_fdg: Fdg,
}

impl Cell {
    /// The cell of a configuration, whose `parent_cell` is `parent`.
    pub(crate) fn new(config: CellConfig, parent: Option<&Self>, audit_fdg: Fdg) -> Result<Self> {
        let config_hash = hash(&config)?;
        let stage = config.time_steps.map_or("ann".into(), |t| format!("t{t}"));
        let arm = config.method.as_ref().map_or(String::new(), |m| format!("{}-", m.name));
        let (dataset, architecture) = (config.data.dataset, config.network.architecture.name());
        let mut slug = format!("{dataset}-{architecture}-{arm}{stage}-s{}", config.seed);
        slug.truncate(LONGEST_ID - 11); // names are ASCII; the hash tells the cut ones apart
        let id = format!("{slug}-{}", &config_hash[..10]);
        // A parent's id holds the seed too, so the parent's series stands in its place.
        let seedless =
            CellConfig { seed: 0, parent_cell: parent.map(|parent| parent.series_id.clone()), ..config.clone() };
        let series_id = hash(&seedless)?[..SERIES_DIGITS].to_string();
        let ancestors = parent.map(|parent| [&parent.ancestors[..], &[parent.in_words()]].concat()).unwrap_or_default();
        Ok(Self { id, config_hash, series_id, ancestors, stage, config, audit_fdg })
    }

    /// `t4: 16 epochs, lr 0.05, weight decay 0.0001`.
    fn in_words(&self) -> String {
        let methods::tit::StageRecipe { epochs, lr, weight_decay } = self.config.stage;
        format!("{}: {epochs} epochs, lr {lr}, weight decay {weight_decay}", self.stage)
    }

    /// The arm's name; `ann` for the ANN.
    pub fn method_name(&self) -> &str {
        self.config.method.as_ref().map_or("ann", |m| &m.name)
    }

    /// The configuration as TOML, for `config.toml`.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(&self.config)?)
    }
}

/// SHA-256 of a configuration, in hexadecimal.
fn hash(config: &CellConfig) -> Result<String> {
    let hash = Sha256::digest(serde_json::to_vec(config)?);
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl CellConfig {
    /// Whether the temperature moves in training; then a stage starts with that of its parent.
    pub fn moves_temperature(&self) -> bool {
        self.fdg.is_some() || self.temperature_grid.is_some()
    }

    /// Images at once.
    pub fn at_once(&self) -> usize {
        self.micro_batch.unwrap_or(self.batch)
    }
}

/// What the command line changes in a suite; each change is part of the cells' identity.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Seeds instead of the suite's.
    pub seeds: Option<Vec<u64>>,
    /// Epochs of every stage.
    pub epochs: Option<usize>,
    /// Samples of each split.
    pub limit: Option<usize>,
    /// Channels of the first stage.
    pub width: Option<usize>,
    /// Images of the FDG.
    pub fdg_batch: Option<usize>,
    /// Equal parts of a batch.
    pub shards: Option<usize>,
    /// Bytes that a training step may take; smaller parts of a batch at once where it would take more.
    pub max_memory: Option<u64>,
}

/// Expands a suite: parents before children, shared stages once.
pub fn cells(suite: &Suite, overrides: &Overrides, precision: &str) -> Result<Vec<Cell>> {
    let mut cells: Vec<Cell> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for experiment in &suite.experiments {
        let seeds = overrides.seeds.as_ref().unwrap_or(&experiment.seeds);
        for &seed in seeds {
            for name in &experiment.methods {
                for cell in chain(suite.method(name)?, experiment, seed, overrides, precision)? {
                    if known.insert(cell.id.clone()) {
                        cells.push(cell);
                    }
                }
            }
        }
    }
    Ok(cells)
}

fn chain(method: &Method, e: &Experiment, seed: u64, overrides: &Overrides, precision: &str) -> Result<Vec<Cell>> {
    let mut data = e.data.clone();
    data.limit = overrides.limit.or(data.limit);
    let mut network = e.network;
    network.width = overrides.width.unwrap_or(network.width);
    let mut fdg = e.fdg;
    fdg.batch = overrides.fdg_batch.unwrap_or(fdg.batch);
    // A limited run keeps the share of a tenth at most.
    let held_out = overrides.limit.map_or(e.held_out, |limit| e.held_out.min(limit / 10));
    let mut cells: Vec<Cell> = Vec::new();
    for stage in tit::stages(method, &e.recipe, &e.time_steps) {
        let arm = stage.time_steps.map(|_| method.clone());
        let mut recipe = stage.recipe;
        recipe.epochs = overrides.epochs.unwrap_or(recipe.epochs);
        let mut at_once = shard_images(e, overrides.shards)?;
        if let Some(most) = overrides.max_memory {
            at_once = micro_batch(&network, &data, stage.time_steps, at_once, most)?;
        }
        let micro_batch = Some(at_once).filter(|images| *images < e.batch);
        let config = CellConfig {
            recipe_version: RECIPE_VERSION,
            protocol_id: protocol_id(&data, held_out, micro_batch),
            precision: precision.to_string(),
            parent_cell: stage.parent.map(|i| cells[i].id.clone()),
            time_steps: stage.time_steps,
            seed,
            batch: e.batch,
            micro_batch,
            momentum: e.momentum,
            held_out,
            stage: recipe,
            network,
            data: data.clone(),
            fdg: arm.as_ref().filter(|m| m.fdg).map(|_| fdg),
            temperature_grid: arm.as_ref().and_then(|m| m.temperature).map(|_| fdg.grid()),
            method: arm,
        };
        let cell = Cell::new(config, stage.parent.map(|i| &cells[i]), fdg)?;
        cells.push(cell);
    }
    Ok(cells)
}

/// The data's protocol; training on fewer samples is another one, and so are norms over fewer.
fn protocol_id(data: &DataConfig, held_out: usize, micro_batch: Option<usize>) -> String {
    let held_out = if held_out == 0 { String::new() } else { format!(";held-out={held_out}") };
    let whole = format!("{}{held_out}", data.protocol_id());
    micro_batch.map_or(whole.clone(), |images| protocol_of_parts(&whole, images))
}

/// A protocol whose batches are trained in parts of `images`: its norms are over fewer.
pub fn protocol_of_parts(protocol_id: &str, images: usize) -> String {
    let whole = protocol_id.split(";micro-batch=").next().unwrap_or_default();
    format!("{whole};micro-batch={images}")
}

/// The images of a shard.
fn shard_images(e: &Experiment, shards: Option<usize>) -> Result<usize> {
    let shards = shards.unwrap_or(e.shards);
    if shards == 0 || !e.batch.is_multiple_of(shards) {
        return Err(exit::usage(format!(
            "--shards {shards}: the batch of {} images of {} has no so many equal parts; take a divisor of it",
            e.batch, e.data.dataset
        )));
    }
    Ok(e.batch / shards)
}

/// The images at once that fit `most` bytes.
fn micro_batch(
    network: &NetworkConfig,
    data: &DataConfig,
    time_steps: Option<usize>,
    batch: usize,
    most: u64,
) -> Result<usize> {
    let layout = Layout::new(network, data.dataset.channels(), data.dataset.classes(), None);
    let memory = StepMemory::estimate(&layout, data.size, time_steps.unwrap_or(1), data.dataset.is_event());
    memory.micro_batch(batch, most).ok_or_else(|| {
        let (name, width) = (network.architecture.name(), network.width);
        exit::usage(format!(
            "--max-memory {}: a training step of {name}, width {width}, on one image of {} takes about {}; \
             allow more, or take a smaller --width",
            ByteSize(most),
            data.dataset,
            ByteSize(memory.of(1))
        ))
    })
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// `-f key=value`: several values of one key are alternatives, several keys must all hold.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<(String, String)>);

const FILTER_KEYS: [&str; 7] = ["dataset", "method", "time-steps", "seed", "architecture", "stage", "cell"];

impl Filter {
    /// Parses the values of `-f`.
    pub fn parse(terms: &[String]) -> Result<Self> {
        let pairs = terms.iter().map(|term| {
            let (key, value) = term.split_once('=').ok_or_else(|| {
                exit::usage(format!(
                    "-f {term}: expected key=value, e.g. -f method=dspike; keys: {}",
                    FILTER_KEYS.join(", ")
                ))
            })?;
            let key = key.trim().replace('_', "-");
            if !FILTER_KEYS.contains(&key.as_str()) {
                return Err(exit::usage(format!("-f {term}: unknown key `{key}`{}", exit::nearest(&key, FILTER_KEYS))));
            }
            Ok((key, value.trim().to_string()))
        });
        Ok(Self(pairs.collect::<Result<_>>()?))
    }

    fn matches(&self, cell: &Cell) -> bool {
        FILTER_KEYS.iter().all(|key| {
            let mut wanted = self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).peekable();
            wanted.peek().is_none() || wanted.any(|value| value == field(cell, key))
        })
    }

    /// The cells that match, and the ancestors they need; order kept.
    ///
    /// # Errors
    /// A value that no cell has (exit 2, with the nearest right one); values that exist but select nothing (exit 4).
    pub fn select(&self, cells: Vec<Cell>) -> Result<Vec<Cell>> {
        for (key, value) in &self.0 {
            let mut known: Vec<String> = cells.iter().map(|cell| field(cell, key)).collect();
            known.sort();
            known.dedup();
            if !known.contains(value) {
                let hint =
                    if key == "cell" { String::new() } else { exit::nearest(value, known.iter().map(String::as_str)) };
                return Err(exit::usage(format!("-f {key}={value}: no cell of this suite has that {key}{hint}")));
            }
        }
        let mut keep: Vec<&str> = cells.iter().filter(|cell| self.matches(cell)).map(|cell| cell.id.as_str()).collect();
        if keep.is_empty() {
            return Err(exit::failure(
                exit::Code::NothingSelected,
                "the filters select no cell; `harness list cells` shows them",
            ));
        }
        // Children come after their parents, so one walk from the end finds every ancestor.
        for cell in cells.iter().rev() {
            if keep.contains(&cell.id.as_str())
                && let Some(parent) = &cell.config.parent_cell
            {
                keep.push(parent);
            }
        }
        Ok(cells.iter().filter(|cell| keep.contains(&cell.id.as_str())).cloned().collect())
    }
}

fn field(cell: &Cell, key: &str) -> String {
    match key {
        "dataset" => cell.config.data.dataset.to_string(),
        "method" => cell.method_name().to_string(),
        "time-steps" => cell.config.time_steps.map_or("ann".into(), |t| t.to_string()),
        "seed" => cell.config.seed.to_string(),
        "architecture" => cell.config.network.architecture.name().to_string(),
        "stage" => cell.stage.clone(),
        _ => cell.id.clone(),
    }
}

/// Whether the cell belongs to a TIT chain.
pub fn in_chain(cell: &Cell) -> bool {
    cell.config.method.as_ref().is_some_and(|m| m.start == Start::Tit) && cell.config.parent_cell.is_some()
}

/// The cells of shard `index` of `of`: whole chains, told apart by the hash of their root, so that a filter moves none.
pub fn shard(cells: Vec<Cell>, index: u64, of: u64) -> Vec<Cell> {
    let mut roots: std::collections::HashMap<String, u64> = std::collections::HashMap::new();
    let mut kept = Vec::new();
    for cell in cells {
        let root = match &cell.config.parent_cell {
            Some(parent) => roots.get(parent).copied().unwrap_or_default(),
            None => u64::from_str_radix(&cell.config_hash[..15], 16).unwrap_or_default(),
        };
        roots.insert(cell.id.clone(), root);
        if root % of == index {
            kept.push(cell);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::source;

    fn expand(change: impl Fn(String) -> String) -> Vec<Cell> {
        let text = change(source("paper-mini").unwrap().text);
        cells(&Suite::parse(&text).unwrap(), &Overrides::default(), "cpu-f32").unwrap()
    }

    fn find<'a>(cells: &'a [Cell], method: &str, stage: &str, seed: u64) -> &'a Cell {
        let wanted = |cell: &&Cell| {
            cell.method_name() == method && cell.stage == stage && cell.config.seed == seed && cell.config.held_out == 0
        };
        cells.iter().find(wanted).unwrap()
    }

    #[test]
    fn the_seeds_of_one_experiment_share_a_series_and_nothing_else_does() {
        let cells = expand(|text| text);
        let series = |method, stage, seed| find(&cells, method, stage, seed).series_id.clone();
        assert_eq!(series("dspike", "t2", 0), series("dspike", "t2", 2));
        let mut all: Vec<(&str, u64)> = cells.iter().map(|cell| (cell.series_id.as_str(), cell.config.seed)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), cells.len(), "two cells of one seed share a series");
    }

    #[test]
    fn the_series_follows_the_ancestors_and_the_ids_are_those_of_the_reference_run() {
        let (cells, other) = (
            expand(|text| text),
            expand(|text| text.replace("ann = { epochs = 16, lr = 0.1", "ann = { epochs = 16, lr = 0.2")),
        );
        for stage in ["ann", "t4", "t2"] {
            let method = if stage == "ann" { "ann" } else { "dspike" };
            assert_ne!(find(&cells, method, stage, 0).series_id, find(&other, method, stage, 0).series_id, "{stage}");
        }
        let scratch = |cells: &[Cell]| find(cells, "dspike-no-tit", "t2", 0).series_id.clone();
        assert_eq!(scratch(&cells), scratch(&other), "an arm from scratch has no ANN");
        let t2 = find(&cells, "dspike", "t2", 0);
        assert_eq!(t2.id, "sign-digits-resnet18-dspike-t2-s0-c6bdf54513");
        assert_eq!(
            t2.ancestors,
            ["ann: 16 epochs, lr 0.1, weight decay 0.0005", "t4: 16 epochs, lr 0.05, weight decay 0.0001"]
        );
    }
}

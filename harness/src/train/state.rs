//! What a cell has reached: weights, optimiser, cursor, metrics. Saved atomically, checked when read.

use crate::durable;
use crate::exit;
use crate::model::network::Network;
use crate::model::readout;
use crate::model::running::Running;
use crate::train::evaluate::Sums;
use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use report::record::{CurvePoint, FdgPoint, FidelityPoint};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Everything of a training besides its weights; the random streams need no state, for they are keyed by these counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch that comes next or is under way.
    pub epoch: usize,
    /// Steps of that epoch already taken.
    pub step: usize,
    /// Whether that epoch's temperature has been chosen.
    pub temperature_chosen: bool,
    /// Of the finite-difference gradient that will choose it, the first weights' differences.
    #[serde(default)]
    pub differences: Vec<f64>,
    /// Images at once, where a card had no room for as many as asked for.
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// Dspike's temperature, where the surrogate has one.
    pub temperature: Option<f64>,
    /// Sum of loss · images over that epoch so far.
    pub loss_sum: f64,
    /// Right answers in that epoch so far.
    pub right: usize,
    /// Spikes and neuron steps in that epoch so far.
    pub spikes: (u64, u64),
    /// Seconds of training so far, over all attempts.
    pub train_seconds: f64,
    /// Seconds of that epoch so far.
    pub epoch_seconds: f64,
    /// Finished epochs.
    pub curves: Vec<CurvePoint>,
    /// Every candidate temperature.
    pub fdg: Vec<FdgPoint>,
    /// Every surrogate's agreement with the finite-difference gradient, before each epoch that took one.
    #[serde(default)]
    pub fidelity: Vec<FidelityPoint>,
    /// The best test accuracy of any epoch: a second, labelled column, never the headline.
    pub top1_best: Option<f64>,
    /// Where samples are held out: their best accuracy of any epoch, and the test accuracy of that epoch.
    #[serde(default)]
    pub held_out_choice: Option<(f64, f64)>,
    /// Evaluations since the last step, finished or under way, in their order.
    #[serde(default)]
    pub evaluated: Vec<Sums>,
    /// The program that computed this; `first+second` where it changed in between.
    #[serde(default)]
    pub git_revision: Option<String>,
    /// The hash of the data it was trained on ([`crate::data::Dataset::data_hash`]); absent in older files.
    #[serde(default)]
    pub data_hash: Option<String>,
}

impl Progress {
    /// Notes the revision of the program that goes on from here, and says so where it is another one.
    pub fn computed_by(&mut self, revision: Option<String>) {
        let Some(now) = revision else { return };
        match &mut self.git_revision {
            Some(before) if before.rsplit('+').next() != Some(&now) => {
                tracing::warn!("the checkpoint is of revision {before}, this program of {now}; the row will name both");
                *before = format!("{before}+{now}");
            }
            before => *before = before.take().or(Some(now)),
        }
    }
}

/// A training's whole state.
#[derive(Clone, Debug)]
pub struct State {
    /// The network.
    pub network: Network,
    /// Momentum, in the parameters' order.
    pub velocities: Vec<Tensor>,
    /// Cursor and metrics.
    pub progress: Progress,
}

const CONFIG_KEY: &str = "config_hash";
const PROGRESS_KEY: &str = "progress";
/// Of everything else: configuration, progress, tensors.
const DIGEST_KEY: &str = "sha256";
/// A checkpoint's header names each tensor once; anything longer is not ours.
const LARGEST_HEADER: u64 = 8 << 20;

impl State {
    /// The state before the first step.
    pub fn new(network: Network, temperature: Option<f64>) -> Result<Self> {
        let velocities = network.params.iter().map(Tensor::zeros_like).collect::<candle_core::Result<_>>()?;
        Ok(Self { network, velocities, progress: Progress { temperature, ..Progress::default() } })
    }

    /// Writes the state to `path`, atomically.
    pub fn save(&self, path: &Path, config_hash: &str) -> Result<()> {
        durable::write(path, &self.to_bytes(config_hash)?)
    }

    /// The state as a file's bytes: safetensors.
    pub fn to_bytes(&self, config_hash: &str) -> Result<Vec<u8>> {
        let mut named: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (i, spec) in self.network.layout.params.iter().enumerate() {
            for (prefix, tensor) in [("", &self.network.params[i]), ("velocity.", &self.velocities[i])] {
                named.push((format!("{prefix}{}", spec.name), spec.shape.clone(), bytes(&readout::values(tensor)?)));
            }
        }
        for ((name, channels), running) in self.network.layout.running.iter().zip(&self.network.running) {
            for (suffix, values) in [("running_mean", &running.mean), ("running_var", &running.variance)] {
                named.push((format!("{name}.{suffix}"), vec![*channels], bytes(values)));
            }
        }
        named.sort();
        let progress = serde_json::to_string(&self.progress)?;
        let digest = digest([config_hash, &progress], &named);
        let metadata = HashMap::from([
            (CONFIG_KEY.to_string(), config_hash.to_string()),
            (PROGRESS_KEY.to_string(), progress),
            (DIGEST_KEY.to_string(), digest),
        ]);
        let views = named.iter().map(|(name, shape, data)| {
            TensorView::new(Dtype::F32, shape.clone(), data).map(|view| (name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>()?;
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads a state into a network of the same layout; `config_hash` must be that of the writer, where it is given.
    ///
    /// # Errors
    /// A file that is torn, changed or another network's, with what is wrong with it.
    pub fn load(path: &Path, network: Network, config_hash: Option<&str>) -> Result<Self> {
        let context = || format!("checkpoint {}", path.display());
        let bytes = std::fs::metadata(path).with_context(context)?.len();
        let values = 2 * network.parameter_count() + network.running.iter().map(|r| 2 * r.mean.len()).sum::<usize>();
        let most = 8 + LARGEST_HEADER + 4 * values as u64;
        if bytes > most {
            return Err(exit::data(format!(
                "{}: {bytes} bytes, but one of this network has at most {most}",
                context()
            )));
        }
        let buffer = std::fs::read(path).with_context(context)?;
        Self::parse(&buffer, network, config_hash).map_err(|error| exit::data(format!("{}: {error:#}", context())))
    }

    /// As [`State::load`], from bytes.
    pub fn parse(buffer: &[u8], network: Network, config_hash: Option<&str>) -> Result<Self> {
        let header = buffer.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
        ensure!(header <= LARGEST_HEADER, "its header claims {header} bytes; the file is damaged");
        let (_, header) = SafeTensors::read_metadata(buffer)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let text = |key: &str| {
            metadata.get(key).with_context(|| format!("it has no `{key}`; it was not written by this program"))
        };
        if let Some(expected) = config_hash {
            ensure!(text(CONFIG_KEY)? == expected, "it belongs to another configuration");
        }
        let tensors = SafeTensors::deserialize(buffer)?;
        let mut named: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
            .collect();
        named.sort();
        let found = digest([text(CONFIG_KEY)?, text(PROGRESS_KEY)?], &named);
        ensure!(*text(DIGEST_KEY)? == found, "its checksum does not fit its content; the file is damaged");
        Self::fill(network, &tensors, text(PROGRESS_KEY)?)
    }

    /// Tensors of any content into a network; the fuzzer, which finds no checksum, starts here.
    pub(crate) fn fill(mut network: Network, tensors: &SafeTensors, progress: &str) -> Result<Self> {
        let values = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let view = tensors.tensor(name).with_context(|| format!("it has no tensor `{name}`"))?;
            ensure!(
                view.dtype() == Dtype::F32 && view.shape() == shape,
                "`{name}` is {:?} {:?}, expected F32 {shape:?}",
                view.dtype(),
                view.shape()
            );
            Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        };
        let device = network.device().clone();
        let mut velocities = Vec::new();
        for (i, spec) in network.layout.params.iter().enumerate() {
            let tensor = |name: &str| -> Result<Tensor> {
                Ok(Tensor::from_vec(values(name, &spec.shape)?, spec.shape.as_slice(), &device)?)
            };
            network.params[i] = tensor(&spec.name)?;
            velocities.push(tensor(&format!("velocity.{}", spec.name))?);
        }
        for (i, (name, channels)) in network.layout.running.iter().enumerate() {
            let shape = [*channels];
            network.running[i] = Running {
                mean: values(&format!("{name}.running_mean"), &shape)?,
                variance: values(&format!("{name}.running_var"), &shape)?,
            };
        }
        let progress = serde_json::from_str(progress).context("its progress is not readable")?;
        Ok(Self { network, velocities, progress })
    }
}

/// A cell's checkpoints: the last two are kept, the newest that is whole is used.
pub struct Checkpoints {
    folder: PathBuf,
    config_hash: String,
}

impl Checkpoints {
    /// Those in `folder`, written by the configuration of that hash.
    pub fn new(folder: &Path, config_hash: &str) -> Self {
        Self { folder: folder.to_path_buf(), config_hash: config_hash.to_string() }
    }

    /// Where a finished cell's weights are.
    pub fn finished(folder: &Path) -> PathBuf {
        folder.join("weights.safetensors")
    }

    /// Saves a running state, and forgets all but this one and the one before.
    pub fn save(&self, state: &State) -> Result<()> {
        let name = format!("checkpoint-{:06}-{:08}.safetensors", state.progress.epoch, state.progress.step);
        state.save(&self.folder.join(name), &self.config_hash)?;
        for old in self.list()?.into_iter().rev().skip(2) {
            durable::remove(&old)?;
        }
        Ok(())
    }

    /// Renews `metrics.jsonl`: one line per epoch, as in curves.csv. It is written before the checkpoint, so that no later
    /// epoch starts without it.
    pub fn write_metrics(&self, curves: &[CurvePoint]) -> Result<()> {
        let lines = curves.iter().map(|point| Ok(serde_json::to_string(point)? + "\n")).collect::<Result<String>>()?;
        durable::write(&self.folder.join("metrics.jsonl"), lines.as_bytes())
    }

    /// Saves a finished cell's weights; its checkpoints stay until its result is committed.
    pub fn finish(&self, state: &State) -> Result<()> {
        state.save(&Self::finished(&self.folder), &self.config_hash)
    }

    /// Removes the checkpoints.
    pub fn forget(&self) -> Result<()> {
        for old in self.list()? {
            durable::remove(&old)?;
        }
        Ok(())
    }

    /// The newest whole checkpoint, or `None`; says so when a damaged one is passed over.
    pub fn latest(&self, network: &Network) -> Result<Option<State>> {
        for path in self.list()?.into_iter().rev() {
            match State::load(&path, network.clone(), Some(&self.config_hash)) {
                Ok(state) => return Ok(Some(state)),
                Err(error) => tracing::warn!("{error:#}; going back to the checkpoint before it"),
            }
        }
        Ok(None)
    }

    /// Each checkpoint with the hash of its data, newest first; `None` in a file of an earlier version. Files that cannot be
    /// read, and those of another configuration, are passed over: [`Checkpoints::latest`] does so too.
    pub fn data_hashes(&self) -> Result<Vec<(PathBuf, Option<String>)>> {
        let of_data = |path: PathBuf| {
            let header = Header::read(&path).ok().filter(|header| header.config_hash == self.config_hash)?;
            Some((path, header.data_hash))
        };
        Ok(self.list()?.into_iter().rev().filter_map(of_data).collect())
    }

    /// Oldest first.
    fn list(&self) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.folder).with_context(|| format!("listing {}", self.folder.display()))?;
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("listing {}", self.folder.display()))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("checkpoint-") && name.ends_with(".safetensors") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// What the header of a checkpoint or of weights says, read without the tensors.
struct Header {
    config_hash: String,
    data_hash: Option<String>,
}

impl Header {
    /// Trusts the header: whether it fits the tensors is found out when the file is loaded.
    fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "__metadata__")]
            metadata: HashMap<String, String>,
        }
        #[derive(Deserialize)]
        struct Identity {
            #[serde(default)]
            data_hash: Option<String>,
        }
        let mut file = std::fs::File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        ensure!(length <= LARGEST_HEADER, "its header claims {length} bytes; the file is damaged");
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)?;
        let mut metadata = serde_json::from_slice::<Named>(&header)?.metadata;
        let identity: Identity = serde_json::from_str(metadata.get(PROGRESS_KEY).context("no progress")?)?;
        Ok(Self { config_hash: metadata.remove(CONFIG_KEY).unwrap_or_default(), data_hash: identity.data_hash })
    }
}

/// The hash of the data that the weights at `path` were trained on. `None` where the file is older than these hashes, or
/// cannot be read: whoever loads it says why.
pub fn data_hash_of(path: &Path) -> Option<String> {
    Header::read(path).ok()?.data_hash
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn digest(texts: [&str; 2], named: &[(String, Vec<usize>, Vec<u8>)]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    for (name, shape, data) in named {
        hash.update(name.as_bytes());
        hash.update(format!("{shape:?}"));
        hash.update(data);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

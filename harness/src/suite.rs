//! A suite: one TOML file, the whole experiment. Every key is required that moves a number.

use crate::data::DataConfig;
use crate::exit;
use crate::model::config::NetworkConfig;
use crate::slurm::script::Resources;
use anyhow::{Context, Result, ensure};
use methods::fdg::Fdg;
use methods::tit::Recipe;
use methods::{Method, Schedule};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Suites that are compiled in: name and text.
const COMPILED_IN: &[(&str, &str)] = &[
    ("paper", include_str!("../../suites/paper.toml")),
    ("paper-mini", include_str!("../../suites/paper-mini.toml")),
    ("smoke", include_str!("../../suites/smoke.toml")),
    ("cifar10", include_str!("../../suites/cifar10.toml")),
    ("cifar100", include_str!("../../suites/cifar100.toml")),
    ("imagenet", include_str!("../../suites/imagenet.toml")),
    ("cifar10-dvs", include_str!("../../suites/cifar10-dvs.toml")),
    ("cifar10-mini", include_str!("../../suites/cifar10-mini.toml")),
    ("cifar100-cpu", include_str!("../../suites/cifar100-cpu.toml")),
    ("cifar100-cpu-rates", include_str!("../../suites/cifar100-cpu-rates.toml")),
];

/// No experiment has more epochs, images a batch or time steps; sums and products of such numbers overflow nothing.
const MOST: usize = 1_000_000;

/// A suite file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Suite {
    /// The name of the file and of the result folder.
    pub name: String,
    /// One line for `list suites`.
    pub title: String,
    /// A sentence that the report shows on top.
    #[serde(default)]
    pub banner: Option<String>,
    /// The suite that runs instead where neither a CUDA device nor a data set is at hand.
    #[serde(default)]
    pub fallback: Option<String>,
    /// Where this suite departs from the paper besides the general ledger.
    #[serde(default)]
    pub deviations: Vec<String>,
    /// Whether each spiking cell's gradients and membranes are audited when it is done (changes no result).
    #[serde(default)]
    pub audit: bool,
    /// The arms whose comparison is the claim: a `--budget` buys them first. Empty: all alike.
    #[serde(default)]
    pub headline: Vec<String>,
    /// The arm that the others are compared with; the first of `headline` where it is absent.
    #[serde(default)]
    pub reference: Option<String>,
    /// What a task asks of a cluster (`--launcher slurm`); changes no result.
    #[serde(default)]
    pub slurm: Resources,
    /// What is compared.
    #[serde(rename = "method")]
    pub methods: Vec<Method>,
    /// On what.
    #[serde(rename = "experiment")]
    pub experiments: Vec<Experiment>,
}

/// One data set with the network and recipe that all its methods share.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Experiment {
    /// Names of the suite's methods.
    pub methods: Vec<String>,
    /// T of each stage, falling: a TIT chain goes through them in this order.
    pub time_steps: Vec<usize>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Images a step.
    pub batch: usize,
    /// Equal parts of a batch, each with the statistics of its own in the norms, that as many processes may train at once.
    #[serde(default = "one")]
    pub shards: usize,
    /// Momentum of SGD.
    pub momentum: f64,
    /// The network.
    pub network: NetworkConfig,
    /// The data and how they are split and augmented.
    pub data: DataConfig,
    /// Training samples set apart to choose an epoch by, for the selection-bias meter; the headline stays the last epoch.
    #[serde(default)]
    pub held_out: usize,
    /// Epochs and rates.
    pub recipe: Recipe,
    /// The finite-difference gradient of the methods that use it.
    pub fdg: Fdg,
}

fn one() -> usize {
    1
}

/// A suite's text and where it came from.
pub struct Source {
    /// TOML.
    pub text: String,
    /// `None`: compiled in.
    pub path: Option<PathBuf>,
}

/// Names of all suites: those compiled in, and files in `./suites` that look like one.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = COMPILED_IN.iter().map(|(name, _)| name.to_string()).collect();
    for entry in walkdir::WalkDir::new("suites").max_depth(1).sort_by_file_name().into_iter().flatten() {
        let path = entry.path();
        let Some(name) = path.file_stem().and_then(|s| s.to_str()).map(str::to_string) else { continue };
        let is_suite = path.extension().is_some_and(|e| e == "toml")
            && std::fs::read_to_string(path).is_ok_and(|text| text.contains("[[experiment]]"));
        if is_suite && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The text of a suite: a path that ends in `.toml`, or a name, of which `./suites/<name>.toml` wins over the one
/// compiled in.
pub fn source(name: &str) -> Result<Source> {
    if name.ends_with(".toml") {
        let path = PathBuf::from(name);
        let text = std::fs::read_to_string(&path).map_err(|error| exit::usage(format!("suite {name}: {error}")))?;
        return Ok(Source { text, path: Some(path) });
    }
    let path = Path::new("suites").join(format!("{name}.toml"));
    if !name.contains(['/', '\\', '\0']) && path.is_file() {
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        return Ok(Source { text, path: Some(path) });
    }
    match COMPILED_IN.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok(Source { text: text.to_string(), path: None }),
        None => {
            let known = names();
            let hint = exit::nearest(name, known.iter().map(String::as_str));
            Err(exit::usage(format!("there is no suite `{name}`{hint}. A file suites/{name}.toml would make one")))
        }
    }
}

impl Suite {
    /// Reads a suite by name or path. Says on stderr when a file in `./suites` differs from the one compiled in.
    pub fn load(name: &str) -> Result<Self> {
        let source = source(name)?;
        let compiled = COMPILED_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
        if let (Some(path), Some(compiled)) = (&source.path, compiled)
            && compiled != source.text
        {
            tracing::warn!("{} differs from the suite of that name in this binary; the file is used", path.display());
        }
        let shown = source.path.map_or(format!("suite `{name}`"), |p| p.display().to_string());
        let suite = Self::parse(&source.text).map_err(|error| exit::usage(format!("{shown}: {error:#}")))?;
        let file = Path::new(name).file_stem().and_then(|stem| stem.to_str()).filter(|_| name.ends_with(".toml"));
        let expected = file.unwrap_or(name);
        if suite.name != expected {
            return Err(exit::usage(format!(
                "{shown}: its `name` is `{}`, but the file's name is `{expected}`; make them equal",
                suite.name
            )));
        }
        Ok(suite)
    }

    /// Parses and checks a suite; nothing wrong with it surfaces later, in training.
    pub fn parse(text: &str) -> Result<Self> {
        let suite: Self = toml::from_str(text).map_err(|error| anyhow::anyhow!(exit::suggest(&error.to_string())))?;
        suite.validate()?;
        Ok(suite)
    }

    /// The arm that the others are compared with: `reference`, else the first of `headline`, else the first arm.
    pub fn reference(&self) -> Option<&str> {
        let first = || self.headline.first().or(self.methods.first().map(|method| &method.name));
        self.reference.as_ref().or_else(first).map(String::as_str)
    }

    /// The method of that name.
    pub fn method(&self, name: &str) -> Result<&Method> {
        self.methods.iter().find(|m| m.name == name).with_context(|| {
            let hint = exit::nearest(name, self.methods.iter().map(|m| m.name.as_str()));
            format!("there is no method `{name}`{hint}")
        })
    }

    fn validate(&self) -> Result<()> {
        ensure!(!self.methods.is_empty(), "no [[method]]");
        ensure!(!self.experiments.is_empty(), "no [[experiment]]");
        for (i, method) in self.methods.iter().enumerate() {
            method.validate()?;
            ensure!(method.name != "ann", "method `ann`: that name is the first stage of a chain");
            ensure!(
                !self.methods[..i].iter().any(|other| other.name == method.name),
                "two methods are named `{}`; a name must mean one thing in a legend",
                method.name
            );
        }
        for name in &self.headline {
            self.method(name).context("headline")?;
        }
        if let Some(name) = &self.reference {
            self.method(name).context("reference")?;
        }
        for (i, experiment) in self.experiments.iter().enumerate() {
            self.validate_experiment(experiment)
                .with_context(|| format!("[[experiment]] {} ({})", i + 1, experiment.data.dataset))?;
        }
        Ok(())
    }

    fn validate_experiment(&self, e: &Experiment) -> Result<()> {
        ensure!(!e.methods.is_empty(), "methods is empty");
        for name in &e.methods {
            let method = self.method(name)?;
            if let Some(Schedule::Ramp(to)) = method.temperature {
                let Fdg { floor, cap, .. } = e.fdg;
                ensure!(
                    (floor..=cap).contains(&to),
                    "method `{name}`: ramp = {to}, but no temperature leaves fdg.floor = {floor} to fdg.cap = {cap}; move \
                     the end of the ramp or the bounds"
                );
            }
        }
        ensure!(!e.time_steps.is_empty(), "time-steps is empty");
        ensure!(e.time_steps.iter().all(|t| *t > 0), "time-steps holds 0, but a network needs at least one time step");
        ensure!(
            e.time_steps.windows(2).all(|pair| pair[0] > pair[1]),
            "time-steps = {:?} must fall: a TIT chain goes from the largest T to the smallest",
            e.time_steps
        );
        ensure!(!e.seeds.is_empty(), "seeds is empty");
        let most = |name: &str, value: usize| -> Result<()> {
            ensure!((1..=MOST).contains(&value), "{name} = {value}, but it must lie in 1..={MOST}");
            Ok(())
        };
        most("batch", e.batch)?;
        most("shards", e.shards)?;
        ensure!(
            e.batch.is_multiple_of(e.shards),
            "shards = {} are no equal parts of batch = {}; take a divisor of it",
            e.shards,
            e.batch
        );
        most("fdg.batch", e.fdg.batch)?;
        e.time_steps.iter().try_for_each(|t| most("time-steps", *t))?;
        ensure!((0.0..1.0).contains(&e.momentum), "momentum = {}, but it must lie in [0, 1)", e.momentum);
        let stages = [e.recipe.ann, Some(e.recipe.first), e.recipe.later, e.recipe.scratch];
        for stage in stages.into_iter().flatten() {
            most("recipe: epochs", stage.epochs)?;
            ensure!(stage.lr > 0.0 && stage.lr.is_finite(), "recipe: lr = {}, but it must be above 0", stage.lr);
            let decay = stage.weight_decay;
            ensure!(decay >= 0.0 && decay.is_finite(), "recipe: weight-decay = {decay}, but it must be 0 or above");
        }
        e.network.validate()?;
        e.data.validate()?;
        e.fdg.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Overrides, cells};

    #[test]
    fn every_suite_that_is_compiled_in_parses_and_names_its_cells_once() {
        for (name, text) in COMPILED_IN {
            let suite = Suite::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(suite.name, *name);
            let list = cells(&suite, &Overrides::default(), "cpu-f32").unwrap();
            let ids: std::collections::HashSet<_> = list.iter().map(|cell| &cell.id).collect();
            assert_eq!(ids.len(), list.len(), "{name}");
            assert!(list.iter().all(|cell| cell.id.len() <= 200));
            if let Some(fallback) = &suite.fallback {
                assert!(COMPILED_IN.iter().any(|(known, _)| known == fallback));
            }
        }
    }

    #[test]
    fn a_shard_is_a_part_of_the_batch_and_one_shard_changes_no_identity() {
        let text = source("smoke").unwrap().text;
        let ids = |shards: &str, overrides: &Overrides| -> anyhow::Result<Vec<(String, Option<usize>)>> {
            let text = text.replace("batch = 16\n", &format!("batch = 16\n{shards}"));
            let list = cells(&Suite::parse(&text)?, overrides, "cpu-f32")?;
            Ok(list.into_iter().map(|cell| (cell.id, cell.config.micro_batch)).collect())
        };
        let on_command_line = |n| Overrides { shards: Some(n), ..Overrides::default() };
        let whole = ids("", &Overrides::default()).unwrap();
        assert!(whole.iter().all(|(_, micro_batch)| micro_batch.is_none()));
        assert_eq!(whole, ids("shards = 1\n", &Overrides::default()).unwrap());
        assert_eq!(whole, ids("shards = 4\n", &on_command_line(1)).unwrap());
        let four = ids("shards = 4\n", &Overrides::default()).unwrap();
        assert!(four.iter().all(|(_, micro_batch)| *micro_batch == Some(4)));
        assert!(four.iter().zip(&whole).all(|(four, whole)| four.0 != whole.0));
        assert_eq!(four, ids("", &on_command_line(4)).unwrap());
        let error = |result: anyhow::Result<_>| format!("{:#}", result.unwrap_err());
        assert!(
            error(ids("shards = 3\n", &Overrides::default())).contains("shards = 3 are no equal parts of batch = 16")
        );
        assert!(error(ids("shards = 0\n", &Overrides::default())).contains("shards = 0"));
        assert!(error(ids("", &on_command_line(5))).contains("--shards 5: the batch of 16 images of sign-digits"));
    }

    #[test]
    fn a_ramp_ends_within_the_bounds_of_the_experiments_that_have_it() {
        let text = source("smoke").unwrap().text;
        let parsed = |to: &str| {
            let first = "name = \"dspike-no-fdg-b3\"\n";
            Suite::parse(&text.replace(first, &format!("{first}temperature = {{ ramp = {to} }}\n")))
        };
        for to in ["0.2", "5.0", "20.0"] {
            parsed(to).unwrap();
        }
        for to in ["0.19", "20.1", "-1"] {
            let error = format!("{:#}", parsed(to).unwrap_err());
            assert!(error.contains("`dspike-no-fdg-b3`") && error.contains(&format!("ramp = {to}")), "{error}");
        }
        let outside = format!("{:#}", parsed("0.1").unwrap_err());
        assert!(outside.contains("[[experiment]] 1") && outside.contains("fdg.floor = 0.2"), "{outside}");
    }

    #[test]
    fn the_papers_suite_is_the_four_data_sets_suites_together() {
        let ids = |name: &str| -> Vec<String> {
            let (_, text) = COMPILED_IN.iter().find(|(known, _)| *known == name).unwrap();
            let list = cells(&Suite::parse(text).unwrap(), &Overrides::default(), "cuda-f32").unwrap();
            list.into_iter().map(|cell| cell.id).collect()
        };
        let parts: Vec<String> =
            ["cifar10", "cifar100", "imagenet", "cifar10-dvs"].iter().flat_map(|name| ids(name)).collect();
        assert_eq!(ids("paper"), parts);
    }
}

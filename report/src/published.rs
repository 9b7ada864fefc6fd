//! Published numbers, typed: `suites/published.toml`.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;

use crate::expect::Expect;
use crate::local::{self, Local};
use crate::series::slug;

/// All published numbers.
#[derive(Debug)]
pub struct Published {
    /// What legends call the paper's method.
    pub name: String,
    /// A sentence for the summary, without its full stop.
    pub note: Option<String>,
    /// The experiments they come from, one per data set.
    pub settings: Vec<Setting>,
    /// The paper's own table.
    pub claims: Vec<Claim>,
    /// Other papers; never ranked against anything.
    pub contexts: Vec<Context>,
}

/// The file as it stands; its tables know their place, so that an error can name the line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "unnamed")]
    name: String,
    note: Option<String>,
    setting: Vec<Spanned<Setting>>,
    claim: Vec<Spanned<Claim>>,
    #[serde(default)]
    context: Vec<Context>,
}

fn unnamed() -> String {
    "numbers".into()
}

/// A data set of the paper, and what its experiments on it are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Our name.
    pub dataset: String,
    /// The name on paper.
    pub label: String,
    /// What the column `protocol_id` must have to count as the paper's protocol: every part (separated by `;`) of one
    /// of these.
    pub protocols: Vec<String>,
    /// How the data must be known to be the official ones.
    pub content: Content,
    /// Half width of the band in which a mean counts as reproduced; a fraction.
    pub band: f64,
    /// Columns of `rows.csv` and the values that the paper states.
    pub expect: Expect,
    /// What holds at some numbers of time steps only.
    #[serde(default, rename = "stage")]
    pub stages: Vec<Stage>,
}

/// How the data must be known to be the official ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The `protocol_id` carries a checksum that was verified.
    Checksum,
    /// Equal numbers of samples are enough: the content cannot be verified cheaply.
    Counts,
}

/// What a setting says of the stages at some numbers of time steps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Which.
    pub time_steps: Vec<usize>,
    /// A number of time steps at which the network must have been trained before.
    pub after: Option<usize>,
    /// As [`Setting::expect`].
    #[serde(default)]
    pub expect: Expect,
}

impl Setting {
    /// The stage of a number of time steps.
    pub fn stage(&self, time_steps: usize) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.time_steps.contains(&time_steps))
    }
}

/// How far a published number may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// A text that reports it was read.
    Quoted,
    /// One doubtful text reports it.
    QuotedWeak,
    /// Recalled; nothing at hand confirms it.
    Unverified,
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quoted => "quoted",
            Self::QuotedWeak => "quoted once, weakly",
            Self::Unverified => "UNVERIFIED",
        })
    }
}

/// A cell of the paper's table.
#[allow(missing_docs)] // suites/published.toml explains the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub dataset: String,
    /// The network as the paper calls it, for tables.
    pub network: String,
    pub time_steps: usize,
    /// Wins over the setting's.
    #[serde(default)]
    pub expect: Expect,
    #[serde(deserialize_with = "fraction")]
    pub top1: f64,
    /// Always unverified in the built-in file.
    pub std: Option<f64>,
    pub certainty: Certainty,
    pub source: String,
}

/// Another paper's number.
#[allow(missing_docs)]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub label: String,
    pub surrogate: Option<String>,
    pub network: String,
    pub dataset: String,
    pub time_steps: Option<usize>,
    #[serde(deserialize_with = "fraction")]
    pub top1: f64,
    pub certainty: Certainty,
    pub source: String,
}

impl Claim {
    /// A short name that stays as long as data set, network and T do: `cifar10-modified-resnet-18-t6`.
    pub fn id(&self) -> String {
        slug(&format!("{}-{}-t{}", self.dataset, self.network, self.time_steps))
    }
}

impl Published {
    /// A given file; else `./suites/published.toml` where that exists, else the copy compiled in.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong; the sentence names file, line and key.
    pub fn load(file: Option<&Path>) -> Result<(Self, Local)> {
        let Some(path) = file else {
            return local::load("published.toml", include_str!("../../suites/published.toml"), Self::parse);
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let published = Self::parse(&text).with_context(|| format!("reading {}", path.display()))?;
        Ok((published, Some(path.to_path_buf())))
    }

    /// Parses and checks the file's text.
    ///
    /// # Errors
    /// Text that is no such file; the sentence names line and key.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let line = |span: Range<usize>| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
        for setting in &file.setting {
            check_setting(setting.get_ref()).map_err(|problem| anyhow!("line {}: {problem}", line(setting.span())))?;
        }
        let datasets: Vec<&str> = file.setting.iter().map(|setting| setting.get_ref().dataset.as_str()).collect();
        let mut ids = BTreeSet::new();
        for spanned in &file.claim {
            let (claim, line) = (spanned.get_ref(), line(spanned.span()));
            ensure!(
                datasets.contains(&claim.dataset.as_str()),
                "line {line}: the claim's `dataset = \"{}\"` has no [[setting]]; settings are there for: {}",
                claim.dataset,
                datasets.join(", ")
            );
            let id = claim.id();
            ensure!(
                ids.insert(id.clone()),
                "line {line}: the claim repeats `dataset`, `network` and `time_steps` of an earlier one ({id})"
            );
        }
        Ok(Self {
            name: file.name,
            note: file.note,
            settings: file.setting.into_iter().map(Spanned::into_inner).collect(),
            claims: file.claim.into_iter().map(Spanned::into_inner).collect(),
            contexts: file.context,
        })
    }

    /// The published experiment of a data set.
    pub fn setting(&self, dataset: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.dataset == dataset)
    }
}

/// A setting that could give a verdict for a part of the data, or for anything, is an error.
fn check_setting(setting: &Setting) -> Result<(), String> {
    if let Some(column) = ["train_samples", "test_samples"].into_iter().find(|name| !setting.expect.has(name)) {
        return Err(format!(
            "[setting.expect] of `{}` has no `{column}`: a verdict needs the number of samples of the whole data set",
            setting.dataset
        ));
    }
    if setting.protocols.is_empty() {
        return Err(format!(
            "`protocols` of the setting `{}` is empty; name the parts of its protocol",
            setting.dataset
        ));
    }
    match setting.band > 0.0 && setting.band < 1.0 {
        true => Ok(()),
        false => Err(format!("`band = {}` is not a fraction; write 0.005 for half a point", setting.band)),
    }
}

fn fraction<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    match (0.0..=1.0).contains(&value) {
        true => Ok(value),
        false => Err(D::Error::custom(format!("{value} is not a fraction; write 0.9425 for 94.25 %"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_the_papers_nine_cells() {
        let published = Published::parse(include_str!("../../suites/published.toml")).unwrap();
        assert_eq!(published.claims.len(), 9);
        let dvs = published.claims.iter().find(|claim| claim.dataset == "cifar10-dvs").unwrap();
        assert_eq!((dvs.top1, dvs.time_steps, dvs.certainty), (0.754, 10, Certainty::Quoted));
        let unverified = published.claims.iter().filter(|claim| claim.certainty == Certainty::Unverified);
        assert_eq!(unverified.map(|claim| claim.top1).collect::<Vec<_>>(), [0.7168, 0.6819]);
        assert_eq!(published.setting("cifar100").unwrap().band, 0.01);
        assert!(published.contexts.len() > 40);
    }

    #[test]
    fn every_expected_value_is_what_the_fact_sheet_states() {
        let published = Published::parse(include_str!("../../suites/published.toml")).unwrap();
        let at = |dataset: &str, time_steps| {
            let setting = published.setting(dataset).unwrap();
            let stage = setting.stage(time_steps).unwrap();
            (stage.after, stage.expect.get("epochs").unwrap().to_json(), stage.expect.get("lr").unwrap().to_json())
        };
        for dataset in ["cifar10", "cifar100"] {
            assert_eq!(at(dataset, 6), (None, 300.into(), 0.01.into()));
            assert_eq!(at(dataset, 2), (Some(6), 50.into(), 0.004.into()));
        }
        let content = |dataset| published.setting(dataset).unwrap().content;
        assert_eq!([content("cifar10"), content("cifar10-dvs")], [Content::Checksum, Content::Counts]);
        assert!(published.claims.iter().any(|claim| claim.id() == "imagenet-vgg-16-t5"));
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_and_key() {
        let text = include_str!("../../suites/published.toml");
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            let line = text[..text.find(from).unwrap()].lines().count() + 1;
            (line, format!("{:#}", Published::parse(&text.replacen(from, to, 1)).unwrap_err()))
        };
        let words = [
            ("top1 = 0.9425", "top1 = 94.25", "94.25 is not a fraction"),
            ("band = 0.005", "bnad = 0.005", "unknown field `bnad`"),
            ("fdg_step = 0.2", "fdg_stop = 0.2", "`fdg_stop` is no column"),
            ("fdg_step = 0.2", "top1_last = 0.2", "`top1_last` is no column"),
            ("fdg_step = 0.2", "fdg_step = { a = 1 }", "a number, text, true or false"),
        ];
        for (from, to, expected) in words {
            let (line, error) = refused(from, to);
            assert!(error.contains(expected) && error.contains(&format!("line {line},")), "{line}: {error}");
        }
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused_with_its_line() {
        let text = include_str!("../../suites/published.toml");
        let error = |from: &str, to: &str| format!("{:#}", Published::parse(&text.replacen(from, to, 1)).unwrap_err());
        let claim = text.lines().position(|line| line == "[[claim]]").unwrap() + 1;
        let first = "[[claim]]\ndataset = \"cifar10\"";
        let unknown = error(first, "[[claim]]\ndataset = \"mnist\"");
        assert!(unknown.contains(&format!("line {claim}: the claim's `dataset = \"mnist\"`")), "{unknown}");
        let repeated = error("time_steps = 4", "time_steps = 6");
        assert!(repeated.contains(&format!("line {}: the claim repeats", claim + 9)), "{repeated}");
        let setting = text.lines().position(|line| line == "[[setting]]").unwrap() + 1;
        let counts = error("test_samples = 10000", "");
        let place = format!("line {setting}: [setting.expect] of `cifar10` has no `test_samples`");
        assert!(counts.contains(&place), "{counts}");
        let band = error("band = 0.005", "band = 0");
        assert!(band.contains("`band = 0` is not a fraction"), "{band}");
    }
}

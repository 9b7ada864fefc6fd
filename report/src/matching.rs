//! In which parts a measured cell differs from a published experiment. What a method is called plays no role.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::expect::Expected;
use crate::published::{Claim, Content, Published, Setting};
use crate::record::Record;
use crate::results::Results;
use crate::rows::column_values;

/// Columns that say on which data a cell ran, and on which network.
const DATA: [&str; 2] = ["train_samples", "test_samples"];
const NETWORK: [&str; 4] = ["architecture", "width", "stem", "norm"];
/// Columns of which a toy run has less.
const SCALE: [&str; 4] = ["width", "epochs", "train_samples", "test_samples"];

/// One part in which a cell is another experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `t6` or `ann` if it is the stage from which the cell inherits that differs; null for the cell itself.
    pub stage: Option<String>,
    /// A column of `rows.csv`.
    pub column: String,
    /// Its value here; of `protocol_id` one part. Null if it was not recorded, or if the part is absent.
    pub here: Value,
    /// The published value, or the list of allowed values. Null if the part must be absent.
    pub published: Value,
    #[serde(skip)]
    scale: bool,
}

impl Difference {
    fn new(column: &str, here: Value, published: Value) -> Self {
        Self { stage: None, column: column.into(), here, published, scale: false }
    }

    /// Whether the cell is only smaller here: fewer channels, epochs or samples.
    pub fn is_smaller(&self) -> bool {
        self.scale
    }

    /// Whether it concerns the cell's own data or network.
    fn is_of_data_or_network(&self) -> bool {
        let column = self.column.as_str();
        self.stage.is_none() && (column == "protocol_id" || DATA.contains(&column) || NETWORK.contains(&column))
    }
}

/// `width: here 8, published 64`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(stage) = &self.stage {
            write!(f, "{stage} before it, ")?;
        }
        write!(f, "{}: here ", self.column)?;
        match &self.here {
            Value::Null if self.column == "protocol_id" => f.write_str("without"),
            Value::Null => f.write_str("not recorded"),
            value => f.write_str(&in_words(value)),
        }?;
        match &self.published {
            Value::Null => f.write_str(", published without"),
            value => write!(f, ", published {}", in_words(value)),
        }
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(in_words).collect::<Vec<_>>().join(" or "),
        other => other.to_string(),
    }
}

/// All parts in which a row's cell, or a stage that it inherits from, is another experiment than the claim's.
pub(crate) fn differences(claim: &Claim, published: &Published, row: &Record, results: &Results) -> Vec<Difference> {
    let Some(setting) = published.setting(&claim.dataset) else {
        // Parsing makes sure that this is not reached; without a setting nothing may count as the same experiment.
        return vec![Difference::new("dataset", row.dataset.as_str().into(), Value::Null)];
    };
    let mut list = own(claim, setting, row);
    list.extend(inherited(claim, setting, row, results));
    list
}

/// The cell's own parts.
fn own(claim: &Claim, setting: &Setting, row: &Record) -> Vec<Difference> {
    let mut list = protocol(setting, &row.protocol_id);
    let stage = setting.stage(claim.time_steps).map(|stage| &stage.expect);
    let own = claim.expect.iter();
    let of_stage = stage.into_iter().flat_map(|expect| expect.iter()).filter(|(column, _)| !claim.expect.has(column));
    let common = setting.expect.iter();
    let common = common.filter(|(name, _)| !claim.expect.has(name) && stage.is_none_or(|expect| !expect.has(name)));
    list.extend(values(own.chain(of_stage).chain(common), row));
    // A network that was tested at another T than it was trained at.
    if let Some(tested) = row.eval_time_steps.filter(|&tested| tested != claim.time_steps) {
        list.push(Difference::new("eval_time_steps", tested.into(), claim.time_steps.into()));
    }
    list
}

/// Those of the stages that the cell inherits from: their data, and of spiking ones the settings too.
fn inherited(claim: &Claim, setting: &Setting, row: &Record, results: &Results) -> Vec<Difference> {
    let mut list = Vec::new();
    let ancestors: Vec<&Record> = results.ancestors(row).collect();
    for parent in &ancestors {
        let mut of_parent = protocol(setting, &parent.protocol_id);
        let stage = parent.train_time_steps.and_then(|t| setting.stage(t)).map(|stage| &stage.expect);
        let expected = setting.expect.iter().filter(|(name, _)| {
            let counts = parent.train_time_steps.is_some() || DATA.contains(name);
            counts && !claim.expect.has(name) && stage.is_none_or(|expect| !expect.has(name))
        });
        if parent.data_hash != row.data_hash {
            let hash = |row: &Record| row.data_hash.clone().map_or(Value::Null, Value::String);
            of_parent.push(Difference::new("data_hash", hash(parent), hash(row)));
        }
        of_parent.extend(values(stage.into_iter().flat_map(|expect| expect.iter()).chain(expected), parent));
        let name = parent.train_time_steps.map_or_else(|| "ann".to_string(), |t| format!("t{t}"));
        if stage.is_none() && parent.train_time_steps.is_some() && !setting.stages.is_empty() {
            of_parent.push(Difference::new("train_time_steps", parent.train_time_steps.into(), Value::Null));
        }
        list.extend(of_parent.into_iter().map(|difference| Difference { stage: Some(name.clone()), ..difference }));
    }
    // Without its row nobody can tell what a parent was.
    let last = ancestors.last().copied().unwrap_or(row);
    if let Some(parent) = last.parent_cell.as_deref().filter(|id| !id.is_empty() && results.row(id).is_none()) {
        list.push(Difference::new("parent_cell", parent.into(), "a cell whose row is here".into()));
    }
    let after = setting.stage(claim.time_steps).and_then(|stage| stage.after);
    if let Some(t) = after.filter(|t| !ancestors.iter().any(|parent| parent.train_time_steps == Some(*t))) {
        let here = row.ancestors.clone().map_or(Value::Null, Value::String);
        list.push(Difference::new(
            "ancestors",
            here,
            format!("a row of the stage t{t} that the cell inherits from").into(),
        ));
    }
    list
}

fn values<'a>(expected: impl Iterator<Item = (&'a str, &'a Expected)>, row: &Record) -> Vec<Difference> {
    let here = column_values(row);
    let differing = expected.filter_map(|(column, expected)| {
        let value = here.get(column).cloned().unwrap_or_default();
        if expected.admits(&value) {
            return None;
        }
        let scale = SCALE.contains(&column) && expected.is_above(&value);
        Some(Difference { scale, ..Difference::new(column, value, expected.to_json()) })
    });
    differing.collect()
}

/// The parts of a protocol id that make it another protocol, and what its data lack to count as the official ones.
fn protocol(setting: &Setting, id: &str) -> Vec<Difference> {
    let parts: Vec<&str> = id.split(';').collect();
    let text = |part: Option<&str>| part.map_or(Value::Null, Value::from);
    let mut list: Vec<Difference> = missing(setting, &parts)
        .into_iter()
        .map(|part| {
            let like = parts.iter().copied().find(|own| key(own) == key(part));
            Difference::new("protocol_id", text(like), part.into())
        })
        .collect();
    for part in parts.iter().filter(|part| part.starts_with("limit=") || part.contains("simulated")) {
        let scale = part.starts_with("limit=");
        list.push(Difference { scale, ..Difference::new("protocol_id", (*part).into(), Value::Null) });
    }
    if setting.content == Content::Checksum && !is_verified(id) {
        let own = parts.iter().copied().find(|part| part.starts_with("unverified"));
        list.push(Difference::new(
            "protocol_id",
            text(own),
            "a checksum (md5:, md5s: or sha256:) of verified data".into(),
        ));
    }
    list
}

/// What the id lacks of the protocol that it comes nearest to.
fn missing<'a>(setting: &'a Setting, parts: &[&str]) -> Vec<&'a str> {
    let lacks = |wanted: &'a String| wanted.split(';').filter(|part| !parts.contains(part)).collect::<Vec<_>>();
    setting.protocols.iter().map(lacks).min_by_key(Vec::len).unwrap_or_default()
}

/// `size` of `size=32`, `equal` of `equal-number`.
fn key(part: &str) -> &str {
    part.split(['=', '/', '-', ':']).next().unwrap_or_default()
}

/// Whether the content of the data was held against an official checksum.
pub(crate) fn is_verified(protocol_id: &str) -> bool {
    let mut parts = protocol_id.split(';');
    let checksum = |part: &str| ["md5:", "md5s:", "sha256:"].iter().any(|start| part.starts_with(start));
    parts.clone().any(checksum) && !parts.any(|part| part.starts_with("unverified"))
}

/// The parts of a protocol id that the published protocol says nothing of.
pub(crate) fn unsaid_parts(setting: &Setting, id: &str) -> Vec<String> {
    let said = |part: &&str| setting.protocols.iter().any(|wanted| wanted.split(';').any(|wanted| wanted == *part));
    id.split(';').filter(|part| !said(part)).map(str::to_string).collect()
}

/// Whether a row ran on the claim's data and network, whatever was trained there: then its published number may stand
/// beside it.
pub(crate) fn same_data_and_network(claim: &Claim, published: &Published, row: &Record) -> bool {
    let Some(setting) = published.setting(&claim.dataset) else { return false };
    row.dataset == claim.dataset && !own(claim, setting, row).iter().any(Difference::is_of_data_or_network)
}

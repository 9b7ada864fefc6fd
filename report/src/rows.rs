//! Reading a `rows.csv`, this program's or another's: what it must have, and what makes two rows one experiment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use csv::StringRecord;

use crate::record::{Record, SCHEMA_VERSION, Status, is_identity, parse, records};

/// The smallest set of columns, each with the names under which it may stand.
const REQUIRED: [&[&str]; 6] = [
    &["method"],
    &["dataset"],
    &["protocol_id", "protocol"],
    &["train_time_steps", "time_steps", "T"],
    &["seed"],
    &["top1_last", "top1"],
];

/// The first version whose rows carry a `series_id`.
const FIRST_WITH_SERIES: u32 = 2;

/// The rows of one file.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The file.
    pub path: PathBuf,
    /// In file order.
    pub rows: Vec<Record>,
    /// The line of each row.
    pub lines: Vec<u64>,
    /// Sentences on what the file lacks.
    pub notes: Vec<String>,
}

impl Rows {
    /// Reads and checks a file, or the `rows.csv` of a folder.
    ///
    /// # Errors
    /// A header without the required columns, rows of several schema versions, a row that is damaged, and two rows of
    /// one experiment, data set and seed.
    pub fn read(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join("rows.csv") } else { path.to_path_buf() };
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let mut read = Self { path, ..Self::default() };
        let (mut rows, mut lines) = (Vec::new(), Vec::new());
        let known = Record::columns();
        let notes = records(file, &read.path, |headers, fields, line| {
            if rows.is_empty() {
                check_header(&read.path, headers)?;
            }
            let mut row: Record = parse(&read.path, headers, fields, line)?;
            row.extra = unknown_columns(&known, headers, fields);
            check_row(&row).map_err(|problem| anyhow::anyhow!("{}:{line}: {problem}", read.path.display()))?;
            if row.cell_id.is_empty() {
                row.cell_id = made_up_id(&row);
            }
            rows.push(row);
            lines.push(line);
            Ok(())
        })?;
        (read.rows, read.lines, read.notes) = (rows, lines, notes);
        read.check_versions()?;
        read.check_duplicates()?;
        read.check_ids()?;
        Ok(read)
    }

    /// The version of the first row; the rows have one version only.
    fn version(&self) -> u32 {
        self.rows.first().map_or(SCHEMA_VERSION, |row| row.schema_version)
    }

    fn check_versions(&mut self) -> Result<()> {
        let version = self.version();
        if let Some(odd) = self.rows.iter().position(|row| row.schema_version != version) {
            bail!(
                "{}:{}: schema_version is {}, but line {} has {version}; the rows of one file must be of one version: \
                 run the suite's command again to rebuild the file, or keep the two sorts in files of their own",
                self.path.display(),
                self.lines[odd],
                self.rows[odd].schema_version,
                self.lines[0]
            );
        }
        if (1..FIRST_WITH_SERIES).contains(&version) {
            self.notes.push(format!(
                "{} is of schema version {version}: it lacks series_id, the learning rate, weight decay, momentum, \
                 reset and the settings of the finite-difference gradient, so recipes that differ in these alone \
                 cannot be told apart. The suite's command rebuilds the file with them.",
                self.path.display()
            ));
        }
        Ok(())
    }

    /// Refuses two rows of one id: everything else that is known of a cell is found by it.
    fn check_ids(&self) -> Result<()> {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (index, row) in self.rows.iter().enumerate() {
            if let Some(earlier) = first.insert(&row.cell_id, index) {
                bail!(
                    "{}:{}: cell_id {} stands on line {} too; delete one of the two lines, or give each cell an id of \
                     its own",
                    self.path.display(),
                    self.lines[index],
                    row.cell_id,
                    self.lines[earlier]
                );
            }
        }
        Ok(())
    }

    /// Refuses two rows of one experiment, data set and seed: one of them would count and the other vanish.
    fn check_duplicates(&self) -> Result<()> {
        let series = series(&self.rows, &columns(&self.rows));
        let mut first: HashMap<(&str, String, Option<&str>, u64), usize> = HashMap::new();
        for (index, (row, series)) in self.rows.iter().zip(&series).enumerate() {
            let key = (series.as_str(), protocol(row), row.data_hash.as_deref(), row.seed);
            let Some(earlier) = first.insert(key, index) else { continue };
            bail!(
                "{}:{}: cell {} repeats the experiment, data and seed of cell {} on line {}; {}",
                self.path.display(),
                self.lines[index],
                row.cell_id,
                self.rows[earlier].cell_id,
                self.lines[earlier],
                match row.series_id {
                    Some(_) => "delete one of the two lines, or rebuild the file with the suite's command",
                    None =>
                        "if they differ in a setting, give it a column of its own (any name that is not in \
                         results/README.md); otherwise delete one of the two lines",
                }
            );
        }
        Ok(())
    }
}

fn check_header(path: &Path, headers: &StringRecord) -> Result<()> {
    let meaning = |name| REQUIRED.iter().find(|names| names.contains(&name)).map_or(name, |names| names[0]);
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for name in headers {
        if let Some(first) = seen.insert(meaning(name), name) {
            bail!("{}:1: the columns `{first}` and `{name}` mean the same; keep one of the two", path.display());
        }
    }
    let missing = REQUIRED.iter().find(|names| !headers.iter().any(|found| names.contains(&found)));
    let Some(missing) = missing else { return Ok(()) };
    let all: Vec<String> = REQUIRED.iter().map(|names| names[0].to_string()).collect();
    bail!(
        "{}:1: the header has no column `{}`{}; rows need at least {}; found: {}",
        path.display(),
        missing[0],
        if missing.len() > 1 { format!(" (or `{}`)", missing[1..].join("`, `")) } else { String::new() },
        all.join(", "),
        headers.iter().collect::<Vec<_>>().join(", ")
    );
}

/// The columns of a line that [`Record`] does not have, without the blank ones.
fn unknown_columns(
    known: &BTreeSet<String>,
    headers: &StringRecord,
    fields: &StringRecord,
) -> BTreeMap<String, String> {
    let alias = |name: &str| REQUIRED.iter().any(|names| names.contains(&name));
    let unknown = headers.iter().zip(fields).filter(|(name, _)| !known.contains(*name) && !alias(name));
    unknown.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// An id for a row of another program, which has none: a readable prefix and a hash of its settings.
fn made_up_id(row: &Record) -> String {
    let time = row.train_time_steps.map_or_else(String::new, |t| format!("-t{t}"));
    let settings: String = settings(row).into_iter().map(|(name, value)| format!("{name}={value};")).collect();
    let data = row.data_hash.as_deref().unwrap_or_default();
    format!("{}-{}{time}-s{}-{:08x}", row.dataset, row.method, row.seed, fnv1a(&format!("{settings}{data}")) >> 32)
}

/// The FNV-1a hash (Fowler, Noll and Vo), which is the same on every machine and in every version.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a row must keep for its numbers to mean what the report says.
fn check_row(row: &Record) -> Result<(), String> {
    if row.schema_version > SCHEMA_VERSION {
        return Err(format!(
            "schema_version {} is newer than this program's {SCHEMA_VERSION}; use the version that wrote the file",
            row.schema_version
        ));
    }
    if row.schema_version >= FIRST_WITH_SERIES && row.series_id.is_none() {
        return Err("column `series_id` is blank; run the suite's command again to rebuild the file".into());
    }
    let fractions = [
        ("top1_last", row.top1_last),
        ("top1_best", row.top1_best),
        ("top1_held_out", row.top1_held_out),
        ("held_out_top1_best", row.held_out_top1_best),
        ("top5_last", row.top5_last),
        ("firing_rate", row.firing_rate),
    ];
    for (column, value) in fractions {
        if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(format!(
                "column `{column}`: {} is not a fraction between 0 and 1 (0.9412 is 94.12 %); correct or blank it",
                value.unwrap_or_default()
            ));
        }
    }
    if row.status == Status::Done && row.top1_last.is_none() {
        return Err("column `top1_last` is blank though `status` is done; rerun the cell or mark it failed".into());
    }
    Ok(())
}

/// Every column of a row that has a value, and the columns that this program does not know.
pub(crate) fn column_values(row: &Record) -> BTreeMap<String, serde_json::Value> {
    let known = match serde_json::to_value(row) {
        Ok(serde_json::Value::Object(known)) => known,
        _ => serde_json::Map::new(), // a struct of named fields is always an object
    };
    let blank = |value: &serde_json::Value| value.is_null() || value.as_str() == Some("");
    let extra = row.extra.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
    known.into_iter().filter(|(_, value)| !blank(value)).chain(extra).collect()
}

/// Whether a column says what a row's experiment is.
pub(crate) fn is_setting(row: &Record, column: &str) -> bool {
    // A fixed surrogate's parameter is a setting; one that was chosen in training is a result.
    let fixed = row.fdg != Some(true) && row.surrogate_start.is_none();
    is_identity(column) || (column == "surrogate_parameter" && fixed)
}

/// The settings of a row: every column that says what the experiment is, by name.
pub(crate) fn settings(row: &Record) -> BTreeMap<String, String> {
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let values = column_values(row).into_iter().filter(|(name, _)| is_setting(row, name));
    values.map(|(name, value)| (name, text(value))).collect()
}

/// The settings that any of the rows has.
pub(crate) fn columns(rows: &[Record]) -> BTreeSet<String> {
    rows.iter().flat_map(|row| settings(row).into_keys()).collect()
}

/// A row's protocol. Where the checksum of the data that were read is known, it says more than the checksum that the
/// data set's owners declare, so that part is left out.
pub(crate) fn protocol(row: &Record) -> String {
    if row.data_hash.is_none() {
        return row.protocol_id.clone();
    }
    let declared = |part: &&str| ["md5:", "md5s:", "sha256:", "unverified"].iter().any(|start| part.starts_with(start));
    row.protocol_id.split(';').filter(|part| !declared(part)).collect::<Vec<_>>().join(";")
}

/// What makes rows one experiment, seeds apart: for each row its `series_id` with T and the columns that this program
/// does not know, or, where a row has none, its settings among `columns` and those of its parents.
pub(crate) fn series(rows: &[Record], columns: &BTreeSet<String>) -> Vec<String> {
    identified(rows).unwrap_or_else(|| derived_series(rows, columns))
}

/// The keys of rows that all have a `series_id`.
fn identified(rows: &[Record]) -> Option<Vec<String>> {
    let key = |row: &Record| {
        let extra = row.extra.iter().filter(|(name, _)| is_identity(name));
        let extra: String = extra.map(|(name, value)| format!(" {name}={value}")).collect();
        Some(format!("{} T={:?}{extra}", row.series_id.as_ref()?, row.train_time_steps))
    };
    rows.iter().map(key).collect()
}

/// As [`series`], from the settings even where a `series_id` is there: the other set of rows has none.
pub(crate) fn derived_series(rows: &[Record], columns: &BTreeSet<String>) -> Vec<String> {
    let by_id: HashMap<&str, &Record> = rows.iter().map(|row| (row.cell_id.as_str(), row)).collect();
    let own = |row: &Record| {
        let settings = settings(row).into_iter().filter(|(name, _)| columns.contains(name));
        settings.map(|(name, value)| format!("{name}={value};")).collect::<String>()
    };
    let key = |row: &Record| {
        let parent = |row: &&Record| row.parent_cell.as_deref().and_then(|id| by_id.get(id).copied());
        let chain = std::iter::successors(Some(row), parent).take(MAXIMUM_CHAIN);
        chain.map(own).collect::<Vec<_>>().join(" from ")
    };
    rows.iter().map(key).collect()
}

/// Stages of a chain; ends a cycle of parents in a damaged file.
pub(crate) const MAXIMUM_CHAIN: usize = 64;

/// The keys of two sets of rows that are to be compared, over what both record; with a sentence where that is less
/// than either of them has.
pub(crate) fn common_series(a: &Rows, b: &Rows) -> (Vec<String>, Vec<String>, Option<String>) {
    if let (Some(of_a), Some(of_b)) = (identified(&a.rows), identified(&b.rows)) {
        return (of_a, of_b, None);
    }
    let (in_a, in_b) = (columns(&a.rows), columns(&b.rows));
    let common: BTreeSet<String> = in_a.intersection(&in_b).cloned().collect();
    let only: Vec<&str> = in_a.symmetric_difference(&in_b).map(String::as_str).collect();
    let note = (!only.is_empty() && !a.rows.is_empty() && !b.rows.is_empty()).then(|| {
        format!(
            "Only one of {} and {} has the columns {}: experiments that differ in these alone cannot be told apart here.",
            a.path.display(),
            b.path.display(),
            only.join(", ")
        )
    });
    (derived_series(&a.rows, &common), derived_series(&b.rows, &common), note)
}

impl Record {
    /// The names of all columns of `rows.csv`.
    pub fn columns() -> BTreeSet<String> {
        match serde_json::to_value(Self::default()) {
            Ok(serde_json::Value::Object(columns)) => columns.into_iter().map(|(name, _)| name).collect(),
            _ => BTreeSet::new(), // a struct of named fields is always an object
        }
    }
}

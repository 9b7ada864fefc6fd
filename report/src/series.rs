//! From rows to lines: which cells may stand on one axis, which seeds make one point.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::record::{Record, Status};
use crate::results::Results;
use crate::stats::Summary;

/// The method name of the ReLU twin.
pub const ANN: &str = "ann";
/// The method that the others are held against, where it is there.
pub const REFERENCE: &str = "dspike";

/// Cells that may share an axis: one data set under one protocol, one network.
#[derive(Debug)]
pub struct Panel {
    /// Data set.
    pub dataset: String,
    /// Split, checksum, size, augmentation …: parts separated by `;`. Unlike ones never meet.
    pub protocol_id: String,
    /// What to call the protocol: its first part, and those in which it differs from another panel's.
    pub protocol: String,
    /// Network.
    pub architecture: String,
    /// Channels of its first stage.
    pub width: usize,
    /// Short unique name for anchors and file names.
    pub slug: String,
    /// One a method (and recipe, where one method was run with several).
    pub lines: Vec<Line>,
}

/// One method's points over T.
#[derive(Debug)]
pub struct Line {
    /// The suite's name of the method.
    pub method: String,
    /// What sets this line apart from another of the same method, e.g. `epochs 5`; else empty.
    pub variant: String,
    /// By ascending T; the ANN's single point has none.
    pub points: Vec<Point>,
}

/// The seeds of one method at one T.
#[derive(Debug)]
pub struct Point {
    /// T at training and test; `None` for the ANN.
    pub time_steps: Option<usize>,
    /// Places in [`Results::rows`], one a seed, by ascending seed.
    pub rows: Vec<usize>,
    /// Last-epoch accuracy over the seeds.
    pub top1: Summary,
}

impl Panel {
    /// Whether the data were made by a simulation; then every number says so.
    pub fn simulated(&self) -> bool {
        is_simulated(&self.protocol_id)
    }

    /// `sign-digits-dvs (simulated) · sign-digits-dvs/students · resnet18, width 8`.
    pub fn title(&self) -> String {
        let simulated = if self.simulated() { " (simulated)" } else { "" };
        format!("{}{simulated} · {} · {}, width {}", self.dataset, self.protocol, self.architecture, self.width)
    }

    /// The line that others are held against.
    pub fn reference(&self) -> Option<&Line> {
        self.lines.iter().find(|line| line.method == REFERENCE)
    }
}

impl Line {
    /// `dspike` or `dspike · epochs 5`.
    pub fn label(&self) -> String {
        match self.variant.is_empty() {
            true => self.method.clone(),
            false => format!("{} · {}", self.method, self.variant),
        }
    }

    /// The point at a T.
    pub fn at(&self, time_steps: Option<usize>) -> Option<&Point> {
        self.points.iter().find(|point| point.time_steps == time_steps)
    }
}

impl Point {
    /// Differences of a metric, this − other, over the seeds that both have.
    pub fn differences(&self, other: &Self, results: &Results, metric: impl Fn(&Record) -> Option<f64>) -> Vec<f64> {
        let by_seed: HashMap<u64, &Record> =
            other.rows.iter().map(|&index| (results.rows[index].seed, &results.rows[index])).collect();
        let rows = self.rows.iter().map(|&index| &results.rows[index]);
        rows.filter_map(|row| Some(metric(row)? - metric(by_seed.get(&row.seed)?)?)).collect()
    }

    /// A metric of every seed that has it.
    pub fn values(&self, results: &Results, metric: impl Fn(&Record) -> Option<f64>) -> Vec<f64> {
        self.rows.iter().filter_map(|&index| metric(&results.rows[index])).collect()
    }
}

/// Whether a protocol's data come from a simulation.
pub fn is_simulated(protocol_id: &str) -> bool {
    protocol_id.contains("simulated")
}

type PanelKey<'a> = (&'a str, &'a str, &'a str, usize);

/// Groups the finished cells. Panels and lines keep the order of the plan (else of the rows).
pub fn panels(results: &Results) -> Vec<Panel> {
    let mut groups: BTreeMap<PanelKey, Vec<usize>> = BTreeMap::new();
    for (index, row) in results.rows.iter().enumerate() {
        if row.status == Status::Done {
            let key = (&*row.dataset, &*row.protocol_id, &*row.architecture, row.width);
            groups.entry(key).or_default().push(index);
        }
    }
    let order = Order::of(results);
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(key, _)| order.dataset(key.0));
    let protocols: Vec<&str> = groups.iter().map(|(key, _)| key.1).collect();
    let mut slugs = BTreeSet::new();
    let panel = |(key, rows): (PanelKey, Vec<usize>)| Panel {
        dataset: key.0.to_string(),
        protocol_id: key.1.to_string(),
        protocol: short_protocol(key.1, &protocols),
        architecture: key.2.to_string(),
        width: key.3,
        slug: unique(slug(&[key.0, key.2, &format!("w{}", key.3)].join("-")), &mut slugs),
        lines: lines(results, &rows, &order),
    };
    groups.into_iter().map(panel).collect()
}

/// The first part of a protocol id, with the further parts that some other protocol of the same first part lacks.
pub(crate) fn short_protocol(id: &str, all: &[&str]) -> String {
    let first = |id: &str| id.split(';').next().unwrap_or_default().to_string();
    let alike: Vec<&&str> = all.iter().filter(|other| first(other) == first(id)).collect();
    let shared = |part: &str| alike.iter().all(|other| other.split(';').any(|found| found == part));
    let apart = id.split(';').skip(1).filter(|part| !shared(part));
    std::iter::once(first(id)).chain(apart.map(str::to_string)).collect::<Vec<_>>().join("; ")
}

/// The order in which the plan (else the rows) first names data sets and methods.
struct Order<'a> {
    datasets: HashMap<&'a str, usize>,
    methods: HashMap<&'a str, usize>,
}

impl<'a> Order<'a> {
    fn of(results: &'a Results) -> Self {
        let mut order = Self { datasets: HashMap::new(), methods: HashMap::new() };
        let planned = results.plan.iter().flat_map(|plan| &plan.cells).map(|cell| (&*cell.dataset, &*cell.method));
        for (dataset, method) in planned.chain(results.rows.iter().map(|row| (&*row.dataset, &*row.method))) {
            let next = order.datasets.len();
            order.datasets.entry(dataset).or_insert(next);
            let next = order.methods.len();
            order.methods.entry(method).or_insert(next);
        }
        order
    }

    fn dataset(&self, name: &str) -> usize {
        self.datasets.get(name).copied().unwrap_or(usize::MAX)
    }

    /// The ANN last: it is context to the others.
    fn method(&self, name: &str) -> usize {
        if name == ANN { usize::MAX } else { self.methods.get(name).copied().unwrap_or(usize::MAX - 1) }
    }
}

/// A setting that can split one method into several lines: its name, and its value in a row.
type Setting = (&'static str, fn(&Record) -> String);

/// Settings that must agree over a whole line.
const LINE_SETTINGS: [Setting; 5] = [
    ("norm", |row| row.norm.clone()),
    ("tau", |row| row.tau.map_or_else(String::new, |tau| tau.to_string())),
    ("v_th", |row| row.v_th.map_or_else(String::new, |v_th| v_th.to_string())),
    ("batch", |row| row.batch.to_string()),
    ("FDG batch", |row| row.fdg_batch.map_or_else(String::new, |batch| batch.to_string())),
];

fn lines(results: &Results, rows: &[usize], order: &Order) -> Vec<Line> {
    let mut methods: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &index in rows {
        methods.entry(&results.rows[index].method).or_default().push(index);
    }
    let mut methods: Vec<_> = methods.into_iter().collect();
    methods.sort_by_key(|(method, _)| order.method(method));
    let mut lines = Vec::new();
    for (method, rows) in methods {
        let mut variants: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let splitting = splitting_settings(results, &rows);
        for index in rows {
            let row = &results.rows[index];
            let variant: Vec<String> = splitting.iter().map(|(name, of)| format!("{name} {}", of(row))).collect();
            variants.entry(variant.join(", ")).or_default().push(index);
        }
        lines.extend(variants.into_iter().map(|(variant, rows)| Line {
            method: method.to_string(),
            variant,
            points: points(results, rows),
        }));
    }
    lines
}

/// The settings in which a method's rows differ though a line may not: those of [`LINE_SETTINGS`], the epochs where
/// they differ at one T (a chain's stages may), and the kernels where one seed ran on several.
fn splitting_settings(results: &Results, rows: &[usize]) -> Vec<Setting> {
    let distinct = |of: &dyn Fn(&Record) -> String| {
        rows.iter().map(|&index| of(&results.rows[index])).collect::<BTreeSet<_>>().len()
    };
    let mut splitting: Vec<Setting> = LINE_SETTINGS.into_iter().filter(|(_, of)| distinct(of) > 1).collect();
    let epochs: Setting = ("epochs", |row| row.epochs.to_string());
    let per_time = |row: &Record| format!("{:?}", row.train_time_steps);
    if distinct(&|row| format!("{} {}", per_time(row), row.epochs)) > distinct(&per_time) {
        splitting.push(epochs);
    }
    let numerics: Setting = ("on", |row| row.numerics.clone().unwrap_or_else(|| "unknown kernels".into()));
    let one_run = |row: &Record| {
        let settings: Vec<String> = splitting.iter().map(|(_, of)| of(row)).collect();
        format!("{} {} {settings:?}", per_time(row), row.seed)
    };
    if distinct(&|row| format!("{} {}", one_run(row), numerics.1(row))) > distinct(&one_run) {
        splitting.push(numerics);
    }
    splitting
}

fn points(results: &Results, rows: Vec<usize>) -> Vec<Point> {
    let mut by_time: BTreeMap<Option<usize>, BTreeMap<u64, usize>> = BTreeMap::new();
    for index in rows {
        let row = &results.rows[index];
        by_time.entry(row.train_time_steps).or_default().insert(row.seed, index);
    }
    let point = |(time_steps, seeds): (Option<usize>, BTreeMap<u64, usize>)| {
        let rows: Vec<usize> = seeds.into_values().collect();
        let top1: Vec<f64> = rows.iter().filter_map(|&index| results.rows[index].top1_last).collect();
        Some(Point { time_steps, rows, top1: Summary::of(&top1)? })
    };
    by_time.into_iter().filter_map(point).collect()
}

/// Lower-case letters, digits and hyphens only, at most 60: safe as a file name and as an anchor.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c.is_ascii_alphanumeric() {
            true => slug.push(c),
            false if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            false => {}
        }
    }
    slug.truncate(60);
    slug.trim_end_matches('-').to_string()
}

fn unique(slug: String, taken: &mut BTreeSet<String>) -> String {
    let mut candidate = slug.clone();
    for number in 2.. {
        if taken.insert(candidate.clone()) {
            break;
        }
        candidate = format!("{slug}-{number}");
    }
    candidate
}

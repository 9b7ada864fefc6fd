//! From rows to lines: which cells may stand on one axis, which seeds make one point.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::record::{Record, Status};
use crate::results::Results;
use crate::rows::{protocol, settings};
use crate::stats::Summary;

/// The method name of the ReLU twin.
pub const ANN: &str = "ann";

/// Cells that may share an axis: one data set under one protocol, with one content, and one network.
#[derive(Debug)]
pub struct Panel {
    /// Data set.
    pub dataset: String,
    /// The data set, and what sets this panel apart from others of that data set; a table's first column.
    pub name: String,
    /// Split, checksum, size, augmentation …: parts separated by `;`. Unlike ones never meet.
    pub protocol_id: String,
    /// What to call the protocol: its first part, and those in which it differs from another panel's.
    pub protocol: String,
    /// Network.
    pub architecture: String,
    /// Channels of its first stage, where recorded.
    pub width: Option<usize>,
    /// Short unique name for anchors and file names.
    pub slug: String,
    /// The method that the others are compared with.
    pub reference: String,
    /// One per method (and recipe, where one method was run with several).
    pub lines: Vec<Line>,
}

/// One method's points over T.
#[derive(Debug)]
pub struct Line {
    /// The suite's name of the method.
    pub method: String,
    /// What sets this line apart from another of the same method, e.g. `lr 0.05`; else empty.
    pub variant: String,
    /// By ascending T; the ANN's single point has none.
    pub points: Vec<Point>,
}

/// The seeds of one method at one T.
#[derive(Debug)]
pub struct Point {
    /// T at training and test; `None` for the ANN.
    pub time_steps: Option<usize>,
    /// Places in [`Results::rows`], one per seed, by ascending seed.
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
        format!("{}{simulated} · {} · {}", self.dataset, self.protocol, self.network())
    }

    /// `resnet18, width 8`.
    pub fn network(&self) -> String {
        network(&self.architecture, self.width)
    }

    /// The lines of the reference method: several if it ran with several recipes.
    fn references(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.method == self.reference)
    }

    /// The first line of the reference method.
    pub fn reference(&self) -> Option<&Line> {
        self.references().next()
    }

    /// The line that another is compared with: of the reference method's lines the one whose recipe agrees with it in
    /// the most settings, the first of several. None for that line itself.
    pub fn reference_for(&self, line: &Line, results: &Results) -> Option<&Line> {
        let first = self.reference()?;
        if line.method == self.reference {
            return (!std::ptr::eq(line, first)).then_some(first);
        }
        let settings_of = |line: &Line| line.points.first().map(|point| settings(&results.rows[point.rows[0]]));
        let own = settings_of(line)?;
        let agreeing = |other: &&Line| {
            let other = settings_of(other).unwrap_or_default();
            own.iter().filter(|(name, value)| other.get(*name) == Some(*value)).count()
        };
        // `max_by_key` takes the last of several, so the order is reversed.
        self.references().collect::<Vec<_>>().into_iter().rev().max_by_key(agreeing)
    }

    /// How a comparison names a line and what it is compared with, if the reference ran with several recipes.
    pub fn compared_label(&self, line: &Line, reference: &Line) -> String {
        match self.references().count() {
            0 | 1 => line.label(),
            _ => format!("{} (with {})", line.label(), reference.label()),
        }
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
    /// The rows of the seeds that both have and that were measured in both: the other's first.
    pub(crate) fn common_rows<'a>(&self, other: &Self, results: &'a Results) -> Vec<(&'a Record, &'a Record)> {
        let row = |index: &usize| &results.rows[*index];
        let by_seed: HashMap<u64, &Record> = other.rows.iter().map(row).map(|row| (row.seed, row)).collect();
        let pairs = self.rows.iter().map(row).filter_map(|own| Some((*by_seed.get(&own.seed)?, own)));
        pairs.filter(|(other, own)| other.top1_last.is_some() && own.top1_last.is_some()).collect()
    }

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

/// `resnet18, width 8`, as far as it was recorded.
pub(crate) fn network(architecture: &str, width: Option<usize>) -> String {
    match (architecture, width) {
        ("", None) => "network not recorded".into(),
        (architecture, None) => architecture.into(),
        (architecture, Some(width)) => format!("{architecture}, width {width}"),
    }
}

/// Data set, protocol, network, width, checksum of the data.
type PanelKey<'a> = (&'a str, String, &'a str, Option<usize>, Option<&'a str>);

/// Groups the finished cells. Panels and lines keep the order of the plan (else of the rows).
pub fn panels(results: &Results) -> Vec<Panel> {
    let mut groups: BTreeMap<PanelKey, Vec<usize>> = BTreeMap::new();
    for (index, row) in results.rows.iter().enumerate() {
        if row.status == Status::Done {
            let data = row.data_hash.as_deref();
            let key = (&*row.dataset, protocol(row), &*row.architecture, row.width, data);
            groups.entry(key).or_default().push(index);
        }
    }
    let order = Order::of(results);
    let reference = results.reference();
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(key, _)| order.dataset(key.0));
    let keys: Vec<PanelKey> = groups.iter().map(|(key, _)| key.clone()).collect();
    let protocols: Vec<&str> = keys.iter().map(|key| key.1.as_str()).collect();
    let mut slugs = BTreeSet::new();
    let panel = |(key, rows): (PanelKey, Vec<usize>)| Panel {
        dataset: key.0.to_string(),
        protocol_id: results.rows[rows[0]].protocol_id.clone(),
        name: name_of(&key, &keys),
        protocol: short_protocol(&key.1, &protocols) + &data_apart(&key, &keys),
        architecture: key.2.to_string(),
        width: key.3,
        slug: unique(slug(&panel_name(&key)), &mut slugs),
        reference: reference.clone(),
        lines: lines(results, &rows, &order),
    };
    groups.into_iter().map(panel).collect()
}

fn panel_name((dataset, _, architecture, width, _): &PanelKey) -> String {
    let width = width.map(|width| format!("w{width}"));
    let parts = [Some(dataset.to_string()), Some(architecture.to_string()).filter(|name| !name.is_empty()), width];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

/// `sign-digits`, or `sign-digits · held-out=152` where another panel of this data set has another protocol, other
/// data or another network.
fn name_of(key: &PanelKey, all: &[PanelKey]) -> String {
    let alike: Vec<&PanelKey> = all.iter().filter(|other| other.0 == key.0).collect();
    let parts = |id: &str| id.split(';').map(str::to_string).collect::<Vec<_>>();
    let shared = |part: &String| alike.iter().all(|other| parts(&other.1).contains(part));
    let mut apart: Vec<String> = parts(&key.1).into_iter().filter(|part| !shared(part)).collect();
    if apart.is_empty() && alike.iter().any(|other| other.1 != key.1) {
        // The other protocol has a part more; this one is the plain one.
        apart.push("plain".into());
    }
    apart.extend(Some(data_apart(key, all)).filter(|text| !text.is_empty()).map(|text| text[2..].to_string()));
    if alike.iter().any(|other| (other.2, other.3) != (key.2, key.3)) {
        apart.push(network(key.2, key.3));
    }
    std::iter::once(key.0.to_string()).chain(apart).collect::<Vec<_>>().join(" · ")
}

/// `; data 22df8dfaa3a70b57` where another panel of the same protocol has other data.
fn data_apart(key: &PanelKey, all: &[PanelKey]) -> String {
    let unlike = all.iter().any(|other| other.0 == key.0 && other.1 == key.1 && other.4 != key.4);
    match unlike {
        true => format!("; data {}", key.4.unwrap_or("not recorded")),
        false => String::new(),
    }
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

/// The rows of one experiment: its seeds.
struct Series<'a> {
    key: &'a str,
    /// By ascending seed.
    rows: Vec<usize>,
    time_steps: Option<usize>,
    settings: BTreeMap<String, String>,
    /// The series of the same method from which this one starts.
    parent: Option<&'a str>,
}

fn lines(results: &Results, rows: &[usize], order: &Order) -> Vec<Line> {
    let mut methods: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &index in rows {
        methods.entry(&results.rows[index].method).or_default().push(index);
    }
    let mut methods: Vec<_> = methods.into_iter().collect();
    methods.sort_by_key(|(method, _)| order.method(method));
    let of_method = |(method, rows): (&str, Vec<usize>)| {
        let series = series_of(results, &rows);
        let groups = group(&series);
        let variants = variants(&series, &groups);
        let line = |(group, variant): (Vec<usize>, String)| Line {
            method: method.to_string(),
            variant,
            points: points(results, group.into_iter().map(|place| &series[place])),
        };
        groups.into_iter().zip(variants).map(line).collect::<Vec<_>>()
    };
    methods.into_iter().flat_map(of_method).collect()
}

/// One method's series, in the order in which the rows first name them.
fn series_of<'a>(results: &'a Results, rows: &[usize]) -> Vec<Series<'a>> {
    let mut list: Vec<Series<'a>> = Vec::new();
    for &index in rows {
        let (row, key) = (&results.rows[index], results.series[index].as_str());
        if let Some(known) = list.iter_mut().find(|series| series.key == key) {
            known.rows.push(index);
            continue;
        }
        let parent = row.parent_cell.as_deref().and_then(|id| results.by_id.get(id));
        let parent = parent.filter(|&&parent| results.rows[parent].method == row.method);
        list.push(Series {
            key,
            rows: vec![index],
            time_steps: row.train_time_steps,
            settings: settings(row),
            parent: parent.map(|&parent| results.series[parent].as_str()),
        });
    }
    list.iter_mut().for_each(|series| series.rows.sort_by_key(|&index| results.rows[index].seed));
    list
}

/// Sorts one method's series into lines, at most one series per T in each: first along the chains of parents, then
/// chains that start with equal settings, the number of time steps apart.
fn group(series: &[Series]) -> Vec<Vec<usize>> {
    let mut lines: Vec<Vec<usize>> = Vec::new();
    let place = |key: &str| series.iter().position(|series| series.key == key);
    let mut line_of: Vec<Option<usize>> = vec![None; series.len()];
    // Parents have larger T, so they come first here and each finds its parent's line.
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(series[index].time_steps));
    let free = |line: &[usize], time| line.iter().all(|&index| series[index].time_steps != time);
    for index in order {
        let (own, parent) = (&series[index], series[index].parent.and_then(place));
        let inherited = parent.and_then(|parent| line_of[parent]).filter(|&line| free(&lines[line], own.time_steps));
        // A second child of one parent begins a line of its own.
        let like = || if own.parent.is_none() { alike(series, &lines, own) } else { None };
        let line = inherited.or_else(like).unwrap_or_else(|| {
            lines.push(Vec::new());
            lines.len() - 1
        });
        lines[line].push(index);
        line_of[index] = Some(line);
    }
    lines
}

/// The line that a series without a parent continues: one without a place at this T yet, with equal settings. Lines of
/// unlike epochs are joined (an equal-epochs arm trains longer at smaller T) only if there is one candidate.
fn alike(series: &[Series], lines: &[Vec<usize>], own: &Series) -> Option<usize> {
    let equal = |line: &&usize| {
        let (first, last) = (&series[lines[**line][0]], &series[lines[**line][lines[**line].len() - 1]]);
        let free = lines[**line].iter().all(|&index| series[index].time_steps != own.time_steps);
        free && first.parent.is_none()
            && last.settings.get("ancestors") == own.settings.get("ancestors")
            && comparable(first) == comparable(own)
    };
    let all: Vec<usize> = (0..lines.len()).collect();
    let candidates: Vec<usize> = all.iter().filter(equal).copied().collect();
    let same_epochs =
        |line: &usize| lines[*line].iter().any(|&i| series[i].settings.get("epochs") == own.settings.get("epochs"));
    candidates.iter().copied().find(same_epochs).or(match candidates[..] {
        [only] => Some(only),
        _ => None,
    })
}

/// The settings that may not differ along a line: all but T, the epochs (an equal-epochs arm trains longer at smaller
/// T) and the chain.
fn comparable(series: &Series) -> Vec<(String, String)> {
    let along = ["train_time_steps", "eval_time_steps", "epochs", "ancestors"];
    let settings = series.settings.iter().filter(|(name, _)| !along.contains(&name.as_str()));
    settings.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// For each line, the settings in which it differs from the other lines of its method at the same T.
fn variants(series: &[Series], lines: &[Vec<usize>]) -> Vec<String> {
    if lines.len() < 2 {
        return vec![String::new(); lines.len()];
    }
    let mut differing: BTreeSet<&str> = BTreeSet::new();
    for a in series {
        for b in series.iter().filter(|b| b.time_steps == a.time_steps) {
            let names = a.settings.keys().chain(b.settings.keys());
            differing.extend(names.filter(|name| a.settings.get(*name) != b.settings.get(*name)).map(String::as_str));
        }
    }
    // A chain's ancestors repeat what its own first cells say; they are named only where nothing else differs.
    if differing.len() > 1 {
        differing.remove("ancestors");
    }
    if differing.is_empty() {
        // Nothing differs at any T they share: lines of unlike T, told apart by where they start.
        differing.extend(series.iter().flat_map(|series| series.settings.keys()).map(String::as_str).filter(|name| {
            let along = ["train_time_steps", "eval_time_steps", "ancestors"];
            let mut values = series.iter().map(|series| series.settings.get(*name));
            let first = values.next();
            !along.contains(name) && values.any(|value| Some(value) != first)
        }));
    }
    let mut labels: Vec<String> = Vec::new();
    for line in lines {
        let first = &series[line[0]];
        let parts = differing.iter().map(|name| setting(name, first.settings.get(*name).map(String::as_str)));
        let mut label = parts.collect::<Vec<_>>().join(", ");
        if label.is_empty() || labels.contains(&label) {
            // The files do not record what differs; the identity does.
            label = format!("{label}{}series {}", if label.is_empty() { "" } else { ", " }, short(first.key));
        }
        labels.push(label);
    }
    labels
}

/// A setting as a legend says it: `lr 0.05`, `soft reset`, `no fdg`.
fn setting(name: &str, value: Option<&str>) -> String {
    let spoken = name.replace('_', " ");
    match (name, value) {
        ("reset", Some(value)) => format!("{value} reset"),
        ("ancestors", Some(value)) => format!("after {value}"),
        (_, Some("true")) => spoken,
        (_, Some("false")) => format!("no {spoken}"),
        (_, Some(value)) => format!("{spoken} {value}"),
        (_, None) => format!("{spoken} not recorded"),
    }
}

/// The first characters of a key.
fn short(key: &str) -> String {
    key.chars().take(8).collect()
}

fn points<'a>(results: &Results, series: impl Iterator<Item = &'a Series<'a>>) -> Vec<Point> {
    let point = |series: &Series| {
        let top1: Vec<f64> = series.rows.iter().filter_map(|&index| results.rows[index].top1_last).collect();
        Some(Point { time_steps: series.time_steps, rows: series.rows.clone(), top1: Summary::of(&top1)? })
    };
    let mut points: Vec<Point> = series.filter_map(point).collect();
    points.sort_by_key(|point| point.time_steps);
    points
}

/// Lower-case letters, digits and hyphens only, at most 60: safe as a file name and as an anchor.
pub fn slug(text: &str) -> String {
    let mut slug = whole_slug(text);
    slug.truncate(60);
    slug.trim_end_matches('-').to_string()
}

/// As [`slug`], of any length.
pub fn whole_slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c.is_ascii_alphanumeric() {
            true => slug.push(c),
            false if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            false => {}
        }
    }
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

//! Two sets of rows, paired cell by cell: what `check` and `compare` stand on.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Record, Status, is_identity};
use crate::rows::{Rows, common_series, protocol, settings};
use crate::series::network;
use crate::verdict::{status, time_steps};

/// One method at one T with one recipe, in both sets.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// `sign-digits (sign-digits/students, resnet18 width 8) dspike T=4`.
    pub name: String,
    /// One of its rows.
    example: &'a Record,
    /// By seed: the row of the first and of the second set, both finished.
    pub pairs: Vec<(&'a Record, &'a Record)>,
    /// Cells that cannot be compared, and why.
    pub gaps: Vec<String>,
}

/// The rows of one experiment: by seed, those of the first and of the second set.
type Seeds<'a> = BTreeMap<u64, [Vec<&'a Record>; 2]>;

/// Two sets of rows, paired.
pub(crate) struct Pairing<'a> {
    /// One per experiment that either set has.
    pub groups: Vec<Group<'a>>,
    /// Sentences on the whole.
    pub notes: Vec<String>,
}

/// Pairs two sets by experiment, data and seed. A seed in one set only, on other data, or not finished in either, is a
/// gap of its group. `names` says what the two sets are called in a sentence.
pub(crate) fn pair<'a>(first: &'a Rows, second: &'a Rows, names: [&str; 2]) -> Pairing<'a> {
    let (keys_of_first, keys_of_second, note) = common_series(first, second);
    let mut experiments: BTreeMap<String, Seeds> = BTreeMap::new();
    // The order of the first set's rows, then what only the second has.
    let mut order: Vec<String> = Vec::new();
    for (side, (rows, keys)) in [(first, keys_of_first), (second, keys_of_second)].into_iter().enumerate() {
        for (row, key) in rows.rows.iter().zip(keys) {
            if !experiments.contains_key(&key) {
                order.push(key.clone());
            }
            experiments.entry(key).or_default().entry(row.seed).or_default()[side].push(row);
        }
    }
    let mut groups: Vec<Group> = order.iter().filter_map(|key| group(experiments.remove(key)?, names)).collect();
    tell_apart(&mut groups);
    let notes = note.into_iter().chain(unlike_kernels(&groups)).collect();
    Pairing { groups, notes }
}

fn group<'a>(seeds: Seeds<'a>, names: [&str; 2]) -> Option<Group<'a>> {
    let any = seeds.values().flatten().flatten().next()?;
    let mut group = Group { name: name(any), example: any, pairs: Vec::new(), gaps: Vec::new() };
    for (seed, [first, second]) in seeds {
        pair_seed(&mut group, seed, first, second, names);
    }
    Some(group)
}

/// Adds to names that several groups share the settings in which these groups differ, e.g. ` weight_decay=0.01`.
fn tell_apart(groups: &mut [Group]) {
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        alike.entry(group.name.clone()).or_default().push(index);
    }
    for indices in alike.into_values().filter(|indices| indices.len() > 1) {
        let settings: Vec<_> = indices.iter().map(|&index| settings(groups[index].example)).collect();
        let names: BTreeSet<&String> = settings.iter().flat_map(BTreeMap::keys).collect();
        let differing = |name: &&String| settings.iter().any(|own| own.get(*name) != settings[0].get(*name));
        let names: Vec<&String> = names.into_iter().filter(differing).collect();
        for (index, own) in indices.into_iter().zip(&settings) {
            for name in &names {
                let value = own.get(*name).map_or("not recorded", String::as_str);
                groups[index].name += &format!(" {name}={value}");
            }
        }
    }
}

/// Pairs the rows of one seed: those under the same protocol and on the same data with each other, what is left as
/// gaps. Rows of one side that cannot be told apart pair with nothing, since their order in the file says nothing.
fn pair_seed<'a>(
    group: &mut Group<'a>,
    seed: u64,
    first: Vec<&'a Record>,
    mut second: Vec<&'a Record>,
    names: [&str; 2],
) {
    for (rows, name) in [(&first, names[0]), (&second, names[1])] {
        if let Some(row) = repeated(rows) {
            let cells: Vec<&str> = rows.iter().map(|row| row.cell_id.as_str()).collect();
            let why = "differ only in columns that the other side does not have";
            let data = row.data_hash.as_deref().unwrap_or("not recorded");
            group.gaps.push(format!(
                "seed {seed}: cells {} of {name} {why} (data {data}), so none is compared",
                cells.join(" and ")
            ));
            return;
        }
    }
    let mut left = Vec::new();
    for a in first {
        match second.iter().position(|b| is_alike(a, b)) {
            Some(place) => group.add(seed, a, second.remove(place), names),
            None => left.push(a),
        }
    }
    for a in left {
        // A cell that failed before its data were read may be any of the other side's.
        let known = second.iter().position(|b| protocol(a) == protocol(b));
        let unread = |row: &Record| row.status != Status::Done && row.data_hash.is_none();
        match known.filter(|&place| unread(a) || unread(second[place])).or((!second.is_empty()).then_some(0)) {
            Some(place) => {
                let b = second.remove(place);
                match unread(a) || unread(b) {
                    true => group.add(seed, a, b, names),
                    false => group.gaps.push(format!("seed {seed}: {}", unlike(a, b, names))),
                }
            }
            None => group.gaps.push(format!("seed {seed}: missing from {}", names[1])),
        }
    }
    group.gaps.extend(second.into_iter().map(|_| format!("seed {seed}: missing from {}", names[0])));
}

/// A row whose protocol and data another row of the same side has.
fn repeated<'a>(rows: &[&'a Record]) -> Option<&'a Record> {
    let same = |a: &Record, b: &Record| protocol(a) == protocol(b) && a.data_hash == b.data_hash;
    rows.iter()
        .enumerate()
        .find(|(index, row)| rows[..*index].iter().any(|other| same(other, row)))
        .map(|(_, row)| *row)
}

/// Whether two rows ran under one protocol and on one data set. Rows of another program do not record their data;
/// their protocol has to do.
fn is_alike(a: &Record, b: &Record) -> bool {
    match (&a.data_hash, &b.data_hash) {
        (Some(of_a), Some(of_b)) => of_a == of_b && protocol(a) == protocol(b),
        (None, None) => a.protocol_id == b.protocol_id,
        _ => a.status == Status::Done && b.status == Status::Done && a.protocol_id == b.protocol_id,
    }
}

/// Why two rows of one experiment and seed are not compared.
fn unlike(a: &Record, b: &Record, names: [&str; 2]) -> String {
    let hash = |row: &Record| row.data_hash.clone().unwrap_or_else(|| "not recorded".into());
    match a.data_hash == b.data_hash {
        true => format!(
            "ran under another protocol ({} in {}, {} in {}), so the two are not compared",
            a.protocol_id, names[0], b.protocol_id, names[1]
        ),
        false => format!(
            "trained on other data (checksum {} in {}, {} in {}), so the two are not compared",
            hash(a),
            names[0],
            hash(b),
            names[1]
        ),
    }
}

impl<'a> Group<'a> {
    fn add(&mut self, seed: u64, a: &'a Record, b: &'a Record, names: [&str; 2]) {
        if a.status == Status::Done && b.status == Status::Done {
            return self.pairs.push((a, b));
        }
        for (row, name) in [a, b].into_iter().zip(names).filter(|(row, _)| row.status != Status::Done) {
            let reason = row.error.as_deref().unwrap_or("no reason recorded");
            self.gaps.push(format!("seed {seed}: {} in {name}: {reason}", status(row.status)));
        }
    }
}

fn name(row: &Record) -> String {
    let simulated = if crate::series::is_simulated(&row.protocol_id) { ", simulated" } else { "" };
    let extra = row.extra.iter().filter(|(name, _)| is_identity(name));
    let extra: String = extra.map(|(name, value)| format!(" {name}={value}")).collect();
    format!(
        "{} ({}{simulated}, {}) {} T={}{}{extra}",
        row.dataset,
        row.protocol_id.split(';').next().unwrap_or_default(),
        network(&row.architecture, row.width).replace(", width", " width"),
        row.method,
        time_steps(row.train_time_steps),
        row.lr.map_or_else(String::new, |lr| format!(" lr={lr}")),
    )
}

/// Whether some pair ran on unlike kernels, whose last digits may differ.
fn unlike_kernels(groups: &[Group]) -> Option<String> {
    let mut pairs = groups.iter().flat_map(|group| &group.pairs);
    pairs.find(|(a, b)| a.numerics != b.numerics).map(|(a, b)| {
        let name = |row: &Record| row.numerics.clone().unwrap_or_else(|| "unknown".into());
        format!(
            "The two sides ran on unlike kernels ({} and {}), which may differ in the last digits.",
            name(a),
            name(b)
        )
    })
}

//! Two sets of rows, paired cell by cell: what `check` and `compare` stand on.

use std::collections::BTreeMap;

use crate::record::{Record, Status};
use crate::verdict::{status, time_steps};

/// One method at one T under one protocol and recipe, in both sets.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// `sign-digits (sign-digits/students, resnet18 width 8) dspike T=4`.
    pub name: String,
    /// By seed: the row of the first and of the second set, both finished.
    pub pairs: Vec<(&'a Record, &'a Record)>,
    /// Cells that cannot be compared, and why.
    pub gaps: Vec<String>,
}

/// Everything but the seed that makes two cells the same experiment.
type Key<'a> = (&'a str, &'a str, &'a str, usize, &'a str, &'a str, Option<usize>, Option<usize>, usize, usize, String);

fn key(row: &Record) -> Key<'_> {
    (
        &row.dataset,
        &row.protocol_id,
        &row.architecture,
        row.width,
        &row.norm,
        &row.method,
        row.train_time_steps,
        row.eval_time_steps,
        row.epochs,
        row.batch,
        format!("{:?} {:?} {:?}", row.tau, row.v_th, row.fdg_batch),
    )
}

/// Pairs two sets by experiment and seed. A seed in one set only, or not finished in either, is a gap of its group.
/// `names` says what the two sets are called in a sentence.
pub(crate) fn pair<'a>(first: &'a [Record], second: &'a [Record], names: [&str; 2]) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<Key, BTreeMap<u64, [Option<&Record>; 2]>> = BTreeMap::new();
    for (side, rows) in [first, second].into_iter().enumerate() {
        for row in rows {
            groups.entry(key(row)).or_default().entry(row.seed).or_default()[side] = Some(row);
        }
    }
    groups.into_values().filter_map(|seeds| group(seeds, names)).collect()
}

fn group<'a>(seeds: BTreeMap<u64, [Option<&'a Record>; 2]>, names: [&str; 2]) -> Option<Group<'a>> {
    let any = seeds.values().flatten().flatten().next()?;
    let mut group = Group { name: name(any), pairs: Vec::new(), gaps: Vec::new() };
    for (seed, sides) in seeds {
        let mut gap = |what: String| group.gaps.push(format!("seed {seed}: {what}"));
        match sides {
            [Some(a), Some(b)] if a.status == Status::Done && b.status == Status::Done => group.pairs.push((a, b)),
            [Some(_), None] => gap(format!("missing from {}", names[1])),
            [None, Some(_)] => gap(format!("missing from {}", names[0])),
            sides => {
                for (row, name) in sides.into_iter().zip(names) {
                    if let Some(row) = row.filter(|row| row.status != Status::Done) {
                        let reason = row.error.as_deref().unwrap_or("no reason recorded");
                        gap(format!("{} in {name}: {reason}", status(row.status)));
                    }
                }
            }
        }
    }
    Some(group)
}

fn name(row: &Record) -> String {
    let simulated = if crate::series::is_simulated(&row.protocol_id) { ", simulated" } else { "" };
    format!(
        "{} ({}{simulated}, {} width {}) {} T={}",
        row.dataset,
        row.protocol_id.split(';').next().unwrap_or_default(),
        row.architecture,
        row.width,
        row.method,
        time_steps(row.train_time_steps)
    )
}

/// Whether some pair ran on unlike kernels, whose last digits may differ.
pub(crate) fn unlike_kernels(groups: &[Group]) -> Option<String> {
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

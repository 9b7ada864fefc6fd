//! `check`, `compare` and `splice` on made-up folders.
#![allow(clippy::unwrap_used)] // also in helpers, which the lint does not count as tests

mod synthetic;

use std::path::{Path, PathBuf};

use report::record::{Record, Status, write_csv};
use report::{Gate, Outcome, Tolerance, check, compare, splice};
use synthetic::{Synthetic, identified};
use tempfile::TempDir;

/// A folder and a baseline file that agree, after `change` was made to the folder's rows.
fn gate(seeds: u64, change: impl Fn(&mut Vec<Record>)) -> Gate {
    gate_with(seeds, change, &Tolerance::default())
}

fn gate_with(seeds: u64, change: impl Fn(&mut Vec<Record>), tolerance: &Tolerance) -> Gate {
    let (dir, baseline) = folders(seeds, change);
    check(dir.path(), &baseline, tolerance).unwrap()
}

fn folders(seeds: u64, change: impl Fn(&mut Vec<Record>)) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut synthetic = Synthetic::new(&["dspike", "rectangle"], &[4, 2], seeds);
    let baseline = dir.path().join("baseline/rows.csv");
    write_csv(&baseline, identified(&synthetic.rows)).unwrap();
    change(&mut synthetic.rows);
    synthetic.write(dir.path());
    (dir, baseline)
}

fn lower(rows: &mut [Record], by: f64) {
    for row in rows.iter_mut().filter(|row| row.method == "dspike") {
        row.top1_last = row.top1_last.map(|top1| top1 - by);
    }
}

#[test]
fn equal_rows_pass() {
    let gate = gate(2, |_| {});
    assert_eq!((gate.outcome, gate.exit_code()), (Outcome::Pass, 0), "{}", gate.markdown());
    assert!(gate.junit().contains("failures=\"0\""));
}

#[test]
fn a_drop_beyond_the_tolerance_closes_the_gate_and_a_smaller_one_does_not() {
    for (seeds, drop, outcome) in [
        (1, 0.03, Outcome::Regression),
        (1, 0.01, Outcome::Pass),
        (3, 0.03, Outcome::Regression),
        (3, 0.01, Outcome::Pass),
        (3, -0.02, Outcome::Pass),
    ] {
        let gate = gate(seeds, |rows| lower(rows, drop));
        assert_eq!(gate.outcome, outcome, "{seeds} seeds, drop {drop}: {}", gate.markdown());
    }
    let gate = gate(1, |rows| lower(rows, 0.03));
    assert_eq!(gate.exit_code(), 10);
    assert!(gate.markdown().contains("## Gate: regression"));
    assert!(gate.markdown().contains("one seed: the tolerance alone decides"));
    assert!(gate.junit().contains("<failure type=\"regression\""));
}

#[test]
fn with_more_seeds_the_interval_must_exclude_zero() {
    // One seed collapses, the others do not move: beyond the tolerance on average, but not told from chance.
    let collapse = |rows: &mut Vec<Record>| {
        for row in rows.iter_mut().filter(|row| row.method == "dspike" && row.seed == 0) {
            row.top1_last = row.top1_last.map(|top1| top1 - 0.2);
        }
    };
    assert_eq!(gate(3, collapse).outcome, Outcome::Pass);
    assert_eq!(gate(1, collapse).outcome, Outcome::Regression);
}

#[test]
fn a_tolerance_can_be_set_by_name() {
    let mut tolerance = Tolerance::default();
    tolerance.set("top1=0.005").unwrap();
    assert_eq!(gate_with(1, |rows| lower(rows, 0.01), &tolerance).outcome, Outcome::Regression);
    for (text, part) in [
        ("top1", "name=value"),
        ("top2=1", "known: top1"),
        ("loss=x", "no number"),
        ("loss=-1", "negative"),
        ("loss=NaN", "finite"),
    ] {
        assert!(format!("{:#}", tolerance.set(text).unwrap_err()).contains(part), "{text}");
    }
}

#[test]
fn cost_and_size_are_held_too() {
    let gate = gate(2, |rows| rows.iter_mut().for_each(|row| row.parameters = row.parameters.map(|count| count + 1)));
    assert_eq!(gate.outcome, Outcome::Regression);
    assert!(gate.markdown().contains("parameters"));
    let gate = gate_with(
        2,
        |rows| rows.iter_mut().for_each(|row| row.synops_ac = row.synops_ac.map(|n| n * 1.3)),
        &Tolerance::default(),
    );
    assert_eq!(gate.outcome, Outcome::Regression);
}

#[test]
fn what_is_missing_failed_or_blank_is_no_pass() {
    type Case = (&'static str, fn(&mut Vec<Record>));
    let cases: [Case; 5] = [
        ("missing from the folder", |rows| {
            rows.pop();
        }),
        ("missing from the baseline", |rows| {
            let mut row = rows[0].clone();
            row.seed = 77;
            row.cell_id += "-77";
            rows.push(row);
        }),
        ("failed in the folder: made-up", |rows| {
            let row = rows.last_mut().unwrap();
            (row.status, row.top1_last, row.error) = (Status::Failed, None, Some("made-up".into()));
        }),
        ("blank in the folder", |rows| rows.iter_mut().for_each(|row| row.firing_rate = None)),
        ("Nothing was measured", |rows| rows.clear()),
    ];
    for (text, change) in cases {
        let gate = gate(1, change);
        assert_eq!((gate.outcome, gate.exit_code()), (Outcome::Missing, 11), "{text}");
        assert!(gate.markdown().contains(text), "{text}: {}", gate.markdown());
        assert!(gate.junit().contains("<failure type=\"missing\""), "{text}");
    }
}

#[test]
fn an_empty_baseline_is_no_pass() {
    let (dir, _) = folders(1, |_| {});
    let empty = dir.path().join("empty.csv");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(check(dir.path(), &empty, &Tolerance::default()).unwrap().outcome, Outcome::Missing);
    let error = format!("{:#}", check(dir.path(), Path::new("absent.csv"), &Tolerance::default()).unwrap_err());
    assert!(error.contains("opening absent.csv"), "{error}");
}

#[test]
fn a_regression_wins_over_a_missing_cell() {
    let gate = gate(1, |rows| {
        lower(rows, 0.05);
        rows.pop();
    });
    assert_eq!(gate.outcome, Outcome::Regression);
}

#[test]
fn junit_escapes_what_errors_say() {
    let gate = gate(1, |rows| {
        let row = rows.last_mut().unwrap();
        (row.status, row.top1_last, row.error) = (Status::Failed, None, Some("<a b=\"c\">&\u{1}".into()));
    });
    assert!(gate.junit().contains("&lt;a b=&quot;c&quot;&gt;&amp;\u{FFFD}"), "{}", gate.junit());
}

#[test]
fn compare_pairs_by_seed_and_names_what_it_could_not_pair() {
    let (dir, baseline) = folders(3, |rows| {
        lower(rows, 0.01);
        rows.retain(|row| !(row.method == "rectangle" && row.seed == 2));
    });
    let comparison = compare(&baseline, dir.path()).unwrap();
    let dspike = comparison.rows.iter().find(|row| row.name.contains("holdout, resnet18 width 8) dspike T=4")).unwrap();
    assert_eq!(dspike.paired.n, 3);
    assert!((dspike.paired.difference + 0.01).abs() < 1e-12);
    let rectangle =
        comparison.rows.iter().find(|row| row.name.contains("holdout, resnet18 width 8) rectangle T=4")).unwrap();
    assert_eq!((rectangle.paired.n, rectangle.paired.difference), (2, 0.0));
    assert_eq!(comparison.exit_code(), 11);
    let text = comparison.to_string();
    assert!(text.contains("| −1.00 |") && text.contains("seed 2: missing from B"), "{text}");
    assert!(text.contains("simulated"));

    let (dir, baseline) = folders(1, |_| {});
    let equal = compare(&baseline, dir.path()).unwrap();
    assert_eq!(equal.exit_code(), 0);
    assert!(equal.rows.iter().all(|row| row.paired.interval.is_none()), "one seed has no interval");
}

#[test]
fn splice_replaces_what_stands_between_the_comments() {
    let (dir, _) = folders(2, |_| {});
    let readme = dir.path().join("docs/READ ME.md");
    std::fs::create_dir(readme.parent().unwrap()).unwrap();
    let (head, tail) = ("# Fake\n\n<!-- report:begin -->", "<!-- report:end -->\n\nThe rest.\n");
    std::fs::write(&readme, format!("{head}\nstale text\n{tail}")).unwrap();
    splice(&readme, dir.path(), None).unwrap();
    let once = std::fs::read_to_string(&readme).unwrap();
    assert!(once.starts_with(head) && once.ends_with(tail) && !once.contains("stale text"), "{once}");
    assert!(once.contains("(<../report/accuracy-fake-shapes-resnet18-w8.svg>)"), "{once}");
    assert!(once.contains("| dspike |") && once.contains("(n = 2) (simulated)"), "{once}");
    assert!(once.contains("Command: `harness suite fake-suite --seeds 0..3`"));
    splice(&readme, dir.path(), None).unwrap();
    assert_eq!(std::fs::read_to_string(&readme).unwrap(), once);

    for text in ["no comments", "<!-- report:end --> <!-- report:begin -->", "<!-- report:begin -->"] {
        std::fs::write(&readme, text).unwrap();
        let error = splice(&readme, dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("expected one line `<!-- report:begin -->`"), "{error}");
        assert_eq!(std::fs::read_to_string(&readme).unwrap(), text);
    }
}

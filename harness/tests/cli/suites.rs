//! The paper's data sets from their samples to a report, on the suites that users run.
use assert_cmd::Command;
use harness::cell::{Cell, Overrides, cells};
use harness::device::Device;
use harness::row::row;
use harness::suite::Suite;
use report::claims::Kind;
use report::record::{Record, Status, write_csv};
use std::path::Path;

#[test]
fn the_four_data_sets_run_from_their_samples_to_one_report() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.is_dir() {
        eprintln!(
            "skipped: the_four_data_sets_run_from_their_samples_to_one_report needs the folder shared/data beside the project"
        );
        return;
    }
    let data = data.canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tiny_run = |args: &[&str]| {
        let mut command = Command::cargo_bin("harness").unwrap();
        command.current_dir(folder.path()).args(args).arg("--data-dir").arg(&data);
        command.args("--limit 4 --epochs 1 --width 4 --fdg-batch 1 --seeds 0".split(' ')).assert().success();
    };
    for suite in ["cifar10", "cifar100", "imagenet", "cifar10-dvs"] {
        tiny_run(&["suite", suite, "-f", "method=rectangle", "-f", "architecture=resnet18"]);
        let rows = std::fs::read_to_string(folder.path().join(format!("results/{suite}/rows.csv"))).unwrap();
        assert!(rows.lines().skip(1).all(|row| row.contains(",done,") && row.contains(suite)), "{rows}");
    }
    // The same through the paper's own suite: one report with all four, and the cells of the others are missing.
    tiny_run(&["suite", "paper", "--exact", "-f", "method=rectangle", "-f", "stage=t10"]);
    let report = std::fs::read_to_string(folder.path().join("results/paper/report/report.md")).unwrap();
    for dataset in ["cifar10", "cifar100", "imagenet", "cifar10-dvs"] {
        assert!(report.contains(dataset), "{dataset}");
    }
}

/// The paper's data sets: their numbers of training and test samples.
fn samples(dataset: &str) -> (usize, usize) {
    match dataset {
        "imagenet" => (1_281_167, 50_000),
        "cifar10-dvs" => (9_000, 1_000),
        _ => (50_000, 10_000),
    }
}

#[test]
fn the_suite_paper_trains_the_published_experiments_and_no_other_arm_is_taken_for_one() {
    let suite = Suite::parse(include_str!("../../../suites/paper.toml")).unwrap();
    let row = |cell: &Cell| {
        let mut row = row(cell, "paper", "2000-01-01T00:00:00Z", &Device::Cpu, Status::Done, None);
        let (train, test) = samples(&row.dataset);
        let top1 = 0.5 + 0.001 * row.seed as f64;
        (row.train_samples, row.test_samples, row.top1_last) = (Some(train), Some(test), Some(top1));
        // As if the files had been verified.
        row.protocol_id = row.protocol_id.replace("unverified", "md5:0;was-un-verified");
        row
    };
    let rows: Vec<Record> = cells(&suite, &Overrides::default(), "cpu-f32").unwrap().iter().map(row).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    write_csv(&path, &rows).unwrap();
    let claims = report::claims::claims(&path, None).unwrap();
    for claim in &claims.claims {
        // VGG-16 is published at T = 5, which the suite does not train.
        let expected = if claim.network == "VGG-16" { Kind::NotRun } else { Kind::Below };
        assert_eq!(claim.verdict, expected, "{}: {}", claim.id, claim.reason);
        let arm = |cell: &str| rows.iter().find(|row| row.cell_id == cell).unwrap().method.as_str();
        assert!(claim.per_seed.iter().all(|seed| arm(&seed.cell_id) == "dspike"), "{}", claim.id);
        assert_eq!(claim.n, (expected == Kind::Below).then_some(3));
    }
}

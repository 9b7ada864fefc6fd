//! The paper's data sets from their samples to a report, on the suites that users run.
use assert_cmd::Command;
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

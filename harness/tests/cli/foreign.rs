//! Rows of another program, and what a script reads: standard output and exit codes of `check` and `compare`.
use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use std::fs;
use std::path::Path;

const ROWS: &str = "cell_id,method,dataset,protocol,T,seed,top1,lr\n\
    a0,mine,shapes,shapes/official,4,0,0.91,0.1\na1,mine,shapes,shapes/official,4,1,0.92,0.1\n\
    b0,mine,shapes,shapes/official,4,0,0.85,0.01\nb1,mine,shapes,shapes/official,4,1,0.84,0.01\n";

fn run(dir: &Path, args: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("harness").unwrap().current_dir(dir).args(args).assert()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("baseline.csv"), ROWS).unwrap();
    fs::write(dir.path().join("rows.csv"), ROWS.replace("0.91", "0.81").replace("0.92", "0.82")).unwrap();
    dir
}

/// The one line on standard output, parsed.
fn json(assert: assert_cmd::assert::Assert) -> serde_json::Value {
    let text = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn check_prints_one_line_of_json_with_the_exit_code_of_its_markdown() {
    let dir = folder();
    let check = ["check", "rows.csv", "--baseline", "baseline.csv"];
    run(dir.path(), &check).code(10).stdout(starts_with("## Gate: regression\n"));
    let json = json(run(dir.path(), &[&check[..], &["--json"]].concat()).code(10));
    assert_eq!((&json["schema"], &json["exit_code"]), (&"harness-check/1".into(), &10.into()));
    assert_eq!(json["cases"][0]["regressions"], serde_json::json!(["top1_last"]));
    assert_eq!(json["cases"][1]["regressions"], serde_json::json!([]));
}

#[test]
fn compare_prints_one_line_of_json_with_the_exit_code_of_its_markdown() {
    let dir = folder();
    let compare = ["compare", "baseline.csv", "rows.csv"];
    run(dir.path(), &compare).success().stdout(contains("| −10.00 |"));
    let json = json(run(dir.path(), &[&compare[..], &["--json"]].concat()).success());
    assert_eq!((&json["schema"], json["rows"].as_array().unwrap().len()), (&"harness-compare/1".into(), 2));
    fs::write(dir.path().join("few.csv"), ROWS.lines().take(2).map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    run(dir.path(), &["compare", "baseline.csv", "few.csv", "--json"]).code(11).stdout(contains("\"exit_code\":11"));
}

#[test]
fn damaged_predictions_and_rows_are_a_sentence_and_exit_3_without_output() {
    let dir = folder();
    fs::create_dir_all(dir.path().join("cells/a0")).unwrap();
    fs::write(dir.path().join("cells/a0/predictions.npy"), b"\x93NUMPY").unwrap();
    let sentence = || contains("cells/a0/predictions.npy: byte 6").and(contains("delete it"));
    for args in [&["compare", "baseline.csv", "rows.csv", "--json"][..], &["compare", "baseline.csv", "rows.csv"]] {
        run(dir.path(), args).code(3).stdout("").stderr(sentence().and(contains("panicked").not()));
    }
    fs::write(dir.path().join("torn.csv"), ROWS.replace("0.85", "85")).unwrap();
    run(dir.path(), &["check", "torn.csv", "--baseline", "baseline.csv", "--json"])
        .code(3)
        .stdout("")
        .stderr(contains("torn.csv:4: column `top1_last`: 85 is not a fraction"));
}

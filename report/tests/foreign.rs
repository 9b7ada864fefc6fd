//! Rows that another program wrote with `scripts/rows_writer.py`, and what a script reads from `check` and `compare`.
#![allow(clippy::unwrap_used)] // also in helpers, which the lint does not count as tests

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use report::{Outcome, Tolerance, check, compare, render};

/// Runs Python statements after `from rows_writer import add_row`. `None` where there is no python3.
fn python(dir: &Path, statements: &str) -> Option<Output> {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");
    let program = format!("import sys\nsys.path.insert(0, {scripts:?})\nfrom rows_writer import add_row\n{statements}");
    match Command::new("python3").args(["-B", "-c", &program]).current_dir(dir).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: the rows writer needs python3");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Two learning rates with three seeds each, written by the Python writer.
const SWEEP: &str = "for lr in (0.1, 0.01):
    for seed in range(3):
        add_row('rows.csv', 'mine', 'shapes', 'shapes/official', 4, seed, 0.9 + lr / 10 + seed / 1000, lr=lr)
";

fn written(statements: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().unwrap();
    let output = python(dir.path(), statements)?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = dir.path().join("rows.csv");
    Some((dir, path))
}

#[test]
fn rows_of_the_python_writer_go_through_check_compare_and_report() {
    let Some((dir, path)) = written(SWEEP) else { return };
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("method,dataset,protocol,T,seed,top1,lr\nmine,shapes,shapes/official,4,0,0.91,0.1\n"));
    let gate = check(&path, &path, &Tolerance::default()).unwrap();
    assert_eq!(gate.outcome, Outcome::Pass, "{}", gate.markdown());
    let names: Vec<&str> = gate.cases.iter().map(|case| case.name.as_str()).collect();
    assert!(names.len() == 2 && names[0].ends_with("lr=0.1") && names[1].ends_with("lr=0.01"), "{names:?}");
    let comparison = compare(&path, dir.path()).unwrap();
    assert_eq!((comparison.rows.len(), comparison.rows[0].paired.n, comparison.exit_code()), (2, 3, 0));
    let report = std::fs::read_to_string(render(dir.path()).unwrap().markdown).unwrap();
    assert!(report.contains("mine · lr 0.1 | 4 | 3 | 91.10"), "{report}");
    assert!(report.contains("mine · lr 0.01 | 4 | 3 | 90.20"), "{report}");
}

#[test]
fn a_later_run_with_another_column_keeps_the_earlier_rows() {
    let more = format!(
        "{SWEEP}add_row('rows.csv', 'mine', 'shapes', 'shapes/official', None, 7, 1, optimizer='a, \"b\"', fdg=True, \
         note_gpu='none')\n"
    );
    let Some((dir, path)) = written(&more) else { return };
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("method,dataset,protocol,T,seed,top1,lr,optimizer,fdg,note_gpu\n"), "{text}");
    assert!(text.contains("mine,shapes,shapes/official,4,2,0.903,0.01,,,\n"), "{text}");
    assert!(text.ends_with("mine,shapes,shapes/official,,7,1.0,,\"a, \"\"b\"\"\",true,none\n"), "{text}");
    assert_eq!(check(&path, &path, &Tolerance::default()).unwrap().cases.len(), 3);
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["rows.csv", "rows.csv.lock"]);
}

#[test]
fn a_wrong_value_or_file_is_a_value_error_and_changes_nothing() {
    let call = |arguments: &str| format!("add_row('rows.csv', 'mine', 'shapes', 'official', {arguments})\n");
    for (statement, sentence) in [
        (call("4, 0, 94.12"), "top1: expected a fraction between 0 and 1"),
        (call("4, 0, float('nan')"), "top1: expected a fraction between 0 and 1"),
        (call("4, 0.5, 0.9"), "seed: expected a whole number from 0 on, got 0.5"),
        (call("4, -1, 0.9"), "seed: expected a whole number"),
        (call("4, True, 0.9"), "seed: expected a whole number"),
        (call("'many', 0, 0.9"), "T: expected a whole number"),
        (call("4, 0, 0.9, top1_last=0.9"), "top1_last: this is another name of a required column"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(output) = python(dir.path(), &format!("{}{statement}", call("4, 3, 0.9"))) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(&format!("ValueError: {sentence}")), "{statement}: {said}");
        let text = std::fs::read_to_string(dir.path().join("rows.csv")).unwrap();
        assert_eq!(text, "method,dataset,protocol,T,seed,top1\nmine,shapes,official,4,3,0.9\n");
    }
    for (text, sentence) in [
        (
            "method,dataset,protocol_id,train_time_steps,seed,top1_last\n",
            "rows.csv: the header lacks protocol, T, top1",
        ),
        ("method,dataset,protocol,T,seed,top1\na,b,c,4,0,0.5,left over\n", "more or fewer fields than the header"),
        ("method,dataset,protocol,T,seed,top1\na,b,c,4\n", "more or fewer fields than the header"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rows.csv"), text).unwrap();
        let Some(output) = python(dir.path(), &call("4, 0, 0.9")) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("ValueError") && said.contains(sentence), "{text}: {said}");
        assert_eq!(std::fs::read_to_string(dir.path().join("rows.csv")).unwrap(), text);
    }
}

#[test]
fn processes_that_add_to_one_file_lose_no_row() {
    let Some((_dir, path)) = written(
        "import os
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        for k in range(10):
            add_row('rows.csv', 'mine', 'shapes', 'official', 4, 10 * child + k, 0.5)
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
",
    ) else {
        return;
    };
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 41);
    assert_eq!(check(&path, &path, &Tolerance::default()).unwrap().cases[0].pairs, 40);
}

const BASELINE: &str = "method,dataset,protocol,T,seed,top1,test_samples,optimizer\n\
    mine,shapes,official,4,0,0.9,200,adam\nmine,shapes,official,4,1,0.92,200,adam\nrect,shapes,official,4,0,0.8,10,sgd\n";

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn parsed(json: &str) -> serde_json::Value {
    assert!(!json.contains('\n'), "{json}");
    serde_json::from_str(json).unwrap()
}

#[test]
fn the_json_of_check_says_what_its_markdown_says() {
    let dir = tempfile::tempdir().unwrap();
    let baseline = file(dir.path(), "baseline.csv", BASELINE);
    let new = BASELINE
        .replace("0.9,", "0.8,")
        .replace("0.92", "0.82")
        .replace("rect,shapes,official,4,0", "rect,shapes,official,4,5");
    let new = file(dir.path(), "new.csv", &new);
    let gate = check(&new, &baseline, &Tolerance::default()).unwrap();
    let json = parsed(&gate.json().unwrap());
    assert_eq!(
        (&json["schema"], &json["outcome"], &json["exit_code"]),
        (&"harness-check/1".into(), &"regression".into(), &10.into())
    );
    assert_eq!(json["notes"], serde_json::json!([]));
    let case = &json["cases"][0];
    assert_eq!(case["name"], "shapes (official, network not recorded) mine T=4 optimizer=adam");
    assert_eq!(
        (&case["pairs"], &case["regressions"], &case["gaps"]),
        (&2.into(), &serde_json::json!(["top1_last"]), &serde_json::json!([]))
    );
    let comparison = &case["comparisons"][0];
    assert_eq!(
        (&comparison["metric"], &comparison["regressed"], &comparison["seeds"]),
        (&"top1_last".into(), &true.into(), &2.into())
    );
    for (field, value) in [("baseline", 0.91), ("new", 0.81), ("difference", -0.1), ("allowed", 0.02)] {
        assert!((comparison[field].as_f64().unwrap() - value).abs() < 1e-12, "{field}: {comparison}");
    }
    assert!(comparison["interval"].is_null(), "both seeds moved equally: {comparison}");
    let gaps = serde_json::json!(["seed 0: missing from the folder", "seed 5: missing from the baseline"]);
    assert_eq!((&json["cases"][1]["gaps"], &json["cases"][1]["comparisons"]), (&gaps, &serde_json::json!([])));
    assert!(
        gate.markdown().contains(
            "top1\\_last: 0.9100 → 0.8100 (-0.1000, allowed 0.0200; 2 seeds moved equally: the tolerance alone decides)"
        ),
        "{}",
        gate.markdown()
    );
}

#[test]
fn the_json_of_compare_has_the_numbers_and_wilsons_interval_of_a_single_accuracy() {
    let dir = tempfile::tempdir().unwrap();
    let a = file(dir.path(), "a.csv", BASELINE);
    let b = file(dir.path(), "b.csv", &BASELINE.replace("0.8,10", "0.9,10").replace("0.92", "0.93"));
    let comparison = compare(&a, &b).unwrap();
    let json = parsed(&comparison.json().unwrap());
    assert_eq!(
        (&json["schema"], &json["exit_code"], &json["gaps"]),
        (&"harness-compare/1".into(), &0.into(), &serde_json::json!([]))
    );
    let (mine, rect) = (&json["rows"][0], &json["rows"][1]);
    assert_eq!((&mine["n"], &mine["a_interval"], &mine["images"]), (&2.into(), &().into(), &().into()));
    assert!((mine["difference"].as_f64().unwrap() - 0.005).abs() < 1e-12, "{mine}");
    assert!((mine["p"].as_f64().unwrap() - 0.5).abs() < 1e-9 && mine["p_holm"] == mine["p"], "{mine}");
    assert_eq!((&rect["n"], &rect["p"], &rect["interval"]), (&1.into(), &().into(), &().into()));
    // scipy.stats.binomtest(9, 10).proportion_ci(method="wilson")
    assert!((rect["b_interval"][0].as_f64().unwrap() - 0.595_849_973_2).abs() < 1e-9, "{rect}");
    let text = comparison.to_string();
    assert!(text.contains("| 90.00 | \\[59.58, 98.21\\] |"), "{text}");
    // Without the number of test samples, there is neither interval nor column.
    let a = file(dir.path(), "a.csv", "method,dataset,protocol,T,seed,top1\nmine,shapes,official,4,0,0.9\n");
    assert!(!compare(&a, &a).unwrap().to_string().contains("over images"));
}

#[test]
fn experiments_whose_names_would_be_equal_are_told_apart_by_their_settings() {
    let dir = tempfile::tempdir().unwrap();
    let rows = "method,dataset,protocol,T,seed,top1,weight_decay,epochs\n\
        mine,shapes,official,4,0,0.9,0.1,5\nmine,shapes,official,4,0,0.8,0.01,5\nrect,shapes,official,4,0,0.8,0.01,5\n";
    let rows = file(dir.path(), "rows.csv", rows);
    let names: Vec<String> = compare(&rows, &rows).unwrap().rows.into_iter().map(|row| row.name).collect();
    assert!(names[0].ends_with("mine T=4 weight_decay=0.1"), "{names:?}");
    assert!(names[1].ends_with("mine T=4 weight_decay=0.01") && names[2].ends_with("rect T=4"), "{names:?}");
}

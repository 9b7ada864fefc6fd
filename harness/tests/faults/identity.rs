//! What a folder holds is what it says: double results, damaged files, changed suites, odd clocks and names.

use crate::bench::{Bench, TINY, essence, has, text};
use harness::exit::{Code, code_of};
use harness::store::Store;
use std::fs;
use std::path::PathBuf;

fn first_cell(bench: &Bench) -> (Store, String) {
    let store = Store::existing(&bench.results()).unwrap();
    let id = store.plan().unwrap().cells[0].cell_id.clone();
    (store, id)
}

#[test]
fn a_cell_computed_again_must_give_the_same_on_the_same_kernels() {
    let bench = Bench::new();
    bench.finish();
    let (store, id) = first_cell(&bench);
    let before = store.result(&id).unwrap().unwrap();

    let mut again = before.clone();
    again.record.train_seconds = Some(1e6);
    again.record.host = Some("elsewhere".into());
    store.commit(&id, &again).unwrap(); // only clocks and places differ

    again.record.loss_last = Some(0.125);
    let error = store.commit(&id, &again).unwrap_err();
    assert_eq!(code_of(&error), Code::Check);
    let message = error.to_string();
    assert!(
        message.starts_with("not deterministic: ") && message.contains(&id) && message.contains("0.125"),
        "{message}"
    );
    assert!(message.contains(&format!("`harness repro-check {id} --suite tiny`")), "{message}");
    let check = bench.harness(&["repro-check", &id, "--suite", "tiny"]);
    let said = text(&check.stdout);
    assert!(check.status.success() && said.contains("are the same, bit for bit"), "{said}{}", text(&check.stderr));

    again.record.numerics = Some("cpu-of-another-kind".into());
    store.commit(&id, &again).unwrap(); // not comparable
    let kept = store.result(&id).unwrap().unwrap().record;
    assert_eq!((kept.loss_last, kept.numerics), (before.record.loss_last, before.record.numerics));
    bench.assert_whole();
}

#[test]
fn a_damaged_result_is_named_and_computed_again_once_it_is_removed() {
    let bench = Bench::new();
    bench.finish();
    let (store, id) = first_cell(&bench);
    let path = store.cell_folder(&id).join("result.json");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..0], &whole[..whole.len() / 2], b"[]", b"\xff\xfe{", b"{\"record\":{\"status\":\"done\"}}"]
    {
        fs::write(&path, damaged).unwrap();
        let output = bench.command().output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains("result.json") && message.contains("remove the file"), "{message}");
    }
    fs::remove_file(&path).unwrap();
    bench.finish();
    bench.assert_whole();
}

#[test]
fn a_damaged_plan_is_named_and_written_anew_by_the_next_run() {
    let bench = Bench::new();
    bench.finish();
    let path = bench.results().join("run.json");
    for damaged in ["", "{", "[]", "{\"suite\": 1}"] {
        fs::write(&path, damaged).unwrap();
        for command in ["status", "report"] {
            let output = bench.harness(&[command, "results/tiny"]);
            let message = text(&output.stderr);
            assert!(matches!(output.status.code(), Some(3)), "{command} of `{damaged}`: {:?} {message}", output.status);
            assert!(message.contains("run.json"), "{message}");
        }
    }
    let again = bench.finish();
    assert!(text(&again.stderr).contains("written anew"), "{}", text(&again.stderr));
    bench.assert_whole();
}

#[test]
fn damaged_weights_fail_their_children_with_the_file_named() {
    let bench = Bench::new();
    bench.finish();
    let (store, parent) = first_cell(&bench);
    let child = store.plan().unwrap().cells[1].cell_id.clone();
    let weights = store.cell_folder(&parent).join("weights.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    fs::remove_dir_all(store.cell_folder(&child)).unwrap();
    let output = bench.command().output().unwrap();
    assert_eq!(output.status.code(), Some(20));
    let message = text(&output.stderr);
    assert!(message.contains("weights.safetensors") && message.contains("checksum"), "{message}");
}

#[test]
fn a_changed_suite_makes_new_cells_and_says_what_leaves_the_rows() {
    let bench = Bench::new();
    bench.finish();
    let old = essence(&bench.results());
    fs::write(bench.path().join("suites/tiny.toml"), TINY.replace("lr = 0.05", "lr = 0.06")).unwrap();
    let output = bench.finish();
    let message = text(&output.stderr);
    assert!(message.contains("2 finished cells") && message.contains("leave rows.csv"), "{message}");
    let new = essence(&bench.results());
    assert_eq!(new["rows.csv"].lines().count(), 4);
    let kept = new["rows.csv"].lines().filter(|line| old["rows.csv"].contains(*line)).count();
    assert_eq!(kept, 2); // the header and the ANN
    assert!(old.keys().all(|name| new.contains_key(name)), "no file of the old cells is gone");
    // The old suite again: its cells are still there.
    fs::write(bench.path().join("suites/tiny.toml"), TINY).unwrap();
    assert!(!text(&bench.finish().stderr).contains("epoch"));
    assert_eq!(essence(&bench.results())["rows.csv"], old["rows.csv"]);
}

#[test]
fn the_clock_may_jump() {
    if !has("faketime", "the_clock_may_jump") {
        return;
    }
    for jump in ["-10y", "+10y", "+0 x1000"] {
        let bench = Bench::new();
        let output = bench.command_after(&["faketime", "--exclude-monotonic", "-f", jump], 1).output().unwrap();
        assert!(output.status.success(), "{jump}: {}", text(&output.stderr));
        bench.assert_whole();
    }
}

#[test]
fn paths_may_hold_spaces_newlines_quotes_and_any_script() {
    let bench = Bench::new();
    let long = "n".repeat(200);
    for name in ["a b", "line\nbreak", "\"quoted\" 'too'", "größe-模型-🧪", "$HOME `x` <b>&amp;", "-f", &long] {
        let out = PathBuf::from("out").join(name);
        let out = out.to_str().unwrap();
        let run = bench.harness(&["suite", "tiny", "--out", out]);
        assert!(run.status.success(), "{name:?}: {}", text(&run.stderr));
        let status = bench.harness(&["status", out]);
        assert!(status.status.success() && text(&status.stdout).contains("3 done"), "{name:?}");
        assert!(bench.harness(&["report", out]).status.success(), "{name:?}");
        let html = fs::read_to_string(bench.path().join(out).join("report/index.html")).unwrap();
        assert!(!html.contains("<b>&amp;"), "the command line stands in the page unescaped");
    }
}

#[test]
fn a_method_of_any_length_makes_names_of_at_most_200_bytes() {
    let name = "m".repeat(300);
    let bench = Bench::of(
        &TINY
            .replace("\"dspike\"\nsurrogate", &format!("\"{name}\"\nsurrogate"))
            .replace("[\"dspike\"]", &format!("[\"{name}\"]")),
    );
    bench.finish();
    let (store, _) = first_cell(&bench);
    let cells = store.plan().unwrap().cells;
    assert!(cells.iter().all(|cell| cell.cell_id.len() <= 200));
    assert_eq!(cells.iter().map(|cell| &cell.cell_id).collect::<std::collections::HashSet<_>>().len(), 3);
    assert!(essence(&bench.results())["rows.csv"].contains(&name));
}

#[test]
fn text_that_a_spreadsheet_would_run_is_defused_in_the_rows() {
    let bench = Bench::new();
    bench.finish();
    let (store, id) = first_cell(&bench);
    let mut result = store.result(&id).unwrap().unwrap();
    result.record.status = report::record::Status::Failed;
    for formula in ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"] {
        result.record.error = Some(formula.into());
        let path = store.cell_folder(&id).join("result.json");
        fs::write(&path, serde_json::to_vec(&result).unwrap()).unwrap();
        store.rebuild_csv(&store.plan().unwrap()).unwrap();
        let mut rows = csv::Reader::from_path(bench.results().join("rows.csv")).unwrap();
        let column = rows.headers().unwrap().iter().position(|name| name == "error").unwrap();
        let row = rows.records().map(Result::unwrap).find(|row| row[1] == id).unwrap();
        assert_eq!(row[column], format!("'{formula}"));
        let table = report::record::read_csv::<report::record::Record>(&bench.results().join("rows.csv")).unwrap();
        assert!(table.rows.iter().any(|row| row.error.as_deref() == Some(formula)));
    }
}

#[test]
fn numbers_are_read_back_to_the_bit() {
    // Without serde_json's `float_roundtrip` some of these come back one bit off, and a resumed curve with them.
    for epoch in 0..10_000 {
        let lr = harness::ops::optimizer::cosine(0.1, epoch, 10_000);
        let back: f64 = serde_json::from_str(&serde_json::to_string(&lr).unwrap()).unwrap();
        assert_eq!(back.to_bits(), lr.to_bits(), "{lr}");
    }
}

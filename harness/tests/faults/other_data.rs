//! Data that change under a run: nothing goes on from weights of other data, and nothing mixes results of both.

use crate::bench::{Bench, TINY, essence, text};
use harness::cell::CellConfig;
use harness::exit::{Code, code_of};
use harness::model::network::{Network, Neuron};
use harness::store::Store;
use harness::train::State;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Output;

const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// ANN → T = 2 → T = 1 on files in the layout of CIFAR-10: 20 training images, 4 test images.
fn bench() -> Bench {
    let from = TINY.find("data = {").unwrap();
    let line = &TINY[from..from + TINY[from..].find('\n').unwrap()];
    let cifar = "data = { dataset = \"cifar10\", split = \"official\", size = 32, augment = [] }";
    let bench = Bench::of(&TINY.replace(line, cifar));
    write_data(&bench, 7);
    bench
}

/// Replaces the data set by one of other pixels.
fn write_data(bench: &Bench, factor: usize) {
    let folder = bench.path().join("data/cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    for (f, name) in FILES.iter().enumerate() {
        let record = |i: usize| {
            let pixels = (0..3072).map(move |p| ((p * factor + i * 31 + f * 17) % 251) as u8);
            std::iter::once(((i + f) % 10) as u8).chain(pixels)
        };
        fs::write(folder.join(name), (0..4).flat_map(record).collect::<Vec<u8>>()).unwrap();
    }
}

fn run(bench: &Bench, options: &[&str]) -> Output {
    bench.command().args(["--data-dir", "data"]).args(options).output().unwrap()
}

#[track_caller]
fn finish(bench: &Bench, options: &[&str]) {
    let output = run(bench, options);
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
}

/// The finished cells' ids, parents first, and their data hashes.
fn cells(bench: &Bench) -> Vec<(String, String)> {
    let store = Store::existing(&bench.results()).unwrap();
    let hash = |id: &str| Some(store.result(id).unwrap()?.record.data_hash.unwrap());
    store
        .plan()
        .unwrap()
        .cells
        .into_iter()
        .filter_map(|cell| Some((cell.cell_id.clone(), hash(&cell.cell_id)?)))
        .collect()
}

/// Takes the hash of the data out of weights, as an earlier version wrote them.
fn forget_data_hash(weights: &Path) {
    let config = fs::read_to_string(weights.parent().unwrap().join("config.toml")).unwrap();
    let config: CellConfig = toml::from_str(&config).unwrap();
    let network = Network::new(&config.network, Neuron::Relu, 3, 10, config.seed).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&fs::read(weights).unwrap()).unwrap();
    let config_hash = header.metadata().clone().unwrap().remove("config_hash").unwrap();
    let mut state = State::load(weights, network, Some(&config_hash)).unwrap();
    assert!(state.progress.data_hash.take().is_some());
    state.save(weights, &config_hash).unwrap();
}

/// Changes the row in a cell's `result.json`.
fn change_record(cell: &Path, change: impl Fn(&mut Value)) {
    let path = cell.join("result.json");
    let mut result: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut result["record"]);
    fs::write(path, serde_json::to_vec(&result).unwrap()).unwrap();
}

/// The first row's protocol id.
fn protocol_id(results: &Path) -> String {
    let mut rows = csv::Reader::from_path(results.join("rows.csv")).unwrap();
    let mut row: HashMap<String, String> = rows.deserialize().next().unwrap().unwrap();
    row.remove("protocol_id").unwrap()
}

#[test]
fn a_checkpoint_of_other_data_is_refused_until_they_are_restored_or_the_cell_is_fresh() {
    let bench = bench();
    finish(&bench, &["-f", "stage=ann"]);
    let (id, before) = cells(&bench).remove(0);
    let cell = bench.results().join("cells").join(&id);
    let whole = essence(&bench.results());
    // As a stop just before the commit leaves it: finished weights are a checkpoint after the last epoch.
    let checkpoint = cell.join("checkpoint-000001-00000000.safetensors");
    let stop = || {
        fs::rename(cell.join("weights.safetensors"), &checkpoint).unwrap();
        fs::remove_file(cell.join("result.json")).unwrap();
    };
    stop();
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(cell.join("checkpoint-000002-00000000.safetensors"), "torn").unwrap(); // passed over
    write_data(&bench, 11);
    let refused = run(&bench, &["-f", "stage=ann"]);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{message}");
    for part in ["checkpoint-000001-00000000.safetensors", &before, "restore the earlier data", "--fresh"] {
        assert!(message.contains(part), "`{part}` is not in {message}");
    }
    assert!(fs::read(&checkpoint).unwrap() == bytes && !cell.join("result.json").exists());

    write_data(&bench, 7);
    finish(&bench, &["-f", "stage=ann"]);
    assert_eq!(essence(&bench.results()), whole);

    stop();
    write_data(&bench, 11);
    finish(&bench, &["-f", "stage=ann", "--fresh"]);
    let (_, after) = cells(&bench).remove(0);
    assert!(after != before && message.contains(&after), "{after} is not in {message}");
}

#[test]
fn a_child_is_not_trained_on_other_data_than_its_parent() {
    let bench = bench();
    finish(&bench, &[]);
    let all = cells(&bench);
    let parent = &all[0];
    assert!(all.iter().all(|(_, hash)| *hash == parent.1), "one data set has one hash at every T: {all:?}");
    let folder = |id: &str| bench.results().join("cells").join(id);
    all[1..].iter().for_each(|(id, _)| fs::remove_dir_all(folder(id)).unwrap());
    write_data(&bench, 11);
    let refused = run(&bench, &[]);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{message}");
    for part in [&*parent.0, &parent.1, "restore the earlier data", "--fresh", "another --out"] {
        assert!(message.contains(part), "`{part}` is not in {message}");
    }
    assert!(message.contains(&format!("its parent {} was not trained", all[1].0)), "{message}");
    assert!(all[1..].iter().all(|(id, _)| !folder(id).join("result.json").exists()));
    let status = text(&bench.harness(&["status", "results/tiny"]).stdout);
    assert!(status.contains("1 done") && status.contains("2 missing"), "{status}");

    finish(&bench, &["--fresh"]);
    let again = cells(&bench);
    assert!(again.iter().all(|(_, hash)| *hash == again[0].1 && *hash != parent.1), "{again:?}");
}

#[test]
fn weights_without_a_hash_are_checked_by_their_row_and_a_checkpoint_without_one_goes_on_with_a_warning() {
    let bench = bench();
    finish(&bench, &["-f", "stage=ann"]);
    let (id, before) = cells(&bench).remove(0);
    let (cell, whole) = (bench.results().join("cells").join(&id), essence(&bench.results()));
    let weights = cell.join("weights.safetensors");
    forget_data_hash(&weights);
    write_data(&bench, 11);
    let refused = run(&bench, &[]);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{message}");
    assert!(message.contains(&format!("its parent {id} was trained on data of the hash {before}")), "{message}");

    write_data(&bench, 7);
    fs::rename(&weights, cell.join("checkpoint-000001-00000000.safetensors")).unwrap();
    fs::remove_file(cell.join("result.json")).unwrap();
    let resumed = run(&bench, &["-f", "stage=ann"]);
    let message = text(&resumed.stderr);
    assert!(resumed.status.success() && message.contains("does not record the hash of its data"), "{message}");
    assert_eq!(essence(&bench.results())["rows.csv"], whole["rows.csv"]);
}

#[test]
fn a_row_of_schema_version_1_is_unverified_and_needs_the_configuration_that_made_it() {
    let bench = bench();
    finish(&bench, &["-f", "stage=ann"]);
    let (id, _) = cells(&bench).remove(0);
    let cell = bench.results().join("cells").join(&id);
    let store = Store::existing(&bench.results()).unwrap();
    let plan = store.plan().unwrap();
    change_record(&cell, |record| {
        record["schema_version"] = json!(1);
        record["series_id"] = Value::Null;
        record["protocol_id"] = json!(plan.cells[0].protocol_id);
    });
    store.rebuild_csv(&plan).unwrap();
    assert_eq!(protocol_id(&bench.results()), "cifar10/official;unverified;size=32;augment=none;selection=last");

    let config = cell.join("config.toml");
    let changed = fs::read_to_string(&config).unwrap().replace("momentum = 0.9", "momentum = 0.8");
    fs::write(&config, changed).unwrap();
    let error = store.rebuild_csv(&plan).unwrap_err();
    assert_eq!(code_of(&error), Code::Data);
    let message = error.to_string();
    for part in ["config.toml", "it was changed", "restore it, or remove the cell's folder"] {
        assert!(message.contains(part), "`{part}` is not in {message}");
    }
}

#[test]
fn a_row_names_the_official_checksum_only_for_verified_data() {
    let bench = bench();
    finish(&bench, &["-f", "stage=ann"]);
    let protocol = "cifar10/official;unverified:train=20,test=4;size=32;augment=none;selection=last";
    assert_eq!(protocol_id(&bench.results()), protocol);
    let store = Store::existing(&bench.results()).unwrap();
    assert!(store.plan().unwrap().cells[0].protocol_id.contains("md5:c32a1d4ab5d03f1284b67883e8d87530"));
}

#[test]
fn an_evaluation_on_other_data_says_so_and_writes_its_predictions() {
    let bench = bench();
    finish(&bench, &["-f", "stage=ann"]);
    let (id, before) = cells(&bench).remove(0);
    let cell = format!("results/tiny/cells/{id}");
    let eval = || {
        let output = bench.harness(&["eval", &cell, "--data-dir", "data", "--predictions", "p.npy"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr), fs::read(bench.path().join("p.npy")).unwrap())
    };
    let (printed, said, predictions) = eval();
    assert!(!said.contains("were trained on") && !printed.contains("predictions"), "{said} {printed}");
    assert_eq!(predictions, fs::read(bench.path().join(&cell).join("predictions.npy")).unwrap());
    write_data(&bench, 11);
    let (_, said, _) = eval();
    assert!(said.contains(&format!("were trained on data of the hash {before}")), "{said}");
}

#[test]
fn results_of_different_data_are_not_joined() {
    let bench = bench();
    finish(&bench, &[]);
    let before = cells(&bench);
    write_data(&bench, 11);
    finish(&bench, &["--out", "other"]);
    let other = Store::existing(&bench.path().join("other")).unwrap();
    let after = other.result(&before[0].0).unwrap().unwrap();
    let after_hash = after.record.data_hash.clone().unwrap();

    // The data come first: results of other kernels on other data are no duplicates.
    let mut foreign = after;
    foreign.record.numerics = Some("cpu-of-another-kind".into());
    let store = Store::existing(&bench.results()).unwrap();
    let error = store.commit(&before[0].0, &foreign).unwrap_err();
    assert_eq!(code_of(&error), Code::Data);
    assert!(error.to_string().contains(&before[0].1) && error.to_string().contains(&after_hash), "{error}");

    let refused = || {
        let merge = bench.harness(&["merge", "results/tiny", "other", "--out", "joined"]);
        let message = text(&merge.stderr);
        assert_eq!(merge.status.code(), Some(3), "{message}");
        for part in
            ["results/tiny", "other", &before[0].1, &after_hash, "`harness report results/tiny other --out DIR`"]
        {
            assert!(message.contains(part), "`{part}` is not in {message}");
        }
        assert!(!bench.path().join("joined").exists(), "nothing was written");
    };
    refused();
    // No cell is in both folders, but they are of one data set and protocol.
    fs::remove_dir_all(store.cell_folder(&before[2].0)).unwrap();
    before[..2].iter().for_each(|(id, _)| fs::remove_dir_all(other.cell_folder(id)).unwrap());
    refused();

    // The same data: joined, with their predictions.
    fs::remove_dir_all(bench.path().join("other")).unwrap();
    write_data(&bench, 7);
    finish(&bench, &["--out", "other"]);
    let merge = bench.harness(&["merge", "results/tiny", "other", "--out", "joined"]);
    assert!(merge.status.success(), "{}", text(&merge.stderr));
    let joined = bench.path().join("joined/cells").join(&before[2].0).join("predictions.npy");
    assert_eq!(fs::read(joined).unwrap(), fs::read(other.cell_folder(&before[2].0).join("predictions.npy")).unwrap());
}

#[test]
fn a_folder_that_holds_results_of_different_data_alone_is_named_once() {
    let bench = bench();
    finish(&bench, &[]);
    let (id, before) = cells(&bench).remove(1);
    let other = "0123456789abcdef";
    change_record(&bench.results().join("cells").join(&id), |record| record["data_hash"] = json!(other));
    let merge = bench.harness(&["merge", "results/tiny", "results/tiny", "--out", "joined"]);
    let message = text(&merge.stderr);
    assert_eq!(merge.status.code(), Some(3), "{message}");
    for part in ["results/tiny alone holds", &before, other, "--fresh"] {
        assert!(message.contains(part), "`{part}` is not in {message}");
    }
    assert!(!message.contains("harness report") && !bench.path().join("joined").exists(), "{message}");
}

#[test]
fn a_result_of_other_kernels_that_stays_keeps_its_files() {
    let bench = Bench::new();
    bench.finish();
    let join = || bench.harness(&["merge", "results/tiny", "results/tiny", "--out", "joined"]);
    assert!(join().status.success());
    let first = Store::existing(&bench.results()).unwrap().plan().unwrap().cells[0].cell_id.clone();
    let cell = bench.path().join("joined/cells").join(first);
    change_record(&cell, |record| record["numerics"] = json!("cpu-of-another-kind"));
    let names = ["weights.safetensors", "log"];
    names.iter().for_each(|name| fs::write(cell.join(name), "theirs").unwrap());
    let again = join();
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("cpu-of-another-kind"), "{}", text(&again.stderr));
    names.iter().for_each(|name| assert_eq!(fs::read_to_string(cell.join(name)).unwrap(), "theirs", "{name}"));
}

#[test]
fn predictions_hold_the_share_that_the_row_reports_and_leave_with_their_result() {
    let bench = Bench::new();
    bench.finish();
    let store = Store::existing(&bench.results()).unwrap();
    for cell in store.plan().unwrap().cells {
        let bytes = fs::read(store.cell_folder(&cell.cell_id).join("predictions.npy")).unwrap();
        let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let images: Vec<&[u8]> = bytes[header..].chunks_exact(5).collect();
        // The first images of the classes in turn.
        let labels: Vec<u8> = images.iter().map(|image| image[0]).collect();
        assert_eq!(labels, (0..10).chain(0..6).collect::<Vec<u8>>());
        assert!(images.iter().all(|image| (image[4] == 1) == (image[..2] == image[2..4])));
        let right = images.iter().filter(|image| image[4] == 1).count() as f64;
        let top1 = store.result(&cell.cell_id).unwrap().unwrap().record.top1_last.unwrap();
        assert_eq!(right / images.len() as f64, top1, "{}", cell.cell_id);
    }
    let first = store.plan().unwrap().cells[0].cell_id.clone();
    let lock = harness::lock::Lock::take(&store.cell_folder(&first)).unwrap().unwrap();
    store.forget(&first, &lock).unwrap();
    assert!(!store.cell_folder(&first).join("predictions.npy").exists());
}

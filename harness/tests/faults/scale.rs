//! Ten thousand finished cells.

use crate::bench::{Bench, TINY, text};
use harness::store::{CellResult, Store};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Wall time and peak resident memory (bytes, sampled) of a command that must succeed.
fn measure(bench: &Bench, words: &[&str]) -> (Duration, u64) {
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let mut child = command.args(words).current_dir(bench.path()).stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0u64) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{words:?}: {status}");
            return (started.elapsed(), peak);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn status_and_report_of_ten_thousand_cells_take_seconds_and_200_mb() {
    const SEEDS: u64 = 3334; // × (ANN, T = 2, T = 1)
    const EPOCHS: usize = 50;
    let bench = Bench::in_folder(std::env::temp_dir(), TINY);
    bench.finish();
    let store = Store::existing(&bench.results()).unwrap();
    let mut plan = store.plan().unwrap();
    let planned = std::mem::take(&mut plan.cells);
    for cell in &planned {
        let original = store.result(&cell.cell_id).unwrap().unwrap();
        for seed in 0..SEEDS {
            let renamed = |id: &str| id.replace("-s0-", &format!("-s{seed}-"));
            let mut result: CellResult = original.clone();
            let id = renamed(&cell.cell_id);
            result.record.cell_id.clone_from(&id);
            result.record.parent_cell = result.record.parent_cell.as_deref().map(renamed);
            result.record.seed = seed;
            result.curves = (0..EPOCHS)
                .map(|epoch| {
                    let mut point = original.curves[0].clone();
                    (point.cell_id, point.epoch) = (id.clone(), epoch);
                    point
                })
                .collect();
            result.anytime.iter_mut().for_each(|point| point.cell_id.clone_from(&id));
            result.fdg.iter_mut().for_each(|point| point.cell_id.clone_from(&id));
            result.layers.iter_mut().for_each(|point| point.cell_id.clone_from(&id));
            fs::create_dir_all(store.cell_folder(&id)).unwrap();
            let path = store.cell_folder(&id).join("result.json");
            fs::write(path, serde_json::to_vec_pretty(&result).unwrap()).unwrap();
            let mut planned = cell.clone();
            (planned.parent_cell, planned.seed) = (cell.parent_cell.as_deref().map(renamed), seed);
            planned.cell_id = id;
            plan.cells.push(planned);
        }
    }
    store.write_plan(&plan).unwrap();
    let started = Instant::now();
    store.rebuild_csv(&plan).unwrap();
    println!("{} cells: rebuilding the CSV files {:?}", plan.cells.len(), started.elapsed());
    for words in [&["status", "results/tiny"][..], &["status", "results/tiny", "--json"], &["report", "results/tiny"]] {
        let (time, memory) = measure(&bench, words);
        println!("{words:?}: {time:?}, {} MB", memory >> 20);
        // Three times the goal, for machines that do other things too.
        assert!(time < Duration::from_secs(15), "{words:?}: {time:?}");
        assert!(memory < 200 << 20, "{words:?}: {} MB", memory >> 20);
    }
    let counted = bench.harness(&["status", "results/tiny"]);
    assert!(text(&counted.stdout).contains("10002 done"), "{}", text(&counted.stdout));
}

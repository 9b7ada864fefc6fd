//! kill −9 anywhere, the same command again: the same bytes.

use crate::bench::{Bench, TINY, assert_same, blanked_csv, each, essence, text};
use crate::syscalls::{inject, points, signal};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn killed_at_any_call_that_changes_the_disk_a_run_goes_on_to_the_same_bytes() {
    let Some(points) = points("killed_at_any_call_that_changes_the_disk_a_run_goes_on_to_the_same_bytes") else {
        return;
    };
    assert!(points.len() >= 150, "{} points", points.len());
    each(&points, |point| {
        let bench = Bench::new();
        let threads = 1 + point.nth % 2;
        let output = inject(&bench, point, "signal=SIGKILL", threads);
        assert_eq!(output.status.signal(), Some(9), "{point:?}: {}", text(&output.stderr));
        bench.finish();
        bench.assert_whole();
    });
    println!("{} kills, one at every call", points.len());
}

#[test]
fn a_kill_just_before_the_commit_costs_no_epoch() {
    let Some(points) = points("a_kill_just_before_the_commit_costs_no_epoch") else { return };
    let commits: Vec<_> =
        points.iter().filter(|p| p.call.starts_with("rename") && p.line.contains("result.json")).collect();
    assert_eq!(commits.len(), 3);
    for (i, commit) in commits.into_iter().enumerate() {
        let bench = Bench::new();
        assert_eq!(inject(&bench, commit, "signal=SIGKILL", 1).status.signal(), Some(9));
        let again = text(&bench.finish().stderr);
        assert_eq!(again.matches("epoch 1/1").count(), 2 - i, "{again}");
        bench.assert_whole();
    }
}

#[test]
fn random_kills_leave_the_same_bytes_and_the_same_report() {
    let wanted = std::env::var("HARNESS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let suite = TINY.replace("ann = { epochs = 1", "ann = { epochs = 8");
    let whole = Bench::of(&suite);
    let started = Instant::now();
    whole.finish();
    let span = started.elapsed().as_millis() as u64;
    let expected = essence(&whole.results());
    let expected_report = rendered_without_clocks(&whole.results());
    let mut random = 0x9e37_79b9_7f4a_7c15u64 ^ wanted; // another number of kills, other moments
    let (mut kills, mut runs) = (0, 0);
    while kills < wanted {
        let bench = Bench::of(&suite);
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pause = Duration::from_millis((random >> 33) % (span * 11 / 10));
            let mut command = bench.command_after(&[], 1 + (random >> 40) as usize % 2);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(pause);
            // One in four is asked to save first; it may not listen yet.
            signal(child.id(), if (random >> 50).is_multiple_of(4) { "TERM" } else { "KILL" });
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            assert!(matches!((status.signal(), status.code()), (Some(9 | 15), _) | (_, Some(75))), "{status}");
            kills += 1;
        }
        runs += 1;
        assert_same(&essence(&bench.results()), &expected);
        assert_eq!(rendered_without_clocks(&bench.results()), expected_report);
    }
    println!("{kills} random kills over {runs} runs: every file the same");
}

/// The report of the same rows with their volatile columns blank, every file of it.
fn rendered_without_clocks(results: &Path) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("tiny");
    fs::create_dir(&copy).unwrap();
    let plan = fs::read_to_string(results.join("run.json")).unwrap();
    fs::write(copy.join("run.json"), plan.replace("--threads 2", "--threads 1")).unwrap();
    for entry in fs::read_dir(results).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "csv") {
            fs::write(copy.join(entry.file_name()), blanked_csv(&entry.path())).unwrap();
        }
    }
    report::render(&copy).unwrap();
    let own = folder.path().to_str().unwrap().to_string();
    let files = fs::read_dir(copy.join("report")).unwrap().map(|entry| entry.unwrap().path());
    let content = |path: &Path| text(&fs::read(path).unwrap()).replace(&own, "").into_bytes();
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), content(&path))).collect()
}

#[test]
fn a_signal_saves_exits_75_and_loses_nothing() {
    let suite = TINY.replace("ann = { epochs = 1", "ann = { epochs = 40");
    let whole = Bench::of(&suite);
    whole.finish();
    for name in ["INT", "TERM", "USR2"] {
        let bench = Bench::of(&suite);
        let mut command = bench.command();
        command.env_remove("HARNESS_SAVE_SECONDS").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("epoch 2/40")));
        signal(child.id(), name);
        let asked = Instant::now();
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(75), "SIG{name}: {rest:?}");
        assert!(asked.elapsed() < Duration::from_secs(10), "SIG{name} took {:?}", asked.elapsed());
        assert!(rest.last().unwrap().contains("saved"), "{rest:?}");
        let again = text(&bench.finish().stderr);
        assert!(!again.contains("epoch 1/40") && !again.contains("epoch 2/40"), "SIG{name}: {again}");
        assert_same(&essence(&bench.results()), &essence(&whole.results()));
    }
}

#[test]
fn every_file_is_synced_before_its_rename_and_its_folder_after() {
    // Kills do not prove it, for what was written survives them in memory; the order of the calls does.
    let Some(points) = points("every_file_is_synced_before_its_rename_and_its_folder_after") else { return };
    let mut renames = 0;
    for (i, point) in points.iter().enumerate() {
        if !point.call.starts_with("rename") || point.line.contains("/report") {
            continue;
        }
        renames += 1;
        let (before, after) = (&points[i - 1], &points[i + 1]);
        assert!(before.call == "fsync" && before.line.contains("/.tmp-"), "{point:?} after {before:?}");
        assert!(after.call == "fsync" && !after.line.contains("/.tmp-"), "{point:?} before {after:?}");
    }
    assert!(renames >= 30, "{renames}");
}

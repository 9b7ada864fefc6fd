//! Several processes on one result folder.

use crate::bench::{Bench, TINY, assert_same, essence, has, text};
use crate::syscalls::signal;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A run that is in the midst of its first cell, under `wrapper`.
fn training(bench: &Bench, wrapper: &[&str]) -> Child {
    let mut command = bench.command_after(wrapper, 1);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("epoch ")));
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn long() -> Bench {
    Bench::of(&TINY.replace("ann = { epochs = 1,", "ann = { epochs = 100000,"))
}

#[test]
fn the_second_writer_of_a_cell_leaves_it_and_exits_75() {
    let bench = long();
    let mut first = training(&bench, &[]);
    let second = bench.command().output().unwrap();
    let message = text(&second.stderr);
    assert_eq!(second.status.code(), Some(75), "{message}");
    assert!(message.contains("held by another process") && !message.contains("epoch"), "{message}");
    let status = bench.harness(&["status", "results/tiny"]);
    assert!(text(&status.stdout).contains("1 running"), "{}", text(&status.stdout));
    let fresh = bench.command().arg("--fresh").output().unwrap();
    assert_eq!(fresh.status.code(), Some(75), "{}", text(&fresh.stderr));
    assert!(first.try_wait().unwrap().is_none(), "the first one must not notice");
    first.kill().unwrap();
    first.wait().unwrap();
    // The kernel has let go of the lock.
    let mut third = training(&bench, &[]);
    third.kill().unwrap();
    third.wait().unwrap();
}

#[test]
fn where_the_file_system_has_no_locks_a_lease_stands_for_them() {
    let test = "where_the_file_system_has_no_locks_a_lease_stands_for_them";
    if !has("strace", test) {
        return;
    }
    let without = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"];
    let bench = Bench::new();
    let output = bench.command_after(&without, 1).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    bench.assert_whole(); // no lease is left

    let bench = long();
    let mut first = training(&bench, &without);
    let second = bench.command_after(&without, 1).output().unwrap();
    let message = text(&second.stderr);
    assert_eq!(second.status.code(), Some(75), "{message}");
    assert!(message.contains("LEASE") && message.contains("held by another process"), "{message}");
    let lease =
        walkdir::WalkDir::new(bench.results()).into_iter().map(Result::unwrap).find(|e| e.file_name() == "LEASE");
    let holder: serde_json::Value = serde_json::from_slice(&std::fs::read(lease.unwrap().path()).unwrap()).unwrap();
    signal(holder["pid"].as_u64().unwrap() as u32, "KILL");
    first.wait().unwrap();
    let mut third = training(&bench, &without); // takes the dead one's place
    third.kill().unwrap();
    third.wait().unwrap();
    // strace is gone, its child is let run on: end that too.
    for entry in walkdir::WalkDir::new(bench.results()).into_iter().map(Result::unwrap) {
        if entry.file_name() == "LEASE" {
            let holder: serde_json::Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
            std::process::Command::new("kill").args(["-KILL", &holder["pid"].to_string()]).output().ok();
        }
    }
}

#[test]
fn sixteen_processes_train_each_of_64_cells_once_and_leave_the_rows_of_one() {
    // 32 × (ANN, T = 1).
    let seeds: Vec<u64> = (0..32).collect();
    let suite = TINY.replace("seeds = [0]", &format!("seeds = {seeds:?}")).replace("[2, 1]", "[1]");
    let serial = Bench::of(&suite);
    serial.finish();
    let together = Bench::of(&suite);
    let trained = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let output = together.command().output().unwrap();
                    let message = text(&output.stderr);
                    trained.fetch_add(message.matches("  done: ").count(), Ordering::Relaxed);
                    match output.status.code() {
                        Some(0) => break,
                        Some(75) => std::thread::sleep(std::time::Duration::from_millis(50)),
                        other => panic!("{other:?}: {message}"),
                    }
                }
            });
        }
    });
    assert_eq!(trained.into_inner(), 64);
    assert_same(&essence(&together.results()), &essence(&serial.results()));
}

//! The system calls of a run at which the state on disk changes, one by one (after SQLite's crash tests).

use crate::bench::{Bench, has, text};
use std::collections::HashMap;
use std::process::{Command, Output};

/// The `nth` call of that name, from 1, and what it was about.
#[derive(Clone, Debug)]
pub struct Point {
    pub call: &'static str,
    pub nth: usize,
    pub line: String,
}

/// Between two of these nothing on disk changes but by opening a new, empty file: a kill at each of them meets every
/// state that a kill anywhere can leave.
const CALLS: [&str; 7] = ["write", "fsync", "renameat", "rename", "unlink", "mkdir", "flock"];

/// Every such call of an uninterrupted run, from a trace; `None` without strace. The report is made of two dozen files
/// in one way: its first two of each call stand for them.
pub fn points(test: &str) -> Option<Vec<Point>> {
    if !has("strace", test) {
        return None;
    }
    let bench = Bench::new();
    let log = bench.path().join("trace");
    let trace = format!("trace={}", CALLS.join(","));
    let words = ["strace", "-f", "-y", "-e", &trace, "-o", log.to_str().unwrap()];
    let output = bench.command_after(&words, 1).output().unwrap();
    if !output.status.success() {
        println!("{test}: skipped, strace cannot trace here: {}", text(&output.stderr));
        return None;
    }
    let (mut seen, mut of_report, mut points) = (HashMap::new(), HashMap::new(), Vec::new());
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let start = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
        let Some(call) = CALLS.into_iter().find(|call| start.strip_prefix(call).is_some_and(|r| r.starts_with('(')))
        else {
            continue;
        };
        let nth: &mut usize = seen.entry(call).or_default();
        *nth += 1;
        let reports: &mut usize = of_report.entry(call).or_default();
        *reports += usize::from(start.contains("/report"));
        // A folder that is there already is asked for again and again.
        let repeated = call == "mkdir" && (*nth > 8 || start.contains("EEXIST"));
        if !repeated && (!start.contains("/report") || *reports <= 2) {
            points.push(Point { call, nth: *nth, line: start.to_string() });
        }
    }
    Some(points)
}

/// The run with `what` injected at a point (`signal=SIGKILL`, `error=ENOSPC` …).
pub fn inject(bench: &Bench, point: &Point, what: &str, threads: usize) -> Output {
    let rule = format!("inject={}:{what}:when={}", point.call, point.nth);
    let trace = format!("trace={}", point.call);
    bench
        .command_after(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &rule], threads)
        .args(["--jobs", "1"]) // cells side by side make their calls in any order
        .output()
        .unwrap()
}

/// Sends a signal by the shell's own tool.
pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

//! Too little memory: a run that is ended for it goes on to the same bytes, and no file makes a reader ask for much.

use crate::bench::{Bench, has, text};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

/// A control group with a memory limit, as a job of a cluster has one; its processes are killed by the kernel.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Option<Self> {
        let group = Self(PathBuf::from(format!("/sys/fs/cgroup/memory/harness-{name}-{}", std::process::id())));
        fs::create_dir(&group.0).ok()?;
        group.limit(64 << 20).then_some(group)
    }

    fn limit(&self, bytes: u64) -> bool {
        fs::write(self.0.join("memory.limit_in_bytes"), bytes.to_string()).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_run_killed_for_its_memory_goes_on_to_the_same_bytes() {
    let Some(group) = Group::new("oom") else {
        println!("a_run_killed_for_its_memory_goes_on_to_the_same_bytes: skipped, no memory control group can be made");
        return;
    };
    let bench = Bench::new();
    let (mut killed, mut limit) = (0, 4u64 << 20);
    loop {
        assert!(group.limit(limit) && limit < 4 << 30);
        // The shell enters the group, then becomes the harness.
        let enter = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", group.0.display());
        let output = bench.command_after(&["sh", "-c", &enter], 1).output().unwrap();
        match output.status.signal() {
            Some(9) => killed += 1,
            _ if output.status.success() => break,
            other => panic!("{other:?} {:?} at {limit} bytes: {}", output.status, text(&output.stderr)),
        }
        limit += 1 << 20;
    }
    println!("{killed} kills for memory, then {} MiB were enough", limit >> 20);
    assert!(killed >= 5, "{killed}");
    bench.assert_whole();
}

#[test]
fn an_allocation_that_fails_costs_no_result() {
    let test = "an_allocation_that_fails_costs_no_result";
    if !has("prlimit", test) {
        return;
    }
    let bench = Bench::new();
    let (mut refused, mut megabytes) = (0, 40);
    while !{
        let limit = format!("--as={}", megabytes << 20);
        let output = bench.command_after(&["prlimit", &limit], 1).output().unwrap();
        let message = text(&output.stderr);
        assert!(!message.contains("not deterministic"), "{message}");
        output.status.success()
    } {
        (refused, megabytes) = (refused + 1, megabytes * 9 / 8);
        assert!(megabytes < 1 << 16);
    }
    println!("{refused} runs without enough address space, then {megabytes} MiB were enough");
    assert!(refused >= 2, "{refused}");
    bench.assert_whole();
}

/// A safetensors file with this many entries of no elements.
fn entries(n: usize) -> Vec<u8> {
    let entry = |i: usize| format!("\"t{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let header = format!("{{{}}}", (0..n).map(entry).collect::<Vec<_>>().join(","));
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes()].concat()
}

#[test]
fn a_header_of_a_hundred_thousand_entries_is_refused_in_little_memory() {
    let bench = Bench::new();
    bench.finish();
    let cells = fs::read_dir(bench.results().join("cells")).unwrap().map(|entry| entry.unwrap().path());
    let cell = cells.into_iter().find(|path| path.to_str().unwrap().contains("-ann-")).unwrap();
    let weights = cell.join("weights.safetensors");
    let good = fs::read(&weights).unwrap();
    for n in [100_000, 200_000] {
        fs::write(&weights, entries(n)).unwrap();
        // Within 600 MB of address space, of which the program itself takes most.
        for words in [vec!["eval", cell.to_str().unwrap()], vec!["parity", weights.to_str().unwrap()]] {
            let mut command = if has("prlimit", "the limit of address space") {
                let mut command = Command::new("prlimit");
                command.args(["--as=629145600", env!("CARGO_BIN_EXE_harness")]);
                command
            } else {
                Command::new(env!("CARGO_BIN_EXE_harness"))
            };
            let output = command.args(["--threads", "1"]).args(&words).current_dir(bench.path()).output().unwrap();
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{words:?}: {message}");
            assert!(message.contains("weights.safetensors") && message.len() < 2000, "{} bytes", message.len());
        }
        // As a checkpoint it counts as damaged, and training starts anew.
        fs::write(&weights, &good).unwrap();
        fs::remove_file(cell.join("result.json")).unwrap();
        fs::write(cell.join("checkpoint-000000-00000001.safetensors"), entries(n)).unwrap();
        let again = text(&bench.finish().stderr);
        assert!(again.contains("checkpoint-000000-00000001"), "{again}");
        bench.assert_whole();
    }
}

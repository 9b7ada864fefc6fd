//! Several processes under mpirun: the bits of one, whoever is killed. Built with `--features mpi` only.
#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use harness::store::{CellResult, blanked};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// An ANN and a spiking stage with FDG, audited; 36 images in batches of 8, the last one short of shards.
const SUITE: &str = r#"
name = "ranks"
title = "a test"
audit = true
[[method]]
name = "dspike"
surrogate = { name = "dspike", temperature = 1.0 }
fdg = true
start = "tit"
[[experiment]]
methods = ["dspike"]
time-steps = [2]
seeds = [0]
batch = 8
shards = 4
momentum = 0.9
network = { architecture = "resnet18", width = 2, norm = "tdbn", neuron = { tau = 0.25, v-th = 0.5, reset = "hard", detach-reset = false } }
data = { dataset = "sign-digits", split = "students", size = 32, augment = ["crop4", "flip"], limit = 36 }
fdg = { epsilon = 0.1, step = 0.2, floor = 0.2, cap = 20.0, batch = 2 }
[experiment.recipe]
ann = { epochs = 2, lr = 0.05, weight-decay = 0.0001 }
first = { epochs = 2, lr = 0.05, weight-decay = 0.0001 }
"#;

/// Long enough to be stopped in the middle.
const LONGEST: Duration = Duration::from_secs(240);

struct Bench(tempfile::TempDir);

impl Bench {
    /// `None`, by name, where there is no mpirun.
    fn new(test: &str) -> Option<Self> {
        if Command::new("mpirun").arg("--version").output().is_err() {
            eprintln!("skipped {test}: needs mpirun (Open MPI)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ranks.toml"), SUITE).unwrap();
        Some(Self(folder))
    }

    fn out(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self, processes: usize, out: &str, options: &[&str]) -> Child {
        let mut command = Command::new("mpirun");
        command.args(["--oversubscribe", "--bind-to", "none", "-n", &processes.to_string()]);
        command
            .arg(env!("CARGO_BIN_EXE_harness"))
            .args(["suite", "ranks.toml", "--threads", "1", "--out", out])
            .args(options);
        command.current_dir(self.0.path()).env("HARNESS_SAVE_SECONDS", "0");
        // Root, in a container, and without the calls that copy from process to process.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn finish(&self, processes: usize, out: &str, options: &[&str]) -> Output {
        self.start(processes, out, options).wait_with_output().unwrap()
    }

    /// Waits until the spiking cell has a checkpoint.
    fn wait_for_checkpoint(&self, out: &str) {
        let started = Instant::now();
        while !names(&self.out(out).join("cells"))
            .iter()
            .any(|path| path.contains("dspike") && path.contains("checkpoint"))
        {
            assert!(started.elapsed() < LONGEST, "no checkpoint");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every cell's weights and momentum, and its result without clocks.
    fn essence(&self, out: &str) -> BTreeMap<String, (Vec<u8>, String)> {
        let cells = fs::read_dir(self.out(out).join("cells")).unwrap().map(|cell| {
            let cell = cell.unwrap();
            let weights = fs::read(cell.path().join("weights.safetensors")).unwrap();
            let header = u64::from_le_bytes(*weights.first_chunk::<8>().unwrap()) as usize;
            let result = fs::read(cell.path().join("result.json")).unwrap();
            let result: CellResult = serde_json::from_slice(&result).unwrap();
            assert!(!result.record.cell_id.contains("dspike") || !result.fidelity.is_empty());
            let result = blanked(&result).unwrap().to_string();
            (cell.file_name().into_string().unwrap(), (weights[8 + header..].to_vec(), result))
        });
        cells.collect()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// The process of that rank which `mpirun` started.
fn process_of(mpirun: u32, rank: usize) -> u32 {
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let parent = fs::read_to_string(format!("/proc/{pid}/stat"));
        let parent = parent.ok().and_then(|stat| stat.rsplit(") ").next()?.split(' ').nth(1)?.parse::<u32>().ok());
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        parent == Some(mpirun) && environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes())
    };
    pids.into_iter().find(is_child).expect("no process of that rank")
}

#[test]
fn one_two_and_four_processes_leave_the_same_bytes() {
    let Some(bench) = Bench::new("one_two_and_four_processes_leave_the_same_bytes") else { return };
    for processes in [1, 2, 4] {
        let output = bench.finish(processes, &processes.to_string(), &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        // One process speaks.
        assert_eq!(text(&output.stderr).matches("[2/2]").count(), 1, "{}", text(&output.stderr));
    }
    let one = bench.essence("1");
    assert_eq!(one.len(), 2);
    assert_eq!(one, bench.essence("2"));
    assert_eq!(one, bench.essence("4"));
}

#[test]
fn a_killed_process_ends_the_job_and_the_same_command_goes_on_to_the_same_bytes() {
    let Some(bench) = Bench::new("a_killed_process_ends_the_job") else { return };
    assert!(bench.finish(1, "whole", &[]).status.success());
    for victim in [0, 1] {
        let out = format!("killed-{victim}");
        let job = bench.start(2, &out, &[]);
        bench.wait_for_checkpoint(&out);
        signal("-KILL", process_of(job.id(), victim));
        let output = job.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("exited on signal 9 (Killed)"), "{}", text(&output.stderr));
        let output = bench.finish(2, &out, &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(bench.essence("whole"), bench.essence(&out));
    }
}

#[test]
fn a_signal_to_mpirun_saves_and_four_processes_go_on_where_two_stopped() {
    let Some(bench) = Bench::new("a_signal_to_mpirun_saves") else { return };
    assert!(bench.finish(1, "whole", &[]).status.success());
    let job = bench.start(2, "stopped", &[]);
    bench.wait_for_checkpoint("stopped");
    signal("-USR2", job.id());
    let output = job.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert_eq!(said.matches("harness: stopped by a signal").count(), 1, "{said}");
    let output = bench.finish(4, "stopped", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(bench.essence("whole"), bench.essence("stopped"));
}

#[test]
fn what_is_wrong_for_all_is_said_once() {
    let Some(bench) = Bench::new("what_is_wrong_for_all_is_said_once") else { return };
    for (options, code, sentence) in [
        (&["--shards", "2"][..], 2, "3 processes, but a batch of sign-digits-resnet18-ann-s0-"),
        (&["--shards", "3"], 2, "--shards 3: the batch of 8 images of sign-digits has no so many equal parts"),
        (&["-f", "method=none"], 2, "no cell of this suite has that method"),
    ] {
        let output = bench.finish(3, "wrong", options);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(said.matches("harness: ").count(), 1, "{said}");
        assert!(said.contains(sentence), "{said}");
    }
    // Nothing is to be computed: one process answers.
    let output = bench.finish(3, "none", &["--dry-run"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).matches("Nothing was run.").count(), 1);
}

//! The binary as a person uses it: commands, exit codes, sentences.
use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use std::fs;
use std::path::Path;

const TINY: &str = r#"
name = "tiny"
title = "a test"
[[method]]
name = "dspike"
surrogate = { name = "dspike", temperature = 1.0 }
fdg = true
start = "tit"
[[method]]
name = "rectangle"
surrogate = { name = "rectangle", width = 1.0 }
start = "tit"
[[experiment]]
methods = ["dspike", "rectangle"]
time-steps = [2, 1]
seeds = [0]
batch = 8
momentum = 0.9
network = { architecture = "resnet18-plain", width = 4, norm = "bn", neuron = { tau = 0.25, v-th = 0.5, reset = "hard", detach-reset = false } }
data = { dataset = "sign-digits", split = "students", size = 32, augment = ["crop4"], limit = 16 }
fdg = { epsilon = 0.1, step = 0.2, floor = 0.2, cap = 20.0, batch = 2 }
[experiment.recipe]
ann = { epochs = 1, lr = 0.1, weight-decay = 0.0005 }
first = { epochs = 1, lr = 0.05, weight-decay = 0.0001 }
later = { epochs = 1, lr = 0.02, weight-decay = 0.0001 }
"#;

/// The binary in a fresh folder with `suites/tiny.toml`.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(suite: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("suites")).unwrap();
        fs::write(folder.path().join("suites/tiny.toml"), suite).unwrap();
        Self(folder)
    }

    fn run(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        Command::cargo_bin("harness").unwrap().current_dir(self.0.path()).args(args).assert()
    }

    /// Runs a command that is refused with exit 2 and a sentence, never a panic.
    fn refused(&self, args: &[&str], sentence: &str) {
        self.run(args).code(2).stdout("").stderr(contains(sentence).and(contains("panicked").not()));
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn rows(&self) -> Vec<std::collections::HashMap<String, String>> {
        let mut reader = csv::Reader::from_path(self.path().join("results/tiny/rows.csv")).unwrap();
        reader.deserialize().map(|row| row.unwrap()).collect()
    }
}

#[test]
fn a_suite_leaves_rows_curves_and_a_report_and_is_not_computed_twice() {
    let bench = Bench::new(TINY);
    bench.run(&["suite", "tiny"]).success().stdout(contains("rows.csv").and(contains("index.html")));
    let rows = bench.rows();
    assert_eq!(rows.len(), 5); // one ANN for both chains, then T = 2 and T = 1 each
    assert!(rows.iter().all(|row| row["status"] == "done" && row["top1_last"].parse::<f64>().is_ok()));
    for row in &rows {
        let parent = &row["parent_cell"];
        assert_eq!(parent.is_empty(), row["method"] == "ann");
        assert!(parent.is_empty() || rows.iter().any(|other| other["cell_id"] == *parent));
    }
    let results = bench.path().join("results/tiny");
    for file in ["curves.csv", "anytime.csv", "fdg.csv", "layers.csv", "report/index.html", "report/report.md"] {
        assert!(fs::metadata(results.join(file)).unwrap().len() > 0, "{file}");
    }
    for row in &rows {
        let cell = results.join("cells").join(&row["cell_id"]);
        let metrics = fs::read_to_string(cell.join("metrics.jsonl")).unwrap();
        let points: Vec<serde_json::Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(points.len() == 1 && points[0]["test_top1"].as_f64().unwrap().to_string() == row["top1_last"]);
        let log = fs::read_to_string(cell.join("log")).unwrap();
        let told: Vec<&str> = log.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
        assert!(told[0].ends_with(&row["cell_id"]) && told[1].starts_with("epoch 1/1: loss"), "{log}");
        assert!(told.len() == 3 && told[2].starts_with("done: test"), "{log}");
    }
    let before = fs::read(results.join("rows.csv")).unwrap();
    bench.run(&["suite", "tiny"]).success().stderr(contains("epoch").not());
    assert_eq!(before, fs::read(results.join("rows.csv")).unwrap());
    bench.run(&["status", "results/tiny"]).success().stdout(contains("5 done"));
}

#[test]
fn a_filter_brings_the_parents_along_and_status_counts_the_rest() {
    let bench = Bench::new(TINY);
    bench.run(&["suite", "tiny", "-f", "method=rectangle", "-f", "time-steps=1"]).success();
    assert_eq!(bench.rows().len(), 3);
    bench.run(&["status", "results/tiny"]).code(5).stdout(contains("3 done, 2 todo"));
}

#[test]
fn two_shards_joined_are_the_whole() {
    let bench = Bench::new(
        &TINY.replace("seeds = [0]", "seeds = [0, 1, 2, 3]").replace("\"dspike\", \"rectangle\"]", "\"rectangle\"]"),
    );
    bench.run(&["suite", "tiny"]).success();
    let whole: Vec<_> = bench.rows();
    let mut folders = vec!["merge".to_string()];
    for shard in ["0/2", "1/2"] {
        let out = format!("part{}", &shard[..1]);
        bench.run(&["suite", "tiny", "--shard", shard, "--out", &out]).success();
        folders.push(out);
    }
    folders.extend(["--out".into(), "joined".into()]);
    bench.run(&folders.iter().map(String::as_str).collect::<Vec<_>>()).success();
    let mut reader = csv::Reader::from_path(bench.path().join("joined/rows.csv")).unwrap();
    let joined: Vec<std::collections::HashMap<String, String>> = reader.deserialize().map(|row| row.unwrap()).collect();
    assert_eq!(joined.len(), whole.len());
    for (a, b) in joined.iter().zip(&whole) {
        let differing: Vec<_> = a.iter().filter(|(k, v)| !report::record::is_volatile(k) && b[*k] != **v).collect();
        assert!(differing.is_empty(), "{differing:?}");
    }
}

#[test]
fn a_diverged_cell_is_a_row_and_the_others_go_on() {
    let bench = Bench::new(&TINY.replace("first = { epochs = 1, lr = 0.05", "first = { epochs = 3, lr = 1e30"));
    bench.run(&["suite", "tiny"]).code(20).stderr(contains("became NaN"));
    let rows = bench.rows();
    let count = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert_eq!((count("done"), count("diverged"), count("failed")), (1, 2, 2));
    let mut diverged = rows.iter().filter(|row| row["status"] == "diverged");
    assert!(diverged.clone().all(|row| row["error"].contains("became NaN in epoch") && row["top1_last"].is_empty()));
    assert!(diverged.any(|row| row["error"].contains("the last finite step was the last of epoch 0")));
    assert!(fs::read_to_string(bench.path().join("results/tiny/report/report.md")).unwrap().contains("diverged"));
}

#[test]
fn wrong_names_get_the_nearest_right_one() {
    let bench = Bench::new(TINY);
    bench.run(&["suite", "tinny"]).code(2).stderr(contains("did you mean `tiny`"));
    bench.run(&["suite", "tiny", "-f", "method=rectangel"]).code(2).stderr(contains("did you mean `rectangle`"));
    bench.run(&["suite", "tiny", "-f", "metod=rectangle"]).code(2).stderr(contains("did you mean `method`"));
    bench.run(&["suite", "tiny", "-f", "method=rectangle", "-f", "stage=t2", "-f", "time-steps=1"]).code(4);
    bench.run(&["siute", "tiny"]).code(2).stderr(contains("suite"));
    bench.run(&["status", "nowhere"]).code(3).stderr(contains("no result folder"));
    let parity = bench.run(&["parity", "nowhere.safetensors"]).code(3).stderr(contains("nowhere.safetensors"));
    parity.stdout("{\"verdict\":\"fail\",\"checks\":[]}\n");
}

#[test]
fn a_wrong_suite_is_refused_before_anything_runs() {
    let cases = [
        ("start = \"tit\"\n[[method]]", "start = \"tit\"\ncolour = 1\n[[method]]", "colour"),
        ("time-steps = [2, 1]", "time-steps = [2, 0]", "time-steps holds 0"),
        ("time-steps = [2, 1]", "time-steps = [1, 2]", "must fall"),
        ("tau = 0.25", "tau = 1.5", "(0, 1]"),
        ("tau = 0.25", "tau = 0.0", "(0, 1]"),
        (
            "surrogate = { name = \"rectangle\", width = 1.0 }",
            "surrogate = { name = \"rectangle\", width = 1.0 }\nfdg = true",
            "has none",
        ),
        ("\"dspike\", \"rectangle\"]", "\"dspike\", \"rectangel\"]", "did you mean `rectangle`"),
        ("dataset = \"sign-digits\"", "dataset = \"sign-digit\"", "sign-digits"),
        ("batch = 8", "batch = 0", "batch = 0"),
        ("weight-decay = 0.0005", "weight-decay = inf", "weight-decay = inf"),
        ("{ name = \"rectangle\"", "{ name = \"rectangel\"", "did you mean `rectangle`?"),
        ("norm = \"bn\"", "norm = \"tdbm\"", "did you mean `tdbn`?"),
        ("momentum = 0.9", "momentun = 0.9", "did you mean `momentum`?"),
        ("ann = { epochs = 1,", "ann = { epochs = 9223372036854775807,", "must lie in 1..=1000000"),
        ("seeds = [0]", "seeds = []", "seeds is empty"),
        ("temperature = 1.0", "temperature = 0.0", "[0.01, 100]"),
        ("architecture = \"resnet18-plain\"", "architecture = \"resnet19\"", "resnet18"),
    ];
    for (from, to, expected) in cases {
        assert!(TINY.contains(from), "{from}");
        let bench = Bench::new(&TINY.replacen(from, to, 1));
        bench.run(&["suite", "tiny"]).code(2).stderr(contains(expected).and(contains("suites/tiny.toml")));
        assert!(!bench.path().join("results").exists(), "{to}");
    }
    let unknown_key = Bench::new(&TINY.replacen("batch = 8", "batch = 8\nbacth = 9", 1));
    unknown_key.run(&["suite", "tiny"]).code(2).stderr(contains("bacth").and(contains("line 18")));
}

#[test]
fn an_output_folder_that_cannot_be_written_is_named_before_training() {
    let bench = Bench::new(TINY);
    fs::write(bench.path().join("taken"), "a file").unwrap();
    bench.run(&["suite", "tiny", "--out", "taken"]).code(74).stderr(contains("taken").and(contains("epoch").not()));
}

#[test]
fn the_papers_grid_is_listed_without_data_or_device() {
    let bench = Bench::new(TINY);
    let out = bench.run(&["list", "cells", "--suite", "paper", "--json"]).success().get_output().stdout.clone();
    let cells: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |dataset: &str| cells.iter().filter(|cell| cell["dataset"] == dataset).count();
    // A seed: one ANN, then nine arms at five T.
    assert_eq!((of("cifar10"), of("cifar100")), (3 * (1 + 9 * 5), 3 * (1 + 9 * 5)));
    assert_eq!(of("cifar10-dvs"), 3 * 5);
    let ids: std::collections::HashSet<_> = cells.iter().map(|cell| cell["cell_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), cells.len());
    assert!(cells.iter().all(|cell| cell["parent"].is_null() || ids.contains(cell["parent"].as_str().unwrap())));
    bench
        .run(&["suite", "paper", "--dry-run"])
        .success()
        .stdout(contains("paper-mini").and(contains("Nothing was run")));
}

#[test]
fn the_known_answers_are_met_on_both_kernel_paths() {
    let bench = Bench::new(TINY);
    bench.run(&["selftest"]).success().stdout(contains("all known answers met"));
    let limited = |instructions: &str| {
        let mut command = Command::cargo_bin("harness").unwrap();
        command.env("HARNESS_INSTRUCTIONS", instructions).arg("selftest").assert()
    };
    limited("portable").success().stdout(contains("cpu-portable"));
    limited("mmx").code(2).stderr(contains("expected portable, avx2 or avx512"));
}

#[test]
fn bench_prints_one_line_of_json() {
    let bench = Bench::new(TINY);
    let args = "bench step --architecture resnet18-plain --width 4 --time-steps 2 --batch 2 --input 3x8x8 --warmup 1 --steps 2 --threads 1 --json";
    let out = bench.run(&args.split(' ').collect::<Vec<_>>()).success().get_output().stdout.clone();
    let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
    for key in [
        "images_per_second",
        "step_seconds_median",
        "forward_seconds",
        "backward_seconds",
        "firing_rate",
        "peak_memory_bytes",
    ] {
        assert!(line[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {line}");
    }
    assert_eq!((line["threads"].as_u64(), line["device"].as_str()), (Some(1), Some("cpu")));
    bench.run(&["bench", "step", "--input", "3x32"]).code(2).stderr(contains("3x32x32"));
}

#[test]
fn a_card_that_is_not_there_is_one_sentence_and_never_the_cpu() {
    let bench = Bench::new(TINY);
    // With the feature `cuda` on a machine without a driver, the sentence is another.
    let sentence = if cfg!(feature = "cuda") { "no usable CUDA driver" } else { "built without CUDA" };
    for args in [
        &["suite", "tiny", "--device", "cuda"][..],
        &["bench", "step", "--device", "cuda"],
        &["bench", "step", "--device", "cuda", "--precision", "bf16"],
        &["selftest", "--device", "cuda"],
    ] {
        bench.refused(args, sentence);
    }
    assert!(!bench.path().join("results").exists());
    bench.refused(&["bench", "step", "--precision", "bf16"], "the CPU computes in f32");
    bench.refused(&["suite", "tiny", "--precision", "tf32"], "the CPU computes in f32");
}

#[test]
fn processes_that_share_a_folder_leave_rows_and_report_to_the_last() {
    let bench = Bench::new(TINY);
    bench.run(&["suite", "tiny", "--no-report"]).success();
    let results = bench.path().join("results/tiny");
    assert!(!results.join("rows.csv").exists() && !results.join("report").exists());
    bench.run(&["status", "results/tiny"]).success().stdout(contains("5 done"));
    bench.run(&["report", "results/tiny"]).success();
    assert_eq!(bench.rows().len(), 5);
    let cells = fs::read_dir(results.join("cells")).unwrap().map(|entry| entry.unwrap().path());
    let child = cells.into_iter().find(|path| path.to_str().unwrap().contains("rectangle-t1")).unwrap();
    fs::remove_file(child.join("result.json")).unwrap();
    bench.run(&["suite", "tiny", "--no-report"]).success();
    let before = fs::metadata(results.join("rows.csv")).unwrap().modified().unwrap();
    bench.run(&["report", "results/tiny"]).success();
    assert!(
        fs::metadata(results.join("rows.csv")).unwrap().modified().unwrap() > before,
        "a newer result renews the rows"
    );
}

#[test]
fn gnu_parallel_computes_the_shards_of_one_folder() {
    if std::process::Command::new("parallel").arg("--version").output().is_err() {
        println!("gnu_parallel_computes_the_shards_of_one_folder: skipped, parallel is not installed");
        return;
    }
    let bench = Bench::new(&TINY.replace("seeds = [0]", "seeds = [0, 1]"));
    let harness = assert_cmd::cargo::cargo_bin("harness");
    let line = format!("'{}' suite tiny --shard {{}}/4 --no-report", harness.display());
    let mut parallel = Command::new("parallel");
    parallel
        .current_dir(bench.path())
        .args(["-j2", "--joblog", "log", &line, ":::", "0", "1", "2", "3"])
        .assert()
        .success();
    bench.run(&["report", "results/tiny"]).success();
    let together = fs::read_to_string(bench.path().join("results/tiny/rows.csv")).unwrap();
    assert_eq!(together.matches(",done,").count(), 10, "{together}");
    bench.run(&["status", "results/tiny"]).success().stdout(contains("10 done"));
}

#[test]
fn a_budget_prices_cells_and_trains_those_it_pays_for() {
    let bench = Bench::new(TINY);
    let shown = bench.run(&["suite", "tiny", "--budget", "1h", "--dry-run"]).success();
    let shown = shown.stderr(contains("calibrating: resnet18-plain width 4 ann").and(contains("width 4 snn")));
    shown.stdout(
        contains("5 of 5 cells fit 1.00 h")
            .and(contains("1 seeds, no difference"))
            .and(contains("estimated and not measured"))
            .and(contains("H100")),
    );
    assert!(!bench.path().join("results").exists());
    bench.run(&["suite", "tiny", "--budget", "0s"]).code(4).stderr(contains("no cell fits the budget"));
    bench.run(&["suite", "tiny", "--budget", "1h"]).success();
    assert_eq!(bench.rows().len(), 5);
    // What is done costs nothing.
    bench.run(&["suite", "tiny", "--budget", "0s"]).success().stdout(contains("5 of 5 cells fit"));
    bench.run(&["suite", "tiny", "--budget", "3 weeks"]).code(2).stderr(contains("write 48h"));
}

#[test]
fn slurms_flags_and_launcher_say_what_they_need() {
    let bench = Bench::new(TINY);
    bench.run(&["suite", "tiny", "--partition", "gpu"]).code(2).stderr(contains("--launcher slurm"));
    bench.run(&["suite", "tiny", "--launcher", "slurm", "--fresh"]).code(2).stderr(contains("--fresh"));
    bench.run(&["suite", "tiny", "--launcher", "slurm", "--budget", "1h"]).code(2).stderr(contains("--budget"));
    if !cfg!(feature = "cuda") {
        bench.run(&["suite", "tiny", "--launcher", "slurm", "--gpus", "1"]).code(2).stderr(contains("without CUDA"));
    }
    let bad = bench.run(&["suite", "tiny", "--launcher", "slurm", "--partition", "a b", "--dry-run"]);
    bad.code(2).stderr(contains("partition"));
    let without = bench.run(&["suite", "tiny", "--launcher", "slurm", "--dry-run", "--cpus", "3"]);
    without.success().stdout(contains("#SBATCH --cpus-per-task=3").and(contains("sbatch --parsable")));
}

#[test]
fn every_command_has_a_man_page() {
    let bench = Bench::new(TINY);
    bench.run(&["man", "pages"]).success();
    for (page, text) in [("harness.1", "spiking"), ("harness-suite.1", "launcher"), ("harness-bench-cell.1", "config")]
    {
        let page = fs::read_to_string(bench.path().join("pages").join(page)).unwrap();
        assert!(page.contains(text), "{page}");
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn mpirun_without_mpi_does_not_do_the_same_work_several_times() {
    let bench = Bench::new(TINY);
    let run = |processes: &str| {
        let mut command = Command::cargo_bin("harness").unwrap();
        command.current_dir(bench.0.path()).env("OMPI_COMM_WORLD_SIZE", processes).args(["suite", "tiny", "--dry-run"]);
        command.assert()
    };
    run("1").success();
    run("4").code(2).stderr(contains("mpirun started 4 processes").and(contains("--features mpi")));
}

/// Another paper's numbers, of rows that another program wrote.
const CLAIMS: &str = r#"
[[setting]]
dataset = "mnist"
label = "MNIST"
protocols = ["mnist/official"]
content = "counts"
band = 0.002
expect = { train_samples = 60000, test_samples = 10000 }
[[claim]]
dataset = "mnist"
network = "a small one"
time_steps = 5
top1 = 0.99
certainty = "quoted"
source = "its table 1"
"#;

#[test]
fn verify_says_by_its_exit_code_what_the_claims_are_worth() {
    let bench = Bench::new(TINY);
    fs::write(bench.path().join("other.toml"), CLAIMS).unwrap();
    let rows = |name: &str, top1: [f64; 3], samples: usize| {
        let mut text = String::from("method,dataset,protocol,T,seed,top1,train_samples,test_samples\n");
        for (seed, top1) in top1.iter().enumerate() {
            text += &format!("net,mnist,mnist/official,5,{seed},{top1},{samples},10000\n");
        }
        fs::write(bench.path().join(name), text).unwrap();
    };
    rows("good.csv", [0.9899, 0.99, 0.9901], 60_000);
    rows("bad.csv", [0.9799, 0.98, 0.9801], 60_000);
    rows("scattered.csv", [0.97, 0.99, 1.0], 60_000);
    rows("toy.csv", [0.9899, 0.99, 0.9901], 600);
    let verify = |name: &str| bench.run(&["verify", name, "--published", "other.toml"]);
    verify("good.csv").success().stdout(contains("reproduced").and(contains("measured 99.00 % (n = 3)")));
    verify("bad.csv").code(10).stdout(contains("below"));
    verify("scattered.csv").code(12).stdout(contains("underpowered"));
    verify("toy.csv").code(11).stdout(contains("train_samples: here 600, published 60000"));

    let output = bench.run(&["verify", "bad.csv", "--published", "other.toml", "--json"]).code(10).get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["schema"], &json["claims"][0]["verdict"]), (&"harness-claims/1".into(), &"below".into()));
    bench.run(&["verify", "good.csv"]).code(11).stdout(contains("Of 9 published numbers: 9 not run."));
    bench.run(&["report", "good.csv", "--published", "other.toml"]).success().stdout(contains("1 reproduced"));
    let written = fs::read_to_string(bench.path().join("report/claims.json")).unwrap();
    assert!(written.contains("\"verdict\": \"reproduced\""), "{written}");
}

#[test]
fn a_wrong_file_of_published_numbers_is_refused_with_line_and_key() {
    let bench = Bench::new(TINY);
    fs::write(bench.path().join("rows.csv"), "method,dataset,protocol,T,seed,top1\nnet,mnist,a,5,0,0.9\n").unwrap();
    fs::write(bench.path().join("other.toml"), CLAIMS.replace("top1 = 0.99", "top1 = 99")).unwrap();
    for command in ["verify", "report"] {
        let arguments = [command, "rows.csv", "--published", "other.toml"];
        bench.refused(&arguments, "reading other.toml: TOML parse error at line 13");
        bench.refused(&arguments, "top1 = 99");
        bench.refused(&[command, "rows.csv", "--published", "nowhere.toml"], "--published: reading nowhere.toml");
    }
    bench.run(&["verify", "nowhere"]).code(3).stdout("").stderr(contains("nowhere"));
}

//! A tiny suite in a fresh folder, run by the binary, and what of its results must repeat.

use harness::store::{CellResult, blanked};
use report::record::is_volatile;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// ANN → T = 2 → T = 1, with FDG; a fifth of a second.
pub const TINY: &str = r#"
name = "tiny"
title = "a test"
[[method]]
name = "dspike"
surrogate = { name = "dspike", temperature = 1.0 }
fdg = true
start = "tit"
[[experiment]]
methods = ["dspike"]
time-steps = [2, 1]
seeds = [0]
batch = 8
momentum = 0.9
network = { architecture = "resnet18-plain", width = 2, norm = "bn", neuron = { tau = 0.25, v-th = 0.5, reset = "hard", detach-reset = false } }
data = { dataset = "sign-digits", split = "students", size = 32, augment = ["crop4"], limit = 16 }
fdg = { epsilon = 0.1, step = 0.2, floor = 0.2, cap = 20.0, batch = 2 }
[experiment.recipe]
ann = { epochs = 1, lr = 0.1, weight-decay = 0.0005 }
first = { epochs = 1, lr = 0.05, weight-decay = 0.0001 }
later = { epochs = 1, lr = 0.02, weight-decay = 0.0001 }
"#;

/// A folder with `suites/tiny.toml`.
pub struct Bench(tempfile::TempDir);

impl Bench {
    pub fn new() -> Self {
        Self::of(TINY)
    }

    pub fn of(suite: &str) -> Self {
        Self::in_folder(memory(), suite)
    }

    /// In a folder of that folder.
    pub fn in_folder(parent: PathBuf, suite: &str) -> Self {
        let folder = tempfile::tempdir_in(parent).unwrap();
        fs::create_dir(folder.path().join("suites")).unwrap();
        fs::write(folder.path().join("suites/tiny.toml"), suite).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn results(&self) -> PathBuf {
        self.0.path().join("results/tiny")
    }

    /// The command, after these words (`strace …`, or none); checkpoints after every step.
    pub fn command_after(&self, wrapper: &[&str], threads: usize) -> Command {
        let harness = env!("CARGO_BIN_EXE_harness");
        let mut words = wrapper.iter().copied().chain([harness]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["suite", "tiny", "--threads", &threads.to_string()]);
        command.current_dir(self.path()).env("HARNESS_SAVE_SECONDS", "0").env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    pub fn command(&self) -> Command {
        self.command_after(&[], 1)
    }

    /// Runs the command as it is until nothing is left to do.
    #[track_caller]
    pub fn finish(&self) -> Output {
        let output = self.command().output().unwrap();
        assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
        output
    }

    #[track_caller]
    pub fn assert_whole(&self) {
        assert_same(&essence(&self.results()), uninterrupted());
    }

    /// The binary with these words, in the bench's folder.
    pub fn harness(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_harness")).args(words).current_dir(self.path()).output().unwrap()
    }
}

/// A file system in memory, where there is one: hundreds of runs with some ninety fsyncs each are slow on a disk, and
/// kills do not prove fsync anyway.
fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if tempfile::tempfile_in(shared).is_ok() { shared.into() } else { std::env::temp_dir() }
}

/// What one uninterrupted run of [`TINY`] leaves.
pub fn uninterrupted() -> &'static BTreeMap<String, String> {
    static WHOLE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let bench = Bench::new();
        bench.finish();
        essence(&bench.results())
    })
}

/// Every file of a result folder but its report, by path, without what may differ between two runs; checkpoints and
/// temporary files are there too, under their names, so that any left over is a difference.
pub fn essence(results: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(results).into_iter().map(Result::unwrap) {
        let path = entry.path();
        let name = path.strip_prefix(results).unwrap().to_str().unwrap().to_string();
        // A log tells what happened, stops included.
        if !entry.file_type().is_file() || name.starts_with("report/") || name.ends_with("/log") {
            continue;
        }
        let content = match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => blanked_csv(path),
            Some("safetensors") => weights(path),
            Some("npy") => format!("{:?}", fs::read(path).unwrap()),
            Some("jsonl") => fs::read_to_string(path).unwrap().lines().map(blanked_line).collect(),
            _ if name.ends_with("result.json") => {
                let result: CellResult = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
                blanked(&result).unwrap().to_string()
            }
            _ if name.ends_with("run.json") => String::new(), // holds the command line, threads included
            _ => fs::read_to_string(path).unwrap(),
        };
        files.insert(name, content);
    }
    files
}

/// A CSV file with its volatile columns emptied.
pub fn blanked_csv(path: &Path) -> String {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let keep = |(column, field)| if i > 0 && is_volatile(&rows[0][column]) { "" } else { field };
        writer.write_record(row.iter().enumerate().map(keep)).unwrap();
    }
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

/// A line of `metrics.jsonl` without its volatile columns.
fn blanked_line(line: &str) -> String {
    let mut point: serde_json::Value = serde_json::from_str(line).unwrap();
    point.as_object_mut().unwrap().retain(|key, _| !is_volatile(key));
    format!("{point}\n")
}

/// Tensors bit by bit, and the metadata without clocks.
fn weights(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata: BTreeMap<_, _> = header.metadata().clone().unwrap().into_iter().collect();
    let mut progress: serde_json::Value = serde_json::from_str(&metadata.remove("progress").unwrap()).unwrap();
    metadata.remove("sha256"); // covers the clocks too
    progress.as_object_mut().unwrap().retain(|key, _| !is_volatile(key));
    for point in progress["curves"].as_array_mut().unwrap() {
        point.as_object_mut().unwrap().retain(|key, _| !is_volatile(key));
    }
    let mut tensors: Vec<String> = (safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors().iter())
        .map(|(name, view)| format!("{name} {:?} {:?}\n", view.shape(), view.data()))
        .collect();
    tensors.sort();
    format!("{metadata:?} {progress}\n{}", tensors.concat())
}

#[track_caller]
pub fn assert_same(ours: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let differing: Vec<_> = ours.keys().filter(|name| ours[*name] != expected[*name]).collect();
    let excerpt = |name: &&&String| {
        let at = ours[**name].bytes().zip(expected[**name].bytes()).position(|(a, b)| a != b).unwrap_or(0);
        let from = |text: &String| text.chars().skip(at.saturating_sub(100)).take(300).collect::<String>();
        format!("ours     {}\nexpected {}", from(&ours[**name]), from(&expected[**name]))
    };
    assert!(differing.is_empty(), "these differ: {differing:?}; the first:\n{}", excerpt(&differing.first().unwrap()));
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a tool is there; says that the test is skipped where it is not.
pub fn has(tool: &str, test: &str) -> bool {
    let there = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("{test}: skipped, {tool} is not installed");
    }
    there
}

/// Runs `check` for every item, on as many threads as there are cores.
pub fn each<T: Sync>(items: &[T], check: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    check(item);
                }
            });
        }
    });
}

//! `--launcher slurm`: what a result folder still lacks, as array jobs. Slurm may start a task twice, late or never:
//! results rest on locks, determinism and atomic commits, never on it.

pub mod queue;
pub mod script;
pub mod tasks;

use crate::cell::{self, Cell};
use crate::cli::{Device, SuiteArgs};
use crate::device;
use crate::durable;
use crate::exit::{self, Code};
use crate::lock::Lock;
use crate::plan;
use crate::selection::{default_out, overrides, select, this_command};
use crate::store::Store;
use crate::suite::Suite;
use anyhow::{Context, Result};
use report::record::Status;
use script::{Resources, command_line};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tasks::{After, Array, Task};

/// Slurm's default, for `--dry-run` where there is none to ask.
const DEFAULT_MAX_ARRAY_SIZE: usize = 1001;

/// One submission: its tasks, and how they reach Slurm.
struct Submission {
    suite: String,
    /// Absolute, as every path in it: jobs start elsewhere.
    out: PathBuf,
    here: PathBuf,
    resources: Resources,
    /// The command that trains, without its cells.
    train: Vec<String>,
    harness: String,
    tasks: Vec<Task>,
    arrays: Vec<Array>,
    /// Number of the first array: names are used once in a folder.
    first: usize,
}

/// Submits the selected cells that have no result and are not in the queue, or shows what it would submit.
pub fn launch(suite: &Suite, args: &SuiteArgs) -> Result<()> {
    if args.fresh {
        return Err(exit::usage(
            "--fresh does not go with --launcher slurm; remove the result folder, or give another --out",
        ));
    }
    if args.budget.is_some() {
        return Err(exit::usage(
            "--budget measures this device, and --launcher slurm trains on others; run it with --dry-run on one of those, \
             then submit what it chose with -f",
        ));
    }
    let resources = args.slurm.clone().or(suite.slurm.clone());
    resources.validate()?;
    // Cells are named after the device that trains them, which this machine need not have.
    let device = match (args.device, resources.gpus) {
        (Some(device @ (Device::Cpu | Device::Cuda)), _) => device,
        (_, Some(1..)) => Device::Cuda,
        _ => Device::Cpu,
    };
    let all = cell::cells(suite, &overrides(&args.selection), &device::class_of_choice(device, args.precision)?)?;
    let selected = select(all.clone(), &args.selection)?;
    let out = std::path::absolute(args.out.clone().unwrap_or_else(|| default_out(&suite.name)))?;
    let folder = out.join("slurm");
    let train = train(suite, args, device, &out)?;
    if args.dry_run {
        let left = match Store::existing(&out) {
            Ok(store) => outstanding(&selected, &store, args.retry)?,
            Err(_) => selected.iter().collect(),
        };
        let (queued, most) = match queue::queue(&folder).and_then(|queued| Ok((queued, max_array_size()?))) {
            Ok(known) => known,
            Err(error) => {
                eprintln!("{error:#}; shown as if the queue were empty and MaxArraySize {DEFAULT_MAX_ARRAY_SIZE}\n");
                (HashMap::new(), DEFAULT_MAX_ARRAY_SIZE)
            }
        };
        print!("{}", plan::table(&selected));
        print!("{}", Submission::new(&suite.name, resources, train, out, cut(left, &queued), most)?.shown()?);
        return Ok(());
    }
    let most = max_array_size()?;
    let store = Store::open(&out)?;
    std::fs::create_dir_all(folder.join("log")).with_context(|| format!("making {}", folder.display()))?;
    let Some(_lock) = Lock::take(&folder)? else {
        return Err(exit::failure(Code::Resumable, format!("another process is submitting from {}", folder.display())));
    };
    let plan = plan::run_plan(suite, &all, &this_command());
    store.announce_changes(&plan);
    store.write_plan(&plan)?;
    let queued = queue::queue(&folder)?;
    let left = outstanding(&selected, &store, args.retry)?;
    if args.retry {
        forget_failed(&left, &store)?;
    }
    Submission::new(&suite.name, resources, train, out, cut(left, &queued), most)?.submit(queued.len())
}

/// Selected cells without a result; with `retry`, failed ones too.
fn outstanding<'a>(selected: &'a [Cell], store: &Store, retry: bool) -> Result<Vec<&'a Cell>> {
    let mut left = Vec::new();
    for cell in selected {
        match store.status(&cell.id)? {
            Some(Status::Done) => {}
            Some(_) if !retry => {}
            _ => left.push(cell),
        }
    }
    Ok(left)
}

/// Tasks of the cells that are not in the queue.
fn cut(left: Vec<&Cell>, queued: &HashMap<String, queue::Queued>) -> Vec<Task> {
    let left: Vec<&Cell> = left.into_iter().filter(|cell| !queued.contains_key(&cell.id)).collect();
    let jobs = queued.iter().map(|(cell, queued)| (cell.clone(), queued.job.clone())).collect();
    tasks::tasks(&left, &jobs)
}

/// Here and not in the tasks: one that is started again would forget its own failure, and try for ever.
fn forget_failed(left: &[&Cell], store: &Store) -> Result<()> {
    for cell in left {
        if store.status(&cell.id)?.is_some()
            && let Some(lock) = store.lock(cell)?
        {
            store.forget(&cell.id, &lock)?;
        }
    }
    Ok(())
}

impl Submission {
    fn new(
        suite: &str,
        resources: Resources,
        train: Vec<String>,
        out: PathBuf,
        tasks: Vec<Task>,
        most: usize,
    ) -> Result<Self> {
        let number = |(name, _): &(String, Vec<String>)| name.rsplit('-').next()?.parse::<usize>().ok();
        let harness = std::env::current_exe().context("the path of this program")?.display().to_string();
        let train = [vec![harness.clone()], train].concat();
        Ok(Self {
            suite: suite.to_string(),
            here: std::env::current_dir()?,
            arrays: tasks::arrays(&tasks, most),
            first: 1 + queue::lists(&out.join("slurm"))?.iter().filter_map(number).max().unwrap_or(0),
            resources,
            train,
            harness,
            tasks,
            out,
        })
    }

    fn folder(&self) -> PathBuf {
        self.out.join("slurm")
    }

    /// A job's name: the suite, the folder's hash, a number. It leads from the queue to the list of cells.
    fn name(&self, array: usize) -> String {
        let mut suite: String =
            self.suite.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        suite.truncate(40);
        let hash = Sha256::digest(self.out.as_os_str().as_encoded_bytes());
        let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{suite}-{hash}-{}", self.first + array)
    }

    /// The list of an array: a line a task.
    fn list(&self, array: &Array) -> String {
        array.tasks.iter().map(|&task| self.tasks[task].cells.join(" ") + "\n").collect()
    }

    fn task_script(&self) -> String {
        script::task(&self.resources, &self.train, &self.folder().display().to_string())
    }

    fn report_script(&self) -> String {
        let words = [&self.harness, "report", &self.out.display().to_string()].map(|word| word.to_string());
        script::report(&self.resources, &words)
    }

    /// The options of sbatch for an array, or for the report with `array = None`.
    fn sbatch(&self, array: Option<usize>, dependency: Option<&str>) -> Vec<String> {
        let log = self.folder().join("log").display().to_string().replace('%', "%%");
        let (name, log, script) = match array {
            Some(index) => (self.name(index), format!("{log}/%x_%a.out"), self.script_path("job")),
            None => (self.name(0) + "-report", format!("{log}/%x.out"), self.script_path("report")),
        };
        let mut words = vec!["--parsable".into(), format!("--job-name={name}"), format!("--output={log}")];
        words.push(format!("--chdir={}", self.here.display()));
        if let Some(index) = array {
            words.push(format!("--array=0-{}", self.arrays[index].tasks.len() - 1));
        }
        words.extend(dependency.map(|after| format!("--dependency=afterany:{after}")));
        words.push(script.display().to_string());
        words
    }

    fn script_path(&self, kind: &str) -> PathBuf {
        self.folder().join(format!("{kind}-{}.sh", self.first))
    }

    /// What a task waits for, given the jobs of the arrays before it.
    fn dependency(&self, array: &Array, jobs: &[String]) -> Option<String> {
        Some(match array.after.as_ref()? {
            After::Queued(job) => job.clone(),
            After::Task(task) => {
                let (job, index) = self.place(*task);
                format!("{}_{index}", jobs[job])
            }
        })
    }

    /// The array of a task, and its index there.
    fn place(&self, task: usize) -> (usize, usize) {
        let places = self
            .arrays
            .iter()
            .enumerate()
            .filter_map(|(array, a)| Some((array, a.tasks.iter().position(|t| *t == task)?)));
        places.into_iter().next().unwrap_or_default()
    }

    /// For `--dry-run`.
    fn shown(&self) -> Result<String> {
        if self.tasks.is_empty() {
            return Ok("Nothing is left to submit.\n".into());
        }
        let mut text = format!("\n# {}\n{}", self.script_path("job").display(), self.task_script());
        text += &format!("\n# {}\n{}", self.script_path("report").display(), self.report_script());
        let jobs: Vec<String> = (0..self.arrays.len()).map(|index| format!("JOB{}", index + 1)).collect();
        text += "\n# submitted as\n";
        for (index, array) in self.arrays.iter().enumerate() {
            let after = self.dependency(array, &jobs);
            text += &format!("sbatch {}\n", command_line(&self.sbatch(Some(index), after.as_deref())));
            let first = array.tasks.first().map_or(String::new(), |&task| self.tasks[task].cells.join(" "));
            text += &format!("# {}: {} tasks, the first: {first}\n", jobs[index], array.tasks.len());
        }
        text += &format!("sbatch {}\n", command_line(&self.sbatch(None, Some(&jobs.join(":")))));
        let cells: usize = self.tasks.iter().map(|task| task.cells.len()).sum();
        Ok(text
            + &format!(
                "\n{cells} cells in {} tasks, {} arrays. Nothing was submitted.\n",
                self.tasks.len(),
                self.arrays.len()
            ))
    }

    fn submit(&self, in_queue: usize) -> Result<()> {
        if self.tasks.is_empty() {
            println!("nothing to submit: every selected cell has a result or is in the queue ({in_queue} are)");
            return Ok(());
        }
        durable::write(&self.script_path("job"), self.task_script().as_bytes())?;
        durable::write(&self.script_path("report"), self.report_script().as_bytes())?;
        let mut jobs: Vec<String> = Vec::new();
        let cut_off = |jobs: &[String]| {
            format!("{} of {} arrays were submitted; the same command submits the rest", jobs.len(), self.arrays.len())
        };
        for (index, array) in self.arrays.iter().enumerate() {
            // The list first: a job without one would have no cells.
            let list = self.folder().join(self.name(index) + ".tasks");
            durable::write(&list, self.list(array).as_bytes())?;
            let after = self.dependency(array, &jobs);
            let job = sbatch(&self.sbatch(Some(index), after.as_deref())).with_context(|| cut_off(&jobs))?;
            println!(
                "job {job}: {} tasks{}",
                array.tasks.len(),
                after.map_or(String::new(), |a| format!(", after {a}"))
            );
            jobs.push(job);
        }
        let report = sbatch(&self.sbatch(None, Some(&jobs.join(":")))).with_context(|| cut_off(&jobs))?;
        println!("job {report}: the report, after all of them");
        let out = command_line(&[self.out.display().to_string()]);
        println!("to watch: harness status {out}\nto stop:  scancel {report} {}", jobs.join(" "));
        Ok(())
    }
}

/// The words after the program's name with which a task trains: all that makes the cells what they are, and `--jobs`.
fn train(suite: &Suite, args: &SuiteArgs, device: Device, out: &Path) -> Result<Vec<String>> {
    let selection = &args.selection;
    // The jobs need not start in this folder.
    let name = match args.name.ends_with(".toml") {
        true => std::path::absolute(&args.name)?.display().to_string(),
        false => suite.name.clone(),
    };
    let mut words: Vec<String> =
        ["suite", &name, "--exact", "--no-report", "--out", &out.display().to_string()].map(String::from).to_vec();
    if let Some(dir) = &args.data_dir {
        words.extend(["--data-dir".into(), std::path::absolute(dir)?.display().to_string()]);
    }
    words.extend(["--device".into(), device.to_string()]);
    words.extend(["--precision".into(), args.precision.name().to_string()]);
    if let Some(most) = selection.max_memory {
        words.extend(["--max-memory".into(), format!("{}B", most.as_u64())]);
    }
    if let Some(seeds) = &selection.seeds {
        let seeds: Vec<String> = seeds.0.iter().map(u64::to_string).collect();
        words.extend(["--seeds".into(), seeds.join(",")]);
    }
    let numbers = [
        ("--epochs", selection.epochs),
        ("--limit", selection.limit),
        ("--width", selection.width),
        ("--fdg-batch", selection.fdg_batch),
        ("--shards", selection.shards),
        ("--jobs", args.jobs),
    ];
    words.extend(numbers.into_iter().filter_map(|(flag, n)| Some([flag.to_string(), n?.to_string()])).flatten());
    Ok(words)
}

/// Runs one of Slurm's programs; its standard output.
fn run(program: &str, words: &[&str]) -> Result<String> {
    let output = match Command::new(program).args(words).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(exit::usage(format!(
                "`{program}` is not installed here: --launcher slurm needs a machine from which Slurm jobs are submitted"
            )));
        }
        Err(error) => return Err(error).with_context(|| format!("starting {program}")),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(exit::failure(Code::Io, format!("{program} refused: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn sbatch(words: &[String]) -> Result<String> {
    let answer = run("sbatch", &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    // `--parsable`: the job, or `job;cluster`.
    Ok(answer.trim().split(';').next().unwrap_or_default().to_string())
}

/// The most tasks of an array: indices from 0 end before it.
fn max_array_size() -> Result<usize> {
    let config = run("scontrol", &["show", "config"])?;
    let line = config.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize")?.trim().strip_prefix('='));
    let size = line.and_then(|size| size.trim().parse().ok()).filter(|size| *size > 0);
    size.with_context(|| "scontrol show config names no MaxArraySize".to_string())
}

//! `--launcher slurm` on a real Slurm: four nodes on this host, and all that happens to jobs.

use crate::bench::{Bench, TINY, assert_same, essence, text};
use crate::syscalls::signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/slurm_ci.sh");

/// A Slurm that ends with its test.
struct Cluster(tempfile::TempDir);

impl Cluster {
    /// `None`, with a line that says so, where there is no Slurm or this is not root.
    fn start(max_array_size: usize, test: &str) -> Option<Self> {
        static STARTED: AtomicU16 = AtomicU16::new(0);
        let there = |tool: &str| Command::new(tool).arg("-V").output().is_ok();
        let root = text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0";
        if !root || !["munged", "slurmctld", "slurmd", "sbatch"].into_iter().all(there) {
            println!("{test}: skipped, it needs root and Debian's slurm-wlm and munge");
            return None;
        }
        let cluster = Self(tempfile::tempdir().unwrap());
        let port = 20_000 + 100 * (std::process::id() % 100) as u16 + 10 * STARTED.fetch_add(1, Ordering::Relaxed);
        let words = [cluster.dir(), "4", &port.to_string(), &max_array_size.to_string()].map(str::to_string);
        let output = Command::new(SCRIPT).arg("start").args(words).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        Some(cluster)
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn conf(&self) -> PathBuf {
        self.0.path().join("slurm.conf")
    }

    fn say(&self, program: &str, words: &[&str]) -> Output {
        Command::new(program).args(words).env("SLURM_CONF", self.conf()).output().unwrap()
    }

    /// Tasks in the queue: `JOB_INDEX`, state, node, name, reason.
    fn queue(&self) -> Vec<[String; 5]> {
        let output = self.say("squeue", &["--noheader", "--array", "--format", "%i|%T|%N|%j|%r"]);
        let fields = |line: &str| line.split('|').map(str::to_string).collect::<Vec<_>>().try_into().unwrap();
        text(&output.stdout).lines().map(fields).collect()
    }

    #[track_caller]
    fn wait(&self, what: &str, most: u64, mut until: impl FnMut() -> bool) {
        let started = Instant::now();
        while !until() {
            assert!(started.elapsed() < Duration::from_secs(most), "{what} after {most} s; queue: {:?}", self.queue());
            std::thread::sleep(Duration::from_millis(200)); // asking costs the controller, too
        }
    }

    #[track_caller]
    fn drain(&self, most: u64) {
        self.wait("the queue is not empty", most, || self.queue().is_empty() && self.up());
    }

    /// As `drain`, and does what an administrator does after a crash: a controller that starts from an old state starts
    /// tasks a second time and gives numbers out again; nodes refuse them, and are drained, and the tasks are held.
    #[track_caller]
    fn recover(&self, most: u64) {
        self.wait("the queue is not empty", most, || {
            let drained = self.say("sinfo", &["--noheader", "--states=drain,down", "--format=%N"]).stdout;
            if !drained.is_empty() {
                self.say("scontrol", &["update", "nodename=ALL", "state=resume"]);
            }
            let held = self.queue().into_iter().filter(|job| job[4].contains("held")).map(|job| job[0].clone());
            held.for_each(|job| drop(self.say("scontrol", &["release", &job])));
            self.queue().is_empty() && self.up()
        });
    }

    fn up(&self) -> bool {
        self.say("squeue", &["--noheader"]).status.success()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        Command::new(SCRIPT).args(["stop", self.dir()]).output().ok();
    }
}

/// Two arms with one ANN, two seeds; the ANN in `epochs`.
fn suite(epochs: usize) -> String {
    let rectangle = "[[method]]\nname = \"rectangle\"\nsurrogate = { name = \"rectangle\", width = 1.0 }\nstart = \"tit\"\n[[experiment]]";
    TINY.replace("[[experiment]]", rectangle)
        .replace("methods = [\"dspike\"]", "methods = [\"dspike\", \"rectangle\"]")
        .replace("seeds = [0]", "seeds = [0, 1]")
        .replace("ann = { epochs = 1,", &format!("ann = {{ epochs = {epochs},"))
}

/// A folder with the suite, whose jobs go to the cluster.
struct Site<'a>(Bench, &'a Cluster);

impl Site<'_> {
    fn launch(&self, words: &[&str]) -> Output {
        let mut command = self.0.command();
        command.args(["--launcher", "slurm"]).args(words);
        command.env("SLURM_CONF", self.1.conf()).env("HARNESS_SAVE_SECONDS", "0.1").env("HARNESS_REQUEUE_SECONDS", "1");
        command.output().unwrap()
    }

    #[track_caller]
    fn submit(&self, words: &[&str]) -> String {
        let output = self.launch(words);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    fn status(&self) -> String {
        let harness = env!("CARGO_BIN_EXE_harness");
        let mut command = Command::new(harness);
        command.args(["status", "results/tiny"]).current_dir(self.0.path()).env("SLURM_CONF", self.1.conf());
        text(&command.output().unwrap().stdout)
    }

    /// What the jobs said, by log.
    fn logs(&self) -> BTreeMap<String, String> {
        let logs = fs::read_dir(self.0.results().join("slurm/log")).unwrap().map(|entry| entry.unwrap().path());
        logs.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), text(&fs::read(&path).unwrap()))).collect()
    }

    fn said(&self, what: &str) -> usize {
        self.logs().values().map(|log| log.matches(what).count()).sum()
    }

    /// Waits until a task trains, `epochs` far; its index in the queue, its node and its process.
    #[track_caller]
    fn training(&self, epochs: usize) -> ([String; 5], u32) {
        let mark = format!("  epoch {epochs}/");
        self.1.wait("no task trains", 20, || self.logs().values().any(|log| log.contains(&mark)));
        let log = self.logs().into_iter().find(|(_, log)| log.contains(&mark)).unwrap().0;
        let (name, index) = log.strip_suffix(".out").unwrap().rsplit_once('_').unwrap();
        let job =
            self.1.queue().into_iter().find(|job| job[3] == name && job[0].ends_with(&format!("_{index}"))).unwrap();
        let of_task = |pid: &u32| environment(*pid, "SLURM_ARRAY_TASK_ID").as_deref() == Some(index);
        let own = |pid: &u32| environment(*pid, "SLURM_JOB_NAME").as_deref() == Some(name) && of_task(pid);
        let harness = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("harness"));
        let pid = processes().into_iter().find(|pid| harness(pid) && own(pid)).unwrap();
        (job, pid)
    }

    #[track_caller]
    fn assert_equals_local(&self) {
        println!("{:#?}", self.logs()); // for who reads a failure
        assert_same(&results(&self.0), &local(&fs::read_to_string(self.0.path().join("suites/tiny.toml")).unwrap()));
        assert!(self.0.results().join("report/index.html").is_file());
    }
}

fn results(bench: &Bench) -> BTreeMap<String, String> {
    essence(&bench.results()).into_iter().filter(|(name, _)| !name.starts_with("slurm/")).collect()
}

/// What the suite leaves when one process runs it here.
fn local(suite: &str) -> BTreeMap<String, String> {
    let bench = Bench::of(suite);
    let output = bench.command().env("HARNESS_SAVE_SECONDS", "10").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    results(&bench)
}

fn processes() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn environment(pid: u32, name: &str) -> Option<String> {
    let all = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let own = all.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(format!("{name}=").as_bytes()))?;
    Some(text(own))
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn pid_in(file: &Path) -> u32 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// All at once, each on a cluster of its own: they mostly wait.
#[test]
fn on_a_real_slurm() {
    let scenarios: [(&str, fn()); 7] = [
        (
            "arrays_in_order_leave_what_one_process_leaves_and_only_what_is_missing_is_submitted_again",
            arrays_in_order_leave_what_one_process_leaves_and_only_what_is_missing_is_submitted_again,
        ),
        (
            "seven_cells_without_parents_are_three_arrays_where_the_site_takes_three_tasks",
            seven_cells_without_parents_are_three_arrays_where_the_site_takes_three_tasks,
        ),
        (
            "a_signalled_task_saves_and_queues_itself_again_and_a_cancelled_one_does_not",
            a_signalled_task_saves_and_queues_itself_again_and_a_cancelled_one_does_not,
        ),
        (
            "a_killed_task_runs_again_and_a_killed_script_leaves_its_cells_to_those_who_need_them",
            a_killed_task_runs_again_and_a_killed_script_leaves_its_cells_to_those_who_need_them,
        ),
        ("a_lost_nodes_task_runs_on_another", a_lost_nodes_task_runs_on_another),
        (
            "a_controller_killed_just_after_the_start_changes_nothing",
            a_controller_killed_just_after_the_start_changes_nothing,
        ),
        ("tasks_launched_twice_train_each_cell_once", tasks_launched_twice_train_each_cell_once),
    ];
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let start = |(name, scenario): (&str, fn())| {
            std::thread::Builder::new().name(name.into()).spawn_scoped(scope, scenario).unwrap()
        };
        let running = scenarios.map(|scenario| (scenario.0, start(scenario)));
        running.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "{failed:?}");
}

fn arrays_in_order_leave_what_one_process_leaves_and_only_what_is_missing_is_submitted_again() {
    let Some(cluster) = Cluster::start(3, "arrays_in_order") else { return };
    let site = Site(Bench::of(&suite(1)), &cluster);
    let shown = site.submit(&["--dry-run", "--time", "10"]);
    for part in [
        "#SBATCH --time=10",
        "--signal=B:USR2@120",
        "--array=0-1",
        "--dependency=afterany:JOB1_0",
        "Nothing was submitted",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!site.0.results().exists() && cluster.queue().is_empty());
    site.submit(&[]);
    cluster.wait("no cell waits in the queue", 10, || {
        let status = site.status();
        status.contains(" PENDING (Dependency)") && status.contains("in the queue")
    });
    let again = site.submit(&[]);
    assert!(again.contains("nothing to submit"), "{again}");
    cluster.drain(30);
    site.assert_equals_local();
    assert_eq!(site.said("  done: "), 10);

    // A cell is lost: it alone is submitted, and what is computed is the same.
    let cells = site.0.results().join("cells");
    let lost = fs::read_dir(&cells).unwrap().map(|entry| entry.unwrap().path());
    let lost = lost.into_iter().find(|path| path.to_str().unwrap().contains("rectangle-t1-s1")).unwrap();
    fs::remove_dir_all(lost).unwrap();
    let again = site.submit(&[]);
    assert!(again.contains(": 1 tasks\n"), "{again}");
    cluster.drain(30);
    site.assert_equals_local();
    assert_eq!(site.said("  done: "), 11);
}

fn seven_cells_without_parents_are_three_arrays_where_the_site_takes_three_tasks() {
    let Some(cluster) = Cluster::start(3, "seven_cells") else { return };
    let scratch = TINY.replace("\"tit\"", "\"scratch\"").replace("seeds = [0]", "seeds = [0, 1, 2, 3, 4, 5, 6]");
    let site = Site(Bench::of(&scratch.replace("time-steps = [2, 1]", "time-steps = [1]")), &cluster);
    let said = site.submit(&[]);
    assert_eq!(said.matches("3 tasks").count() + said.matches("1 tasks").count(), 3, "{said}");
    cluster.drain(30);
    site.assert_equals_local();
}

fn a_signalled_task_saves_and_queues_itself_again_and_a_cancelled_one_does_not() {
    let Some(cluster) = Cluster::start(1001, "a_signalled_task") else { return };
    let site = Site(Bench::of(&suite(300)), &cluster);
    site.submit(&[]);
    let (job, _) = site.training(3);
    cluster.say("scancel", &["--batch", "--signal=USR2", &job[0]]);
    cluster.wait("not queued again", 20, || {
        text(&cluster.say("scontrol", &["show", "job", &job[0]]).stdout).contains("Restarts=1")
    });
    cluster.drain(60);
    let log = site.logs().into_values().find(|log| log.contains("saving, then stopping")).unwrap();
    assert_eq!(log.matches("  epoch 1/300").count(), 1, "{log}");
    site.assert_equals_local();

    let site = Site(Bench::of(&suite(5000)), &cluster);
    site.submit(&[]);
    site.training(3);
    let jobs: Vec<String> =
        cluster.queue().into_iter().map(|job| job[0].split('_').next().unwrap().to_string()).collect();
    cluster.say("scancel", &jobs.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.drain(20);
    std::thread::sleep(Duration::from_secs(2));
    assert!(cluster.queue().is_empty(), "{:?}", cluster.queue());
    assert_eq!(site.said("  done: "), 0);
}

fn a_killed_task_runs_again_and_a_killed_script_leaves_its_cells_to_those_who_need_them() {
    let Some(cluster) = Cluster::start(1001, "a_killed_task") else { return };
    let site = Site(Bench::of(&suite(300)), &cluster);
    site.submit(&[]);
    let (job, pid) = site.training(3);
    signal(pid, "KILL");
    cluster.wait("not queued again", 20, || {
        text(&cluster.say("scontrol", &["show", "job", &job[0]]).stdout).contains("Restarts=1")
    });
    cluster.drain(60);
    site.assert_equals_local();

    let site = Site(Bench::of(&suite(300)), &cluster);
    site.submit(&[]);
    let (job, pid) = site.training(3);
    signal(parent(pid), "KILL");
    cluster.wait("the job goes on", 20, || cluster.queue().iter().all(|other| other[0] != job[0]));
    cluster.drain(60);
    site.assert_equals_local();
}

fn a_lost_nodes_task_runs_on_another() {
    let Some(cluster) = Cluster::start(1001, "a_lost_node") else { return };
    let site = Site(Bench::of(&suite(300)), &cluster);
    site.submit(&[]);
    let (job, pid) = site.training(3);
    let script = parent(pid);
    let daemon = pid_in(&cluster.0.path().join(format!("run/slurmd.{}.pid", job[2])));
    for pid in [daemon, parent(script), script, pid] {
        signal(pid, "KILL");
    }
    cluster.drain(80);
    let shown = text(&cluster.say("scontrol", &["show", "job", &job[0]]).stdout);
    assert!(shown.contains("Restarts=1") && !shown.contains(&format!(" NodeList={}\n", job[2])), "{shown}");
    site.assert_equals_local();
}

fn a_controller_killed_just_after_the_start_changes_nothing() {
    let Some(cluster) = Cluster::start(1001, "a_controller_killed") else { return };
    let site = Site(Bench::of(&suite(300)), &cluster);
    site.submit(&[]);
    std::thread::sleep(Duration::from_secs(2));
    signal(pid_in(&cluster.0.path().join("run/slurmctld.pid")), "KILL");
    let output = Command::new(SCRIPT).args(["controller", cluster.dir()]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    cluster.recover(60);
    // It may have forgotten jobs whose numbers it had given out: the same command submits what is missing.
    site.submit(&[]);
    cluster.recover(60);
    site.assert_equals_local();
}

fn tasks_launched_twice_train_each_cell_once() {
    let Some(cluster) = Cluster::start(1001, "tasks_launched_twice") else { return };
    let site = Site(Bench::of(&suite(300)), &cluster);
    site.submit(&[]);
    let (job, _) = site.training(3);
    let script = site.0.results().join("slurm/job-1.sh");
    let name = format!("--job-name={}", job[3]);
    let log = format!("--output={}/second_%a.out", site.0.results().join("slurm/log").display());
    let chdir = format!("--chdir={}", site.0.path().display());
    let mut second = Command::new("sbatch");
    second.args(["--array=0-1", &name, &log, &chdir]).arg(script).env("HARNESS_REQUEUE_SECONDS", "1");
    assert!(second.env("SLURM_CONF", cluster.conf()).output().unwrap().status.success());
    // They find the cells taken, and wait.
    cluster.wait("the second tasks were not refused", 20, || site.said("held by another process") > 0);
    cluster.drain(60);
    site.assert_equals_local();
    assert_eq!(site.said("  done: "), 10);
}

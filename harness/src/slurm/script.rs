//! The job scripts, as text.

use crate::exit;
use anyhow::Result;
use clap::Args;
use serde::Deserialize;

/// What a task asks of the cluster: the `[slurm]` table of a suite, or flags, which win over it.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[command(next_help_heading = "Slurm")]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Resources {
    /// Partition.
    #[arg(long)]
    pub partition: Option<String>,
    /// Account that is charged.
    #[arg(long)]
    pub account: Option<String>,
    /// GPUs of a task.
    #[arg(long, value_name = "N")]
    pub gpus: Option<u32>,
    /// Processor cores of a task.
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Longest time of a task before it saves and queues again, e.g. 24:00:00.
    #[arg(long)]
    pub time: Option<String>,
    /// Memory of a task, e.g. 32G.
    #[arg(long)]
    pub memory: Option<String>,
    /// Further options of sbatch, e.g. `["--qos=long"]`.
    #[arg(skip)]
    pub options: Vec<String>,
    /// Lines that a job runs first, e.g. `["module load cuda"]`.
    #[arg(skip)]
    pub setup: Vec<String>,
}

impl Resources {
    /// These, and `other`'s where nothing is said here.
    pub fn or(self, other: Self) -> Self {
        Self {
            partition: self.partition.or(other.partition),
            account: self.account.or(other.account),
            gpus: self.gpus.or(other.gpus),
            cpus: self.cpus.or(other.cpus),
            time: self.time.or(other.time),
            memory: self.memory.or(other.memory),
            options: [other.options, self.options].concat(),
            setup: [other.setup, self.setup].concat(),
        }
    }

    /// Refuses what a line of `#SBATCH` cannot hold.
    pub fn validate(&self) -> Result<()> {
        let plain = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.,:=/@+[]&|*%".contains(c))
        };
        let words = [
            ("partition", &self.partition),
            ("account", &self.account),
            ("time", &self.time),
            ("memory", &self.memory),
        ];
        for (name, value) in words {
            if let Some(value) = value.as_ref().filter(|value| !plain(value)) {
                return Err(exit::usage(format!("slurm: {name} = {value:?} holds more than one plain word")));
            }
        }
        if let Some(option) = self.options.iter().find(|option| !plain(option) || !option.starts_with("--")) {
            return Err(exit::usage(format!(
                "slurm: options holds {option:?}; write e.g. \"--qos=long\", without spaces"
            )));
        }
        Ok(())
    }

    /// `#SBATCH` lines of what both kinds of jobs need.
    fn common(&self) -> Vec<String> {
        let named = [("partition", &self.partition), ("account", &self.account)];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?)));
        named.chain(self.options.iter().cloned()).collect()
    }

    fn of_task(&self) -> Vec<String> {
        let numbers = [("gpus", self.gpus), ("cpus-per-task", self.cpus)];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        let words = [("time", &self.time), ("mem", &self.memory)];
        let words = words.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?)));
        self.common().into_iter().chain(numbers).chain(words).collect()
    }
}

/// A word as a shell reads it back.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if word.chars().all(plain) && !word.is_empty() { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Words as a shell reads them back.
pub fn command_line(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn head(options: &[String], setup: &[String]) -> String {
    let mut text = String::from("#!/bin/bash\n");
    options.iter().for_each(|option| text += &format!("#SBATCH {option}\n"));
    setup.iter().for_each(|line| text += &format!("{line}\n"));
    text
}

/// The script of every array: `train` (the command without its cells) for the cells in its task's line of the list.
pub fn task(resources: &Resources, train: &[String], lists: &str) -> String {
    let mut options = resources.of_task();
    options.extend(["--requeue", "--open-mode=append", "--signal=B:USR2@120"].map(String::from));
    head(&options, &resources.setup) + &TASK.replace("{LISTS}", &quote(lists)).replace("{TRAIN}", &command_line(train))
}

/// The script of the job that runs when all tasks have ended, however they did.
pub fn report(resources: &Resources, render: &[String]) -> String {
    head(&resources.common(), &resources.setup) + &format!("exec {}\n", command_line(render))
}

/// What Slurm 22.05 taught: it requeues a task only if its script asks for it and lives, so the harness is a child; the
/// script asks only while the job is RUNNING, or it would bring back what a person cancelled; and a task that found its
/// cells taken waits, or it would run in circles.
const TASK: &str = r#"
# This task's cells: its line of the job's list.
cells=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {LISTS}/"$SLURM_JOB_NAME".tasks)
filters=()
for cell in $cells; do filters+=(-f "cell=$cell"); done
[ -n "$cells" ] || { echo "no cells for task $SLURM_ARRAY_TASK_ID of $SLURM_JOB_NAME" >&2; exit 2; }

asked= child=
trap 'asked=1; [ -z "$child" ] || kill -TERM "$child"' USR2 TERM
{TRAIN} --threads "${SLURM_CPUS_PER_TASK:-1}" "${filters[@]}" &
child=$!
[ -z "$asked" ] || kill -TERM "$child"
wait "$child"; code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
[ -n "$asked" ] && [ "$code" -gt 128 ] && code=75 # stopped before it could save: what was saved before counts

again() {
  # By array and index: the last task's SLURM_JOB_ID is the whole array's.
  task="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  [ "$(squeue -h -j "$task" -o %T)" = RUNNING ] || exit "$code" # cancelled, or preempted: Slurm decides
  for attempt in {1..60}; do
    scontrol requeue "$task" && exit "$code"
    sleep 5
  done
}
case $code in
  75) [ -n "$asked" ] || sleep "${HARNESS_REQUEUE_SECONDS:-60}" # another process has its cells
      again ;;
  137) [ "${SLURM_RESTART_COUNT:-0}" -ge 3 ] || again ;; # killed, perhaps for its memory: three times more
esac
exit "$code"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_table_and_nothing_leaves_its_line() {
        let table: Resources = toml::from_str("partition = \"gpu\"\ngpus = 1\noptions = [\"--qos=long\"]").unwrap();
        let flags =
            Resources { partition: Some("a100".into()), time: Some("1-00:00:00".into()), ..Resources::default() };
        let both = flags.or(table);
        both.validate().unwrap();
        assert_eq!(both.of_task(), ["--partition=a100", "--qos=long", "--gpus=1", "--time=1-00:00:00"]);
        for bad in ["", "a b", "a\n#SBATCH --wrap=x", "$(x)", "a;b"] {
            let refused = Resources { partition: Some(bad.into()), ..Resources::default() };
            assert!(refused.validate().is_err(), "{bad:?}");
            let refused = Resources { options: vec![bad.into()], ..Resources::default() };
            assert!(refused.validate().is_err(), "{bad:?}");
        }
        assert!(toml::from_str::<Resources>("patition = \"gpu\"").is_err());
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["plain", "", "a b", "it's", "$HOME `x` \"y\"", "new\nline", "Größe"] {
            let output =
                std::process::Command::new("bash").args(["-c", &format!("printf %s {}", quote(word))]).output();
            assert_eq!(output.unwrap().stdout, word.as_bytes(), "{word:?}");
        }
    }

    #[test]
    fn the_scripts_are_ones_that_bash_can_read() {
        let words: Vec<String> = ["/opt/my tools/harness", "suite", "it's"].map(String::from).to_vec();
        let script = task(&Resources::default(), &words, "/a b/slurm");
        assert!(script.contains("'/opt/my tools/harness' suite 'it'\\''s' --threads"), "{script}");
        for script in [script, report(&Resources::default(), &words)] {
            assert!(script.starts_with("#!/bin/bash\n"));
            let output = std::process::Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

//! What is in Slurm's queue of a result folder's cells.

use super::run;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// A cell's task in the queue.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Queued {
    /// `JOB_INDEX`, as `scancel` and `scontrol` take it.
    pub job: String,
    /// `PENDING`, `RUNNING` …
    pub state: String,
    /// Why it waits: `Priority`, `Dependency` …
    pub reason: String,
}

/// The lists of cells that were ever submitted from a folder, by their jobs' names.
pub fn lists(folder: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    let mut lists = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let (Some(name), true) = (path.file_stem(), path.extension().is_some_and(|e| e == "tasks")) else { continue };
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        lists.push((name.to_string_lossy().into_owned(), text.lines().map(str::to_string).collect()));
    }
    lists.sort();
    Ok(lists)
}

/// The cells that are in the queue now. Job names lead to their lists, so that a submission that was cut off half-way
/// is known too.
pub fn queue(folder: &Path) -> Result<HashMap<String, Queued>> {
    let lists = lists(folder)?;
    if lists.is_empty() {
        return Ok(HashMap::new());
    }
    let names = lists.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    let answer = run("squeue", &["--noheader", "--array", "--name", &names, "--format", "%j|%F|%K|%T|%r"])?;
    Ok(parse(&answer, &lists))
}

fn parse(answer: &str, lists: &[(String, Vec<String>)]) -> HashMap<String, Queued> {
    let mut queued = HashMap::new();
    for line in answer.lines() {
        let [name, job, index, state, reason] = line.split('|').collect::<Vec<_>>()[..] else { continue };
        let list = lists.iter().find(|(known, _)| known == name).map(|(_, list)| list);
        let cells = list.zip(index.parse::<usize>().ok()).and_then(|(list, index)| list.get(index));
        for cell in cells.into_iter().flat_map(|cells| cells.split(' ')) {
            let (job, state, reason) = (format!("{job}_{index}"), state.to_string(), reason.to_string());
            queued.insert(cell.to_string(), Queued { job, state, reason });
        }
    }
    queued
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_queue_names_its_tasks_cells() {
        let lists = [
            ("x-1".to_string(), vec!["ann".to_string()]),
            ("x-2".to_string(), vec!["t6 t5".to_string(), "u6".to_string()]),
        ];
        let queued = parse(
            "x-2|17|0|PENDING|Dependency\nx-1|16|0|RUNNING|None\nx-2|17|9|RUNNING|None\nother|1|0|RUNNING|None\n",
            &lists,
        );
        let shown = |cell: &str| queued.get(cell).map(|q| format!("{} {} {}", q.job, q.state, q.reason));
        assert_eq!(shown("ann").as_deref(), Some("16_0 RUNNING None"));
        assert_eq!(shown("t6").as_deref(), Some("17_0 PENDING Dependency"));
        assert_eq!(shown("t6"), shown("t5"));
        assert_eq!(queued.len(), 3);
    }
}

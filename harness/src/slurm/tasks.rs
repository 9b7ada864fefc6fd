//! Cells to tasks, tasks to arrays: which process trains what, and after which other.

use crate::cell::Cell;
use std::collections::HashMap;

/// What must have ended before a task starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Another task of this submission, by its index.
    Task(usize),
    /// A task that is in the queue already, `JOB_INDEX`.
    Queued(String),
}

/// Cells that one process trains, each the parent of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Their ids.
    pub cells: Vec<String>,
    /// `None`: it may start at once.
    pub after: Option<After>,
}

/// Tasks that Slurm gets as one array: the same dependency, at most as many as the site takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Indices of its tasks.
    pub tasks: Vec<usize>,
    /// What they wait for.
    pub after: Option<After>,
}

/// Cuts the outstanding cells (parents first) into tasks: a chain is one task as far as nothing else needs its cells;
/// from a cell that several need, each chain goes on as a task of its own. `queued` are cells in the queue already.
pub fn tasks(outstanding: &[&Cell], queued: &HashMap<String, String>) -> Vec<Task> {
    let mut children: HashMap<&str, usize> = HashMap::new();
    for cell in outstanding {
        *children.entry(cell.config.parent_cell.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let (mut tasks, mut task_of): (Vec<Task>, HashMap<&str, usize>) = (Vec::new(), HashMap::new());
    for cell in outstanding {
        let parent = cell.config.parent_cell.as_deref().unwrap_or_default();
        let task = match task_of.get(parent) {
            Some(&task) if children[parent] == 1 => {
                tasks[task].cells.push(cell.id.clone());
                task
            }
            earlier => {
                let queued = || queued.get(parent).cloned().map(After::Queued);
                let after = earlier.copied().map(After::Task).or_else(queued);
                tasks.push(Task { cells: vec![cell.id.clone()], after });
                tasks.len() - 1
            }
        };
        task_of.insert(&cell.id, task);
    }
    tasks
}

/// Groups tasks by what they wait for, in pieces of at most `most`; a task's array comes after the one it waits for.
pub fn arrays(tasks: &[Task], most: usize) -> Vec<Array> {
    let mut groups: Vec<Array> = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        match groups.iter_mut().rev().find(|group| group.after == task.after && group.tasks.len() < most) {
            Some(group) => group.tasks.push(index),
            None => groups.push(Array { tasks: vec![index], after: task.after.clone() }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Overrides, cells};
    use crate::suite::Suite;

    /// Two arms of three stages that share an ANN, one arm from scratch; two seeds.
    fn suite() -> Vec<Cell> {
        let smoke = include_str!("../../../suites/smoke.toml");
        let mut suite = Suite::parse(smoke).unwrap();
        suite.experiments.truncate(1);
        suite.experiments[0].methods = ["dspike", "rectangle", "dspike-no-tit"].map(String::from).to_vec();
        let seeds = Overrides { seeds: Some(vec![0, 1]), ..Overrides::default() };
        cells(&suite, &seeds, "cpu-f32").unwrap()
    }

    fn stages(task: &Task, cells: &[Cell]) -> String {
        let name = |id: &String| {
            let cell = cells.iter().find(|cell| cell.id == *id).unwrap();
            format!("{}:{}:{}", cell.method_name(), cell.stage, cell.config.seed)
        };
        task.cells.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_chain_is_a_task_and_waits_for_the_ann_that_it_shares() {
        let cells = suite();
        let tasks = tasks(&cells.iter().collect::<Vec<_>>(), &HashMap::new());
        let shown: Vec<_> = tasks.iter().map(|task| (stages(task, &cells), task.after.clone())).collect();
        let expected = |seed: usize, first: usize| {
            let chain = |arm: &str| (format!("{arm}:t3:{seed} {arm}:t2:{seed}"), Some(After::Task(first)));
            let alone = |t: usize| (format!("dspike-no-tit:t{t}:{seed}"), None);
            vec![(format!("ann:ann:{seed}"), None), chain("dspike"), chain("rectangle"), alone(3), alone(2)]
        };
        assert_eq!(shown, [expected(0, 0), expected(1, 5)].concat());
    }

    #[test]
    fn only_what_is_left_is_cut_and_a_queued_parent_is_waited_for() {
        let cells = suite();
        let of = |method: &'static str| {
            cells.iter().filter(move |cell| cell.method_name() == method && cell.config.seed == 0)
        };
        // The ANN is done: one chain is one task that waits for nothing.
        let left: Vec<&Cell> = of("dspike").collect();
        assert_eq!(
            tasks(&left, &HashMap::new()).iter().map(|t| (t.cells.len(), &t.after)).collect::<Vec<_>>(),
            [(2, &None)]
        );
        // It is in the queue: both chains wait for it.
        let ann = of("ann").next().unwrap().id.clone();
        let left: Vec<&Cell> = of("dspike").chain(of("rectangle")).collect();
        let queued = HashMap::from([(ann, "17_4".to_string())]);
        let after = Some(After::Queued("17_4".into()));
        assert!(tasks(&left, &queued).iter().all(|task| task.after == after && task.cells.len() == 2));
        // An ANN with one chain left: all of it is one task.
        let left: Vec<&Cell> = of("ann").chain(of("rectangle")).collect();
        assert_eq!(tasks(&left, &HashMap::new()).len(), 1);
    }

    #[test]
    fn arrays_share_a_dependency_and_end_at_the_sites_limit() {
        let cells = suite();
        let tasks = tasks(&cells.iter().collect::<Vec<_>>(), &HashMap::new());
        let indices = |most| arrays(&tasks, most).into_iter().map(|array| array.tasks).collect::<Vec<_>>();
        assert_eq!(indices(1001), [vec![0, 3, 4, 5, 8, 9], vec![1, 2], vec![6, 7]]);
        assert_eq!(indices(4), [vec![0, 3, 4, 5], vec![1, 2], vec![6, 7], vec![8, 9]]);
        for most in 1..=10 {
            let mut seen = std::collections::HashSet::new();
            for array in arrays(&tasks, most) {
                assert!(array.tasks.len() <= most);
                assert!(array.after.as_ref().is_none_or(|after| matches!(after, After::Task(t) if seen.contains(t))));
                seen.extend(array.tasks);
            }
            assert_eq!(seen.len(), tasks.len());
        }
    }
}

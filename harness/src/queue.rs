//! Cells that several workers share: each takes the first one whose parent is not still to come.

use crate::cell::Cell;
use crate::plan::work;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many of these cells can ever train at the same time: a chain is one, however long. More workers than that would only
/// take threads from those that have work.
pub fn most_at_once(cells: &[&Cell]) -> usize {
    let parents: HashSet<&str> = cells.iter().filter_map(|cell| cell.config.parent_cell.as_deref()).collect();
    cells.iter().filter(|cell| !parents.contains(cell.id.as_str())).count()
}

/// Cells, parents before children, in an order in which several workers end about together: first the one with the most work
/// ahead, its own and that of its longest line of descendants. So what is left for one worker at the end is short.
pub fn longest_first(mut cells: Vec<Cell>) -> Vec<Cell> {
    let mut ahead: HashMap<String, f64> = HashMap::new();
    for cell in cells.iter().rev() {
        let whole = work(cell).training_macs + ahead.get(&cell.id).copied().unwrap_or(0.0);
        if let Some(parent) = &cell.config.parent_cell {
            let longest = ahead.entry(parent.clone()).or_default();
            *longest = longest.max(whole);
        }
        ahead.insert(cell.id.clone(), whole);
    }
    cells.sort_by(|a, b| ahead[&b.id].total_cmp(&ahead[&a.id]));
    cells
}

/// Cells that wait, in order, and those that are being trained.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Cell>,
    running: HashSet<String>,
}

impl Queue {
    /// Of cells in the order in which they should start, parents before children.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self { state: Mutex::new(State { waiting: cells.into(), ..State::default() }), changed: Condvar::new() }
    }

    /// The next cell, once there is one whose parent has ended, however it did; `None` once none waits.
    pub fn next(&self) -> Option<Cell> {
        let mut state = self.lock();
        loop {
            if let Some(cell) = state.take() {
                state.running.insert(cell.id.clone());
                return Some(cell);
            }
            if state.waiting.is_empty() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A cell from [`Queue::next`] has ended.
    pub fn ended(&self, cell: &Cell) {
        self.lock().running.remove(&cell.id);
        self.changed.notify_all();
    }

    /// Hands out no further cell.
    pub fn stop(&self) {
        self.lock().waiting.clear();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<Cell> {
        let mut ahead: HashSet<&str> = self.running.iter().map(String::as_str).collect();
        let mut free = None;
        for (i, cell) in self.waiting.iter().enumerate() {
            if cell.config.parent_cell.as_deref().is_none_or(|parent| !ahead.contains(parent)) {
                free = Some(i);
                break;
            }
            ahead.insert(&cell.id);
        }
        self.waiting.remove(free?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Overrides, cells};
    use crate::suite::Suite;
    use std::time::Duration;

    /// An ANN, then t3 and its child t2 for two arms.
    fn chains() -> Vec<Cell> {
        let mut suite = Suite::parse(include_str!("../../suites/smoke.toml")).unwrap();
        suite.experiments.truncate(1);
        suite.experiments[0].methods = ["dspike", "rectangle"].map(String::from).to_vec();
        cells(&suite, &Overrides::default(), "cpu-f32").unwrap()
    }

    #[test]
    fn a_child_waits_for_its_parent_and_lets_others_pass() {
        let cells = chains();
        let queue = Queue::new(cells.clone());
        let ann = queue.next().unwrap();
        assert_eq!(ann.id, cells[0].id);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| queue.next().unwrap());
            std::thread::sleep(Duration::from_millis(50));
            assert!(!worker.is_finished(), "every other cell descends from the one in training");
            queue.ended(&ann);
            let first = worker.join().unwrap();
            let second = queue.next().unwrap();
            for (cell, arm) in [(&first, "dspike"), (&second, "rectangle")] {
                assert_eq!((cell.method_name(), cell.stage.as_str()), (arm, "t3"));
            }
            queue.ended(&second);
            let third = queue.next().unwrap();
            assert_eq!((third.method_name(), third.stage.as_str()), ("rectangle", "t2"));
            queue.stop();
            assert!(queue.next().is_none());
        });
    }

    #[test]
    fn chains_train_side_by_side_and_the_cells_of_one_do_not() {
        let cells = chains();
        let of =
            |keep: &dyn Fn(&Cell) -> bool| most_at_once(&cells.iter().filter(|cell| keep(cell)).collect::<Vec<_>>());
        assert_eq!(of(&|_| true), 2);
        assert_eq!(of(&|cell| cell.method_name() != "rectangle"), 1);
        assert_eq!(of(&|cell| cell.stage == "ann"), 1);
        assert_eq!(of(&|_| false), 0);
    }

    #[test]
    fn what_most_work_waits_for_comes_first() {
        let order = |cells: Vec<Cell>| {
            let name = |cell: &Cell| format!("{} {}", cell.method_name(), cell.stage);
            longest_first(cells).iter().map(name).collect::<Vec<_>>()
        };
        let mut cells = chains();
        // The finite differences make Dspike's chain the longer one, whichever is first in the file.
        let expected = ["ann ann", "dspike t3", "dspike t2", "rectangle t3", "rectangle t2"];
        assert_eq!(order(cells.clone()), expected);
        cells[1..].rotate_left(2);
        assert_eq!(order(cells.clone()), expected);
        // A cell of its own that takes a little longer than the longest chain, and less than both together.
        let mut alone = cells.iter().find(|cell| cell.stage == "ann").unwrap().clone();
        let of = |cell: &Cell| work(cell).training_macs;
        let longest: f64 = cells.iter().filter(|cell| cell.method_name() != "rectangle").map(of).sum();
        alone.config.stage.epochs *= (longest / of(&alone)) as usize + 1;
        alone.id = "alone".into();
        cells.push(alone);
        assert_eq!(longest_first(cells)[0].id, "alone");
    }

    #[test]
    fn a_parent_that_is_not_queued_keeps_nobody() {
        let child = chains().pop().unwrap();
        assert!(child.config.parent_cell.is_some());
        let queue = Queue::new(vec![child.clone()]);
        assert_eq!(queue.next().unwrap().id, child.id);
        assert!(queue.next().is_none());
    }
}

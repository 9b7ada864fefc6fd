//! Threads in place of processes, for tests.

use super::{Communicator, Ranks};
use crate::exit::Code;
use anyhow::Result;
use std::sync::{Arc, Barrier, Mutex};

struct Meeting {
    barrier: Barrier,
    told: Mutex<Vec<Vec<u8>>>,
}

struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.told.lock().unwrap().len()
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.meeting.told.lock().unwrap()[self.rank] = mine.to_vec();
        self.meeting.barrier.wait();
        let all = self.meeting.told.lock().unwrap().clone();
        self.meeting.barrier.wait();
        Ok(all)
    }

    fn abort(&self, code: Code) -> ! {
        panic!("aborted with {code:?}")
    }
}

/// Runs `work` in as many threads as if each were a process; their results, in order.
pub fn run<T: Send>(size: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    let meeting = Arc::new(Meeting { barrier: Barrier::new(size), told: Mutex::new(vec![Vec::new(); size]) });
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|rank| {
                let (meeting, work) = (meeting.clone(), &work);
                scope.spawn(move || work(&Ranks::of(Box::new(Threads { rank, meeting }))))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

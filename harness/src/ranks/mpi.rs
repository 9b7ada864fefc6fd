//! Processes that `mpirun` (or another launcher of MPI) started.

use super::Communicator;
use crate::exit::{self, Code};
use anyhow::{Context, Result};
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives};
use mpi::{Count, Threading};

/// All processes of the job. Only the thread that opened it speaks.
pub struct Mpi {
    world: SimpleCommunicator,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

/// What a launcher leaves in a process's environment: Open MPI's, PMIx's (Slurm's `--mpi=pmix`), PMI's (MPICH, Intel MPI).
const TRACES: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"];

/// The rank that a launcher of MPI started this process as: without one there is nothing to connect.
pub fn launched_as() -> Option<usize> {
    TRACES.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

impl Mpi {
    /// Starts MPI. A failure within MPI itself ends all processes with MPI's own message.
    pub fn open() -> Result<Self> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled).context("MPI was started twice")?;
        Ok(Self { world: universe.world(), _universe: universe })
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut lengths = vec![0u64; self.size()];
        self.world.all_gather_into(&(mine.len() as u64), &mut lengths[..]);
        let total: u64 = lengths.iter().sum();
        if total > Count::MAX as u64 {
            // All see it alike.
            return Err(exit::usage(format!(
                "{total} bytes at once are more than MPI can gather; start fewer processes"
            )));
        }
        let counts: Vec<Count> = lengths.iter().map(|length| *length as Count).collect();
        let starts: Vec<Count> = counts
            .iter()
            .scan(0, |sum, count| {
                *sum += count;
                Some(*sum - count)
            })
            .collect();
        let mut all = vec![0u8; total as usize];
        self.world.all_gather_varcount_into(mine, &mut PartitionMut::new(&mut all[..], &counts[..], &starts[..]));
        let mut rest = all.as_slice();
        Ok(counts.iter().map(|count| rest.split_off(..*count as usize).unwrap_or_default().to_vec()).collect())
    }

    fn abort(&self, code: Code) -> ! {
        self.world.abort(code as i32)
    }
}

//! The processes that train one cell together. Each holds the same bits; the first alone writes.
//!
//! All are told of a failure of any: whatever may fail in one process goes through [`Ranks::gather`], and a failure between
//! two exchanges is told in place of the next ([`Ranks::together`]). A process that is lost ends them all (MPI's doing).

#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg(test)]
pub mod threads;

use crate::device::describe;
use crate::environment::Environment;
use crate::exit::{self, Code};
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::time::Duration;

/// How long another process than the first waits with a failure: where all found the same, the first one says it.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(feature = "mpi")]
/// What a launcher of MPI calls this process among those of its machine: Open MPI, Slurm, MPICH and Intel MPI.
const LOCAL_RANKS: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"];

/// This process among those of its machine, from 0: which card is its own.
pub fn local_rank() -> usize {
    #[cfg(feature = "mpi")]
    if mpi::launched_as().is_some() {
        let number = |name| std::env::var(name).ok()?.parse().ok();
        return LOCAL_RANKS.into_iter().find_map(number).unwrap_or(0);
    }
    0
}

/// Whether a launcher started this process as another than the first, which speaks for all.
pub fn is_mute() -> bool {
    #[cfg(feature = "mpi")]
    return mpi::launched_as().is_some_and(|rank| rank > 0);
    #[cfg(not(feature = "mpi"))]
    false
}

/// What connects the processes.
pub trait Communicator {
    /// This process, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// The bytes of every process, in their order.
    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Ends all processes.
    fn abort(&self, code: Code) -> !;
}

/// This process and the others, if there are any.
pub struct Ranks {
    // Before the link: they part while the processes are still connected.
    #[cfg(feature = "nccl")]
    cards: std::cell::OnceCell<nccl::Cards>,
    link: Option<Box<dyn Communicator>>,
    /// Whether the last exchange gave a failure, to all.
    failed: Cell<bool>,
}

/// What one process tells the others.
#[derive(Serialize, Deserialize)]
enum Told<T> {
    Value(T),
    /// Exit code and sentence.
    Failure(Code, String),
}

impl Ranks {
    /// This process alone.
    pub fn alone() -> Self {
        Self {
            #[cfg(feature = "nccl")]
            cards: std::cell::OnceCell::new(),
            link: None,
            failed: Cell::new(false),
        }
    }

    /// These processes.
    pub fn of(link: Box<dyn Communicator>) -> Self {
        Self { link: Some(link).filter(|link| link.size() > 1), ..Self::alone() }
    }

    /// The processes that `mpirun` started together.
    ///
    /// # Errors
    /// More than one, in a binary without MPI (exit 2).
    pub fn open() -> Result<Self> {
        #[cfg(feature = "mpi")]
        if mpi::launched_as().is_some() {
            return Ok(Self::of(Box::new(mpi::Mpi::open()?)));
        }
        let started: usize = std::env::var("OMPI_COMM_WORLD_SIZE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        if started > 1 {
            return Err(exit::usage(format!(
                "mpirun started {started} processes, but this binary was built without MPI and would do the same work \
                 {started} times; build it with `--features mpi`, or start it once"
            )));
        }
        Ok(Self::alone())
    }

    /// Connects the cards, where this binary can, and refuses processes that would not compute the same bits.
    pub fn connect(&self, device: &Device) -> Result<()> {
        let environment = Environment::new();
        let mine = (describe(device).numerics, environment.git_revision.unwrap_or_default());
        let all = self.gather(Ok(mine))?;
        for (rank, (numerics, revision)) in all.iter().enumerate() {
            let first = &all[0];
            if *numerics != first.0 {
                return Err(exit::usage(format!(
                    "process {rank} computes with the kernels {numerics}, process 0 with {}, which round differently; \
                     HARNESS_INSTRUCTIONS=avx2 (or portable) gives all the same",
                    first.0
                )));
            }
            if *revision != first.1 {
                return Err(exit::usage(format!(
                    "process {rank} is another build ({revision}) than process 0 ({}); start the same binary everywhere",
                    first.1
                )));
            }
        }
        #[cfg(feature = "nccl")]
        if let (Some(_), Device::Cuda(card)) = (&self.link, device) {
            let connected = nccl::Cards::connect(self, card)?;
            self.cards.set(connected).map_err(|_| exit::usage("the cards were connected twice"))?;
        }
        Ok(())
    }

    /// This process, from 0.
    pub fn rank(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.rank())
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.link.as_ref().map_or(1, |link| link.size())
    }

    /// Whether this is the one that writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Every process's value, in their order; the first failure, to all, where any has one.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, mine: Result<T>) -> Result<Vec<T>> {
        let Some(link) = &self.link else { return Ok(vec![mine?]) };
        let told = match mine {
            Ok(value) => Told::Value(value),
            Err(error) => Told::Failure(exit::code_of(&error), format!("{error:#}")),
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&told, &mut bytes).context("telling the other processes")?;
        let (mut values, mut failure) = (Vec::new(), None);
        for (rank, bytes) in link.gather(&bytes)?.iter().enumerate() {
            match ciborium::from_reader(bytes.as_slice()) {
                Ok(Told::Failure(code, message)) => failure = failure.or(Some((rank, code, message))),
                Ok(Told::Value(value)) => values.push(Ok(value)),
                // Values of another exchange, where a failure is told in place of this one's.
                Err(error) => values.push(Err(error).with_context(|| format!("what process {rank} told"))),
            }
        }
        self.failed.set(failure.is_some());
        match failure {
            None => values.into_iter().collect(),
            Some((0, code, message)) => Err(exit::failure(code, message)),
            Some((rank, code, message)) => Err(exit::failure(code, format!("process {rank}: {message}"))),
        }
    }

    /// What this process has, once no other failed.
    pub fn agree<T>(&self, mine: Result<T>) -> Result<T> {
        if self.link.is_none() {
            return mine;
        }
        let (mine, told) = match mine {
            Ok(mine) => (Some(mine), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.gather(told)?;
        mine.context("a failure that no process was told of")
    }

    /// Whether any process says so.
    pub fn any(&self, mine: bool) -> Result<bool> {
        Ok(self.gather(Ok(mine))?.contains(&true))
    }

    /// The first process's value, or its failure; the others' `mine` is not looked at.
    pub fn from_first<T: Serialize + DeserializeOwned>(&self, mine: Result<T>) -> Result<T> {
        // A list, for CBOR cannot tell `None` from `Some(None)`.
        let told = if self.is_first() { mine.map(|value| vec![value]) } else { Ok(Vec::new()) };
        self.gather(told)?.swap_remove(0).pop().context("the first process told nothing")
    }

    /// The first process's bytes, or its failure.
    pub fn bytes_of_first(&self, mine: Result<Vec<u8>>) -> Result<Vec<u8>> {
        let mine = self.agree(mine)?;
        match &self.link {
            None => Ok(mine),
            Some(link) => Ok(link.gather(&mine)?.swap_remove(0)),
        }
    }

    /// Every process's f32 tensors, in their order, of the shapes of `like`; zeros from one that has none. They travel as
    /// one flat bucket.
    pub fn gather_tensors(&self, mine: Result<Option<Vec<Tensor>>>, like: &[Tensor]) -> Result<Vec<Vec<Tensor>>> {
        let Some(link) = &self.link else { return Ok(mine?.into_iter().collect()) };
        let values = like.iter().map(Tensor::elem_count).sum::<usize>();
        let bucket = mine.and_then(|mine| match (mine, like.first()) {
            (Some(mine), _) => flat(&mine),
            (None, Some(like)) => Ok(Tensor::zeros(values, DType::F32, like.device())?),
            (None, None) => bail!("nothing to gather"),
        });
        // After this no process fails before it has taken part in the bucket's exchange.
        let bucket = self.agree(bucket)?;
        #[cfg(feature = "nccl")]
        if let Some(cards) = self.cards.get() {
            return cards.gather(&bucket)?.iter().map(|bucket| unflat(bucket, like)).collect();
        }
        through_host(link.as_ref(), &bucket)?.iter().map(|bucket| unflat(bucket, like)).collect()
    }

    /// `order` in parts of `part`, dealt out in turn: this process's.
    pub fn deal(&self, order: &[usize], part: usize) -> Vec<usize> {
        order.chunks(part).skip(self.rank()).step_by(self.size()).flatten().copied().collect()
    }

    /// What [`Ranks::deal`] dealt out, in its first order.
    pub fn in_turn<T>(&self, dealt: Vec<Vec<T>>) -> Vec<T> {
        let mut hands: Vec<_> = dealt.into_iter().map(Vec::into_iter).collect();
        let (mut all, mut turn) = (Vec::new(), 0);
        while let Some(next) = hands[turn % self.size()].next() {
            all.push(next);
            turn += 1;
        }
        all
    }

    /// Work that all do in step: a failure here, between two exchanges, becomes all others' at their next.
    pub fn together<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.failed.set(false);
        match work() {
            Err(error) if !self.failed.get() => match self.gather::<()>(Err(error)) {
                Err(error) => Err(error),
                Ok(_) => bail!("a failure that no process was told of"),
            },
            result => result,
        }
    }

    /// Ends this process's part. A failure ends all processes, with its exit code, and does not return.
    pub fn end(self, result: Result<()>) -> Result<()> {
        let (Err(error), Some(link)) = (&result, &self.link) else { return result };
        let who = if self.is_first() {
            String::new()
        } else {
            std::thread::sleep(GRACE);
            format!("process {} of {}: ", link.rank(), link.size())
        };
        eprintln!("harness: {who}{error:#}");
        link.abort(exit::code_of(error))
    }
}

/// Every process's flat bucket, by way of host memory.
fn through_host(link: &dyn Communicator, mine: &Tensor) -> Result<Vec<Tensor>> {
    let bytes: Vec<u8> = mine.to_vec1::<f32>()?.iter().flat_map(|v| v.to_le_bytes()).collect();
    let bucket = |bytes: Vec<u8>| {
        let (values, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
        Ok(Tensor::from_vec(values, mine.dims(), mine.device())?)
    };
    link.gather(&bytes)?.into_iter().map(bucket).collect()
}

fn flat(tensors: &[Tensor]) -> Result<Tensor> {
    let flat = tensors.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&flat, 0)?)
}

/// A flat bucket seen as tensors of the shapes of `like`.
fn unflat(bucket: &Tensor, like: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut from = 0;
    let tensors = like.iter().map(|like| {
        let count = like.elem_count();
        from += count;
        Ok(bucket.narrow(0, from - count, count)?.reshape(like.dims())?)
    });
    tensors.collect()
}

#[cfg(test)]
mod tests;

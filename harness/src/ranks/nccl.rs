//! Cards connected by NCCL: one process a card. Gradients go from card to card; all else by what started the processes.

use super::Ranks;
use crate::exit;
use anyhow::Result;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, result::NcclError};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp2, Layout, Tensor, bail};
use std::ffi::c_char;

/// The cards of all processes.
pub struct Cards {
    comm: Comm,
    size: usize,
}

impl Cards {
    /// Connects the cards; NCCL's id goes the way of everything that processes tell each other.
    pub fn connect(ranks: &Ranks, card: &CudaDevice) -> Result<Self> {
        let id = match ranks.is_first() {
            true => Id::new().map(|id| id.internal().to_vec()).map_err(refused),
            false => Ok(Vec::new()),
        };
        let mut internal = [0 as c_char; 128];
        internal.iter_mut().zip(ranks.from_first(id)?).for_each(|(to, from)| *to = from);
        let comm = Comm::from_rank(card.cuda_stream(), ranks.rank(), ranks.size(), Id::uninit(internal));
        Ok(Self { comm: ranks.agree(comm.map_err(refused))?, size: ranks.size() })
    }

    /// Every process's flat f32 bucket, in their order. In the stream's order, as the kernels that wrote `mine` and those that
    /// will read these: the host waits for nothing.
    pub fn gather(&self, mine: &Tensor) -> Result<Vec<Tensor>> {
        let count = mine.elem_count();
        let all = Tensor::zeros(count * self.size, DType::F32, mine.device())?;
        all.inplace_op2(mine, &Gather(&self.comm))?;
        Ok((0..self.size).map(|rank| all.narrow(0, rank * count, count)).collect::<candle_core::Result<_>>()?)
    }
}

fn refused(error: NcclError) -> anyhow::Error {
    exit::usage(format!(
        "NCCL cannot connect the cards ({:?}): is libnccl.so.2 installed, and is there a card for each process of this \
         machine? NCCL_DEBUG=WARN says more",
        error.0
    ))
}

/// Fills the first tensor with the second one of every process.
struct Gather<'a>(&'a Comm);

impl InplaceOp2 for Gather<'_> {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> candle_core::Result<()> {
        bail!("NCCL gathers on cards only")
    }

    fn cuda_fwd(
        &self,
        all: &mut CudaStorage,
        _: &Layout,
        mine: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("a bucket is contiguous") };
        let mine = mine.as_cuda_slice::<f32>()?.slice(start..end);
        let gathered = self.0.all_gather(&mine, all.as_cuda_slice_mut::<f32>()?);
        gathered.map(drop).map_err(|error| candle_core::Error::msg(format!("NCCL: {:?}", error.0)))
    }
}

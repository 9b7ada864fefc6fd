//! Launches on a card, and in tests on the host. All work goes to one stream, in the order of the calls.

use super::arguments::{Address, Arguments};
use crate::ops::activation::host;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use std::cell::Cell;

/// Threads of a block, in every kernel (`device.h`).
pub const THREADS: usize = 256;

/// A type of values that kernels read.
#[cfg(feature = "cuda")]
pub trait Element: WithDType + candle_core::cuda_backend::CudaDType {}
#[cfg(feature = "cuda")]
impl<T: WithDType + candle_core::cuda_backend::CudaDType> Element for T {}
/// A type of values that kernels read.
#[cfg(not(feature = "cuda"))]
pub trait Element: WithDType {}
#[cfg(not(feature = "cuda"))]
impl<T: WithDType> Element for T {}

thread_local! {
    static ON_HOST: Cell<bool> = const { Cell::new(false) };
    // In tests: the largest map of spikes that the played memory has room for.
    #[cfg(test)]
    static MAX_SPIKE_BYTES: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Whether this tensor is the business of the kernels here.
pub fn runs_on_cuda(tensor: &Tensor) -> bool {
    device_runs_on_cuda(tensor.device())
}

/// Whether tensors on this device are.
pub fn device_runs_on_cuda(device: &Device) -> bool {
    device.is_cuda() || ON_HOST.get()
}

/// Runs `f` with every operation of this thread on these kernels, compiled for the host: for tests.
#[cfg(test)]
pub fn on_host<R>(f: impl FnOnce() -> R) -> R {
    ON_HOST.set(true);
    let result = f();
    ON_HOST.set(false);
    result
}

/// Runs `f` where more than `bytes` of spikes find no memory.
#[cfg(test)]
pub fn with_max_spike_bytes<R>(bytes: usize, f: impl FnOnce() -> R) -> R {
    MAX_SPIKE_BYTES.set(bytes);
    let result = f();
    MAX_SPIKE_BYTES.set(usize::MAX);
    result
}

/// A tensor that a kernel is about to fill.
pub fn empty(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    if device.is_cpu() {
        let shape = shape.into();
        #[cfg(test)]
        if dtype == DType::U8 && shape.elem_count() > MAX_SPIKE_BYTES.get() {
            bail!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        }
        // In tests: what a kernel forgets to write is seen.
        return Tensor::zeros(shape, dtype, device)?.affine(1.0, if dtype.is_float() { f64::NAN } else { 85.0 });
    }
    // SAFETY: the caller's kernel writes each value before any is read (tests see it, by the values above).
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// Where a contiguous tensor's values are, for reading.
pub fn read<T: Element>(tensor: &Tensor) -> Result<Address> {
    if tensor.device().is_cpu() {
        return Ok(host::<T>(tensor)?.as_ptr() as Address);
    }
    #[cfg(feature = "cuda")]
    {
        let (storage, layout) = tensor.storage_and_layout();
        if let candle_core::Storage::Cuda(storage) = &*storage {
            return card::address::<T>(storage, layout);
        }
    }
    bail!("no kernel for {:?}", tensor.device())
}

/// Where they are, for writing: every clone of the tensor sees it.
pub fn write<T: Element>(tensor: &Tensor) -> Result<Address> {
    struct Op<T>(Cell<Address>, std::marker::PhantomData<T>);
    impl<T: Element> InplaceOp1 for Op<T> {
        fn name(&self) -> &'static str {
            "write"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
            let Some((start, _)) = layout.contiguous_offsets() else {
                bail!("a kernel was given a tensor that is not contiguous")
            };
            let first = match storage {
                CpuStorage::F32(values) => values.as_mut_ptr() as Address,
                CpuStorage::F64(values) => values.as_mut_ptr() as Address,
                CpuStorage::U8(values) => values.as_mut_ptr() as Address,
                CpuStorage::U32(values) => values.as_mut_ptr() as Address,
                CpuStorage::I64(values) => values.as_mut_ptr() as Address,
                _ => bail!("no kernel writes {:?}", T::DTYPE),
            };
            self.0.set(first + (start * size_of::<T>()) as Address);
            Ok(())
        }

        #[cfg(feature = "cuda")]
        fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, layout: &Layout) -> Result<()> {
            self.0.set(card::address::<T>(storage, layout)?);
            Ok(())
        }
    }
    if tensor.dtype() != T::DTYPE {
        bail!("a kernel that writes {:?} was given {:?}", T::DTYPE, tensor.dtype());
    }
    let op = Op::<T>(Cell::new(0), std::marker::PhantomData);
    tensor.inplace_op1(&op)?;
    Ok(op.0.get())
}

/// A grid with a thread an item.
pub fn threads(items: usize) -> Result<[u32; 2]> {
    if items + THREADS > u32::MAX as usize {
        bail!("{items} values in one map are more than a kernel counts (2^32); take a smaller batch");
    }
    Ok([items.div_ceil(THREADS).max(1) as u32, 1])
}

/// Queues a kernel.
///
/// # Safety
/// The addresses in `arguments` are of memory that outlives the call's place in the stream and is as large as the kernel
/// asks for (`arguments.h`), and what it writes is given by [`write()`].
pub unsafe fn launch<A: Arguments>(device: &Device, kernel: &'static str, grid: [u32; 2], arguments: &A) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => card::launch(device, kernel, grid, arguments),
        #[cfg(test)]
        Device::Cpu => {
            // SAFETY: the caller's, and `Arguments`'.
            unsafe { host_kernels::launch(kernel, grid, arguments) }.map_err(candle_core::Error::msg)
        }
        _ => {
            let _ = (kernel, grid, arguments);
            bail!("no kernel for {device:?}")
        }
    }
}

/// Loads the kernels, so that a card that refuses them says so at once.
#[cfg(feature = "cuda")]
pub fn load(device: &candle_core::CudaDevice) -> Result<()> {
    device.get_or_load_custom_func("sgd", card::MODULE, card::PTX).map(drop)
}

/// How often so far the host asked the driver for something that can wait for the card: synchronisation, copies from and to
/// memory that is not pinned, allocation out of turn. `None` in a binary whose calls are not counted (scripts/cuda_link.sh).
pub fn host_waits() -> Option<u64> {
    #[cfg(counted_waits)]
    {
        unsafe extern "C" {
            static harness_host_waits: std::sync::atomic::AtomicU64;
        }
        // SAFETY: a counter of the stand-ins that this binary is linked with, changed by locked additions alone.
        return Some(unsafe { harness_host_waits.load(std::sync::atomic::Ordering::Relaxed) });
    }
    #[cfg(not(counted_waits))]
    None
}

#[cfg(feature = "cuda")]
mod card {
    use super::{Address, Arguments, Element, THREADS};
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
    use candle_core::{CudaDevice, CudaStorage, Layout, Result, bail};

    /// Made by build.rs from `kernels/kernels.cu`.
    pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

    /// What candle caches them under.
    pub const MODULE: &str = "harness";

    pub fn address<T: Element>(storage: &CudaStorage, layout: &Layout) -> Result<Address> {
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("a kernel was given a tensor that is not contiguous")
        };
        let slice = storage.as_cuda_slice::<T>()?;
        let (pointer, _order) = slice.device_ptr(slice.stream());
        Ok(pointer + (start * size_of::<T>()) as Address)
    }

    pub fn launch<A: Arguments>(
        device: &CudaDevice,
        kernel: &'static str,
        grid: [u32; 2],
        arguments: &A,
    ) -> Result<()> {
        let function = device.get_or_load_custom_func(kernel, MODULE, PTX)?;
        let mut builder = function.builder();
        builder.arg(arguments);
        let config =
            LaunchConfig { grid_dim: (grid[0], grid[1], 1), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: `super::launch`'s caller's.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

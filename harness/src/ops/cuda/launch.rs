//! Launches kernels on a device, and in tests on the host. All work goes to one stream, in the
//! order of the calls.

use super::arguments::{Address, Arguments};
use crate::ops::activation::host;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use std::cell::Cell;

/// Threads per block, in every kernel (`device.h`).
pub const THREADS: usize = 256;

/// A type of values that kernels can read.
#[cfg(feature = "cuda")]
pub trait Element: WithDType + candle_core::cuda_backend::CudaDType {}
#[cfg(feature = "cuda")]
impl<T: WithDType + candle_core::cuda_backend::CudaDType> Element for T {}
/// A type of values that kernels can read.
#[cfg(not(feature = "cuda"))]
pub trait Element: WithDType {}
#[cfg(not(feature = "cuda"))]
impl<T: WithDType> Element for T {}

thread_local! {
    static ON_HOST: Cell<bool> = const { Cell::new(false) };
    // In tests: the largest map of spikes, in bytes, for which the mock device has memory.
    #[cfg(test)]
    static MAX_SPIKE_BYTES: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Whether operations on this tensor run on the CUDA kernels.
pub fn runs_on_cuda(tensor: &Tensor) -> bool {
    device_runs_on_cuda(tensor.device())
}

/// Whether operations on tensors of this device run on the CUDA kernels.
pub fn device_runs_on_cuda(device: &Device) -> bool {
    device.is_cuda() || ON_HOST.get()
}

/// Runs `f` with every operation of this thread on the CUDA kernels, compiled for the host. For
/// tests.
#[cfg(test)]
pub fn on_host<R>(f: impl FnOnce() -> R) -> R {
    ON_HOST.set(true);
    let result = f();
    ON_HOST.set(false);
    result
}

/// Runs `f` while the allocation of a map of more than `bytes` of spikes fails. For tests.
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
        // In tests, the NaNs show what a kernel forgot to write.
        return Tensor::zeros(shape, dtype, device)?.affine(1.0, if dtype.is_float() { f64::NAN } else { 85.0 });
    }
    // SAFETY: the caller's kernel writes every value before any is read (tests check it by the
    // values above).
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// The address of a contiguous tensor's values, for reading.
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

/// The address of a contiguous tensor's values, for writing. Every clone of the tensor sees the
/// change.
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

/// A grid with one thread per item.
pub fn threads(items: usize) -> Result<[u32; 2]> {
    if items + THREADS > u32::MAX as usize {
        bail!("{items} values in one map are more than a kernel counts (2^32); take a smaller batch");
    }
    Ok([items.div_ceil(THREADS).max(1) as u32, 1])
}

/// Queues a kernel.
///
/// # Safety
/// The addresses in `arguments` point to memory that is as large as the kernel requires
/// (`arguments.h`) and that outlives the kernel's execution. Addresses that the kernel writes
/// come from [`write()`].
pub unsafe fn launch<A: Arguments>(device: &Device, kernel: &'static str, grid: [u32; 2], arguments: &A) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => card::launch(device, kernel, grid, arguments),
        #[cfg(test)]
        Device::Cpu => {
            // SAFETY: guaranteed by the caller and by `Arguments`.
            unsafe { host_kernels::launch(kernel, grid, arguments) }.map_err(candle_core::Error::msg)
        }
        _ => {
            let _ = (kernel, grid, arguments);
            bail!("no kernel for {device:?}")
        }
    }
}

/// Loads the kernels, so that a device that cannot run them fails at once.
#[cfg(feature = "cuda")]
pub fn load(device: &candle_core::CudaDevice) -> Result<()> {
    device.get_or_load_custom_func("sgd", card::MODULE, card::PTX).map(drop)
}

/// The number of driver calls so far that can make the host wait for the device:
/// synchronisation, copies from and to memory that is not pinned, allocation outside the
/// stream's order. `None` in a binary that does not count its calls (scripts/cuda_link.sh).
pub fn host_waits() -> Option<u64> {
    #[cfg(counted_waits)]
    {
        unsafe extern "C" {
            static harness_host_waits: std::sync::atomic::AtomicU64;
        }
        // SAFETY: the stand-ins that this binary is linked with define the counter and change
        // it only by atomic additions.
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

    /// The kernels as PTX, compiled by build.rs from `kernels/kernels.cu`.
    pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

    /// The name under which candle caches the kernels.
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
        // SAFETY: guaranteed by the caller of `super::launch`.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

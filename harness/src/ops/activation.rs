//! The values that flow between layers: channel-last maps, and spikes as bits.

use super::{Input, cuda, pad8};
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, WithDType, bail};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

/// A layer's input or output, with t as the slowest index of `images = T·B`.
///
/// F32 is a map `[images, height, width, pad8(channels)]`. U8 are spikes
/// `[images, height, width, pad8(channels)/8]`; bit k of byte j is channel 8j + k. Padding
/// channels are 0.
#[derive(Clone, Debug)]
pub struct Activation {
    /// The values.
    pub tensor: Tensor,
    /// Channels without padding.
    pub channels: usize,
}

impl Activation {
    /// A map from `[images, height, width, channels]` without padding.
    pub fn from_images(values: &[f32], dims: [usize; 4], device: &Device) -> Result<Self> {
        if cuda::device_runs_on_cuda(device) {
            return cuda::feed::map(values, dims, device);
        }
        let [images, height, width, channels] = dims;
        let padded = pad8(channels);
        let mut map = vec![0f32; images * height * width * padded];
        for (row, pixel) in map.chunks_exact_mut(padded).zip(values.chunks_exact(channels)) {
            row[..channels].copy_from_slice(pixel);
        }
        let tensor = Tensor::from_vec(map, (images, height, width, padded), device)?;
        Ok(Self { tensor, channels })
    }

    /// A copy on `device`, or a clone of the handle if it is there already.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { tensor: self.tensor.to_device(device)?, ..*self })
    }

    /// Whether these are spikes.
    pub fn is_spikes(&self) -> bool {
        self.tensor.dtype() == DType::U8
    }

    /// T·B.
    pub fn images(&self) -> usize {
        self.tensor.dims()[0]
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.tensor.dims()[1]
    }

    /// Pixels per row.
    pub fn width(&self) -> usize {
        self.tensor.dims()[2]
    }
}

/// The values of a contiguous tensor in host memory, while they are borrowed.
pub struct Host<'a, T> {
    guard: candle_core::StorageRef<'a>,
    range: Range<usize>,
    of: PhantomData<T>,
}

/// Borrows a tensor's values.
///
/// # Errors
/// If the tensor is on another device, has another type or is not contiguous.
pub fn host<T: WithDType>(tensor: &Tensor) -> Result<Host<'_, T>> {
    let (guard, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a kernel was given a tensor that is not contiguous")
    };
    match &*guard {
        Storage::Cpu(storage) => storage.as_slice::<T>()?,
        _ => bail!("this operation has no kernel for {:?}", tensor.device()),
    };
    Ok(Host { guard, range: start..end, of: PhantomData })
}

impl<T: WithDType> Deref for Host<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // `host` has checked both. An empty slice would fail the kernels' own length checks.
        match &*self.guard {
            Storage::Cpu(storage) => slice(storage).map_or(&[], |values| &values[self.range.clone()]),
            _ => &[],
        }
    }
}

fn slice<T: WithDType>(storage: &CpuStorage) -> Option<&[T]> {
    storage.as_slice::<T>().ok()
}

/// Changes a tensor's values in host memory, in place. Every clone of the tensor sees the
/// change.
pub fn modify<R>(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    struct Op<F, R>(RefCell<(Option<F>, Option<R>)>);
    impl<F: FnOnce(&mut [f32]) -> R, R> candle_core::InplaceOp1 for Op<F, R> {
        fn name(&self) -> &'static str {
            "modify"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &candle_core::Layout) -> Result<()> {
            let (change, result) = &mut *self.0.borrow_mut();
            let (CpuStorage::F32(values), Some((start, end)), Some(change)) =
                (storage, layout.contiguous_offsets(), change.take())
            else {
                bail!("only a contiguous f32 tensor is changed in place")
            };
            *result = Some(change(&mut values[start..end]));
            Ok(())
        }
    }
    let op = Op(RefCell::new((Some(change), None)));
    tensor.inplace_op1(&op)?;
    let (_, result) = op.0.into_inner();
    result.map_or_else(|| bail!("this operation has no kernel for {:?}", tensor.device()), Ok)
}

/// Calls `f` with the activation's values as a kernel's input.
pub fn with_input<R>(x: &Activation, f: impl FnOnce(Input<'_>) -> R) -> Result<R> {
    if x.is_spikes() {
        Ok(f(Input::Spikes(&host::<u8>(&x.tensor)?)))
    } else {
        Ok(f(Input::Map(&host::<f32>(&x.tensor)?)))
    }
}

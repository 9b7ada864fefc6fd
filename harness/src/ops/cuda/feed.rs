//! Uploads batches through pinned memory on a stream of their own, so that the next batch
//! travels while this one is computed.

use super::arguments::{Address, Pad};
use super::launch::{Element, empty, launch, threads, write};
use crate::ops::activation::Activation;
use crate::ops::pad8;
use candle_core::{DType, Device, Result, bail};

/// Uploads `[images, height, width, channels]` without padding as a padded map on `device`.
pub fn map(values: &[f32], [images, height, width, channels]: [usize; 4], device: &Device) -> Result<Activation> {
    let (pixels, padded) = (images * height * width, pad8(channels));
    if values.len() != pixels * channels {
        bail!("{} values for {images} images of {height}x{width}x{channels}", values.len());
    }
    let tensor = empty((images, height, width, padded), DType::F32, device)?;
    let to = write::<f32>(&tensor)?;
    let grid = threads(pixels * padded / 8)?;
    upload(values, device, |from| {
        let arguments = Pad { from, to, pixels: pixels as u32, channels: channels as u32, padded: padded as u32 };
        // SAFETY: `from` holds the pixels' values, and the map has a padded row per pixel.
        unsafe { launch(device, "pad", grid, &arguments) }
    })?;
    Ok(Activation { tensor, channels })
}

/// Calls `consume` with an address on `device` that holds `values`. The address is valid only
/// for kernels that `consume` queues.
pub fn upload<T: Element>(values: &[T], device: &Device, consume: impl FnOnce(Address) -> Result<()>) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => card::upload(values, device, consume),
        // In tests, kernels run as soon as they are queued.
        Device::Cpu => consume(values.as_ptr() as Address),
        _ => bail!("data cannot be uploaded to {device:?}"),
    }
}

#[cfg(feature = "cuda")]
mod card {
    use super::{Address, Element};
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{
        CudaEvent, CudaSlice, CudaStream, DevicePtr, DriverError, PinnedHostSlice, sys,
    };
    use candle_core::{CudaDevice, Result};
    use std::cell::RefCell;
    use std::sync::Arc;

    /// The maximum number of uploads in flight: the host waits for a copy only if it is that
    /// far ahead of the device.
    const AHEAD: usize = 3;
    /// The size up to which uploads use small slots. Labels use small slots, images large ones.
    const SMALL: usize = 64 << 10;

    /// The memory of one upload, on the host and on the device.
    struct Slot {
        pinned: PinnedHostSlice<u8>,
        staging: CudaSlice<u8>,
        /// Recorded when the copy has finished and the pinned memory is free.
        copied: CudaEvent,
        /// Recorded when the kernels that read the batch have finished and the device memory is
        /// free.
        consumed: CudaEvent,
    }

    impl Slot {
        fn new(bytes: usize, device: &CudaDevice) -> Result<Self> {
            let context = device.cuda_stream().context().clone();
            // SAFETY: both are written before they are read.
            let (pinned, staging) = unsafe { (context.alloc_pinned::<u8>(bytes).w()?, device.alloc::<u8>(bytes)?) };
            let event = || context.new_event(None).w();
            let slot = Self { pinned, staging, copied: event()?, consumed: event()? };
            // The copying stream may only write memory whose allocation on this stream has
            // finished.
            slot.consumed.record(&device.cuda_stream()).w()?;
            Ok(slot)
        }
    }

    /// The stream of copies and its slots: a ring of small slots and a ring of large ones.
    struct Feed {
        stream: Arc<CudaStream>,
        rings: [[Option<Slot>; AHEAD]; 2],
        next: [usize; 2],
    }

    impl Drop for Feed {
        fn drop(&mut self) {
            // No copy may be in flight when pinned memory is freed. An error here cannot be
            // reported.
            let _ = self.stream.synchronize();
        }
    }

    thread_local! {
        // Belongs to the thread that queues work on the device.
        static FEED: RefCell<Option<Feed>> = const { RefCell::new(None) };
    }

    pub fn upload<T: Element>(
        values: &[T],
        device: &CudaDevice,
        consume: impl FnOnce(Address) -> Result<()>,
    ) -> Result<()> {
        FEED.with_borrow_mut(|feed| {
            let feed = match feed {
                Some(feed) => feed,
                None => {
                    let stream = device.cuda_stream().context().new_stream().w()?;
                    feed.insert(Feed { stream, rings: Default::default(), next: [0; 2] })
                }
            };
            let bytes = size_of_val(values);
            let ring = usize::from(bytes > SMALL);
            let place = &mut feed.rings[ring][feed.next[ring]];
            feed.next[ring] = (feed.next[ring] + 1) % AHEAD;
            let slot = match place {
                Some(slot) if slot.pinned.num_bytes() >= bytes => slot,
                small => {
                    if let Some(slot) = small {
                        slot.copied.synchronize().w()?;
                    }
                    small.insert(Slot::new(bytes.max(SMALL), device)?)
                }
            };
            let compute = device.cuda_stream();
            slot.copied.synchronize().w()?;
            let (pinned, (staging, _)) = (slot.pinned.as_mut_ptr().w()?, slot.staging.device_ptr(&compute));
            feed.stream.wait(&slot.consumed).w()?;
            // SAFETY: the slot has room for these bytes, and no copy reads them any more:
            // `copied` was waited for.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), pinned, bytes) };
            // SAFETY: the device can address pinned memory, and both buffers live until the
            // events signal that they are free.
            copy(unsafe { sys::cuMemcpyAsync(staging, pinned as Address, bytes, feed.stream.cu_stream()) })?;
            slot.copied.record(&feed.stream).w()?;
            compute.wait(&slot.copied).w()?;
            consume(staging)?;
            slot.consumed.record(&compute).w()
        })
    }

    fn copy(code: sys::CUresult) -> Result<()> {
        match code {
            sys::CUresult::CUDA_SUCCESS => Ok(()),
            code => Err(DriverError(code)).w(),
        }
    }
}

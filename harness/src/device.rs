//! Where to compute, and what is said where that is not possible.

use crate::cli;
use crate::exit;
use crate::ops::cuda::{self, Precision};
use anyhow::Result;
pub use candle_core::Device;
use clap::ValueEnum;

/// The device of `--device`, computing in `--precision`. `auto` is a card where this binary has CUDA and one can be used, else the CPU.
///
/// # Errors
/// `cuda` in a binary without it or on a machine without a usable card, and a precision that the CPU has not (exit 2), with
/// what is missing.
pub fn open(choice: cli::Device, precision: Precision) -> Result<Device> {
    let device = match choice {
        cli::Device::Cpu => Device::Cpu,
        cli::Device::Cuda => card()?,
        cli::Device::Auto if !cfg!(feature = "cuda") => Device::Cpu,
        cli::Device::Auto => card().unwrap_or_else(|error| {
            eprintln!("harness: {error:#}; computing on the CPU");
            Device::Cpu
        }),
    };
    if device.is_cpu() && precision != Precision::F32 {
        return Err(exit::usage(format!(
            "--precision {}: the CPU computes in f32; say --device cuda, or leave it out",
            precision.name()
        )));
    }
    cuda::set_precision(precision);
    Ok(device)
}

/// The device class and precision that are part of every cell's identity.
pub fn class(device: &Device, precision: Precision) -> String {
    format!("{}-{}", if device.is_cuda() { "cuda" } else { "cpu" }, precision.name())
}

/// Opens the device of such a name.
pub fn open_class(class: &str) -> Result<Device> {
    let (device, precision) = class.split_once('-').unwrap_or((class, "f32"));
    let choice = if device == "cuda" { cli::Device::Cuda } else { cli::Device::Cpu };
    let known = Precision::value_variants().iter().find(|p| p.name() == precision);
    let precision = known.ok_or_else(|| exit::data(format!("`{class}` is no device class; expected e.g. cpu-f32")))?;
    open(choice, *precision)
}

/// The same without opening a card that is named: cells are known without it.
pub fn class_of_choice(choice: cli::Device, precision: Precision) -> Result<String> {
    if cfg!(feature = "cuda") && choice == cli::Device::Cuda {
        return Ok(format!("cuda-{}", precision.name()));
    }
    Ok(class(&open(choice, precision)?, precision))
}

/// What computed, for rows and measurements.
#[derive(Clone, Debug)]
pub struct Description {
    /// `cpu` or `cuda`.
    pub class: &'static str,
    /// The card's name.
    pub gpu: Option<String>,
    /// Which kernels: `cpu-avx2`, `cuda-sm90-f32` …
    pub numerics: String,
}

/// Describes an open device.
pub fn describe(device: &Device) -> Description {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => opened::describe(device),
        _ => Description { class: "cpu", gpu: None, numerics: crate::ops::cpu::numerics().to_string() },
    }
}

/// Bytes of a card's memory that nobody uses; `None` for the CPU, and where the driver does not say.
pub fn free_memory(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => device.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free as u64),
        _ => None,
    }
}

#[cfg(not(feature = "cuda"))]
fn card() -> Result<Device> {
    Err(exit::usage("this binary was built without CUDA; leave --device out, or say --device cpu"))
}

#[cfg(feature = "cuda")]
fn card() -> Result<Device> {
    opened::open().map_err(exit::usage)
}

#[cfg(feature = "cuda")]
mod opened {
    use super::Description;
    use crate::ranks;
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, result as driver, sys, sys::CUresult};
    use candle_core::{CudaDevice, Device, backend::BackendDevice};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Card 0 (`CUDA_VISIBLE_DEVICES` picks another), or each process of this machine its own, with our kernels loaded; or one
    /// sentence.
    pub fn open() -> Result<Device, String> {
        let count = quietly(|| match CudaContext::device_count() {
            Err(error) if error.0 == CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
            // What scripts/cuda_link.sh answers where there is no libcuda.so.1.
            Err(error) if error.0 == CUresult::CUDA_ERROR_STUB_LIBRARY => Err("libcuda.so.1 was not found".to_string()),
            other => other.map_err(|error| error.to_string()),
        });
        let count = count.map_err(|cause| {
            format!("no usable CUDA driver on this machine ({cause}); a card needs NVIDIA's driver 580 or later")
        })?;
        if count == 0 {
            return Err("the CUDA driver sees no card; does CUDA_VISIBLE_DEVICES hide it?".into());
        }
        let device = quietly(|| CudaDevice::new(ranks::local_rank() % count as usize))
            .map_err(|cause| format!("the card cannot be opened ({cause}); are cuBLAS 13 and cuRAND 10 installed?"))?;
        let capability = device.cuda_stream().context().compute_capability().map_err(|error| error.to_string())?;
        if capability < (8, 0) {
            let (major, minor) = capability;
            return Err(format!(
                "the card has compute capability {major}.{minor}; the kernels need 8.0 (Ampere) or later"
            ));
        }
        // SAFETY: one thread gives work to one stream, so the events that order streams are of no use.
        #[allow(unsafe_code)]
        unsafe {
            device.disable_event_tracking();
        }
        keep_memory(&device)?;
        quietly(|| crate::ops::cuda::launch::load(&device)).map_err(|cause| {
            format!("the card refuses the kernels of this binary ({cause}); is the driver 580 or later?")
        })?;
        #[cfg(feature = "cudnn")]
        quietly(|| crate::ops::cuda::cudnn::open(&device)).map_err(|cause| {
            format!("cuDNN 9 cannot be used ({cause}); install it, or build without the feature `cudnn`")
        })?;
        Ok(Device::Cuda(device))
    }

    /// Freed memory stays with this process, to be taken again without the driver; else it goes back at every wait.
    #[allow(unsafe_code)]
    fn keep_memory(device: &CudaDevice) -> Result<(), String> {
        let stream = device.cuda_stream();
        if !stream.context().has_async_alloc() {
            return Ok(());
        }
        let mut all = u64::MAX;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the card is open, and the attribute is a u64.
        let kept = unsafe {
            driver::device::get_default_mem_pool(stream.context().cu_device())
                .and_then(|pool| driver::mem_pool::set_attribute(pool, attribute, (&raw mut all).cast()))
        };
        kept.map_err(|error| {
            format!("the card's memory pool refuses its setting ({error}); is the driver 580 or later?")
        })
    }

    /// cudarc panics where a library or a symbol in it is absent.
    fn quietly<T, E: std::fmt::Display>(f: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let result = catch_unwind(AssertUnwindSafe(f));
        std::panic::set_hook(hook);
        let first_line = |text: &str| text.lines().next().unwrap_or_default().to_string();
        match result {
            Ok(result) => result.map_err(|error| first_line(&error.to_string())),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Err(first_line(
                    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a library is missing"),
                ))
            }
        }
    }

    pub fn describe(device: &CudaDevice) -> Description {
        let stream = device.cuda_stream();
        let context = stream.context();
        let (major, minor) = context.compute_capability().unwrap_or((0, 0));
        let products = if cfg!(feature = "cudnn") { "cudnn" } else { "cublas" };
        Description {
            class: "cuda",
            gpu: context.name().ok(),
            numerics: format!("cuda-sm{major}{minor}-{products}-{}", super::cuda::precision().name()),
        }
    }
}

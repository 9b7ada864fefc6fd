//! The arguments of the kernels: `kernels/arguments.h`, field by field. A test compares the
//! sizes.

/// An address of memory on the device (in tests: on the host), or 0 for none.
pub type Address = u64;

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;

/// A stand-in for cudarc's trait of kernel arguments.
#[cfg(not(feature = "cuda"))]
trait DeviceRepr {}

/// A struct that a kernel takes by value.
///
/// # Safety
/// Its layout is that of the kernel's own struct.
#[allow(private_bounds)] // the trait is public only with cudarc
pub unsafe trait Arguments: Copy + DeviceRepr {}

macro_rules! arguments {
    ($($name:ident { $($field:ident: $kind:ty),+ $(,)? })+) => {$(
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default)]
        #[allow(missing_docs)] // documented in the header
        pub struct $name { $(pub $field: $kind),+ }

        // SAFETY: the struct is `repr(C)` and has the fields of the header in the same order.
        unsafe impl Arguments for $name {}

        // SAFETY: as above; a kernel receives the struct as its bytes.
        #[cfg(feature = "cuda")]
        unsafe impl DeviceRepr for $name {}
        #[cfg(not(feature = "cuda"))]
        impl DeviceRepr for $name {}
    )+};
}

arguments! {
    Moments {
        map: Address, partial: Address, rows: u32, channels: u32, lanes: u32, rows_each: u32,
        groups: u32, slab: u32,
    }

    Totals { partial: Address, out: Address, count: u32 }

    Statistics { sums: Address, mean: Address, variance: Address, rows: f64, channels: u32 }

    Fold {
        mean: Address, variance: Address, gamma: Address, beta: Address, scale: Address, shift: Address,
        inverse_std: Address, gain: f64, epsilon: f64, channels: u32, padded: u32, groups: u32,
    }

    Coefficients {
        sum: Address, sum_map: Address, mean: Address, inverse_std: Address, gamma: Address, grad_gamma: Address,
        grad_beta: Address, k1: Address, k2: Address, k3: Address, gain: f64, rows: f64, channels: u32, padded: u32,
    }

    NormBackward {
        k1: Address, k2: Address, k3: Address, map: Address, grad: Address, out: Address, count: u32, channels: u32,
    }

    Neurons {
        map: Address, scale: Address, shift: Address, side_spikes: Address, side_map: Address, side_scale: Address,
        side_shift: Address, grad_in: Address, out: Address, spikes: Address, partial: Address, time_steps: u32,
        positions: u32, channels: u32, broadcast: u32, side: u32, hard: u32, detach_reset: u32, surrogate: u32, tau: f32,
        v_th: f32, p: f32, q: f32, lanes: u32, rows_each: u32, group_positions: u32,
    }

    Pooling {
        spikes: Address, map: Address, out: Address, images: u32, height: u32, width: u32, channels: u32, out_height: u32,
        out_width: u32, kernel: u32, stride: u32, padding: u32,
    }

    CountSpikes { spikes: Address, out: Address, bytes: u32 }

    Sgd {
        weight: Address, velocity: Address, grad: Address, learning_rate: f32, momentum: f32, weight_decay: f32,
        count: u32,
    }

    CrossEntropy {
        logits: Address, labels: Address, mean: Address, grad: Address, loss: Address, rank: Address, time_steps: u32,
        batch: u32, classes: u32,
    }

    Columns {
        spikes: Address, map: Address, columns: Address, grad: Address, first: u32, images: u32, height: u32, width: u32,
        channels: u32, out_height: u32, out_width: u32, kernel: u32, stride: u32, padding: u32, accumulate: u32,
    }

    Weights { from: Address, to: Address, c_out: u32, c_in: u32, kernel: u32, padded_out: u32, padded_in: u32 }

    Expand { spikes: Address, map: Address, bytes: u32 }

    Pad { from: Address, to: Address, pixels: u32, channels: u32, padded: u32 }

    Spread {
        spikes: Address, changed: Address, channel: Address, out: Address, time_steps: u32, groups: u32, slab: u32,
        bytes: u32, changed_bytes: u32,
    }

    Bias { rows: Address, bias: Address, count: u32, classes: u32 }

    CopyMap { from: Address, to: Address, count: u32 }
}

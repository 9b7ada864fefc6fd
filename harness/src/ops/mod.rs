//! The arithmetic of the network, one folder a device. Maps are channel-last `[images, height, width, pad8(c)]` f32 with
//! zeros in the padding channels; spikes are bits, `[images, height, width, pad8(c)/8]`, bit k of byte j = channel 8j+k.

pub mod activation;
pub mod conv;
pub mod cpu;
pub mod cuda;
pub mod matmul;
pub mod neuron;
pub mod norm;
pub mod optimizer;
pub mod pool;

use candle_core::Device;
pub use methods::lif::Reset;

/// Runs `f`, a pass of a network: on a CPU, with the pool's threads kept [with_spinning_workers](cpu::with_spinning_workers).
pub fn with_spinning_workers<R>(device: &Device, f: impl FnOnce() -> R) -> R {
    if device.is_cpu() { cpu::with_spinning_workers(f) } else { f() }
}

/// `c` rounded up to the multiple of 8 that maps and spikes are padded to.
pub const fn pad8(c: usize) -> usize {
    c.next_multiple_of(8)
}

/// The geometry of a square convolution; weights are OIHW `[c_out, c_in, kernel, kernel]`, unpadded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// T·B, t slowest.
    pub images: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Real (unpadded) input channels.
    pub c_in: usize,
    /// Real (unpadded) output channels.
    pub c_out: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
}

impl ConvShape {
    /// Rows of the output.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Columns of the output.
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Floats of the padded input map.
    pub fn in_len(&self) -> usize {
        self.images * self.height * self.width * pad8(self.c_in)
    }

    /// Floats of the padded output map.
    pub fn out_len(&self) -> usize {
        self.images * self.out_height() * self.out_width() * pad8(self.c_out)
    }

    /// Floats of the weight.
    pub fn weight_len(&self) -> usize {
        self.c_out * self.c_in * self.kernel * self.kernel
    }

    /// Multiply-accumulates of a dense forward pass, padding included.
    pub fn macs(&self) -> usize {
        self.images * self.out_height() * self.out_width() * self.weight_len()
    }
}

/// What a convolution or a pooling reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A channel-last f32 map.
    Map(&'a [f32]),
    /// Bit-packed spikes.
    Spikes(&'a [u8]),
}

impl Input<'_> {
    /// The number of values (bits or floats) it holds.
    pub fn len(&self) -> usize {
        match self {
            Self::Map(map) => map.len(),
            Self::Spikes(spikes) => spikes.len() * 8,
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

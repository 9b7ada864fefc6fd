//! The arithmetic of the network, with one folder per kind of device. Maps are channel-last
//! `[images, height, width, pad8(c)]` f32 with zeros in the padding channels. Spikes are bits,
//! `[images, height, width, pad8(c)/8]`; bit k of byte j is channel 8j+k.

pub mod activation;
pub(crate) mod conv;
pub mod cpu;
pub(crate) mod cuda;
pub(crate) mod matmul;
pub(crate) mod neuron;
pub(crate) mod norm;
pub mod optimizer;
pub(crate) mod pool;

use candle_core::Device;
pub use methods::lif::Reset;

/// Runs `f`, a pass of a network. On a CPU, the pool's threads spin meanwhile
/// ([`cpu::with_spinning_workers`]).
pub fn with_spinning_workers<R>(device: &Device, f: impl FnOnce() -> R) -> R {
    if device.is_cpu() { cpu::with_spinning_workers(f) } else { f() }
}

/// `c` rounded up to a multiple of 8, to which maps and spikes are padded.
pub const fn pad8(c: usize) -> usize {
    c.next_multiple_of(8)
}

/// The geometry of a square convolution. Weights are OIHW `[c_out, c_in, kernel, kernel]`,
/// unpadded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// T·B, with t as the slowest index.
    pub images: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Input channels without padding.
    pub c_in: usize,
    /// Output channels without padding.
    pub c_out: usize,
    /// The side of the kernel.
    pub kernel: usize,
    /// The distance between the windows of two outputs.
    pub stride: usize,
    /// The width of the border of zeros around the input.
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

/// The input of a convolution or a pooling.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A channel-last f32 map.
    Map(&'a [f32]),
    /// Bit-packed spikes.
    Spikes(&'a [u8]),
}

impl Input<'_> {
    /// The number of values (bits or floats).
    pub fn len(&self) -> usize {
        match self {
            Self::Map(map) => map.len(),
            Self::Spikes(spikes) => spikes.len() * 8,
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

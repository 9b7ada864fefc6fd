//! Weights from OIHW to the order in which a kernel reads them.

use super::super::parallel::{Aligned, Shared, tiles};
use super::ConvShape;
use std::ops::Range;

/// An OIHW weight read as `[tap][src][dst]`: forward sums over the inputs, the input's gradient over the outputs.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    data: &'a [f32],
    src_stride: usize,
    dst_stride: usize,
}

impl<'a> Weights<'a> {
    /// From input channels to output channels.
    pub(super) fn forward(s: &ConvShape, data: &'a [f32]) -> Self {
        let kk = s.kernel * s.kernel;
        Self { data, src_stride: kk, dst_stride: s.c_in * kk }
    }

    /// From output channels to input channels.
    pub(super) fn transposed(s: &ConvShape, data: &'a [f32]) -> Self {
        let kk = s.kernel * s.kernel;
        Self { data, src_stride: s.c_in * kk, dst_stride: kk }
    }

    /// Writes `[tap][src][width]` for the given taps, sources and destinations, zeros beyond `dst`.
    pub(super) fn pack(&self, taps: &[usize], src: Range<usize>, dst: Range<usize>, width: usize, out: &mut [f32]) {
        let (n, count) = (src.len(), dst.len());
        if count < width {
            out[..taps.len() * n * width].fill(0.0);
        }
        // Sixteen sources by nine taps: the lines that one destination reads stay cached for the next.
        for chunk in (0..n).step_by(16) {
            for j in 0..count {
                let from = &self.data[(dst.start + j) * self.dst_stride..];
                for i in chunk..n.min(chunk + 16) {
                    let from = &from[(src.start + i) * self.src_stride..];
                    for (t, &tap) in taps.iter().enumerate() {
                        out[(t * n + i) * width + j] = from[tap];
                    }
                }
            }
        }
    }
}

/// Sums the partial weight gradients, each `[block][tap][c_in][width]`, in order, into the OIHW `out`.
pub(super) fn unpack(s: &ConvShape, partials: &[Aligned], blocks: &[(usize, usize)], out: &mut [f32]) {
    let (kk, c_in) = (s.kernel * s.kernel, s.c_in);
    let rows = kk * c_in;
    let target = Shared::new(out);
    tiles(blocks.len(), out.len() * partials.len() * 4, |b| {
        let (start, width) = blocks[b];
        let count = width.min(s.c_out.saturating_sub(start));
        // SAFETY: output channels of a block are its own rows of `out`.
        let out = unsafe { target.slice(start.min(s.c_out) * rows, count * rows) };
        for chunk in (0..c_in).step_by(16) {
            for (j, row) in out.chunks_exact_mut(rows).enumerate() {
                for c in chunk..c_in.min(chunk + 16) {
                    for tap in 0..kk {
                        let at = start * rows + (tap * c_in + c) * width + j;
                        row[c * kk + tap] = partials.iter().map(|p| p[at]).sum();
                    }
                }
            }
        }
    });
}

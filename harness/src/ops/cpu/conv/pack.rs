//! Copies weights from OIHW to the layout that a kernel reads.

use crate::ops::cpu::parallel::{Aligned, Shared, tiles};
use crate::ops::{ConvShape, pad8};
use std::ops::Range;

/// An OIHW weight read as `[tap][src][dst]`. The forward pass sums over input channels, the
/// input's gradient over output channels.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    data: &'a [f32],
    src_stride: usize,
    dst_stride: usize,
}

impl<'a> Weights<'a> {
    /// Reads from input channels to output channels.
    pub(super) fn forward(s: &ConvShape, data: &'a [f32]) -> Self {
        let kk = s.kernel * s.kernel;
        Self { data, src_stride: kk, dst_stride: s.c_in * kk }
    }

    /// Reads from output channels to input channels.
    pub(super) fn transposed(s: &ConvShape, data: &'a [f32]) -> Self {
        let kk = s.kernel * s.kernel;
        Self { data, src_stride: s.c_in * kk, dst_stride: kk }
    }

    /// Writes `[tap][src][width]` for the given taps, sources and destinations, with zeros
    /// beyond `dst`.
    pub(super) fn pack(&self, taps: &[usize], src: Range<usize>, dst: Range<usize>, width: usize, out: &mut [f32]) {
        let (n, count) = (src.len(), dst.len());
        if taps.is_empty() {
            return;
        }
        if count < width {
            out[..taps.len() * n * width].fill(0.0);
        }
        if self.dst_stride < self.src_stride {
            // Destinations are adjacent in memory, so whole rows are copied.
            for (i, c) in src.enumerate() {
                for (t, &tap) in taps.iter().enumerate() {
                    let row = &mut out[(t * n + i) * width..][..count];
                    let from = &self.data[c * self.src_stride + dst.start * self.dst_stride + tap..];
                    for (w, x) in row.iter_mut().zip(from.iter().step_by(self.dst_stride)) {
                        *w = *x;
                    }
                }
            }
            return;
        }
        // A transposition: 16 destinations by about 144 (source, tap) pairs pass through a
        // block that fits the first-level cache, whatever the strides.
        let mut block = vec![[0.0f32; 16]; TRANSPOSED_PAIRS.max(taps.len())];
        let sources = (TRANSPOSED_PAIRS / taps.len()).max(1);
        for first in (0..n).step_by(sources) {
            let sources = first..n.min(first + sources);
            for j in (0..count).step_by(16) {
                let lanes = 16.min(count - j);
                for lane in 0..lanes {
                    let from = &self.data[(dst.start + j + lane) * self.dst_stride + src.start * self.src_stride..];
                    for (i, to) in sources.clone().zip(block.chunks_exact_mut(taps.len())) {
                        let from = &from[i * self.src_stride..];
                        for (to, &tap) in to.iter_mut().zip(taps) {
                            to[lane] = from[tap];
                        }
                    }
                }
                for (i, rows) in sources.clone().zip(block.chunks_exact(taps.len())) {
                    for (t, row) in rows.iter().enumerate() {
                        out[(t * n + i) * width + j..][..lanes].copy_from_slice(&row[..lanes]);
                    }
                }
            }
        }
    }
}

/// The OIHW `weight` of a forward pass as
/// `[out block][in block][kernel row][kernel column][in channel][width]`, zeros in the padding. A
/// block is (first channel, count). Together the blocks cover each padded channel once.
pub(super) fn rows(
    s: &ConvShape,
    weight: &[f32],
    out_blocks: &[(usize, usize)],
    in_blocks: &[(usize, usize)],
) -> Aligned {
    let weights = Weights::forward(s, weight);
    let taps: Vec<usize> = (0..s.kernel * s.kernel).collect();
    let fill = |packed: Shared<f32>| {
        tiles(out_blocks.len() * in_blocks.len(), weight.len() * 4, |tile| {
            let (start, width) = out_blocks[tile / in_blocks.len()];
            let (channel, channels) = in_blocks[tile % in_blocks.len()];
            let real = s.c_in.min(channel + channels) - channel;
            let outs = start..s.c_out.min(start + width).max(start);
            let at = taps.len() * (start * pad8(s.c_in) + channel * width);
            // SAFETY: each pair of blocks has its own range of `packed`.
            let to = unsafe { packed.zeroed(at, taps.len() * channels * width) };
            if real == channels {
                weights.pack(&taps, channel..channel + channels, outs, width, to);
                return;
            }
            for (t, tap) in taps.iter().enumerate() {
                let row = &mut to[t * channels * width..][..real * width];
                weights.pack(std::slice::from_ref(tap), channel..channel + real, outs.clone(), width, row);
            }
        })
    };
    // SAFETY: the blocks cover the whole weight, and each pair writes all of its range.
    unsafe { Aligned::from_uninit(taps.len() * pad8(s.c_in) * pad8(s.c_out), fill) }
}

/// The number of (source, tap) pairs of a transposed block, which is 9 KB.
const TRANSPOSED_PAIRS: usize = 144;

/// Adds up the partial weight gradients, each `[block][tap][c_in][width]`, in order, into the
/// OIHW `out`.
pub(super) fn unpack(s: &ConvShape, partials: &[&[f32]], blocks: &[(usize, usize)], out: &mut [f32]) {
    let (kk, c_in) = (s.kernel * s.kernel, s.c_in);
    let rows = kk * c_in;
    let target = Shared::new(out);
    let sources = (TRANSPOSED_PAIRS / kk).max(1);
    let parts = c_in.div_ceil(sources);
    tiles(blocks.len() * parts, out.len() * partials.len() * 4, |tile| {
        let ((start, width), first) = (blocks[tile / parts], tile % parts * sources);
        let count = width.min(s.c_out.saturating_sub(start));
        let sources = first..c_in.min(first + sources);
        let mut block = vec![[0.0f32; 16]; sources.len() * kk];
        for j in (0..count).step_by(16) {
            let lanes = 16.min(count - j);
            for (c, block) in sources.clone().zip(block.chunks_exact_mut(kk)) {
                for (tap, sum) in block.iter_mut().enumerate() {
                    let at = start * rows + (tap * c_in + c) * width + j;
                    sum[..lanes].copy_from_slice(&partials[0][at..at + lanes]);
                    for partial in &partials[1..] {
                        for (s, p) in sum[..lanes].iter_mut().zip(&partial[at..]) {
                            *s += p;
                        }
                    }
                }
            }
            for lane in 0..lanes {
                // SAFETY: each tile has its own sources of the rows of its own output channels.
                let to = unsafe { target.slice((start + j + lane) * rows + first * kk, sources.len() * kk) };
                for (to, sums) in to.iter_mut().zip(&block) {
                    *to = sums[lane];
                }
            }
        }
    });
}

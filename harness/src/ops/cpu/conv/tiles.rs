//! How channels are padded and cut into blocks.

use crate::ops::{ConvShape, pad8};

/// Splits `channels` (a multiple of 8) into blocks of `widest` channels, with narrower blocks of half the width each, down to
/// 8, for the remainder. A block is (first channel, width).
pub(super) fn blocks(channels: usize, widest: usize) -> Vec<(usize, usize)> {
    let (mut start, mut width, mut blocks) = (0, widest, Vec::new());
    while start < channels {
        while start + width > channels {
            width /= 2;
        }
        blocks.push((start, width));
        start += width;
    }
    blocks
}

/// Floats per padded output pixel.
pub(super) fn out_channels(s: &ConvShape) -> usize {
    pad8(s.c_out)
}

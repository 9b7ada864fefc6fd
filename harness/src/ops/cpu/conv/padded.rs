//! A copy of a band of the input with zeros around it, so that inner loops need no border
//! checks.

use crate::ops::Input;
use crate::ops::cpu::byte::FLOATS;
use std::ops::Range;

/// The part of a map that a buffer holds, and its position in the map.
pub(super) struct Band {
    pub images: Range<usize>,
    /// The map's row of the first padded row; it may lie outside the map.
    pub row: isize,
    /// Padded rows per image.
    pub rows: usize,
    /// The map's column of the first padded column; it may lie outside the map.
    pub column: isize,
    pub columns: usize,
}

/// Height, width and padded channels of a map.
#[derive(Clone, Copy)]
pub(super) struct MapSize {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Band {
    /// Floats that the buffer needs.
    pub(super) fn len(&self, size: MapSize) -> usize {
        self.images.len() * self.rows * self.columns * size.channels
    }

    /// Copies the band of `x` to `buffer` as f32, with zeros outside the map.
    pub(super) fn fill(&self, x: Input, size: MapSize, buffer: &mut [f32]) {
        let c = size.channels;
        self.lines(size, c, buffer, |from, middle| match x {
            Input::Map(map) => middle.copy_from_slice(&map[from..from + middle.len()]),
            Input::Spikes(spikes) => expand(&spikes[from / 8..(from + middle.len()) / 8], middle),
        });
    }

    /// Like [`Band::fill`], for the `width` channels (8, 16, 32 or all) of a map from `start`
    /// on.
    pub(super) fn fill_block(&self, map: &[f32], size: MapSize, start: usize, width: usize, buffer: &mut [f32]) {
        self.lines(size, width, buffer, |from, middle| match width {
            _ if width == size.channels => middle.copy_from_slice(&map[from..from + middle.len()]),
            32 => copy_block::<32>(&map[from + start..], size.channels, middle),
            16 => copy_block::<16>(&map[from + start..], size.channels, middle),
            _ => copy_block::<8>(&map[from + start..], size.channels, middle),
        });
    }

    /// Like [`Band::fill`], for bit-packed spikes without expanding them. `size.channels` is in
    /// bytes.
    pub(super) fn fill_bytes(&self, spikes: &[u8], size: MapSize, buffer: &mut [u8]) {
        self.lines(size, size.channels, buffer, |from, middle| {
            middle.copy_from_slice(&spikes[from..from + middle.len()]);
        });
    }

    /// Zeros the border. For each line inside the map it calls `copy` with the offset in the
    /// map and the inner part of the line; a pixel has `c` channels.
    fn lines<T: Copy + Default>(&self, size: MapSize, c: usize, buffer: &mut [T], copy: impl Fn(usize, &mut [T])) {
        let first = (-self.column).clamp(0, self.columns as isize) as usize;
        let start = self.column.max(0) as usize;
        let count = (self.columns - first).min(size.width.saturating_sub(start));
        let lines = self.images.len() * self.rows;
        for (k, line) in buffer[..lines * self.columns * c].chunks_exact_mut(self.columns * c).enumerate() {
            let (image, y) = (self.images.start + k / self.rows, self.row + (k % self.rows) as isize);
            if y < 0 || y as usize >= size.height {
                line.fill(T::default());
                continue;
            }
            line[..first * c].fill(T::default());
            line[(first + count) * c..].fill(T::default());
            let from = ((image * size.height + y as usize) * size.width + start) * size.channels;
            copy(from, &mut line[first * c..(first + count) * c]);
        }
    }
}

/// Copies the first `WIDTH` channels of each pixel.
fn copy_block<const WIDTH: usize>(from: &[f32], channels: usize, to: &mut [f32]) {
    for (to, from) in to.as_chunks_mut::<WIDTH>().0.iter_mut().zip(from.chunks(channels)) {
        if let Some(from) = from.first_chunk() {
            *to = *from;
        }
    }
}

/// Expands bits to 0.0 and 1.0.
pub(super) fn expand(spikes: &[u8], out: &mut [f32]) {
    for (byte, lanes) in spikes.iter().zip(out.as_chunks_mut::<8>().0) {
        *lanes = *FLOATS.of(*byte);
    }
}

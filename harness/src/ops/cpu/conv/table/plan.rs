//! How the tables' forward passes over the windows of a layer.

use super::super::dense::Problem;
use super::super::padded::MapSize;
use super::super::{ConvShape, inside, pad8};
use std::borrow::Cow;
use std::ops::Range;

/// Output pixels that share tables: enough to make little of the cost of these, few enough for the second-level cache.
const GROUP_PIXELS: usize = 4096;
/// Input pixels of such a group at most: their bytes are counted in 32 bits.
const GROUP_INPUTS: usize = 1 << 20;
/// Bytes of spikes that a pass looks up on a line at most. More tables would leave the first-level cache, even of the rows
/// in use, which are those of few spikes.
const BYTES: usize = 8;

/// What a pass reads, and from what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Whole windows of 3×3 bytes, from a copy of the spikes with zeros around the map.
    Windows,
    /// Rows of windows, from the same.
    Rows,
    /// Taps, from the spikes as they are.
    Taps,
    /// 64 channels of taps, from a copy that keeps such channels together.
    Planes,
}

fn cut(s: &ConvShape) -> Cut {
    match (s.kernel, pad8(s.c_in) / 8) {
        (3, 1) => Cut::Windows,
        (1, _) | (_, BYTES) => Cut::Taps,
        (_, ..BYTES) => Cut::Rows,
        _ => Cut::Planes,
    }
}

/// Images of a group, and groups.
pub(super) fn groups(s: &ConvShape) -> (usize, usize) {
    let outputs = GROUP_PIXELS / (s.out_height() * s.out_width());
    let groups = s.images.div_ceil(outputs.min(GROUP_INPUTS / (s.height * s.width)).max(1));
    (s.images.div_ceil(groups), groups)
}

/// Cycles an output pixel for `vectors` of `lanes` output channels, fitted like the constants of [`super::super::path`].
pub fn cycles(s: &ConvShape, vectors: f64, lanes: usize) -> f64 {
    let (k, bytes) = (s.kernel, pad8(s.c_in) / 8);
    let (passes, share) = match cut(s) {
        Cut::Windows => (1, 1.0),
        Cut::Rows => (k * (k * bytes).div_ceil(BYTES), 1.0),
        _ => (k * k * bytes.div_ceil(BYTES), inside(s, s.height, s.out_height()) * inside(s, s.width, s.out_width())),
    };
    let (look_up, pass) = if lanes == 16 { (0.8, 1.3) } else { (0.55, 1.0) };
    let (lookups, rows) = ((k * k * bytes) as f64, (256 * k * k * bytes) as f64);
    let pixels = (groups(s).0 * s.out_height() * s.out_width()) as f64;
    vectors * (share * (look_up * lookups + pass * passes as f64) + 1.5 * rows / pixels)
}

/// One pass: some bytes of spikes, and the output pixels for which they are in the map.
pub(super) struct Pass {
    /// Its first byte within the window, in the order of the packed weight.
    pub first: usize,
    /// Lines, and bytes on each.
    pub shape: (usize, usize),
    /// (first byte in the source, output pixel), image by image.
    pub pixels: Vec<[u32; 2]>,
}

/// All passes over a group of images.
pub(super) struct Plan<'s> {
    s: &'s ConvShape,
    /// Images of a group; the last one may have fewer.
    pub images: usize,
    /// Bytes of a line of the source.
    pub line: usize,
    /// The last one has all pixels.
    pub passes: Vec<Pass>,
}

impl<'s> Plan<'s> {
    pub(super) fn new(s: &'s ConvShape) -> Self {
        let (cut, k, bytes) = (cut(s), s.kernel, pad8(s.c_in) / 8);
        let copied = matches!(cut, Cut::Windows | Cut::Rows);
        // Lines, columns and bytes of a pixel of the source.
        let (lines, columns, step) = if copied {
            ((s.out_height() - 1) * s.stride + k, (s.out_width() - 1) * s.stride + k, bytes)
        } else {
            (s.height, s.width, if cut == Cut::Planes { BYTES } else { bytes })
        };
        let mut plan = Self { s, images: groups(s).0, line: columns * step, passes: Vec::new() };
        let (down, across) = match cut {
            Cut::Windows => (k, k),
            Cut::Rows => (1, k),
            Cut::Taps | Cut::Planes => (1, 1),
        };
        let image = lines * plan.line;
        for (ky, kx) in (0..k).step_by(down).flat_map(|ky| (0..k).step_by(across).map(move |kx| (ky, kx))) {
            let one = plan.pixels(copied, step, ky..ky + down, kx);
            if one.is_empty() {
                continue;
            }
            let (run, parts) = (across * bytes, (across * bytes).div_ceil(BYTES));
            for part in 0..parts {
                let (byte, end) = match cut {
                    // Planes are full but for the last.
                    Cut::Planes => (BYTES * part, run.min(BYTES * (part + 1))),
                    _ => (run * part / parts, run * (part + 1) / parts),
                };
                let from = if cut == Cut::Planes { part * plan.images * image } else { byte };
                let pixels = plan.for_all_images(&one, from, image);
                plan.passes.push(Pass { first: (ky * k + kx) * bytes + byte, shape: (down, end - byte), pixels });
            }
        }
        // The last pass turns the sums into outputs. If none has all pixels, it looks nothing up.
        let all = plan.images * s.out_height() * s.out_width();
        let last = match plan.passes.iter().rposition(|pass| pass.pixels.len() == all) {
            Some(last) => plan.passes.remove(last),
            None => Pass { first: 0, shape: (1, 0), pixels: (0..all).map(|out| [0, out as u32]).collect() },
        };
        plan.passes.push(last);
        plan
    }

    /// For a window's `rows` from column `kx` on: the pixels of an image for which they are in the map.
    fn pixels(&self, copied: bool, step: usize, rows: Range<usize>, kx: usize) -> Vec<[u32; 2]> {
        let s = self.s;
        let padding = if copied { 0 } else { s.padding };
        let in_map = |at: usize, size: usize| (s.padding..s.padding + size).contains(&at);
        let mut pixels = Vec::new();
        for y in (0..s.out_height()).filter(|y| rows.clone().any(|row| in_map(y * s.stride + row, s.height))) {
            for x in (0..s.out_width()).filter(|x| copied || in_map(x * s.stride + kx, s.width)) {
                let (line, column) = (y * s.stride + rows.start - padding, x * s.stride + kx - padding);
                pixels.push([(line * self.line + column * step) as u32, (y * s.out_width() + x) as u32]);
            }
        }
        pixels
    }

    /// The pixels of one image, for each of a group; `from` and `image` are the bytes to the first and between two.
    fn for_all_images(&self, one: &[[u32; 2]], from: usize, image: usize) -> Vec<[u32; 2]> {
        let mut pixels = Vec::with_capacity(self.images * one.len());
        for i in 0..self.images {
            let first = [(from + i * image) as u32, (i * self.s.out_height() * self.s.out_width()) as u32];
            pixels.extend(one.iter().map(|[from, out]| [first[0] + from, first[1] + out]));
        }
        pixels
    }

    /// The spikes of some images as the passes read them.
    pub(super) fn source<'a>(&self, spikes: &'a [u8], group: Range<usize>) -> Cow<'a, [u8]> {
        let (s, bytes) = (self.s, pad8(self.s.c_in) / 8);
        let image = s.height * s.width * bytes;
        match cut(s) {
            Cut::Windows | Cut::Rows => {
                let band = Problem::forward(s).band(group, 0..s.out_height());
                let size = MapSize { height: s.height, width: s.width, channels: bytes };
                let mut copy = vec![0; band.len(size)];
                band.fill_bytes(spikes, size, &mut copy);
                copy.into()
            }
            Cut::Taps => spikes[group.start * image..group.end * image].into(),
            Cut::Planes => {
                let plane = self.images * s.height * self.line;
                let mut copy = vec![0; bytes.div_ceil(BYTES) * plane];
                for (part, plane) in copy.chunks_exact_mut(plane).enumerate() {
                    let pixels = spikes[group.start * image..group.end * image].chunks_exact(bytes);
                    for (to, from) in plane.as_chunks_mut::<BYTES>().0.iter_mut().zip(pixels) {
                        let from = &from[part * BYTES..];
                        match from.first_chunk() {
                            Some(from) => *to = *from,
                            None => to[..from.len()].copy_from_slice(from),
                        }
                    }
                }
                copy.into()
            }
        }
    }
}

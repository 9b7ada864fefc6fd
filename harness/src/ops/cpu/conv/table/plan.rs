//! How the tables' forward passes over the windows of a layer.

use super::super::dense::Problem;
use super::super::padded::MapSize;
use super::super::{ConvShape, inside, pad8};
use std::borrow::Cow;
use std::ops::Range;

/// Output pixels that share tables: enough to make little of the cost of these, few enough for the second-level cache.
const GROUP_PIXELS: usize = 4096;
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

/// Whether a group, which must have an image at all time steps where its neurons fire, leaves its sums (at most 512 KB of 16
/// channels) in the second-level cache.
pub fn fit(s: &ConvShape, time_steps: usize) -> bool {
    time_steps * s.out_height() * s.out_width() <= 2 * GROUP_PIXELS
}

/// Images of a group, each at all time steps, and groups.
pub(super) fn groups(s: &ConvShape, time_steps: usize) -> (usize, usize) {
    let images = s.images / time_steps;
    let groups = images.div_ceil((GROUP_PIXELS / (time_steps * s.out_height() * s.out_width())).max(1));
    (images.div_ceil(groups), groups)
}

/// The spikes of a group's images, all of one time step and then of the next; `image`: the bytes of one.
pub(super) fn gather(spikes: &[u8], time_steps: usize, image: usize, group: Range<usize>) -> Cow<'_, [u8]> {
    let bytes = group.start * image..group.end * image;
    if time_steps == 1 {
        return spikes[bytes].into();
    }
    let steps = spikes.chunks_exact(spikes.len() / time_steps);
    steps.map(|step| &step[bytes.clone()]).collect::<Vec<_>>().concat().into()
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
    let pixels = (groups(s, 1).0 * s.out_height() * s.out_width()) as f64;
    vectors * (share * (look_up * lookups + pass * passes as f64) + 1.5 * rows / pixels)
}

/// One pass: some bytes of spikes, and the output pixels for which they are in the map.
pub(super) struct Pass {
    /// Its first byte within the window, in the order of the packed weight.
    pub first: usize,
    /// Lines, and bytes on each.
    pub shape: (usize, usize),
    /// Of one image.
    pub runs: Vec<Run>,
}

/// Neighbouring output pixels.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The first byte of the first one in the source, within the image.
    pub from: usize,
    /// The first one.
    pub pixel: usize,
    pub len: usize,
}

/// All passes over a group of images.
pub(super) struct Plan<'s> {
    s: &'s ConvShape,
    /// Images of a group, all time steps'; the last one may have fewer.
    images: usize,
    /// Bytes of the source from one line to the next.
    pub line: usize,
    /// Bytes of the source from one output pixel of a run to the next.
    pub step: usize,
    /// Bytes of the source from one image to the next.
    pub image: usize,
    /// The last one has all pixels.
    pub passes: Vec<Pass>,
}

impl<'s> Plan<'s> {
    pub(super) fn new(s: &'s ConvShape, images: usize) -> Self {
        let (cut, k, bytes) = (cut(s), s.kernel, pad8(s.c_in) / 8);
        let copied = matches!(cut, Cut::Windows | Cut::Rows);
        // Lines, columns and bytes of a pixel of the source.
        let (lines, columns, pixel) = if copied {
            ((s.out_height() - 1) * s.stride + k, (s.out_width() - 1) * s.stride + k, bytes)
        } else {
            (s.height, s.width, if cut == Cut::Planes { BYTES } else { bytes })
        };
        let line = columns * pixel;
        let mut plan = Self { s, images, line, step: s.stride * pixel, image: lines * line, passes: Vec::new() };
        let (down, across) = match cut {
            Cut::Windows => (k, k),
            Cut::Rows => (1, k),
            Cut::Taps | Cut::Planes => (1, 1),
        };
        for (ky, kx) in (0..k).step_by(down).flat_map(|ky| (0..k).step_by(across).map(move |kx| (ky, kx))) {
            let runs = plan.runs(copied, pixel, ky..ky + down, kx);
            if runs.is_empty() {
                continue;
            }
            let (run, parts) = (across * bytes, (across * bytes).div_ceil(BYTES));
            for part in 0..parts {
                let (byte, end) = match cut {
                    // Planes are full but for the last.
                    Cut::Planes => (BYTES * part, run.min(BYTES * (part + 1))),
                    _ => (run * part / parts, run * (part + 1) / parts),
                };
                let from = if cut == Cut::Planes { part * images * plan.image } else { byte };
                let runs = runs.iter().map(|run| Run { from: from + run.from, ..*run }).collect();
                plan.passes.push(Pass { first: (ky * k + kx) * bytes + byte, shape: (down, end - byte), runs });
            }
        }
        // The last pass turns the sums into outputs. If none has all pixels, it looks nothing up.
        let all = s.out_height() * s.out_width();
        let has_all = |pass: &Pass| pass.runs.iter().map(|run| run.len).sum::<usize>() == all;
        let last = match plan.passes.iter().rposition(has_all) {
            Some(last) => plan.passes.remove(last),
            None => Pass { first: 0, shape: (1, 0), runs: vec![Run { from: 0, pixel: 0, len: all }] },
        };
        plan.passes.push(last);
        plan
    }

    /// For a window's `rows` from column `kx` on: the pixels of an image for which they are in the map; `bytes`: of a pixel
    /// of the source.
    fn runs(&self, copied: bool, bytes: usize, rows: Range<usize>, kx: usize) -> Vec<Run> {
        let s = self.s;
        let padding = if copied { 0 } else { s.padding };
        let in_map = |at: usize, size: usize| (s.padding..s.padding + size).contains(&at);
        let mut runs: Vec<Run> = Vec::new();
        for y in (0..s.out_height()).filter(|y| rows.clone().any(|row| in_map(y * s.stride + row, s.height))) {
            for x in (0..s.out_width()).filter(|x| copied || in_map(x * s.stride + kx, s.width)) {
                let (line, column) = (y * s.stride + rows.start - padding, x * s.stride + kx - padding);
                let (from, pixel) = (line * self.line + column * bytes, y * s.out_width() + x);
                match runs.last_mut() {
                    Some(run) if (run.from + run.len * self.step, run.pixel + run.len) == (from, pixel) => run.len += 1,
                    _ => runs.push(Run { from, pixel, len: 1 }),
                }
            }
        }
        runs
    }

    /// A group's spikes as the passes read them: eight bytes from each pixel's first one on.
    pub(super) fn source<'a>(&self, spikes: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        let (s, bytes) = (self.s, pad8(self.s.c_in) / 8);
        match cut(s) {
            Cut::Windows | Cut::Rows => {
                let images = spikes.len() / (s.height * s.width * bytes);
                let band = Problem::forward(s).band(0..images, 0..s.out_height());
                let size = MapSize { height: s.height, width: s.width, channels: bytes };
                let mut copy = vec![0; band.len(size) + BYTES];
                band.fill_bytes(&spikes, size, &mut copy);
                copy.into()
            }
            Cut::Taps if bytes.is_multiple_of(BYTES) => spikes,
            Cut::Taps => [&spikes, &[0; BYTES][..]].concat().into(),
            Cut::Planes => {
                let plane = self.images * self.image;
                let mut copy = vec![0; bytes.div_ceil(BYTES) * plane];
                for (part, plane) in copy.chunks_exact_mut(plane).enumerate() {
                    let pixels = spikes.chunks_exact(bytes);
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

//! How the tables' forward passes over a layer.

use crate::ops::cpu::conv::direct::Problem;
use crate::ops::cpu::conv::padded::MapSize;
use crate::ops::cpu::conv::select::share_inside;
use crate::ops::{ConvShape, pad8};
use std::borrow::Cow;
use std::ops::Range;

/// Output pixels that share tables: enough to make little of the cost of these, few enough for sums between passes (256 KB of
/// eight channels, 512 KB of sixteen) to stay in a second-level cache of 1 MB.
const GROUP_PIXELS: usize = 8192;
/// The same when the border between sums of whole numbers and of floats was drawn. It is part of the recipe.
const BORDER_PIXELS: usize = 4096;
/// Bytes of spikes that a pass looks up on a line at most. More tables would leave the first-level cache, even of the rows
/// in use, which are those of few spikes.
const MAX_BYTES: usize = 8;

/// What a pass reads, and from what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TraversalOrder {
    /// Columns of the map, each for the three outputs that it reaches, from a copy of the spikes with lines of zeros around
    /// the map.
    Columns,
    /// Whole windows of 3×3 bytes, from a copy with zeros around the map.
    Windows,
    /// Rows of windows, from the same.
    Rows,
    /// Taps, from the spikes as they are.
    Taps,
    /// 64 channels of taps, from a copy that keeps such channels together.
    Planes,
}

fn traversal_order(s: &ConvShape) -> TraversalOrder {
    if s.kernel == 3 && s.stride == 1 && s.padding == 1 && s.width > 1 {
        TraversalOrder::Columns
    } else {
        order_by_outputs(s)
    }
}

/// The traversal_order that reads each output's spikes for itself.
fn order_by_outputs(s: &ConvShape) -> TraversalOrder {
    match (s.kernel, pad8(s.c_in) / 8) {
        (3, 1) => TraversalOrder::Windows,
        (1, _) | (_, MAX_BYTES) => TraversalOrder::Taps,
        (_, ..MAX_BYTES) => TraversalOrder::Rows,
        _ => TraversalOrder::Planes,
    }
}

/// Whether the three lines of a window are one pass of columns.
fn has_one_pass(s: &ConvShape) -> bool {
    s.c_in <= 16
}

/// Widest block of output channels for vectors of so many lanes. A table's row is half a cache line, or one.
pub(super) fn widest(s: &ConvShape, lanes: usize) -> usize {
    if traversal_order(s) == TraversalOrder::Columns { lanes } else { 16 }
}

/// Whether a group, which must have an image at all time steps where its neurons fire, leaves its sums in the second-level
/// cache.
pub(in crate::ops::cpu::conv) fn sums_stay_in_cache(s: &ConvShape, time_steps: usize) -> bool {
    let one_pass = match traversal_order(s) {
        TraversalOrder::Columns => has_one_pass(s),
        TraversalOrder::Windows => true,
        _ => false,
    };
    one_pass || time_steps * s.out_height() * s.out_width() <= GROUP_PIXELS
}

/// Images of a group, each at all time steps, and groups.
pub(super) fn groups(s: &ConvShape, time_steps: usize) -> (usize, usize) {
    groups_of(GROUP_PIXELS, s, time_steps)
}

fn groups_of(pixels: usize, s: &ConvShape, time_steps: usize) -> (usize, usize) {
    let images = s.images / time_steps;
    let groups = images.div_ceil((pixels / (time_steps * s.out_height() * s.out_width())).max(1));
    (images.div_ceil(groups), groups)
}

/// Cycles an output pixel for `vectors` of `lanes` output channels, each output's spikes read for itself. Fitted like the
/// constants of [`crate::ops::cpu::conv::select`].
pub(in crate::ops::cpu::conv) fn cycles(s: &ConvShape, vectors: f64, lanes: usize) -> f64 {
    let (k, bytes) = (s.kernel, pad8(s.c_in) / 8);
    let (passes, share) = match order_by_outputs(s) {
        TraversalOrder::Windows => (1, 1.0),
        TraversalOrder::Rows => (k * (k * bytes).div_ceil(MAX_BYTES), 1.0),
        _ => (
            k * k * bytes.div_ceil(MAX_BYTES),
            share_inside(s, s.height, s.out_height()) * share_inside(s, s.width, s.out_width()),
        ),
    };
    let (look_up, pass) = if lanes == 16 { (0.8, 1.3) } else { (0.55, 1.0) };
    let (lookups, rows) = ((k * k * bytes) as f64, (256 * k * k * bytes) as f64);
    let pixels = (groups_of(BORDER_PIXELS, s, 1).0 * s.out_height() * s.out_width()) as f64;
    vectors * (share * (look_up * lookups + pass * passes as f64) + 1.5 * rows / pixels)
}

/// What columns take of these cycles.
pub(in crate::ops::cpu::conv) fn column_factor(s: &ConvShape) -> f64 {
    if traversal_order(s) == TraversalOrder::Columns { 0.85 } else { 1.0 }
}

/// What a pass looks up for each pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lookups {
    /// Outputs that a byte reaches: each has a table for it.
    pub columns: usize,
    pub lines: usize,
    /// On a line.
    pub bytes: usize,
}

/// One pass: some bytes of spikes, and the output pixels for which they are in the map.
pub(super) struct LookupPass {
    pub lookups: Lookups,
    /// The eight weight rows of each table: which eight of the window's, in the order of the packed weight.
    pub tables: Vec<usize>,
    /// Of one image.
    pub runs: Vec<Run>,
    /// Bytes of the source from one pixel of a run to the next.
    pub step: usize,
    /// Bytes of the source from one line to the next.
    pub line: usize,
    /// Bytes of the source from one image to the next.
    pub image: usize,
}

impl LookupPass {
    /// Whether it has all pixels of an image.
    pub(super) fn is_full(&self, pixels: usize) -> bool {
        self.runs.iter().map(|run| run.len).sum::<usize>() == pixels
    }
}

/// Neighbouring output pixels of a line.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The first byte of the first one in the source, within the image.
    pub from: usize,
    /// The first one.
    pub pixel: usize,
    pub len: usize,
}

/// All passes over a group of images.
pub(super) struct TablePlan<'s> {
    s: &'s ConvShape,
    traversal_order: TraversalOrder,
    /// Parts of a pixel's bytes, each kept together in the source of columns: few passes, and 24 tables of half lines or 12
    /// of whole ones in each.
    parts: Vec<Range<usize>>,
    /// Images of a group, all time steps'; the last one may have fewer.
    images: usize,
    /// The last one has all pixels.
    pub passes: Vec<LookupPass>,
}

impl<'s> TablePlan<'s> {
    pub(super) fn new(s: &'s ConvShape, images: usize, width: usize) -> Self {
        let (traversal_order, bytes) = (traversal_order(s), pad8(s.c_in) / 8);
        let parts = if has_one_pass(s) { 1 } else { bytes.div_ceil(64 / width) };
        let parts = (0..parts).map(|part| bytes * part / parts..bytes * (part + 1) / parts).collect();
        let mut plan = Self { s, traversal_order, parts, images, passes: Vec::new() };
        plan.passes =
            if traversal_order == TraversalOrder::Columns { plan.column_passes() } else { plan.output_passes() };
        plan
    }

    fn column_passes(&self) -> Vec<LookupPass> {
        let (s, bytes) = (self.s, pad8(self.s.c_in) / 8);
        let lines = if has_one_pass(s) { 3 } else { 1 };
        let pass = |ky: usize, part: &Range<usize>, rows: Range<usize>| {
            let size = part.len();
            let line = s.width * size;
            let image = (s.height + 2) * line;
            let base = self.images * (s.height + 2) * s.width * part.start;
            let run = |y: usize| Run { from: base + (y + ky) * line, pixel: y * s.width, len: s.width };
            let taps = (ky..ky + lines).flat_map(|ky| part.clone().map(move |byte| (ky, byte)));
            let tables = taps.flat_map(|(ky, byte)| (0..3).map(move |kx| (3 * ky + kx) * bytes + byte));
            let lookups = Lookups { columns: 3, lines, bytes: size };
            LookupPass { lookups, tables: tables.collect(), runs: rows.map(run).collect(), step: size, line, image }
        };
        let (last, others) = self.parts.split_last().expect("a part at least");
        if lines == 3 {
            return vec![pass(0, last, 0..s.height)];
        }
        let above = self.parts.iter().map(|part| pass(0, part, 1..s.height));
        let middle = |part| pass(1, part, 0..s.height);
        let below = self.parts.iter().map(|part| pass(2, part, 0..s.height - 1));
        // The first and the last pass have all pixels: those of the middle lines, and if that is but one, zeros below the map.
        let mut passes: Vec<LookupPass> = if others.is_empty() {
            [middle(last)].into_iter().chain(above).chain([pass(2, last, 0..s.height)]).collect()
        } else {
            others.iter().map(middle).chain(above).chain(below).chain([middle(last)]).collect()
        };
        passes.retain(|pass| !pass.runs.is_empty());
        passes
    }

    fn output_passes(&self) -> Vec<LookupPass> {
        let (s, k, bytes) = (self.s, self.s.kernel, pad8(self.s.c_in) / 8);
        let copied = matches!(self.traversal_order, TraversalOrder::Windows | TraversalOrder::Rows);
        // Lines, columns and bytes of a pixel of the source.
        let (lines, columns, pixel) = if copied {
            ((s.out_height() - 1) * s.stride + k, (s.out_width() - 1) * s.stride + k, bytes)
        } else {
            (s.height, s.width, if self.traversal_order == TraversalOrder::Planes { MAX_BYTES } else { bytes })
        };
        let (step, line, image) = (s.stride * pixel, columns * pixel, lines * columns * pixel);
        let (down, across) = match self.traversal_order {
            TraversalOrder::Windows => (k, k),
            TraversalOrder::Rows => (1, k),
            _ => (1, 1),
        };
        let mut passes = Vec::new();
        for (ky, kx) in (0..k).step_by(down).flat_map(|ky| (0..k).step_by(across).map(move |kx| (ky, kx))) {
            let runs = self.runs(copied, (line, pixel), ky..ky + down, kx);
            if runs.is_empty() {
                continue;
            }
            let (run, parts) = (across * bytes, (across * bytes).div_ceil(MAX_BYTES));
            for part in 0..parts {
                let (byte, end) = match self.traversal_order {
                    // Planes are full but for the last.
                    TraversalOrder::Planes => (MAX_BYTES * part, run.min(MAX_BYTES * (part + 1))),
                    _ => (run * part / parts, run * (part + 1) / parts),
                };
                let from =
                    if self.traversal_order == TraversalOrder::Planes { part * self.images * image } else { byte };
                let runs = runs.iter().map(|run| Run { from: from + run.from, ..*run }).collect();
                let first = (ky * k + kx) * bytes + byte;
                let lookups = Lookups { columns: 1, lines: down, bytes: end - byte };
                let tables = (first..first + down * (end - byte)).collect();
                passes.push(LookupPass { lookups, tables, runs, step, line, image });
            }
        }
        // The last pass turns the sums into outputs. If none has all pixels, it looks nothing up.
        let all = s.out_height() * s.out_width();
        let last = match passes.iter().rposition(|pass| pass.is_full(all)) {
            Some(last) => passes.remove(last),
            None => {
                let (lookups, width) = (Lookups { columns: 1, lines: 1, bytes: 0 }, s.out_width());
                let run = |y| Run { from: 0, pixel: y * width, len: width };
                LookupPass {
                    lookups,
                    tables: Vec::new(),
                    runs: (0..s.out_height()).map(run).collect(),
                    step,
                    line,
                    image,
                }
            }
        };
        passes.push(last);
        passes
    }

    /// For a window's `rows` from column `kx` on: the pixels of an image for which they are in the map. `(line, bytes)`: of a
    /// line and of a pixel of the source.
    fn runs(&self, copied: bool, (line, bytes): (usize, usize), rows: Range<usize>, kx: usize) -> Vec<Run> {
        let s = self.s;
        let padding = if copied { 0 } else { s.padding };
        let in_map = |at: usize, size: usize| (s.padding..s.padding + size).contains(&at);
        let mut runs = Vec::new();
        for y in (0..s.out_height()).filter(|y| rows.clone().any(|row| in_map(y * s.stride + row, s.height))) {
            let mut xs = (0..s.out_width()).filter(|x| copied || in_map(x * s.stride + kx, s.width));
            if let Some(x) = xs.next() {
                let (row, column) = (y * s.stride + rows.start - padding, x * s.stride + kx - padding);
                let from = row * line + column * bytes;
                runs.push(Run { from, pixel: y * s.out_width() + x, len: 1 + xs.count() });
            }
        }
        runs
    }

    /// The spikes of a group's images, all of one time step and then of the next, as the passes read them: eight bytes from
    /// each pixel's first one on.
    pub(super) fn source<'a>(&self, spikes: &'a [u8], time_steps: usize, group: Range<usize>) -> Cow<'a, [u8]> {
        let (s, bytes) = (self.s, pad8(self.s.c_in) / 8);
        let image = s.height * s.width * bytes;
        let images = |step: &'a [u8]| &step[group.start * image..group.end * image];
        let steps = spikes.chunks_exact((spikes.len() / time_steps).max(1)).map(images);
        if self.traversal_order == TraversalOrder::Columns {
            return self.columns(steps.flat_map(|step| step.chunks_exact(image))).into();
        }
        let spikes: Cow<[u8]> =
            if time_steps == 1 { images(spikes).into() } else { steps.collect::<Vec<_>>().concat().into() };
        match self.traversal_order {
            TraversalOrder::Windows | TraversalOrder::Rows => {
                let images = spikes.len() / image;
                let band = Problem::forward(s).band(0..images, 0..s.out_height());
                let size = MapSize { height: s.height, width: s.width, channels: bytes };
                let mut copy = vec![0; band.len(size) + MAX_BYTES];
                band.fill_bytes(&spikes, size, &mut copy);
                copy.into()
            }
            TraversalOrder::Planes => {
                let plane = self.images * image / bytes * MAX_BYTES;
                let mut copy = vec![0; bytes.div_ceil(MAX_BYTES) * plane];
                for (part, plane) in copy.chunks_exact_mut(plane).enumerate() {
                    split::<MAX_BYTES>(&spikes, bytes, MAX_BYTES * part..bytes.min(MAX_BYTES * (part + 1)), plane);
                }
                copy.into()
            }
            _ if bytes.is_multiple_of(MAX_BYTES) => spikes,
            _ => [&spikes, &[0; MAX_BYTES][..]].concat().into(),
        }
    }

    /// A plane for each part of a pixel's bytes, with a line of zeros above and one below each image.
    fn columns<'a>(&self, images: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
        let (s, bytes) = (self.s, pad8(self.s.c_in) / 8);
        let pixels = (s.height + 2) * s.width;
        let mut copy = vec![0; self.images * pixels * bytes + MAX_BYTES];
        for part in &self.parts {
            let plane = &mut copy[self.images * pixels * part.start..][..self.images * pixels * part.len()];
            let line = s.width * part.len();
            for (image, to) in images.clone().zip(plane.chunks_exact_mut(pixels * part.len())) {
                let to = &mut to[line..(s.height + 1) * line];
                match part.len() {
                    len if len == bytes => to.copy_from_slice(image),
                    2 => split::<2>(image, bytes, part.clone(), to),
                    3 => split::<3>(image, bytes, part.clone(), to),
                    4 => split::<4>(image, bytes, part.clone(), to),
                    5 => split::<5>(image, bytes, part.clone(), to),
                    6 => split::<6>(image, bytes, part.clone(), to),
                    7 => split::<7>(image, bytes, part.clone(), to),
                    _ => split::<8>(image, bytes, part.clone(), to),
                }
            }
        }
        copy
    }
}

/// The `part` of each pixel of `bytes`, in `TO` bytes.
fn split<const TO: usize>(pixels: &[u8], bytes: usize, part: Range<usize>, to: &mut [u8]) {
    for (to, from) in to.as_chunks_mut::<TO>().0.iter_mut().zip(pixels.chunks_exact(bytes)) {
        match from[part.clone()].first_chunk() {
            Some(from) => *to = *from,
            None => to[..part.len()].copy_from_slice(&from[part.clone()]),
        }
    }
}

//! The plan of the table algorithm: which bytes of spikes are looked up in which pass over a
//! layer.

use crate::ops::cpu::conv::direct::Problem;
use crate::ops::cpu::conv::padded::MapSize;
use crate::ops::cpu::conv::select::share_inside;
use crate::ops::{ConvShape, pad8};
use std::borrow::Cow;
use std::ops::Range;

/// The maximum number of output pixels per group, which share their tables. Larger groups
/// amortise building the tables; smaller ones keep the partial sums (256 KB for eight channels,
/// 512 KB for sixteen) in a second-level cache of 1 MB.
const GROUP_PIXELS: usize = 8192;
/// The value of [`GROUP_PIXELS`] when the border between fixed-point and float sums was set. It
/// is part of the recipe.
const BORDER_PIXELS: usize = 4096;
/// The maximum number of bytes of spikes that a pass looks up per line. More tables would not
/// fit the first-level cache, although only the rows of few spikes are in frequent use.
const MAX_BYTES: usize = 8;

/// The order in which passes read the spikes, and the copy of the spikes they read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TraversalOrder {
    /// Reads the map column by column. Each input is looked up once for the three outputs that
    /// it reaches. The copy has a line of zeros above and below each image.
    Columns,
    /// Reads windows of 3×3 bytes. The copy has zeros around each image.
    Windows,
    /// Reads the rows of windows, from the same copy as `Windows`.
    Rows,
    /// Reads tap by tap, from the spikes without a copy.
    Taps,
    /// Reads 64 channels of a tap at a time. The copy keeps each group of 64 channels together.
    Planes,
}

fn traversal_order(s: &ConvShape) -> TraversalOrder {
    if s.kernel == 3 && s.stride == 1 && s.padding == 1 && s.width > 1 {
        TraversalOrder::Columns
    } else {
        order_by_outputs(s)
    }
}

/// The order in which each output reads its own spikes.
fn order_by_outputs(s: &ConvShape) -> TraversalOrder {
    match (s.kernel, pad8(s.c_in) / 8) {
        (3, 1) => TraversalOrder::Windows,
        (1, _) | (_, MAX_BYTES) => TraversalOrder::Taps,
        (_, ..MAX_BYTES) => TraversalOrder::Rows,
        _ => TraversalOrder::Planes,
    }
}

/// Whether one pass of columns covers the three lines of a window.
fn has_one_pass(s: &ConvShape) -> bool {
    s.c_in <= 16
}

/// The maximum width of a block of output channels for vectors of `lanes` lanes. A row of a
/// table then fills half a cache line or a whole one.
pub(super) fn widest(s: &ConvShape, lanes: usize) -> usize {
    if traversal_order(s) == TraversalOrder::Columns { lanes } else { 16 }
}

/// Whether the sums of a group stay in the second-level cache until its neurons fire. Such a
/// group holds each of its images at all time steps.
pub(in crate::ops::cpu::conv) fn sums_stay_in_cache(s: &ConvShape, time_steps: usize) -> bool {
    let one_pass = match traversal_order(s) {
        TraversalOrder::Columns => has_one_pass(s),
        TraversalOrder::Windows => true,
        _ => false,
    };
    one_pass || time_steps * s.out_height() * s.out_width() <= GROUP_PIXELS
}

/// The images per group, each at all time steps, and the number of groups.
pub(super) fn groups(s: &ConvShape, time_steps: usize) -> (usize, usize) {
    groups_of(GROUP_PIXELS, s, time_steps)
}

fn groups_of(pixels: usize, s: &ConvShape, time_steps: usize) -> (usize, usize) {
    let images = s.images / time_steps;
    let groups = images.div_ceil((pixels / (time_steps * s.out_height() * s.out_width())).max(1));
    (images.div_ceil(groups), groups)
}

/// Cycles per output pixel for `vectors` vectors of `lanes` output channels if each output
/// reads its own spikes. The constants are fitted like those of
/// [`crate::ops::cpu::conv::select`].
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

/// The factor on [`cycles`] if columns are read instead.
pub(in crate::ops::cpu::conv) fn column_factor(s: &ConvShape) -> f64 {
    if traversal_order(s) == TraversalOrder::Columns { 0.85 } else { 1.0 }
}

/// The lookups of a pass per pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lookups {
    /// The number of outputs that a byte reaches. Each of them has its own table for the byte.
    pub columns: usize,
    pub lines: usize,
    /// Bytes per line.
    pub bytes: usize,
}

/// One pass: some bytes of the window, and the output pixels for which they lie inside the map.
pub(super) struct LookupPass {
    pub lookups: Lookups,
    /// For each table, the index of its eight weight rows, in the order of the packed weight.
    pub tables: Vec<usize>,
    /// The runs of one image.
    pub runs: Vec<Run>,
    /// Bytes of the source between two pixels of a run.
    pub step: usize,
    /// Bytes of the source between two lines.
    pub line: usize,
    /// Bytes of the source between two images.
    pub image: usize,
}

impl LookupPass {
    /// Whether the pass covers all `pixels` of an image.
    pub(super) fn is_full(&self, pixels: usize) -> bool {
        self.runs.iter().map(|run| run.len).sum::<usize>() == pixels
    }
}

/// Neighbouring output pixels on a line.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The offset in the source, within the image, of the first pixel's first byte.
    pub from: usize,
    /// The first output pixel, within the image.
    pub pixel: usize,
    pub len: usize,
}

/// All passes over a group of images.
pub(super) struct TablePlan<'s> {
    s: &'s ConvShape,
    traversal_order: TraversalOrder,
    /// Parts of a pixel's bytes; the source of columns keeps each part together. There are few
    /// parts, and each has at most 24 tables of half cache lines or 12 of whole ones.
    parts: Vec<Range<usize>>,
    /// Images per group, counted over all time steps. The last group may have fewer.
    images: usize,
    /// The last pass covers all pixels.
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
        let (last, others) = self.parts.split_last().expect("there is at least one part");
        if lines == 3 {
            return vec![pass(0, last, 0..s.height)];
        }
        let above = self.parts.iter().map(|part| pass(0, part, 1..s.height));
        let middle = |part| pass(1, part, 0..s.height);
        let below = self.parts.iter().map(|part| pass(2, part, 0..s.height - 1));
        // The first and the last pass cover all pixels. They are passes over the middle lines;
        // if there is only one of those, the last pass also reads the zeros below the map.
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
        // Lines and columns of the source, and its bytes per pixel.
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
                    // All planes are full except the last.
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
        // The last pass turns the sums into outputs. If no pass covers all pixels, a pass
        // without lookups is added.
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

    /// For `rows` of the window from its column `kx` on: the pixels of an image for which they
    /// lie inside the map. `line` and `bytes` are the bytes of the source per line and per
    /// pixel.
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

    /// The spikes of a group's images, time step by time step, in the layout that the passes
    /// read. Eight bytes are readable from the first byte of every pixel on.
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

    /// A plane for each part of a pixel's bytes, with a line of zeros above and below each
    /// image.
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

/// Copies the `part` of each pixel of `bytes` bytes to pixels of `TO` bytes.
fn split<const TO: usize>(pixels: &[u8], bytes: usize, part: Range<usize>, to: &mut [u8]) {
    for (to, from) in to.as_chunks_mut::<TO>().0.iter_mut().zip(pixels.chunks_exact(bytes)) {
        match from[part.clone()].first_chunk() {
            Some(from) => *to = *from,
            None => to[..part.len()].copy_from_slice(&from[part.clone()]),
        }
    }
}

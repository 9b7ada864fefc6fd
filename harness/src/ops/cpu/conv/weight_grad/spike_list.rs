//! The weight's gradient for spikes by lists: for each input channel, the output gradients
//! around its spikes are added up.

use crate::ops::cpu::conv::direct::{Class, Problem};
use crate::ops::cpu::conv::lists::ChannelLists;
use crate::ops::cpu::conv::pack;
use crate::ops::cpu::conv::padded::Band;
use crate::ops::cpu::conv::tiles::{blocks, out_channels};
use crate::ops::cpu::parallel::{Aligned, Shared, map_tiles, scratch, tiles};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};
use crate::ops::{ConvShape, pad8};

/// Floats of a unit's gradient for one block of channels. These 48 KB stay in or near the
/// first-level cache.
const UNIT_FLOATS: usize = 12 << 10;
/// The numbers of taps for which the inner loop is compiled.
const TAPS: [usize; 6] = [9, 6, 4, 3, 2, 1];

/// The images and rows (of the grid of every parity) whose gradients are in the cache at the
/// same time.
struct Unit {
    images: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    /// For each class: the positions of the spikes in the padded gradient, channel by channel.
    lists: Vec<ChannelLists>,
}

/// The OIHW gradient of the weight.
pub(super) fn grad_weight(s: &ConvShape, spikes: &[u8], grad_out: &[f32], out: &mut [f32]) {
    let problem = Problem::grad_input(s);
    // The grouping of the sums does not depend on the vector width, so the result does not
    // either. Only the block width does, because CPUs without AVX-512 have smaller caches.
    let wide = blocks(out_channels(s), 32);
    let blocks = blocks(out_channels(s), if simd::level() == simd::Level::Avx512 { 32 } else { 16 });
    let units = units(s, &problem, UNIT_FLOATS / wide[0].1, spikes);
    // Each separately summed run of units needs a partial sum. There are few of them if the
    // weight is large, because its blocks then give enough tiles.
    let per_sum = units.len().div_ceil((16 / wide.len()).clamp(1, units.len()));
    let sums = units.len().div_ceil(per_sum);
    let (rows, each) = (s.kernel * s.kernel * s.c_in, s.kernel * s.kernel * s.c_in * out_channels(s));
    let fill = |partials: Shared<f32>| {
        tiles(sums * blocks.len(), s.macs() / 4, |tile| {
            let (sum, block) = (tile / blocks.len(), tile % blocks.len());
            let (start, width) = blocks[block];
            let target = partials.at(sum * each + start * rows);
            for (i, unit) in units[sum * per_sum..units.len().min((sum + 1) * per_sum)].iter().enumerate() {
                let band = problem.band(unit.images.clone(), unit.rows.clone());
                scratch(band.images.len() * band.rows * band.columns * width, |buffer| {
                    band.fill_block(grad_out, problem.src, start, width, buffer);
                    for (class, lists) in problem.classes.iter().zip(&unit.lists) {
                        let (gradient, taps) = (buffer.as_ptr(), taps(class, &band, width, s.c_in));
                        let gather =
                            Gather { gradient, lists, taps: &taps, width, c_in: s.c_in, target, fresh: i == 0 };
                        simd::run(gather, width);
                    }
                });
            }
        });
    };
    // SAFETY: each sum has a unit, each tap belongs to one class, and the first unit writes all
    // of its rows of each block.
    let partials = unsafe { Aligned::from_uninit(sums * each, fill) };
    pack::unpack(s, &partials.chunks(each).collect::<Vec<_>>(), &blocks, out);
}

/// For each tap: the offset in floats from a spike's position to the gradient it meets, and the
/// tap's offset in the partial sum.
fn taps(class: &Class, band: &Band, width: usize, c_in: usize) -> Vec<(usize, usize)> {
    class.taps.iter().map(|&(dy, dx, tap)| ((dy * band.columns + dx) * width, tap * c_in * width)).collect()
}

/// Divides the batch into units and lists their spikes.
fn units(s: &ConvShape, problem: &Problem, pixels: usize, spikes: &[u8]) -> Vec<Unit> {
    let (height, _) = problem.grid();
    let probe = problem.band(0..1, 0..height);
    let rows = (pixels / probe.columns).saturating_sub(probe.rows - height).clamp(1, height);
    let images = if rows == height { (pixels / (probe.rows * probe.columns)).clamp(1, s.images) } else { 1 };
    let (bands, groups) = (height.div_ceil(rows), s.images.div_ceil(images));
    map_tiles(bands * groups, spikes.len() * 16, |unit| {
        let (g, b) = (unit / bands, unit % bands);
        let images = g * images..s.images.min((g + 1) * images);
        let rows = b * rows..height.min((b + 1) * rows);
        let band = problem.band(images.clone(), rows.clone());
        let lists = problem.classes.iter().map(|class| channel_lists(s, class, &band, rows.clone(), spikes)).collect();
        Unit { images, rows, lists }
    })
}

/// The spikes of one class of a unit, channel by channel.
fn channel_lists(
    s: &ConvShape,
    class: &Class,
    band: &Band,
    rows: std::ops::Range<usize>,
    spikes: &[u8],
) -> ChannelLists {
    let bytes = pad8(s.c_in) / 8;
    // The offset of each pixel's spikes, and its place in the padded gradient.
    let (mut sources, mut places) = (Vec::new(), Vec::new());
    if !class.taps.is_empty() {
        for (k, image) in band.images.clone().enumerate() {
            for i in rows.start..rows.end.min(class.grid.0) {
                let line = (image * s.height + i * s.stride + class.first.0) * s.width + class.first.1;
                let base = (k * band.rows + i - rows.start) * band.columns;
                sources.extend((0..class.grid.1).map(|j| (line + j * s.stride) * bytes));
                places.extend((0..class.grid.1).map(|j| (base + j) as u16));
            }
        }
    }
    ChannelLists::build(spikes, bytes, &sources, places)
}

/// Adds up all input channels of one class of a unit for one block of output channels.
struct Gather<'a> {
    gradient: *const f32,
    lists: &'a ChannelLists,
    taps: &'a [(usize, usize)],
    width: usize,
    c_in: usize,
    target: *mut f32,
    /// Whether the target holds no sums yet.
    fresh: bool,
}

impl SimdKernel for Gather<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let wide = S::REGISTERS == 32;
        // SAFETY: passed on; the widths are those of `blocks`.
        unsafe {
            match self.width / S::LANES {
                4 => self.channels::<S, 4>(if wide { 6 } else { 3 }),
                2 => self.channels::<S, 2>(if wide { 9 } else { 6 }),
                _ => self.channels::<S, 1>(9),
            }
        }
    }
}

impl Gather<'_> {
    #[inline(always)]
    unsafe fn channels<S: Simd, const N: usize>(&self, max_taps: usize) {
        let mut taps = self.taps;
        while !taps.is_empty() {
            let n = TAPS.into_iter().find(|&n| n <= max_taps.min(taps.len())).unwrap_or(1);
            // SAFETY: passed on.
            unsafe {
                match n {
                    9 => self.add::<S, N, 9>(taps),
                    6 => self.add::<S, N, 6>(taps),
                    4 => self.add::<S, N, 4>(taps),
                    3 => self.add::<S, N, 3>(taps),
                    2 => self.add::<S, N, 2>(taps),
                    _ => self.add::<S, N, 1>(taps),
                }
            }
            taps = &taps[n..];
        }
    }

    /// Accumulates `K` taps by `N` vectors of output channels in registers, for each input
    /// channel.
    #[inline(always)]
    unsafe fn add<S: Simd, const N: usize, const K: usize>(&self, taps: &[(usize, usize)]) {
        for c in 0..self.c_in {
            let entries = &self.lists.entries[self.lists.starts[c] as usize..self.lists.starts[c + 1] as usize];
            // SAFETY: entries are pixels of the grid, and each tap stays within the padded gradient around it; the tile
            // owns this block of the partial sum.
            unsafe {
                let mut sum = [[S::zero(); N]; K];
                let mut offsets = [0; K];
                for k in 0..K {
                    offsets[k] = taps[k].0;
                }
                for &entry in entries {
                    let from = self.gradient.add(entry as usize * N * S::LANES);
                    for k in 0..K {
                        for n in 0..N {
                            sum[k][n] = S::add(sum[k][n], S::load(from.add(offsets[k] + n * S::LANES)));
                        }
                    }
                }
                for k in 0..K {
                    let to = self.target.add(taps[k].1 + c * N * S::LANES);
                    for n in 0..N {
                        let to = to.add(n * S::LANES);
                        S::store(to, if self.fresh { sum[k][n] } else { S::add(S::load(to), sum[k][n]) });
                    }
                }
            }
        }
    }
}

//! Tables of the sums of all subsets of a few rows. The forward pass and the weight's gradient look sums up in them.

use crate::ops::cpu::simd::Simd;

/// The maximum width of a block of output channels in the weight's gradient: one row of a table fills a cache line.
pub(super) const MAX_BLOCK_WIDTH: usize = 16;
/// Floats between two tables, so that equal rows of different tables fall into different sets of the cache.
const GAP: usize = 23 * 16;

/// Floats from one table of the subsets of `bits` rows to the next table.
pub(super) const fn table_floats(bits: usize, width: usize) -> usize {
    (width << bits) + GAP
}

/// Fills `table` with the sums, by `add`, of all subsets of `BITS` rows: row `i` holds the sum of the rows whose bit is set
/// in `i`.
///
/// # Safety
/// `rows` holds `BITS` (at least 3) rows of `N` vectors, and `table` has room for 2^BITS rows.
#[inline(always)]
pub(super) unsafe fn subsets<S: Simd, const N: usize, const BITS: usize>(
    rows: *const f32,
    table: *mut f32,
    add: impl Fn(S::V, S::V) -> S::V,
) {
    let width = N * S::LANES;
    for n in 0..N {
        // SAFETY: passed on to the caller.
        unsafe {
            let (rows, table) = (rows.add(n * S::LANES), table.add(n * S::LANES));
            // The subsets of the first three rows stay in registers.
            let mut low = [S::zero(); 8];
            for subset in 1..8usize {
                let last = subset.ilog2() as usize;
                low[subset] = add(low[subset - (1 << last)], S::load(rows.add(last * width)));
            }
            for high in 0..1usize << (BITS - 3) {
                let mut base = S::zero();
                if high > 0 {
                    let last = high.ilog2() as usize;
                    let rest = S::load(table.add(8 * (high - (1 << last)) * width));
                    base = add(rest, S::load(rows.add((3 + last) * width)));
                }
                for subset in 0..8 {
                    S::store(table.add((8 * high + subset) * width), add(base, low[subset]));
                }
            }
        }
    }
}

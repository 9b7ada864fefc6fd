//! Tables of the sums of all subsets of a few rows, which the forward and the weight's gradient look up.

use crate::ops::cpu::simd::Simd;

/// Widest block of output channels in the weight's gradient: a row of a table is a cache line.
pub(super) const WIDEST: usize = 16;
/// Floats between two tables, so that their equal rows do not compete for a set of the cache.
const GAP: usize = 23 * 16;

/// Floats from one table of the subsets of so many rows to the next.
pub(super) const fn table_floats(bits: usize, width: usize) -> usize {
    (width << bits) + GAP
}

/// The sums by `add` of all subsets of `BITS` rows: the row of a subset's number has the sum over its bits.
///
/// # Safety
/// There are `BITS` (at least 3) rows of `N` vectors, and room for 2^BITS of them.
#[inline(always)]
pub(super) unsafe fn subsets<S: Simd, const N: usize, const BITS: usize>(
    rows: *const f32,
    table: *mut f32,
    add: impl Fn(S::V, S::V) -> S::V,
) {
    let width = N * S::LANES;
    for n in 0..N {
        // SAFETY: the caller's.
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

//! Spike bits to lists of positions, without branches: a table gives the set bits of a byte.

/// The positions of the set bits of each byte, then zeros.
static BITS: [[u16; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut k, mut n) = (0, 0);
        while k < 8 {
            if (byte >> k) & 1 == 1 {
                table[byte][n] = k as u16;
                n += 1;
            }
            k += 1;
        }
        byte += 1;
    }
    table
};

/// Writes `base + k` for each set bit k of `byte` at the start of `out`, and returns their number.
/// Up to 8 entries are written whatever the byte: `out` needs room for 8.
#[inline(always)]
pub(super) fn append(byte: u8, base: u16, out: &mut [u16]) -> usize {
    // A whole array at a time, so that it is one vector addition and one store.
    let mut entries = BITS[byte as usize];
    for entry in &mut entries {
        *entry = entry.wrapping_add(base);
    }
    out[..8].copy_from_slice(&entries);
    byte.count_ones() as usize
}

/// The spikes of some rows of pixels, for one block of channels, in pixel order.
pub(super) struct RowLists {
    /// (column · channels of the block + channel) of each spike.
    pub entries: Vec<u16>,
    /// Where each pixel's entries start; one more than pixels.
    pub starts: Vec<u32>,
}

impl RowLists {
    /// Of `spikes`: rows of `width` pixels of `stride` bytes each, of which the block is bytes `first..first + count`.
    pub(super) fn build(spikes: &[u8], width: usize, stride: usize, first: usize, count: usize) -> Self {
        let block: u64 = spikes.chunks_exact(stride).map(|p| super::pool::count_spikes(&p[first..first + count])).sum();
        let mut entries = vec![0; block as usize + 8];
        let mut starts = Vec::with_capacity(spikes.len() / stride + 1);
        let mut n = 0;
        starts.push(0);
        for (pixel, bytes) in spikes.chunks_exact(stride).enumerate() {
            let base = (pixel % width) * count * 8;
            for (j, &byte) in bytes[first..first + count].iter().enumerate() {
                n += append(byte, (base + 8 * j) as u16, &mut entries[n..]);
            }
            starts.push(n as u32);
        }
        Self { entries, starts }
    }
}

/// Transposes 8×8 bits: bit k of byte j becomes bit j of byte k (Hacker's Delight, 7-3).
#[inline(always)]
pub(super) fn transpose8(mut x: u64) -> u64 {
    let mut t = (x ^ (x >> 7)) & 0x00AA_00AA_00AA_00AA;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000_CCCC_0000_CCCC;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x0000_0000_F0F0_F0F0;
    x ^ t ^ (t << 28)
}

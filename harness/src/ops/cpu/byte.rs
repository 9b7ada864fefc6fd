//! Lookup tables indexed by a byte of spikes.

/// For each byte, the positions of its set bits in order, then zeros.
pub(super) static SET_BITS: [[u16; 8]; 256] = {
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

/// Aligned so that no row crosses a cache line.
#[repr(align(32))]
pub(super) struct Floats([[f32; 8]; 256]);

/// For each byte, its bits as floats.
pub(super) static FLOATS: Floats = {
    let mut table = [[0.0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut k = 0;
        while k < 8 {
            table[byte][k] = ((byte >> k) & 1) as f32;
            k += 1;
        }
        byte += 1;
    }
    Floats(table)
};

impl Floats {
    #[inline(always)]
    pub(super) fn of(&self, byte: u8) -> &[f32; 8] {
        &self.0[usize::from(byte)]
    }
}

/// [`SET_BITS`] as byte offsets of both bytes of each u16, for a byte shuffle.
pub(super) static SET_BITS_SHUFFLE: [[u8; 16]; 256] = {
    let mut table = [[0; 16]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut n = 0;
        while n < 8 {
            table[byte][2 * n] = 2 * SET_BITS[byte][n] as u8;
            table[byte][2 * n + 1] = table[byte][2 * n] + 1;
            n += 1;
        }
        byte += 1;
    }
    table
};

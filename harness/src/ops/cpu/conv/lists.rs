//! Converts spike bits to lists of positions without branches: a table gives the set bits of a
//! byte.

use crate::ops::cpu::byte::SET_BITS;
use crate::ops::cpu::simd::{self, Simd, SimdKernel};

/// The spikes of some rows of pixels, for one block of channels, in the order of the pixels.
pub(super) struct RowLists {
    /// `column · channels of the block + channel` of each spike.
    pub entries: Vec<u16>,
    /// The start of each pixel's entries, and the end of the last pixel's.
    pub starts: Vec<u32>,
}

impl RowLists {
    /// Lists `spikes`, which are rows of `width` pixels of `stride` bytes. The block is the
    /// bytes `first..first + count` of each pixel.
    pub(super) fn build(spikes: &[u8], width: usize, stride: usize, first: usize, count: usize) -> Self {
        simd::run(Rows { spikes, width, stride, first, count }, 8)
    }
}

struct Rows<'a> {
    spikes: &'a [u8],
    width: usize,
    stride: usize,
    first: usize,
    count: usize,
}

impl SimdKernel for Rows<'_> {
    type Output = RowLists;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> RowLists {
        let Self { spikes, width, stride, first, count } = self;
        let (mut entries, mut starts) = (Vec::new(), Vec::with_capacity(spikes.len() / stride + 1));
        starts.push(0);
        for row in spikes.chunks(width * stride) {
            // Room for all spikes of the row and eight entries behind them.
            entries.reserve(8 * width * count + 8);
            let (room, mut n) = (entries.spare_capacity_mut().as_mut_ptr().cast::<u16>(), 0);
            for (x, pixel) in row.chunks_exact(stride).enumerate() {
                let base = x * count * 8;
                for (j, &byte) in pixel[first..first + count].iter().enumerate() {
                    let places = SET_BITS[usize::from(byte)].map(|place| place + (base + 8 * j) as u16);
                    // SAFETY: a byte advances by no more than eight.
                    unsafe { room.add(n).cast::<[u16; 8]>().write_unaligned(places) };
                    n += byte.count_ones() as usize;
                }
                starts.push((entries.len() + n) as u32);
            }
            // SAFETY: the first `n` entries are written and lie within the reserved memory.
            unsafe { entries.set_len(entries.len() + n) };
        }
        RowLists { entries, starts }
    }
}

/// The spikes of some pixels, channel by channel.
pub(super) struct ChannelLists {
    /// The place of each spike's pixel.
    pub entries: Vec<u16>,
    /// The start of each channel's entries, and the end of the last channel's.
    pub starts: Vec<u32>,
}

impl ChannelLists {
    /// Lists `spikes`. Pixel `i` is the `bytes` bytes from `sources[i]` on, and its spikes
    /// appear in the lists as `places[i]`.
    pub(super) fn build(spikes: &[u8], bytes: usize, sources: &[usize], mut places: Vec<u16>) -> Self {
        assert_eq!(sources.len(), places.len(), "a place for each pixel");
        let end = sources.iter().max().map_or(0, |last| last + bytes);
        assert!(end <= spikes.len(), "every pixel lies in the spikes");
        places.resize(places.len().next_multiple_of(8), 0);
        simd::run(Channels { spikes, bytes, sources, places: &places }, 8)
    }
}

struct Channels<'a> {
    spikes: &'a [u8],
    bytes: usize,
    sources: &'a [usize],
    /// Padded to a multiple of eight.
    places: &'a [u16],
}

impl SimdKernel for Channels<'_> {
    type Output = ChannelLists;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ChannelLists {
        // Eight channels and eight pixels at a time. The pixels may lie in several rows,
        // because the rows of small maps are short.
        let capacity = self.places.len() + 8;
        let mut listed = vec![0u16; 8 * capacity];
        let (mut entries, mut starts) = (Vec::with_capacity(self.sources.len() * self.bytes * 2), vec![0]);
        for m in 0..self.bytes {
            let mut lengths = [0; 8];
            for (sources, places) in self.sources.chunks(8).zip(self.places.as_chunks::<8>().0) {
                let mut bits = 0;
                for (k, source) in sources.iter().enumerate() {
                    // The word is built in a register. Eight byte stores followed by one wide
                    // load would stall on store forwarding.
                    bits |= u64::from(unsafe { *self.spikes.get_unchecked(source + m) }) << (8 * k);
                }
                for (c, byte) in transpose8(bits).to_le_bytes().into_iter().enumerate() {
                    let start = c * capacity + lengths[c];
                    // SAFETY: a channel lists at most all pixels, and its list has room for
                    // eight entries behind them.
                    unsafe { S::compact(byte, places.as_ptr(), listed.as_mut_ptr().add(start)) };
                    lengths[c] += byte.count_ones() as usize;
                }
            }
            for (listed, length) in listed.chunks_exact(capacity).zip(lengths) {
                entries.extend_from_slice(&listed[..length]);
                starts.push(entries.len() as u32);
            }
        }
        ChannelLists { entries, starts }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte value, in an order without a pattern.
    fn spikes(count: usize) -> Vec<u8> {
        (0..count).map(|i| (i * 167 + 13) as u8).collect()
    }

    fn fires(spikes: &[u8], at: usize, channel: usize) -> bool {
        (spikes[at + channel / 8] >> (channel % 8)) & 1 == 1
    }

    #[test]
    fn rows_list_each_pixels_channels() {
        let (spikes, width, stride) = (spikes(3 * 256), 5, 3);
        let lists = RowLists::build(&spikes, width, stride, 1, 2);
        assert_eq!(lists.starts.len(), spikes.len() / stride + 1);
        for pixel in 0..spikes.len() / stride {
            let listed = &lists.entries[lists.starts[pixel] as usize..lists.starts[pixel + 1] as usize];
            let base = pixel % width * 16;
            let expected: Vec<u16> =
                (0..16).filter(|c| fires(&spikes, pixel * stride + 1, *c)).map(|c| (base + c) as u16).collect();
            assert_eq!(listed, expected, "pixel {pixel}");
        }
    }

    #[test]
    fn channels_list_their_pixels_places() {
        // 37 pixels are four full groups of eight and a remainder; the places are not those of
        // a row.
        let (spikes, bytes) = (spikes(2 * 37), 2);
        let sources: Vec<usize> = (0..37).map(|p| p * 2).collect();
        let places: Vec<u16> = (0..37).map(|p| 1000 - 7 * p).collect();
        let lists = ChannelLists::build(&spikes, bytes, &sources, places.clone());
        assert_eq!(lists.starts.len(), 17);
        for channel in 0..16 {
            let listed = &lists.entries[lists.starts[channel] as usize..lists.starts[channel + 1] as usize];
            let expected: Vec<u16> =
                (0..37).filter(|p| fires(&spikes, sources[*p], channel)).map(|p| places[p]).collect();
            assert_eq!(listed, expected, "channel {channel}");
        }
        let none = ChannelLists::build(&spikes, bytes, &[], Vec::new());
        assert!(none.entries.is_empty() && none.starts == [0; 17]);
    }
}

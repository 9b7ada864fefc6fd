//! An RGB image in memory, and its way to a normalised sample.

/// 8-bit RGB, row-major, channel-last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// A black image.
    pub fn black(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    /// The bytes of row `y`.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.pixels[y * self.width * 3..][..self.width * 3]
    }

    /// The bytes of row `y`, writable.
    pub fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.pixels[y * self.width * 3..][..self.width * 3]
    }
}

/// Luma of ITU-R 601 of an R, G, B triple, in Pillow's fixed point.
pub(super) fn luma(pixel: &[u8]) -> u8 {
    let sum = u32::from(pixel[0]) * 19595 + u32::from(pixel[1]) * 38470 + u32::from(pixel[2]) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

/// `(level / 255 - mean) / std` for each channel and level.
pub(super) struct Normalise([[f32; 256]; 3]);

impl Normalise {
    pub(super) fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let table = |c: usize| std::array::from_fn(|level| (level as f32 / 255.0 - mean[c]) / std[c]);
        Self([table(0), table(1), table(2)])
    }

    /// `out` has as many values as `pixels`, in the same order.
    pub(super) fn apply(&self, pixels: &[u8], out: &mut [f32]) {
        for (pixel, out) in pixels.chunks_exact(3).zip(out.chunks_exact_mut(3)) {
            for c in 0..3 {
                out[c] = self.0[c][usize::from(pixel[c])];
            }
        }
    }
}

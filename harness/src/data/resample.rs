//! Resizing with Pillow's arithmetic, byte for byte: antialiased convolution in two passes, across and then down, with
//! coefficients in 22-bit fixed point and rounding to 8 bits after each pass.

use std::ops::Range;

/// Bits after the point: 32 − 8 for the level − 2 for overshoot.
const PRECISION: u32 = 22;

/// The kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Triangle of half-width 1.
    Bilinear,
    /// Catmull-Rom (a = −1/2) of half-width 2.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
        }
    }
}

/// What one output position reads: `weights` on the inputs from `first` on.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

/// The taps of the outputs `shown` of an axis of `from` inputs and `to` outputs, both at least 1.
fn taps(filter: Filter, from: usize, to: usize, shown: Range<usize>) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let tap = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|x| filter.at((x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| (w / sum * f64::from(1u32 << PRECISION)).round() as i32;
        Tap { first, weights: weights.iter().map(fixed).collect() }
    };
    shown.map(tap).collect()
}

fn to_level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// A rectangle of an image: columns and rows from (`left`, `top`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// Resizes a window of an image of `C` interleaved channels and `stride` pixels a row to `width`×`height`.
/// Nothing outside the window is read. The window and the target must not be empty.
pub(super) fn resize<const C: usize>(
    pixels: &[u8],
    stride: usize,
    window: Window,
    (width, height): (usize, usize),
    filter: Filter,
) -> Vec<u8> {
    let shown = Window { left: 0, top: 0, width, height };
    resize_and_crop::<C>(pixels, stride, window, (width, height), shown, filter)
}

/// `resize`, but makes only the part `shown` of the target.
pub(super) fn resize_and_crop<const C: usize>(
    pixels: &[u8],
    stride: usize,
    window: Window,
    (width, height): (usize, usize),
    shown: Window,
    filter: Filter,
) -> Vec<u8> {
    let columns = taps(filter, window.width, width, shown.left..shown.left + shown.width);
    let rows = taps(filter, window.height, height, shown.top..shown.top + shown.height);
    let first_row = rows.iter().map(|tap| tap.first).min().unwrap_or(0);
    let end_row = rows.iter().map(|tap| tap.first + tap.weights.len()).max().unwrap_or(0);
    let mut across = Vec::with_capacity((end_row - first_row) * shown.width * C);
    for y in window.top + first_row..window.top + end_row {
        let row = &pixels[(y * stride + window.left) * C..][..window.width * C];
        for tap in &columns {
            let mut sums = [1 << (PRECISION - 1); C];
            for (pixel, &weight) in row[tap.first * C..].chunks_exact(C).zip(&tap.weights) {
                for c in 0..C {
                    sums[c] += i32::from(pixel[c]) * weight;
                }
            }
            across.extend(sums.map(to_level));
        }
    }
    let row_len = shown.width * C;
    let mut out = Vec::with_capacity(shown.height * row_len);
    let mut sums = vec![0; row_len];
    for tap in rows {
        sums.fill(1 << (PRECISION - 1));
        for (row, &weight) in across[(tap.first - first_row) * row_len..].chunks_exact(row_len).zip(&tap.weights) {
            for (sum, &level) in sums.iter_mut().zip(row) {
                *sum += i32::from(level) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| to_level(sum)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixtures: `scripts/augment_golden.py`.
    #[test]
    fn bilinear_windows_are_pillows_byte_for_byte() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("augment.json")).unwrap()).unwrap();
        for (name, input) in index["inputs"].as_object().unwrap() {
            let sheet = ::image::open(folder.join(format!("augment_{name}.png"))).unwrap().into_rgb8();
            let size = |key: &str| input[key].as_u64().unwrap() as usize;
            for (case, expected) in
                index["resizes"].as_array().unwrap().iter().zip(input["resized"].as_array().unwrap())
            {
                let number = |i: usize| case[i].as_u64().map(|n| n as usize);
                let (left, top) = (number(0).unwrap(), number(1).unwrap());
                let width = number(2).unwrap_or(size("width"));
                let height = number(3).unwrap_or(size("height"));
                let window = Window { left, top, width, height };
                let target = (number(4).unwrap(), number(5).unwrap());
                let ours = resize::<3>(sheet.as_raw(), size("width"), window, target, Filter::Bilinear);
                let expected: Vec<u8> =
                    expected.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u8).collect();
                assert_eq!(ours, expected, "{name} {case}");
            }
        }
    }
}

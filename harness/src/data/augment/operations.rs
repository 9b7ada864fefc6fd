//! The image operations of AutoAugment, with Pillow's arithmetic byte for byte.

use crate::data::image::{Image, luma};

/// What a geometric operation leaves empty (the lineage's fill colour).
const FILL: u8 = 128;

/// An operation of the CIFAR-10 policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AutoContrast,
    Brightness,
    Color,
    Contrast,
    Equalize,
    Invert,
    Posterize,
    Rotate,
    Sharpness,
    ShearY,
    Solarize,
    TranslateX,
    TranslateY,
}

impl Operation {
    /// Whether the magnitude is negated half of the time. The lineage turns only one way.
    pub fn is_signed(self) -> bool {
        use Operation::*;
        matches!(self, Brightness | Color | Contrast | Sharpness | ShearY | TranslateX | TranslateY)
    }

    /// Applies the operation at `level` (0–9 of its range), negated or not.
    pub fn apply(self, image: Image, level: u8, negative: bool) -> Image {
        let ranged = |from: f64, to: f64| if level == 9 { to } else { from + f64::from(level) * ((to - from) / 9.0) };
        let signed = |most: f64| ranged(0.0, if negative { -most } else { most });
        match self {
            Self::AutoContrast => each_channel(image, auto_contrast),
            Self::Equalize => each_channel(image, equalize),
            Self::Invert => each_level(image, |level| 255 - level),
            Self::Posterize => {
                let bits = ranged(8.0, 4.0).round_ties_even() as u32;
                each_level(image, |level| level & (0xff00u16 >> bits) as u8)
            }
            Self::Solarize => {
                let threshold = ranged(256.0, 0.0);
                each_level(image, |level| if f64::from(level) < threshold { level } else { 255 - level })
            }
            Self::Brightness => {
                let factor = 1.0 + signed(0.9);
                each_level(image, |level| blend(0, level, factor as f32))
            }
            Self::Contrast => {
                let mean = mean_luma(&image);
                let factor = 1.0 + signed(0.9);
                each_level(image, |level| blend(mean, level, factor as f32))
            }
            Self::Color => color(image, 1.0 + signed(0.9)),
            Self::Sharpness => sharpness(&image, 1.0 + signed(0.9)),
            Self::ShearY => shear_y(&image, signed(0.3)),
            Self::TranslateX => translate(&image, signed(150.0 / 331.0) * image.width as f64, 0.0),
            Self::TranslateY => translate(&image, 0.0, signed(150.0 / 331.0) * image.height as f64),
            Self::Rotate => rotate(&image, ranged(0.0, 30.0)),
        }
    }
}

/// Pillow's blend of a degenerate image and the image, in f32, cut (not rounded) to 8 bits.
fn blend(degenerate: u8, level: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(degenerate), f32::from(level));
    (from + factor * (to - from)) as u8 // saturates at 0 and 255
}

fn each_level(mut image: Image, f: impl Fn(u8) -> u8) -> Image {
    let table: [u8; 256] = std::array::from_fn(|level| f(level as u8));
    image.pixels.iter_mut().for_each(|level| *level = table[usize::from(*level)]);
    image
}

/// Maps each channel by a table made from its histogram.
fn each_channel(mut image: Image, table: impl Fn(&[u32; 256]) -> [u8; 256]) -> Image {
    for channel in 0..3 {
        let mut histogram = [0; 256];
        image.pixels.iter().skip(channel).step_by(3).for_each(|&level| histogram[usize::from(level)] += 1);
        let table = table(&histogram);
        image.pixels.iter_mut().skip(channel).step_by(3).for_each(|level| *level = table[usize::from(*level)]);
    }
    image
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|level| level as u8)
}

fn auto_contrast(histogram: &[u32; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|&n| n > 0).unwrap_or(0);
    let high = histogram.iter().rposition(|&n| n > 0).unwrap_or(0);
    if high <= low {
        return identity();
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|level| (level as f64 * scale + offset) as u8)
}

fn equalize(histogram: &[u32; 256]) -> [u8; 256] {
    let last = histogram.iter().rfind(|&&n| n > 0).copied().unwrap_or(0);
    let step = (histogram.iter().sum::<u32>() - last) / 255;
    if step == 0 {
        return identity();
    }
    let mut below = step / 2;
    std::array::from_fn(|level| {
        let mapped = (below / step).min(255) as u8;
        below += histogram[level];
        mapped
    })
}

fn mean_luma(image: &Image) -> u8 {
    let pixels = (image.width * image.height).max(1) as f64;
    let sum: u64 = image.pixels.chunks_exact(3).map(|pixel| u64::from(luma(pixel))).sum();
    (sum as f64 / pixels + 0.5) as u8
}

fn color(mut image: Image, factor: f64) -> Image {
    for pixel in image.pixels.chunks_exact_mut(3) {
        let gray = luma(pixel);
        pixel.iter_mut().for_each(|level| *level = blend(gray, *level, factor as f32));
    }
    image
}

/// Blends with the image smoothed by (1 1 1, 1 5 1, 1 1 1)/13; the border is not smoothed.
fn sharpness(image: &Image, factor: f64) -> Image {
    let mut out = image.clone();
    for y in 1..image.height.saturating_sub(1) {
        let rows = [image.row(y - 1), image.row(y), image.row(y + 1)];
        let inner = 3..(image.width * 3).saturating_sub(3).max(3);
        for (i, out) in inner.clone().zip(&mut out.row_mut(y)[inner]) {
            let sum: u32 = rows.iter().flat_map(|row| [row[i - 3], row[i], row[i + 3]]).map(u32::from).sum();
            let smooth = (2 * (sum + 4 * u32::from(rows[1][i])) + 13) / 26;
            *out = blend(smooth as u8, rows[1][i], factor as f32);
        }
    }
    out
}

fn filled(image: &Image) -> Image {
    Image { pixels: vec![FILL; image.pixels.len()], ..*image }
}

/// Shows at (x, y) the pixel at (x + right, y + down), the nearest one.
fn translate(image: &Image, right: f64, down: f64) -> Image {
    let nearest = |i: usize, shift: f64, n: usize| {
        let at = shift + 0.5 + i as f64;
        (at >= 0.0 && (at as usize) < n).then_some(at as usize)
    };
    let mut out = filled(image);
    for y in 0..image.height {
        let Some(from_y) = nearest(y, down, image.height) else { continue };
        for x in 0..image.width {
            let Some(from_x) = nearest(x, right, image.width) else { continue };
            out.row_mut(y)[x * 3..][..3].copy_from_slice(&image.row(from_y)[from_x * 3..][..3]);
        }
    }
    out
}

/// Turns counter-clockwise about the centre, nearest pixel, in Pillow's 16.16 fixed point.
fn rotate(image: &Image, degrees: f64) -> Image {
    if degrees == 0.0 {
        return image.clone();
    }
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (sin, cos) = (-degrees).to_radians().sin_cos();
    let (cx, cy) = (image.width as f64 / 2.0, image.height as f64 / 2.0);
    let (offset_x, offset_y) = (cx - cos * cx - sin * cy, cy + sin * cx - cos * cy);
    let start = (fixed(offset_x + cos * 0.5 + sin * 0.5), fixed(offset_y - sin * 0.5 + cos * 0.5));
    let (cos, sin, minus_sin) = (fixed(cos), fixed(sin), fixed(-sin));
    let mut out = filled(image);
    for y in 0..image.height {
        for x in 0..image.width {
            let from_x = (start.0 + x as i64 * cos + y as i64 * sin) >> 16;
            let from_y = (start.1 + x as i64 * minus_sin + y as i64 * cos) >> 16;
            if (0..image.width as i64).contains(&from_x) && (0..image.height as i64).contains(&from_y) {
                let pixel = &image.row(from_y as usize)[from_x as usize * 3..][..3];
                out.row_mut(y)[x * 3..][..3].copy_from_slice(pixel);
            }
        }
    }
    out
}

/// Shows at (x, y) what is at (x, y + slope · x), by Pillow's bicubic (a = −1), cut (not rounded) to 8 bits.
fn shear_y(image: &Image, slope: f64) -> Image {
    let mut out = filled(image);
    let height = image.height as isize;
    for x in 0..image.width {
        for y in 0..image.height {
            let at = slope * (x as f64 + 0.5) + (y as f64 + 0.5);
            if at < 0.0 || at >= image.height as f64 {
                continue;
            }
            let at = at - 0.5;
            let top = at.floor() as isize - 1;
            let share = at - at.floor();
            // The first of the four rows is the nearest one inside; another outside repeats the one before.
            let mut rows = [top.clamp(0, height - 1) as usize; 4];
            for i in 1..4 {
                let row = top + i as isize;
                rows[i] = if (0..height).contains(&row) { row as usize } else { rows[i - 1] };
            }
            for c in 0..3 {
                let level = |i: usize| f64::from(image.row(rows[i])[x * 3 + c]);
                out.row_mut(y)[x * 3 + c] = cubic([level(0), level(1), level(2), level(3)], share) as u8;
            }
        }
    }
    out
}

/// The cubic through `v[1]` and `v[2]` with slopes `v[2] − v[0]` and `v[3] − v[1]`, at `d` of the way.
fn cubic(v: [f64; 4], d: f64) -> f64 {
    let (p2, p3, p4) = (v[2] - v[0], 2.0 * (v[0] - v[1]) + v[2] - v[3], -v[0] + v[1] - v[2] + v[3]);
    v[1] + d * (p2 + d * (p3 + d * p4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(name: &str) -> Operation {
        use Operation::*;
        match name {
            "auto-contrast" => AutoContrast,
            "brightness" => Brightness,
            "color" => Color,
            "contrast" => Contrast,
            "equalize" => Equalize,
            "invert" => Invert,
            "posterize" => Posterize,
            "rotate" => Rotate,
            "sharpness" => Sharpness,
            "shear-y" => ShearY,
            "solarize" => Solarize,
            "translate-x" => TranslateX,
            "translate-y" => TranslateY,
            other => panic!("the fixture names {other}"),
        }
    }

    /// Fixtures: `scripts/augment_golden.py`.
    #[test]
    fn every_operation_at_every_level_is_pillows_byte_for_byte() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("augment.json")).unwrap()).unwrap();
        let mut wrong = std::collections::BTreeMap::new();
        for (name, input) in index["inputs"].as_object().unwrap() {
            let sheet = ::image::open(folder.join(format!("augment_{name}.png"))).unwrap().into_rgb8();
            let (width, height) = (sheet.width() as usize, input["height"].as_u64().unwrap() as usize);
            let tiles: Vec<&[u8]> = sheet.as_raw().chunks_exact(width * height * 3).collect();
            let operations = index["operations"].as_array().unwrap();
            assert_eq!(tiles.len(), operations.len() + 1);
            let image = Image { width, height, pixels: tiles[0].to_vec() };
            for (entry, expected) in operations.iter().zip(&tiles[1..]) {
                let level = entry[1].as_u64().unwrap() as u8;
                let ours = operation(entry[0].as_str().unwrap()).apply(image.clone(), level, entry[2] == -1);
                let unlike = ours.pixels.iter().zip(*expected).filter(|(a, b)| a != b).count();
                if unlike > 0 {
                    wrong.insert(format!("{name} {entry}"), unlike);
                }
            }
        }
        assert!(wrong.is_empty(), "{} results differ (bytes): {wrong:?}", wrong.len());
    }
}

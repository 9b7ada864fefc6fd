//! Crops that change the size, with torchvision's rules and Pillow's antialiased bilinear filter.

use std::cell::RefCell;

use fast_image_resize::images::{CroppedImage, Image as Buffer, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::data::image::Image;
use crate::data::resample::{Filter, Window, resize, resize_and_crop};
use crate::rng::Stream;

/// torchvision's `RandomResizedCrop(size)`: 8 to 100 % of the area, aspect 3/4 to 4/3.
pub(super) fn random_resized_crop(image: &Image, size: usize, stream: &mut Stream) -> Image {
    let window = random_window(image.width, image.height, stream);
    let pixels = resize_quickly(image, window, size)
        .unwrap_or_else(|_| resize::<3>(&image.pixels, image.width, window, (size, size), Filter::Bilinear));
    Image { width: size, height: size, pixels }
}

/// `resize` with SIMD, for training: three times as fast, and within one level of Pillow (coefficients of 16 bits).
fn resize_quickly(image: &Image, window: Window, size: usize) -> anyhow::Result<Vec<u8>> {
    thread_local! {
        static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
    }
    let source = ImageRef::new(image.width as u32, image.height as u32, &image.pixels, PixelType::U8x3)?;
    let [left, top, width, height] = [window.left, window.top, window.width, window.height].map(|n| n as u32);
    let source = CroppedImage::new(&source, left, top, width, height)?;
    let mut target = Buffer::new(size as u32, size as u32, PixelType::U8x3);
    let bilinear = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &bilinear))?;
    Ok(target.into_vec())
}

/// Ten tries at an area and an aspect that fit; then the largest central window of a permitted aspect.
fn random_window(width: usize, height: usize, stream: &mut Stream) -> Window {
    const ASPECT: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
    let area = (width * height) as f64;
    for _ in 0..10 {
        let target = area * (0.08 + 0.92 * stream.uniform());
        let log = ASPECT.0.ln() + (ASPECT.1.ln() - ASPECT.0.ln()) * stream.uniform();
        let (across, down) = ((target * log.exp()).sqrt(), (target / log.exp()).sqrt());
        let (w, h) = (across.round_ties_even() as usize, down.round_ties_even() as usize);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let (top, left) = (stream.below(height - h + 1), stream.below(width - w + 1));
            return Window { left, top, width: w, height: h };
        }
    }
    let aspect = width as f64 / height as f64;
    let (w, h) = match aspect {
        narrow if narrow < ASPECT.0 => (width, (width as f64 / ASPECT.0).round_ties_even() as usize),
        wide if wide > ASPECT.1 => ((height as f64 * ASPECT.1).round_ties_even() as usize, height),
        _ => (width, height),
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Window { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// torchvision's `Resize(8/7 · size)` (256 for 224) of the shorter side and `CenterCrop(size)`.
pub(crate) fn resize_and_centre_crop(image: &Image, size: usize) -> Image {
    let shorter = (size * 8).div_euclid(7).max(size);
    let longer = |long: usize, short: usize| (shorter * long / short).max(size);
    let (width, height) = match image.width <= image.height {
        true => (shorter, longer(image.height, image.width)),
        false => (longer(image.width, image.height), shorter),
    };
    let margin = |n: usize| ((n - size) as f64 / 2.0).round_ties_even() as usize;
    let whole = Window { left: 0, top: 0, width: image.width, height: image.height };
    let shown = Window { left: margin(width), top: margin(height), width: size, height: size };
    let pixels = resize_and_crop::<3>(&image.pixels, image.width, whole, (width, height), shown, Filter::Bilinear);
    Image { width: size, height: size, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn windows_fit_and_have_torchvisions_areas_and_aspects() {
        for (width, height) in [(500, 375), (1, 1), (500, 20), (3, 700)] {
            let mut smallest = 1.0f64;
            for index in 0..3000 {
                let window = random_window(width, height, &mut Stream::new(1, Purpose::Augment, (0, index)));
                assert!(window.left + window.width <= width && window.top + window.height <= height);
                assert!(window.width > 0 && window.height > 0);
                let aspect = window.width as f64 / window.height as f64;
                if (width, height) == (500, 375) {
                    assert!((0.74..1.35).contains(&aspect), "{window:?}");
                }
                smallest = smallest.min((window.width * window.height) as f64 / (width * height) as f64);
            }
            if (width, height) == (500, 375) {
                assert!((0.079..0.085).contains(&smallest), "{smallest}");
            }
        }
        // No window of 20 rows has 8 % of 500×20 at an aspect of at most 4/3 (800 pixels; 27×20 = 540): the fallback.
        let wide = random_window(500, 20, &mut Stream::new(1, Purpose::Augment, (0, 0)));
        assert_eq!(wide, Window { left: 236, top: 0, width: 27, height: 20 });
    }

    #[test]
    fn the_quick_resize_is_within_one_level_of_pillows() {
        let pixels: Vec<u8> = (0..90 * 70 * 3).map(|i| (i * i / 7 % 253) as u8).collect();
        let image = Image { width: 90, height: 70, pixels };
        for (index, size) in (0..200).flat_map(|index| [(index, 24), (index, 64)]) {
            let window = random_window(90, 70, &mut Stream::new(3, Purpose::Augment, (0, index)));
            let exact = resize::<3>(&image.pixels, 90, window, (size, size), Filter::Bilinear);
            let quick = resize_quickly(&image, window, size).unwrap();
            let worst = exact.iter().zip(&quick).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(worst <= 1, "{window:?} to {size}: {worst} levels");
        }
    }

    #[test]
    fn the_centre_crop_is_that_of_the_whole_resized_image() {
        let pixels: Vec<u8> = (0..61 * 40 * 3).map(|i| (i * 73 % 255) as u8).collect();
        let image = Image { width: 61, height: 40, pixels };
        // Resize(32) makes 48×32; CenterCrop(28) starts at column 10, row 2.
        let whole = Window { left: 0, top: 0, width: 61, height: 40 };
        let resized = resize::<3>(&image.pixels, 61, whole, (48, 32), Filter::Bilinear);
        let crop = resize_and_centre_crop(&image, 28);
        for y in 0..28 {
            assert_eq!(crop.row(y), &resized[((y + 2) * 48 + 10) * 3..][..28 * 3], "row {y}");
        }
    }
}

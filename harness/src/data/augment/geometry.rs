//! Crops, mirrors, rolls and Cutout.

use crate::data::image::Image;
use crate::rng::Stream;

/// torchvision's `RandomCrop(size, padding)`: black pixels around, then a window of the original size at random.
/// The padding is black in the pixels, before normalisation.
pub(super) fn random_crop(image: &Image, padding: usize, stream: &mut Stream) -> Image {
    let top = stream.below(2 * padding + 1);
    let left = stream.below(2 * padding + 1);
    crop_padded(image, padding, top, left)
}

/// The window whose corner is (`top`, `left`) in the image padded by `padding` on each side.
fn crop_padded(image: &Image, padding: usize, top: usize, left: usize) -> Image {
    let mut out = Image::black(image.width, image.height);
    let columns = overlap(image.width, padding, left);
    let rows = overlap(image.height, padding, top);
    for y in 0..rows.len {
        let source = &image.row(rows.source + y)[columns.source * 3..][..columns.len * 3];
        out.row_mut(rows.target + y)[columns.target * 3..][..columns.len * 3].copy_from_slice(source);
    }
    out
}

struct Overlap {
    source: usize,
    target: usize,
    len: usize,
}

/// The part of 0..n that a window of n from `start` in the padded axis shows.
fn overlap(n: usize, padding: usize, start: usize) -> Overlap {
    let shift = start as isize - padding as isize;
    let source = shift.max(0) as usize;
    let target = (-shift).max(0) as usize;
    Overlap { source, target, len: n.saturating_sub(source.max(target)) }
}

/// Mirrors left to right.
pub(super) fn flip(image: &mut Image) {
    for y in 0..image.height {
        let row = image.row_mut(y);
        let width = row.len() / 3;
        for x in 0..width / 2 {
            for c in 0..3 {
                row.swap(x * 3 + c, (width - 1 - x) * 3 + c);
            }
        }
    }
}

/// One `side`×`side` square becomes black (0 before normalisation). Its centre is uniform over the image and the
/// part outside is lost (DeVries & Taylor 2017, and the lineage's code): rows `cy − side/2 .. cy + side/2`.
pub(super) fn cutout(image: &mut Image, side: usize, stream: &mut Stream) {
    let centre_y = stream.below(image.height);
    let centre_x = stream.below(image.width);
    let span = |centre: usize, n: usize| centre.saturating_sub(side / 2)..(centre + side.div_ceil(2)).min(n);
    let columns = span(centre_x, image.width);
    for y in span(centre_y, image.height) {
        image.row_mut(y)[columns.start * 3..columns.end * 3].fill(0);
    }
}

/// Mirrors frames `[T, size, size, 2]` left to right.
pub(crate) fn flip_frames(frames: &mut [f32], size: usize) {
    for row in frames.chunks_exact_mut(size * 2) {
        for x in 0..size / 2 {
            row.swap(x * 2, (size - 1 - x) * 2);
            row.swap(x * 2 + 1, (size - 1 - x) * 2 + 1);
        }
    }
}

/// Shifts frames `[T, size, size, 2]` down by `dy` and right by `dx` (each below `size` in magnitude), around the edges.
pub(crate) fn roll_frames(frames: &mut [f32], size: usize, dy: isize, dx: isize) {
    let wrap = |shift: isize| shift.rem_euclid(size as isize) as usize;
    for frame in frames.chunks_exact_mut(size * size * 2) {
        frame.rotate_right(wrap(dy) * size * 2);
        for row in frame.chunks_exact_mut(size * 2) {
            row.rotate_right(wrap(dx) * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    /// Pixel (x, y) is (16·y + x + 1, …): no symmetry, no black.
    fn numbered(width: usize, height: usize) -> Image {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [(16 * y + x + 1) as u8; 3])).collect();
        Image { width, height, pixels }
    }

    #[test]
    fn a_crop_shows_the_shifted_image_and_black_beyond_it() {
        let image = numbered(5, 3);
        for (top, left) in (0..=4).flat_map(|top| (0..=4).map(move |left| (top, left))) {
            let out = crop_padded(&image, 2, top, left);
            for (y, x) in (0..3).flat_map(|y| (0..5).map(move |x| (y, x))) {
                let (sy, sx) = (y as isize + top as isize - 2, x as isize + left as isize - 2);
                let inside = (0..3).contains(&sy) && (0..5).contains(&sx);
                let expected = if inside { (16 * sy + sx + 1) as u8 } else { 0 };
                assert_eq!(out.row(y)[x * 3], expected, "top {top}, left {left}, pixel ({x}, {y})");
            }
        }
        assert_eq!(crop_padded(&image, 9, 18, 18), Image::black(5, 3));
    }

    #[test]
    fn a_flip_mirrors_columns_and_not_rows() {
        let mut image = numbered(3, 2);
        flip(&mut image);
        let red: Vec<u8> = image.pixels.iter().step_by(3).copied().collect();
        assert_eq!(red, [3, 2, 1, 19, 18, 17]);
    }

    #[test]
    fn cutout_blackens_the_square_around_a_uniform_centre() {
        let mut counts = std::collections::HashMap::new();
        for index in 0..2000 {
            let mut image = numbered(12, 12);
            cutout(&mut image, 4, &mut Stream::new(0, Purpose::Augment, (0, index)));
            *counts.entry(image.pixels.iter().filter(|&&v| v == 0).count() / 3).or_insert(0) += 1;
        }
        // Rows cy-2..cy+2 of 12: 2 or 3 rows at the edge (cy = 0, 1, 11), else 4.
        let mut sizes: Vec<_> = counts.keys().copied().collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [4, 6, 8, 9, 12, 16]);
        assert!((1000..1250).contains(&counts[&16]), "{counts:?}"); // 81/144 of 2,000
    }

    #[test]
    fn frames_flip_along_the_row_and_roll_around_both_edges() {
        let base: Vec<f32> = (0..18).map(|i| i as f32).collect(); // one 3×3 frame, 2 channels
        let mut flipped = base.clone();
        flip_frames(&mut flipped, 3);
        assert_eq!(flipped[..6], [4.0, 5.0, 2.0, 3.0, 0.0, 1.0]);
        let mut rolled = base.clone();
        roll_frames(&mut rolled, 3, 1, -1);
        assert_eq!(rolled[6..12], [2.0, 3.0, 4.0, 5.0, 0.0, 1.0], "row 0 is now row 1, one pixel to the left");
    }
}

//! The embedded sign-language digits: lossless WebP sheets of 32×32 RGB tiles (Mavi 2020, Apache-2.0).

use anyhow::Result;
use image::ImageFormat;
use sha2::{Digest, Sha256};

use super::image::Normalise;
use super::image_dataset::{Pixels, Stills};
use super::{DataConfig, hex};
use crate::exit::data;

/// Side of a tile, in pixels.
pub(super) const SIZE: usize = 32;
/// Bytes of a tile.
pub(super) const IMAGE_BYTES: usize = SIZE * SIZE * 3;
/// Tiles in a row of a sheet.
const TILES: usize = 40;
/// Channel means and standard deviations of the training images.
const MEAN: [f32; 3] = [0.673, 0.644, 0.615];
const STD: [f32; 3] = [0.137, 0.154, 0.182];

/// A compiled-in sheet; `sha256` is of the RGB bytes, tile after tile.
struct Sheet {
    name: &'static str,
    webp: &'static [u8],
    labels: &'static [u8],
    sha256: &'static str,
    labels_sha256: &'static str,
}

/// SHA-256 of the training pixels.
pub(super) const TRAIN_SHA256: &str = "a69ded15f866dbe16fe4af5ded5b5cfb69b069bbb4b74dacd4247659f94fe369";
const TRAIN: Sheet = Sheet {
    name: "train.webp",
    webp: include_bytes!("../../data/sign-digits-32/train.webp"),
    labels: include_bytes!("../../data/sign-digits-32/train.labels"),
    sha256: TRAIN_SHA256,
    labels_sha256: "dc8464fee3aa17cde8561b1ef9edd03cfe13870f7966efca793cb914ee6530aa",
};
const TEST: Sheet = Sheet {
    name: "test.webp",
    webp: include_bytes!("../../data/sign-digits-32/test.webp"),
    labels: include_bytes!("../../data/sign-digits-32/test.labels"),
    sha256: "bf62f03927e4c6f56b52f20fd819ba636de07e7496587aa93a9d42d1103013b8",
    labels_sha256: "eb5eb98145b3d1d2b778c80a27ab8c72f3ce9fd45b1c6f84617be49831b8496a",
};

impl Sheet {
    /// Decodes the sheet into tiles and checks them: a damaged one is never trained on.
    fn decode(&self) -> Result<Pixels> {
        let damaged = |what: String| {
            data(format!("the embedded {} is damaged ({what}); rebuild the binary from a clean checkout", self.name))
        };
        let sheet = image::load_from_memory_with_format(self.webp, ImageFormat::WebP)
            .map_err(|error| damaged(error.to_string()))?
            .into_rgb8();
        let rows = self.labels.len().div_ceil(TILES) as u32;
        if sheet.dimensions() != ((TILES * SIZE) as u32, rows * SIZE as u32) {
            return Err(damaged(format!("{:?} pixels for {} labels", sheet.dimensions(), self.labels.len())));
        }
        let mut images = Vec::with_capacity(self.labels.len() * SIZE * SIZE * 3);
        for tile in 0..self.labels.len() {
            let (left, top) = (tile % TILES * SIZE, tile / TILES * SIZE);
            for y in top..top + SIZE {
                images.extend_from_slice(&sheet.as_raw()[(y * TILES * SIZE + left) * 3..][..SIZE * 3]);
            }
        }
        let found = hex(&Sha256::digest(&images));
        if found != self.sha256 {
            return Err(damaged(format!("SHA-256 of the pixels is {found}, not {}", self.sha256)));
        }
        let found = hex(&Sha256::digest(self.labels));
        if found != self.labels_sha256 {
            return Err(damaged(format!("SHA-256 of the labels is {found}, not {}", self.labels_sha256)));
        }
        Ok(Pixels { images, labels: self.labels.to_vec() })
    }
}

/// Training and test images, decoded and checked.
pub(super) fn decode() -> Result<(Pixels, Pixels)> {
    Ok((TRAIN.decode()?, TEST.decode()?))
}

pub(super) fn open(config: &DataConfig) -> Result<Stills> {
    // Decoding checked the SHA-256 of pixels and labels.
    Ok(Stills::new(config, decode()?, Normalise::new(MEAN, STD), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Code, code_of};

    #[test]
    fn classes_are_equally_frequent_and_the_stated_mean_and_std_are_those_of_the_pixels() {
        let (train, test) = decode().unwrap();
        for (pixels, each) in [(&train, 152), (&test, 38)] {
            assert!((0..10).all(|class| pixels.labels.iter().filter(|&&label| label == class).count() == each));
        }
        for c in 0..3 {
            let levels: Vec<f64> = train.images.iter().skip(c).step_by(3).map(|&v| f64::from(v) / 255.0).collect();
            let mean = levels.iter().sum::<f64>() / levels.len() as f64;
            let std = (levels.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / levels.len() as f64).sqrt();
            assert!((mean - f64::from(MEAN[c])).abs() < 6e-4, "mean of channel {c} is {mean}");
            assert!((std - f64::from(STD[c])).abs() < 6e-4, "std of channel {c} is {std}");
        }
    }

    #[test]
    fn a_damaged_sheet_is_refused_with_exit_3() {
        let mut flipped = TEST.webp.to_vec();
        flipped[300_000] ^= 1;
        let cut = &TEST.webp[..100_000];
        for webp in [flipped.leak(), cut] {
            let error = Sheet { webp, ..TEST }.decode().err().unwrap();
            assert_eq!(code_of(&error), Code::Data);
            assert!(error.to_string().contains("test.webp is damaged"), "{error}");
        }
        let mut labels = TEST.labels.to_vec();
        labels.swap(0, 379);
        assert_ne!(labels, TEST.labels);
        let error = Sheet { labels: labels.leak(), ..TEST }.decode().err().unwrap();
        assert!(error.to_string().contains("SHA-256 of the labels"), "{error}");
    }
}

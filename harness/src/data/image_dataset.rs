//! Small still images held in memory: sign digits and CIFAR.

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use super::augment::augment_still;
use super::image::{Image, Normalise};
use super::{Augment, DataConfig, Dataset, Draw, InputShape, Split, limited_order, short_hash};

/// The images of one split.
#[derive(Default)]
pub(crate) struct Pixels {
    /// `[N, H, W, 3]`.
    pub images: Vec<u8>,
    pub labels: Vec<u8>,
}

impl Pixels {
    /// The first `limit` images, classes in turn.
    pub fn limited(self, limit: Option<usize>) -> Self {
        if limit.is_none_or(|limit| limit >= self.labels.len()) {
            return self;
        }
        let bytes = self.images.len() / self.labels.len();
        let order = limited_order(self.labels.iter().map(|&label| label.into()), limit);
        Self {
            images: order.iter().flat_map(|&i| &self.images[i * bytes..][..bytes]).copied().collect(),
            labels: order.iter().map(|&i| self.labels[i]).collect(),
        }
    }
}

/// A data set of equally large RGB images.
pub(super) struct Stills {
    classes: usize,
    size: usize,
    train: Pixels,
    test: Pixels,
    normalise: Normalise,
    augment: Vec<Augment>,
    data_hash: String,
    protocol_id: String,
    verified: bool,
}

impl Stills {
    /// `verified`: whether the pixels are those of the official data set (see [`Dataset::verified`]).
    pub(super) fn new(
        config: &DataConfig,
        (train, test): (Pixels, Pixels),
        normalise: Normalise,
        verified: bool,
    ) -> Self {
        let mut hasher = Sha256::new();
        for part in [&train.labels, &train.images, &test.labels, &test.images] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self {
            classes: config.dataset.classes(),
            size: config.size,
            train: train.limited(config.limit),
            test: test.limited(config.limit),
            normalise,
            augment: config.augment.clone(),
            data_hash: short_hash(hasher),
            protocol_id: config.protocol_id(),
            verified,
        }
    }

    fn split(&self, split: Split) -> &Pixels {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

impl Dataset for Stills {
    fn classes(&self) -> usize {
        self.classes
    }

    fn len(&self, split: Split) -> usize {
        self.split(split).labels.len()
    }

    fn label(&self, split: Split, index: usize) -> usize {
        self.split(split).labels[index].into()
    }

    fn input(&self) -> InputShape {
        InputShape { time_steps: None, channels: 3, height: self.size, width: self.size }
    }

    fn data_hash(&self) -> &str {
        &self.data_hash
    }

    fn protocol_id(&self) -> &str {
        &self.protocol_id
    }

    fn verified(&self) -> bool {
        self.verified
    }

    fn sample(&self, split: Split, index: usize, augment: Option<Draw>, out: &mut [f32]) -> Result<()> {
        let bytes = self.input().sample_len();
        ensure!(index < self.len(split) && out.len() == bytes, "sample {index} of {split:?}: no such sample or buffer");
        let pixels = &self.split(split).images[index * bytes..][..bytes];
        match augment {
            Some(draw) if !self.augment.is_empty() => {
                let image = Image { width: self.size, height: self.size, pixels: pixels.to_vec() };
                let image = augment_still(image, self.size, &self.augment, draw, index);
                self.normalise.apply(&image.pixels, out);
            }
            _ => self.normalise.apply(pixels, out),
        }
        Ok(())
    }
}

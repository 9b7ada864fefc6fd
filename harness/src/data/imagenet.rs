//! ImageNet (ILSVRC2012): an index of image files, decoded one at a time.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use super::augment::{augment_still, resize_and_centre_crop};
use super::decode::decode;
use super::image::Normalise;
use super::image_index::{Files, index_flat_val, index_folders};
use super::{Augment, DataConfig, Dataset, Draw, InputShape, Split, limited_order, short_hash};
use crate::exit::data;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// ImageNet, or any folder in its layout.
pub(super) struct ImageNet {
    classes: usize,
    size: usize,
    train: Part,
    test: Part,
    augment: Vec<Augment>,
    normalise: Normalise,
    data_hash: String,
    protocol_id: String,
}

/// One split: a folder, its files, and which of them are used.
struct Part {
    folder: PathBuf,
    files: Files,
    /// Positions in `files` under a limit; `None` for all.
    limited: Option<Vec<usize>>,
}

impl Part {
    fn new(folder: PathBuf, files: Files, limit: Option<usize>) -> Self {
        let limited = limit.map(|_| limited_order((0..files.len()).map(|i| files.label(i)), limit));
        Self { folder, files, limited }
    }

    fn len(&self) -> usize {
        self.limited.as_ref().map_or(self.files.len(), Vec::len)
    }

    fn position(&self, index: usize) -> usize {
        self.limited.as_ref().map_or(index, |order| order[index])
    }
}

impl ImageNet {
    /// Indexes `root/train/<class>/…` and `root/val/<class>/…`, or flat `root/val/*.JPEG` with the devkit's labels.
    pub(super) fn open(config: &DataConfig, root: &Path) -> Result<Self> {
        let (train_folder, val_folder) = (root.join("train"), root.join("val"));
        let (names, train) = index_folders(&train_folder, None)?;
        let has_folders = std::fs::read_dir(&val_folder)
            .map_err(|error| data(format!("{} cannot be read: {error}", val_folder.display())))?
            .filter_map(Result::ok)
            .any(|entry| entry.path().is_dir());
        let val = match has_folders {
            true => index_folders(&val_folder, Some(&names))?.1,
            false => index_flat_val(root, &val_folder, &names)?,
        };
        let mut hasher = Sha256::new();
        for files in [&train, &val] {
            files.hash_into(&mut hasher);
        }
        Ok(Self {
            classes: names.len(),
            size: config.size,
            train: Part::new(train_folder, train, config.limit),
            test: Part::new(val_folder, val, config.limit),
            augment: config.augment.clone(),
            normalise: Normalise::new(MEAN, STD),
            data_hash: short_hash(hasher),
            protocol_id: config.protocol_id(),
        })
    }

    fn part(&self, split: Split) -> &Part {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

impl Dataset for ImageNet {
    fn classes(&self) -> usize {
        self.classes
    }

    fn len(&self, split: Split) -> usize {
        self.part(split).len()
    }

    fn label(&self, split: Split, index: usize) -> usize {
        let part = self.part(split);
        part.files.label(part.position(index))
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
        false // The official checksums are of the archives; single images have none.
    }

    fn sample(&self, split: Split, index: usize, augment: Option<Draw>, out: &mut [f32]) -> Result<()> {
        let len = self.input().sample_len();
        ensure!(index < self.len(split) && out.len() == len, "sample {index} of {split:?}: no such sample or buffer");
        let part = self.part(split);
        let path = part.folder.join(part.files.path(part.position(index)));
        let bytes =
            std::fs::read(&path).map_err(|error| data(format!("{} cannot be read: {error}", path.display())))?;
        let mut image = decode(&bytes, &path.display().to_string())?;
        let draw = augment.filter(|_| !self.augment.is_empty());
        if draw.is_none() || self.augment[0] != Augment::RandomResizedCrop {
            image = resize_and_centre_crop(&image, self.size);
        }
        if let Some(draw) = draw {
            image = augment_still(image, self.size, &self.augment, draw, index);
        }
        self.normalise.apply(&image.pixels, out);
        Ok(())
    }
}

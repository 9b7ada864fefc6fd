//! Event sets: recordings integrated once into frames, which samples are then read from.

use std::path::Path;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use super::aedat::{self, Event};
use super::augment::{flip_frames, roll_frames, stream};
use super::cifar10_dvs::Listing;
use super::frame_store::{FrameStore, Recordings};
use super::frames::Framing;
use super::image_dataset::Pixels;
use super::simulate::Camera;
use super::{Augment, DataConfig, Dataset, Draw, InputShape, Integration, Split, limited_order, sign_digits};

/// The camera of `sign-digits-dvs`.
const CAMERA: Camera = Camera { theta: 0.1, loops: 2 };
/// The header of a simulated recording.
const SIMULATED: [&str; 3] = [
    "Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event",
    "Timestamps tick is 1 us",
    "SIMULATED from a still image (sign-digits): not a camera recording",
];

/// Samples of one split: their recordings' numbers in the store, and their classes.
type Samples = Vec<(usize, u8)>;

/// A data set of event frames.
pub(super) struct EventFrames {
    classes: usize,
    framing: Framing,
    per_frame_max: bool,
    augment: Vec<Augment>,
    store: FrameStore,
    train: Samples,
    test: Samples,
    protocol_id: String,
}

/// The simulated recordings of some pictures.
struct Simulated {
    /// `[N, 32, 32, 3]`.
    images: Vec<u8>,
}

impl Recordings for Simulated {
    fn len(&self) -> usize {
        self.images.len() / sign_digits::IMAGE_BYTES
    }

    fn identity(&self) -> String {
        format!("{CAMERA:?} {}", super::hex(&Sha256::digest(&self.images)))
    }

    fn name(&self, index: usize) -> String {
        format!("simulated recording {index}")
    }

    /// Written as AEDAT 2.0 and read back: simulated events go the way of real ones.
    fn read(&self, index: usize) -> Result<([u8; 32], Vec<Event>)> {
        let image = &self.images[index * sign_digits::IMAGE_BYTES..][..sign_digits::IMAGE_BYTES];
        let file = aedat::write(&CAMERA.record(image, sign_digits::SIZE), &SIMULATED);
        Ok((Sha256::digest(&file).into(), aedat::read(&file, &self.name(index))?.events))
    }

    /// Decoding the embedded pictures checked their SHA-256.
    fn is_official(&self, _: usize, _: &[u8; 32]) -> bool {
        true
    }
}

/// Opens `sign-digits-dvs`.
pub(super) fn open_simulated(config: &DataConfig, time_steps: usize, cache_dir: Option<&Path>) -> Result<EventFrames> {
    let (train, test) = sign_digits::decode()?;
    let (train, test) = (train.limited(config.limit), test.limited(config.limit));
    let samples = |pixels: &Pixels, first: usize| {
        pixels.labels.iter().enumerate().map(|(i, &label)| (first + i, label)).collect::<Samples>()
    };
    let (train_samples, test_samples) = (samples(&train, 0), samples(&test, train.labels.len()));
    let recordings = Simulated { images: [train.images, test.images].concat() };
    EventFrames::new(config, time_steps, &recordings, train_samples, test_samples, cache_dir)
}

/// Opens the CIFAR10-DVS recordings in `folder`.
pub(super) fn open_recorded(
    config: &DataConfig,
    time_steps: usize,
    folder: &Path,
    cache_dir: Option<&Path>,
) -> Result<EventFrames> {
    let mut listing = Listing::new(folder)?;
    let (train, test) = listing.split(config.split)?;
    let limited = |samples: Samples| -> Samples {
        let order = limited_order(samples.iter().map(|&(_, label)| label.into()), config.limit);
        order.into_iter().map(|i| samples[i]).collect()
    };
    let (mut train, mut test) = (limited(train), limited(test));
    listing.keep_only(&mut train, &mut test);
    EventFrames::new(config, time_steps, &listing, train, test, cache_dir)
}

impl EventFrames {
    fn new(
        config: &DataConfig,
        time_steps: usize,
        recordings: &impl Recordings,
        train: Samples,
        test: Samples,
        cache_dir: Option<&Path>,
    ) -> Result<Self> {
        let integration = config.integration.unwrap_or(Integration::Number);
        let framing = Framing { time_steps, integration, size: config.size, resize: config.resize };
        Ok(Self {
            classes: config.dataset.classes(),
            framing,
            per_frame_max: config.per_frame_max,
            augment: config.augment.clone(),
            store: FrameStore::open(framing, recordings, cache_dir)?,
            train,
            test,
            protocol_id: config.protocol_id(),
        })
    }

    fn split(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    fn augment(&self, draw: Draw, index: usize, out: &mut [f32]) {
        let mut stream = stream(draw, index);
        for step in &self.augment {
            match *step {
                Augment::Flip if stream.below(2) == 1 => flip_frames(out, self.framing.size),
                Augment::Roll(n) => {
                    let mut shift = || stream.below(2 * n + 1) as isize - n as isize;
                    let (down, right) = (shift(), shift());
                    roll_frames(out, self.framing.size, down, right);
                }
                _ => {}
            }
        }
    }
}

impl Dataset for EventFrames {
    fn classes(&self) -> usize {
        self.classes
    }

    fn len(&self, split: Split) -> usize {
        self.split(split).len()
    }

    fn label(&self, split: Split, index: usize) -> usize {
        self.split(split)[index].1.into()
    }

    fn input(&self) -> InputShape {
        let size = self.framing.size;
        InputShape { time_steps: Some(self.framing.time_steps), channels: 2, height: size, width: size }
    }

    fn data_hash(&self) -> &str {
        &self.store.content.data_hash
    }

    fn protocol_id(&self) -> &str {
        &self.protocol_id
    }

    fn verified(&self) -> bool {
        self.store.content.verified
    }

    fn sample(&self, split: Split, index: usize, augment: Option<Draw>, out: &mut [f32]) -> Result<()> {
        let len = self.input().sample_len();
        ensure!(index < self.len(split) && out.len() == len, "sample {index} of {split:?}: no such sample or buffer");
        let frame_len = self.framing.frame_len();
        self.store.with_frames(self.split(split)[index].0, |stored| {
            for (frame, out) in stored.chunks_exact(frame_len + 1).zip(out.chunks_exact_mut(frame_len)) {
                let divisor = match self.per_frame_max {
                    true => frame[frame_len].max(1).into(),
                    false => self.framing.block() as f32,
                };
                for (count, out) in frame.iter().zip(out) {
                    *out = f32::from(*count) / divisor;
                }
            }
        })?;
        if let Some(draw) = augment {
            self.augment(draw, index, out);
        }
        Ok(())
    }
}

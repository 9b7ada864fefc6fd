//! Event sets: recordings integrated once into frames, which samples are then read from.

use std::path::Path;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::augment::{flip_frames, roll_frames, stream};
use super::frames::Framing;
use super::short_hash;
use super::simulate::Camera;
use super::{Augment, DataConfig, Dataset, Draw, InputShape, Integration, Split, aedat, limited_order, sign_digits};

/// The camera of `sign-digits-dvs`: about 53,000 events a recording.
const CAMERA: Camera = Camera { theta: 0.1, loops: 2 };
/// The header of a simulated recording.
const SIMULATED: [&str; 3] = [
    "Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event",
    "Timestamps tick is 1 us",
    "SIMULATED from a still image (sign-digits): not a camera recording",
];

/// The frames of one split.
struct Frames {
    labels: Vec<u8>,
    /// `[N, Framing::stored_len()]`.
    stored: Vec<u16>,
}

/// A data set of event frames.
pub(super) struct EventFrames {
    classes: usize,
    framing: Framing,
    per_frame_max: bool,
    augment: Vec<Augment>,
    train: Frames,
    test: Frames,
    data_hash: String,
    protocol_id: String,
}

/// Opens `sign-digits-dvs`: each picture is recorded by the simulated camera, written as AEDAT 2.0 and read back.
pub(super) fn open_simulated(config: &DataConfig, time_steps: usize, _cache_dir: Option<&Path>) -> Result<EventFrames> {
    let framing = Framing {
        time_steps,
        integration: config.integration.unwrap_or(Integration::Number),
        size: config.size,
        resize: config.resize,
    };
    let (train, test) = sign_digits::decode()?;
    let mut hasher = Sha256::new();
    let mut record = |split: &str, pixels: super::stills::Pixels| -> Result<Frames> {
        let order = limited_order(pixels.labels.iter().map(|&label| label.into()), config.limit);
        let bytes = sign_digits::SIZE * sign_digits::SIZE * 3;
        let recorded: Vec<(Vec<u8>, Vec<u16>)> = order
            .par_iter()
            .map(|&i| {
                let events = CAMERA.record(&pixels.images[i * bytes..][..bytes], sign_digits::SIZE);
                let file = aedat::write(&events, &SIMULATED);
                let name = format!("simulated {split} recording {i}");
                let recording = aedat::read(&file, &name)?;
                Ok((Sha256::digest(&file).to_vec(), framing.build(&recording.events, &name)?))
            })
            .collect::<Result<_>>()?;
        recorded.iter().for_each(|(digest, _)| hasher.update(digest));
        Ok(Frames {
            labels: order.iter().map(|&i| pixels.labels[i]).collect(),
            stored: recorded.into_iter().flat_map(|(_, frames)| frames).collect(),
        })
    };
    let (train, test) = (record("training", train)?, record("test", test)?);
    Ok(EventFrames {
        classes: config.dataset.classes(),
        framing,
        per_frame_max: config.per_frame_max,
        augment: config.augment.clone(),
        train,
        test,
        data_hash: short_hash(hasher),
        protocol_id: config.protocol_id(),
    })
}

impl EventFrames {
    fn split(&self, split: Split) -> &Frames {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

impl Dataset for EventFrames {
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
        let size = self.framing.size;
        InputShape { time_steps: Some(self.framing.time_steps), channels: 2, height: size, width: size }
    }

    fn data_hash(&self) -> &str {
        &self.data_hash
    }

    fn protocol_id(&self) -> &str {
        &self.protocol_id
    }

    fn sample(&self, split: Split, index: usize, augment: Option<Draw>, out: &mut [f32]) -> Result<()> {
        let len = self.input().sample_len();
        ensure!(index < self.len(split) && out.len() == len, "sample {index} of {split:?}: no such sample or buffer");
        let stored = &self.split(split).stored[index * self.framing.stored_len()..][..self.framing.stored_len()];
        let frame_len = self.framing.frame_len();
        for (frame, out) in stored.chunks_exact(frame_len + 1).zip(out.chunks_exact_mut(frame_len)) {
            let divisor = if self.per_frame_max { frame[frame_len].max(1).into() } else { self.framing.block() as f32 };
            for (count, out) in frame.iter().zip(out) {
                *out = f32::from(*count) / divisor;
            }
        }
        let Some(draw) = augment else { return Ok(()) };
        let mut stream = stream(draw, index);
        for step in &self.augment {
            match *step {
                Augment::Flip if stream.below(2) == 1 => flip_frames(out, self.framing.size),
                Augment::Roll(n) => {
                    let mut shift = || stream.below(2 * n + 1) as isize - n as isize;
                    let (dy, dx) = (shift(), shift());
                    roll_frames(out, self.framing.size, dy, dx);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

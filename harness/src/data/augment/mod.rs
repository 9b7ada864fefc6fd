//! Augmentation of training samples. Every draw comes from the stream of (seed, epoch, sample index).

mod geometry;
mod operations;
mod policy;
mod resized;

use super::image::Image;
use super::{Augment, Draw};
use crate::rng::{Purpose, Stream};

pub(super) use geometry::{flip_frames, roll_frames};
pub(super) use resized::resize_and_centre_crop;

/// The stream of a sample's draws.
pub(super) fn stream(draw: Draw, index: usize) -> Stream {
    Stream::new(draw.seed, Purpose::Augment, (draw.epoch, index as u64))
}

/// Applies `steps` in order to an image of the size the network sees (any size where the first is
/// `random-resized-crop`, which makes it `size`×`size`).
pub(super) fn augment_still(mut image: Image, size: usize, steps: &[Augment], draw: Draw, index: usize) -> Image {
    let mut stream = stream(draw, index);
    for step in steps {
        match *step {
            Augment::Crop(padding) => image = geometry::random_crop(&image, padding, &mut stream),
            Augment::Flip => {
                if stream.below(2) == 1 {
                    geometry::flip(&mut image);
                }
            }
            Augment::Cutout(side) => geometry::cutout(&mut image, side, &mut stream),
            Augment::AutoAugment => image = policy::auto_augment(image, &mut stream),
            Augment::RandomResizedCrop => image = resized::random_resized_crop(&image, size, &mut stream),
            Augment::Roll(_) => {}
        }
    }
    image
}

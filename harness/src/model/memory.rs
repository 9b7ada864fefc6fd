//! Memory of a training step: an estimate, and the micro-batch that fits.

use super::layout::Layout;
use crate::ops::pad8;

/// Copies of the weights in a step: weight, momentum, gradient, and two orders in which kernels read them.
const WEIGHT_COPIES: usize = 5;
/// Gradient maps of the largest layer that live at once in the backward pass.
const GRADIENT_MAPS: usize = 5;
/// The program itself, and data waiting to be used.
const PROGRAM: usize = 64 << 20;

/// Bytes of a training step: what there is anyway, and what each image adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepMemory {
    /// Whatever the batch.
    pub fixed: u64,
    /// For each image of the (micro-)batch, all T.
    pub image: u64,
}

impl StepMemory {
    /// Estimates a step on images of `size`² (`events`: T frames each).
    ///
    /// A convolution's output is kept in f32 at each t, spikes as bits; the first convolution of still images is kept once.
    pub fn estimate(layout: &Layout, size: usize, time_steps: usize, events: bool) -> Self {
        let (mut kept, mut largest) = (0, 0);
        for (index, placed) in layout.convolutions(size).iter().enumerate() {
            let map = placed.positions() * pad8(placed.conv.c_out);
            let times = if index == 0 && !events { 1 } else { time_steps };
            kept += 4 * map * times + map / 8 * time_steps;
            largest = largest.max(4 * map * time_steps);
        }
        let parameters: usize = layout.params.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        Self {
            fixed: (PROGRAM + WEIGHT_COPIES * 4 * parameters) as u64,
            image: (kept + GRADIENT_MAPS * largest) as u64,
        }
    }

    /// Of `images` at once.
    pub fn of(&self, images: usize) -> u64 {
        self.fixed + self.image * images as u64
    }

    /// The largest even part of a batch that stays within `most` bytes; `None` where one image is too much.
    pub fn micro_batch(&self, batch: usize, most: u64) -> Option<usize> {
        (1..=batch).map(|parts| batch.div_ceil(parts)).find(|images| self.of(*images) <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Architecture, NetworkConfig, Norm};
    use methods::lif::{Lif, Reset};

    fn full_width(time_steps: usize) -> StepMemory {
        let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
        let (architecture, norm) = (Architecture::Resnet18Plain, Norm::Tdbn);
        let config = NetworkConfig { architecture, width: 64, norm, neuron, imagenet_stem: false };
        StepMemory::estimate(&Layout::new(&config, 3, 10, None), 32, time_steps, false)
    }

    #[test]
    fn the_estimate_is_within_a_fifth_of_measured_peaks() {
        // `harness bench step --width 64 --batch 8 --time-steps T`, peak resident memory: BENCHMARKS.md.
        for (time_steps, measured) in [(4, 340e6), (16, 680e6)] {
            let ratio = full_width(time_steps).of(8) as f64 / measured;
            assert!((0.8..1.2).contains(&ratio), "T = {time_steps}: {ratio}");
        }
    }

    #[test]
    fn a_batch_is_split_into_the_fewest_parts_that_fit() {
        let memory = StepMemory { fixed: 100, image: 10 };
        assert_eq!(memory.micro_batch(128, 2000), Some(128));
        assert_eq!(memory.micro_batch(128, 1000), Some(64));
        assert_eq!(memory.micro_batch(10, 140), Some(4));
        assert_eq!(memory.micro_batch(128, 110), Some(1));
        assert_eq!(memory.micro_batch(128, 109), None);
    }
}

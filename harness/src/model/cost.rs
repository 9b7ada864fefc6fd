//! What a training step on a card must compute and move at least, by the passes that `ops/cuda` makes.

use super::layout::Layout;
use crate::ops::conv;
use crate::ops::pad8;

/// Multiply-accumulates of the first convolution and of all others, one image, one time step.
pub fn layer_macs(layout: &Layout, size: usize) -> (f64, f64) {
    let mut macs =
        layout.convolutions(size).into_iter().map(|placed| conv::macs(placed.conv, placed.side, placed.side));
    let first = macs.next().unwrap_or(0.0);
    let readout: usize = layout.params[layout.params.len() - 2].shape.iter().product();
    (first, macs.sum::<f64>() + readout as f64)
}

/// Work and traffic of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepCost {
    /// Of the convolutions and the readout, as if no spike were zero: forward, weight's and input's gradients; 2 a product.
    pub flops: f64,
    /// Bytes of the maps that cuDNN's convolutions read and write, spikes expanded to f32 before; weights left out.
    pub convolution_bytes: f64,
    /// Bytes of norm statistics, neurons and norm backward.
    pub elementwise_bytes: f64,
}

/// Of `batch` square images of `side`² (`frames`: T event frames each).
pub fn step(layout: &Layout, side: usize, time_steps: usize, batch: usize, frames: bool) -> StepCost {
    let (first, others) = layer_macs(layout, side);
    let (images, all) = (batch as f64, (batch * time_steps) as f64);
    // Still images go through the first convolution once; no gradient goes into the images.
    let first_images = if frames { all } else { images };
    let mut cost = StepCost { flops: 2.0 * (2.0 * first * first_images + 3.0 * others * all), ..StepCost::default() };
    for (i, placed) in layout.convolutions(side).iter().enumerate() {
        let rows = if i == 0 { first_images } else { all };
        let read = rows * (placed.side * placed.side * pad8(placed.conv.c_in)) as f64;
        let written = rows * (placed.positions() * pad8(placed.conv.c_out)) as f64;
        cost.convolution_bytes += match i {
            // Forward and the weight's gradient, of images as they are.
            0 => 4.0 * 2.0 * (read + written),
            // In each, bits are read and expanded first; then the input's gradient.
            _ => 4.0 * 3.0 * (read + written) + 2.0 * (4.0 + 1.0 / 8.0) * read,
        };
        // Statistics read the map, the backward pass of the norm reads it and a gradient and writes one.
        cost.elementwise_bytes += 4.0 * (1.0 + 3.0) * written;
        let neurons = all * (placed.positions() * pad8(placed.conv.c_out)) as f64;
        cost.elementwise_bytes += if placed.spiking {
            // Forward: the map read, bits written; backward: map and gradient read, the gradient written.
            4.0 * 2.0 * written + neurons / 8.0 + 4.0 * (neurons + written)
        } else {
            // A shortcut's map is read by its block's neurons, forward and backward.
            4.0 * 2.0 * written
        };
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Architecture, NetworkConfig, Norm};
    use methods::lif::{Lif, Reset};

    fn layout(width: usize, stages: Option<&[usize]>) -> Layout {
        let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
        let architecture = Architecture::Resnet18Plain;
        let config = NetworkConfig { architecture, width, norm: Norm::Tdbn, neuron, imagenet_stem: false };
        Layout::new(&config, 3, 10, stages)
    }

    /// A 3×3 stem from 3 to 8 channels and one block of two 3×3 convolutions at 8 channels, on 4×4 pixels; T = 2, three images.
    #[test]
    fn a_small_step_counted_by_hand() {
        let cost = step(&layout(8, Some(&[1])), 4, 2, 3, false);
        // Products an image: stem 16·8·3·9 = 3,456; a block's convolution 16·8·8·9 = 9,216, twice; readout 8·10 = 80.
        let flops = 2.0 * (2.0 * 3456.0 * 3.0 + 3.0 * (2.0 * 9216.0 + 80.0) * 6.0);
        // Maps of 16 pixels and 8 channels: 128 values. Stem: 3 images, in and out, twice. Block: 6 images; each of two reads and
        // writes in and out three times, and expands its input twice (16 bytes of bits to 512 of floats).
        let convolution_bytes = 4.0 * 2.0 * 3.0 * 256.0 + 2.0 * 6.0 * (4.0 * 3.0 * 256.0 + 2.0 * (16.0 + 512.0));
        // Stem: statistics 1 and norm backward 3 of 3 images; neurons read 3, write bits of 6, and backward read 3 and 6, write 3.
        let stem = 512.0 * (4.0 * 3.0 + 2.0 * 3.0 + 6.0 + 3.0) + 6.0 * 16.0;
        // Block: the same with 6 images throughout.
        let block = 2.0 * (512.0 * (4.0 * 6.0 + 2.0 * 6.0 + 6.0 + 6.0) + 6.0 * 16.0);
        assert_eq!(cost, StepCost { flops, convolution_bytes, elementwise_bytes: stem + block });
    }

    #[test]
    fn event_frames_go_through_the_stem_at_every_time_step() {
        let (images, frames) =
            (step(&layout(8, Some(&[1])), 4, 2, 3, false), step(&layout(8, Some(&[1])), 4, 2, 3, true));
        assert_eq!(frames.flops - images.flops, 2.0 * 2.0 * 3456.0 * 3.0);
        assert_eq!(frames.convolution_bytes - images.convolution_bytes, 4.0 * 2.0 * 3.0 * 256.0);
    }

    #[test]
    fn the_papers_step_is_what_benchmarks_says() {
        let cost = step(&layout(64, None), 32, 4, 128, false);
        let shown = |value: f64| format!("{value:.2e}");
        assert_eq!(shown(cost.flops), "1.70e12");
        assert_eq!((shown(cost.convolution_bytes), shown(cost.elementwise_bytes)), ("1.03e10".into(), "9.16e9".into()));
    }
}

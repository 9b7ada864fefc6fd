//! Convolutions of activations, dispatched by device.

use super::activation::{Activation, host, modify, with_input};
use super::{ConvShape, cpu, cuda, pad8};
use crate::model::layout::ConvNorm;
use candle_core::{Device, Result, Tensor};

pub use cpu::conv::ConvWeightCache;

/// The geometry of a network's convolution of `x`.
pub(super) fn shape(c: &ConvNorm, x: &Activation) -> ConvShape {
    ConvShape {
        images: x.images(),
        height: x.height(),
        width: x.width(),
        c_in: c.c_in,
        c_out: c.c_out,
        kernel: c.kernel,
        stride: c.stride,
        padding: c.kernel / 2,
    }
}

/// The convolution from `[images, H, W, c_in]` to `[images, H', W', c_out]`, with a padding of
/// `kernel / 2`. Passes with the same weight may share `cache`.
pub fn forward(c: &ConvNorm, x: &Activation, weight: &Tensor, cache: Option<&ConvWeightCache>) -> Result<Activation> {
    let s = shape(c, x);
    if cuda::runs_on_cuda(&x.tensor) {
        return Ok(Activation { tensor: cuda::conv::forward(&s, x, weight)?, channels: c.c_out });
    }
    let dims = (s.images, s.out_height(), s.out_width(), pad8(c.c_out));
    let (weight, own) = (host::<f32>(weight)?, ConvWeightCache::default());
    let out = with_input(x, |input| cpu::conv::forward_cached(&s, input, &weight, cache.unwrap_or(&own)))?;
    Ok(Activation { tensor: Tensor::from_vec(out, dims, &Device::Cpu)?, channels: c.c_out })
}

/// The gradient of the weight, OIHW.
pub fn grad_weight(c: &ConvNorm, x: &Activation, grad_out: &Activation) -> Result<Tensor> {
    let s = shape(c, x);
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::conv::grad_weight(&s, x, &grad_out.tensor);
    }
    let mut out = vec![0f32; c.c_out * c.c_in * c.kernel * c.kernel];
    let grad_out = host::<f32>(&grad_out.tensor)?;
    with_input(x, |input| cpu::conv::grad_weight(&s, input, &grad_out, &mut out))?;
    Tensor::from_vec(out, (c.c_out, c.c_in, c.kernel, c.kernel), &Device::Cpu)
}

/// The gradient of the input. If `to` is given (the shortcut's gradient), the result is added
/// to it in place.
pub fn grad_input(
    c: &ConvNorm,
    x: &Activation,
    weight: &Tensor,
    grad_out: &Activation,
    to: Option<Activation>,
) -> Result<Activation> {
    let s = shape(c, x);
    if cuda::runs_on_cuda(&x.tensor) {
        let to = to.as_ref().map(|to| &to.tensor);
        let tensor = cuda::conv::grad_input(&s, weight, &grad_out.tensor, to)?;
        return Ok(Activation { tensor, channels: c.c_in });
    }
    let dims = (s.images, s.height, s.width, pad8(c.c_in));
    let (weight, grad_out) = (host::<f32>(weight)?, host::<f32>(&grad_out.tensor)?);
    if let Some(to) = to {
        modify(&to.tensor, |out| cpu::conv::grad_input(&s, &weight, &grad_out, out, true))?;
        return Ok(to);
    }
    let out = cpu::conv::new_grad_input(&s, &weight, &grad_out);
    Ok(Activation { tensor: Tensor::from_vec(out, dims, &Device::Cpu)?, channels: c.c_in })
}

/// The synaptic operations that the spikes in `x` cause in this convolution: each spike reaches
/// the outputs whose window covers it.
///
/// For an average-pooled map, the spikes before the pool are counted (the pool folds into the
/// weights), assuming 2×2 windows.
pub fn synops(c: &ConvNorm, x: &Activation) -> Result<f64> {
    let s = shape(c, x);
    let covered = |position: usize, size: usize, out: usize| {
        // Output o covers the inputs from o·stride − padding on, `kernel` of them.
        let reaches = |o: &usize| {
            let start = (o * s.stride) as isize - s.padding as isize;
            (start..start + s.kernel as isize).contains(&(position as isize))
        };
        debug_assert!(position < size);
        (0..out).filter(reaches).count()
    };
    let rows: Vec<usize> = (0..s.height).map(|y| covered(y, s.height, s.out_height())).collect();
    let columns: Vec<usize> = (0..s.width).map(|x| covered(x, s.width, s.out_width())).collect();
    let bytes = pad8(c.c_in) / 8;
    let mass: Box<dyn Fn(usize) -> f64> = if x.is_spikes() {
        let bits = x.tensor.flatten_all()?.to_vec1::<u8>()?;
        Box::new(move |p| bits[p * bytes..(p + 1) * bytes].iter().map(|b| b.count_ones()).sum::<u32>().into())
    } else {
        let map = x.tensor.flatten_all()?.to_vec1::<f32>()?;
        Box::new(move |p| 4.0 * map[p * bytes * 8..(p + 1) * bytes * 8].iter().map(|v| f64::from(*v)).sum::<f64>())
    };
    let mut total = 0.0;
    for p in 0..s.images * s.height * s.width {
        let reach = rows[p / s.width % s.height] * columns[p % s.width];
        total += mass(p) * reach as f64;
    }
    Ok(total * c.c_out as f64)
}

/// Multiply-accumulates of a dense convolution, per image.
pub fn macs(c: &ConvNorm, height: usize, width: usize) -> f64 {
    (c.out(height) * c.out(width) * c.c_out * c.c_in * c.kernel * c.kernel) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synops_are_those_counted_by_hand() {
        // One 3×3 image of one channel has a spike in the corner and one in the middle. The
        // kernel is 3×3 with padding 1 and two outputs.
        let conv = |kernel, stride| ConvNorm { weight: 0, running: 0, c_in: 1, c_out: 2, kernel, stride, gain: 1.0 };
        let bits = vec![1u8, 0, 0, 0, 1, 0, 0, 0, 0];
        let x = Activation { tensor: Tensor::from_vec(bits, (1, 3, 3, 1), &Device::Cpu).unwrap(), channels: 1 };
        // The corner lies in 4 windows, the middle in 9; each window has two outputs.
        assert_eq!(synops(&conv(3, 1), &x).unwrap(), 26.0);
        // With stride 2 the windows are centred on the four corners. One of them covers the
        // corner spike, all four cover the middle spike.
        assert_eq!(synops(&conv(3, 2), &x).unwrap(), 10.0);
        assert_eq!(synops(&conv(1, 1), &x).unwrap(), 4.0);
        // Averages over 2×2 windows: a value of a quarter is one spike.
        let map = Activation::from_images(&[0.25, 0.5, 0.0, 1.0], [1, 2, 2, 1], &Device::Cpu).unwrap();
        assert_eq!(synops(&conv(1, 1), &map).unwrap(), 14.0);
    }

    #[test]
    fn macs_of_the_first_convolution_of_a_cifar_network() {
        let conv = ConvNorm { weight: 0, running: 0, c_in: 3, c_out: 64, kernel: 3, stride: 1, gain: 1.0 };
        assert_eq!(macs(&conv, 32, 32), 1_769_472.0); // 32 · 32 · 64 · 3 · 9
    }
}

//! SGD with momentum and weight decay (PyTorch's), over the ordered parameters.

use super::activation::host;
use super::cpu;
use candle_core::{Device, Result, Tensor};

/// Constants of one step.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// Weight decay, on every parameter.
    pub weight_decay: f64,
}

impl Sgd {
    /// `v = momentum·v + (g + wd·w)`, `w = w − lr·v`. Velocities start at 0.
    pub fn step(&self, params: &mut [Tensor], velocities: &mut [Tensor], gradients: &[Tensor]) -> Result<()> {
        for ((param, velocity), gradient) in params.iter_mut().zip(velocities).zip(gradients) {
            let (mut w, mut v) = (host::<f32>(param)?.to_vec(), host::<f32>(velocity)?.to_vec());
            let constants = (self.lr as f32, self.momentum as f32, self.weight_decay as f32);
            cpu::sgd::step(&mut w, &mut v, &host::<f32>(gradient)?, constants.0, constants.1, constants.2);
            let dims = param.dims().to_vec();
            *param = Tensor::from_vec(w, dims.as_slice(), &Device::Cpu)?;
            *velocity = Tensor::from_vec(v, dims.as_slice(), &Device::Cpu)?;
        }
        Ok(())
    }
}

/// Cosine from `lr` to 0 over all steps of a stage.
pub fn cosine(lr: f64, step: usize, steps: usize) -> f64 {
    0.5 * lr * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_goes_from_the_rate_to_zero() {
        assert_eq!(cosine(0.1, 0, 100), 0.1);
        assert!((cosine(0.1, 50, 100) - 0.05).abs() < 1e-12);
        assert!(cosine(0.1, 100, 100).abs() < 1e-12);
    }

    #[test]
    fn two_steps_on_one_weight_by_hand() {
        let device = Device::Cpu;
        let tensor = |v: f32| Tensor::from_vec(vec![v], 1, &device);
        let (mut w, mut v) = ([tensor(1.0).unwrap()], [tensor(0.0).unwrap()]);
        let sgd = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01 };
        for _ in 0..2 {
            sgd.step(&mut w, &mut v, &[tensor(0.5).unwrap()]).unwrap();
        }
        // v1 = 0.51, w1 = 0.949; v2 = 0.459 + 0.50949 = 0.96849, w2 = 0.852151.
        assert!((w[0].to_vec1::<f32>().unwrap()[0] - 0.852_151).abs() < 1e-6);
    }
}

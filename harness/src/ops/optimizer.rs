//! SGD with momentum and weight decay, as in PyTorch, over the ordered parameters.

use super::activation::{host, modify};
use super::{cpu, cuda};
use candle_core::{Result, Tensor};

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f64,
    /// The share of the old velocity that is kept.
    pub momentum: f64,
    /// The weight decay, which applies to every parameter.
    pub weight_decay: f64,
}

impl Sgd {
    /// `v = momentum·v + (g + wd·w)`, `w = w − lr·v`, in place. Velocities start at 0.
    pub fn step(&self, params: &[Tensor], velocities: &[Tensor], gradients: &[Tensor]) -> Result<()> {
        let sgd = cpu::sgd::Sgd {
            learning_rate: self.lr as f32,
            momentum: self.momentum as f32,
            weight_decay: self.weight_decay as f32,
        };
        for ((param, velocity), gradient) in params.iter().zip(velocities).zip(gradients) {
            if cuda::runs_on_cuda(param) {
                cuda::train::sgd(self, param, velocity, gradient)?;
                continue;
            }
            let gradient = host::<f32>(gradient)?;
            modify(param, |w| modify(velocity, |v| cpu::sgd::step(&sgd, w, v, &gradient)))??;
        }
        Ok(())
    }
}

/// The cosine schedule from `lr` to 0 over all steps of a stage.
pub fn cosine(lr: f64, step: usize, steps: usize) -> f64 {
    0.5 * lr * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

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
        let (w, v) = ([tensor(1.0).unwrap()], [tensor(0.0).unwrap()]);
        let sgd = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01 };
        for _ in 0..2 {
            sgd.step(&w, &v, &[tensor(0.5).unwrap()]).unwrap();
        }
        // v1 = 0.51, w1 = 0.949; v2 = 0.459 + 0.50949 = 0.96849, w2 = 0.852151.
        assert!((w[0].to_vec1::<f32>().unwrap()[0] - 0.852_151).abs() < 1e-6);
    }
}

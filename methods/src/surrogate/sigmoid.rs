use super::{Curve, Kernel, sech2};
use serde::{Deserialize, Serialize};

/// The derivative of a sigmoid: `a·σ(av)·(1 − σ(av))`, that is `a/4 · sech²(av/2)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sigmoid {
    /// The slope a (SpikingJelly's default is 4).
    pub alpha: f64,
}

impl Curve for Sigmoid {
    type Kernel = SigmoidKernel;

    fn primitive(&self, v: f64) -> f64 {
        1.0 / (1.0 + (-self.alpha * v).exp())
    }

    fn derivative(&self, v: f64) -> f64 {
        self.alpha / 4.0 * sech2::sech2(self.alpha * v / 2.0)
    }

    fn width(&self) -> f64 {
        4.0 * 2f64.sqrt().acosh() / self.alpha
    }

    fn half_support(&self) -> f64 {
        f64::INFINITY
    }

    fn parameter(&self) -> f64 {
        self.alpha
    }

    fn kernel(&self) -> SigmoidKernel {
        SigmoidKernel { peak: (self.alpha / 4.0) as f32, half_alpha: (self.alpha / 2.0) as f32 }
    }
}

/// The f32 form of [`Sigmoid`].
#[derive(Clone, Copy)]
pub struct SigmoidKernel {
    peak: f32,
    half_alpha: f32,
}

impl Kernel for SigmoidKernel {
    #[inline(always)]
    fn derivative(self, v: f32) -> f32 {
        self.peak * sech2::sech2_f32(self.half_alpha * v)
    }

    #[inline(always)]
    fn derivatives(self, v: &mut [f32]) {
        sech2::each(v, self.half_alpha, |_, curve| self.peak * curve);
    }
}

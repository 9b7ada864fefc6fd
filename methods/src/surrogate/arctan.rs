use super::{Curve, Kernel};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_PI_2, PI};

/// SpikingJelly's arctan: `(a/2)/(1 + (π/2·a·v)²)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arctan {
    /// The slope a (SpikingJelly's default is 2).
    pub alpha: f64,
}

impl Curve for Arctan {
    type Kernel = ArctanKernel;

    fn primitive(&self, v: f64) -> f64 {
        (FRAC_PI_2 * self.alpha * v).atan() / PI + 0.5
    }

    fn derivative(&self, v: f64) -> f64 {
        self.alpha / 2.0 / (1.0 + (FRAC_PI_2 * self.alpha * v).powi(2))
    }

    fn width(&self) -> f64 {
        4.0 / (PI * self.alpha)
    }

    fn half_support(&self) -> f64 {
        f64::INFINITY
    }

    fn parameter(&self) -> f64 {
        self.alpha
    }

    fn kernel(&self) -> ArctanKernel {
        ArctanKernel { peak: (self.alpha / 2.0) as f32, slope: (FRAC_PI_2 * self.alpha) as f32 }
    }
}

/// The f32 form of [`Arctan`].
#[derive(Clone, Copy)]
pub struct ArctanKernel {
    peak: f32,
    slope: f32,
}

impl Kernel for ArctanKernel {
    #[inline(always)]
    fn derivative(self, v: f32) -> f32 {
        let z = self.slope * v;
        self.peak / (1.0 + z * z)
    }
}

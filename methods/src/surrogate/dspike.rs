use super::{Curve, Kernel, sech2};
use serde::{Deserialize, Serialize};

/// Dspike (Li et al., NeurIPS 2021): `D'(v) = b/(2 tanh(b/2)) · sech²(b v)` for `|v| <= 1/2`, else 0.
///
/// Area 1 for every b; b → 0 is the rectangle of width 1, b → ∞ the Dirac impulse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dspike {
    /// The temperature b.
    pub temperature: f64,
}

impl Dspike {
    fn peak(&self) -> f64 {
        self.temperature / (2.0 * (self.temperature / 2.0).tanh())
    }
}

impl Curve for Dspike {
    type Kernel = DspikeKernel;

    fn primitive(&self, v: f64) -> f64 {
        let b = self.temperature;
        let v = v.clamp(-0.5, 0.5);
        ((b * v).tanh() + (b / 2.0).tanh()) / (2.0 * (b / 2.0).tanh())
    }

    fn derivative(&self, v: f64) -> f64 {
        if v.abs() > 0.5 {
            return 0.0;
        }
        self.peak() * sech2::sech2(self.temperature * v)
    }

    fn width(&self) -> f64 {
        (2.0 * 2f64.sqrt().acosh() / self.temperature).min(1.0)
    }

    fn half_support(&self) -> f64 {
        0.5
    }

    fn parameter(&self) -> f64 {
        self.temperature
    }

    fn kernel(&self) -> DspikeKernel {
        DspikeKernel { peak: self.peak() as f32, temperature: self.temperature as f32 }
    }
}

/// The f32 form of [`Dspike`].
#[derive(Clone, Copy)]
pub struct DspikeKernel {
    peak: f32,
    temperature: f32,
}

impl Kernel for DspikeKernel {
    #[inline(always)]
    fn derivative(self, v: f32) -> f32 {
        if v.abs() <= 0.5 { self.peak * sech2::sech2_f32(self.temperature * v) } else { 0.0 }
    }

    #[inline(always)]
    fn derivatives(self, v: &mut [f32]) {
        sech2::each(v, self.temperature, |v, curve| if v.abs() <= 0.5 { self.peak * curve } else { 0.0 });
    }
}

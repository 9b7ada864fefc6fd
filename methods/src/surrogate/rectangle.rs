use super::{Curve, Kernel};
use serde::{Deserialize, Serialize};

/// The rectangle of STBP (Wu et al. 2018): `1/w` for `|v| <= w/2`, edges included, else 0.
///
/// The edges matter: branches with zero gamma put membranes exactly on them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectangle {
    /// The width w.
    pub width: f64,
}

impl Curve for Rectangle {
    type Kernel = RectangleKernel;

    fn primitive(&self, v: f64) -> f64 {
        (v / self.width + 0.5).clamp(0.0, 1.0)
    }

    fn derivative(&self, v: f64) -> f64 {
        if v.abs() <= self.width / 2.0 { 1.0 / self.width } else { 0.0 }
    }

    fn width(&self) -> f64 {
        self.width
    }

    fn half_support(&self) -> f64 {
        self.width / 2.0
    }

    fn parameter(&self) -> f64 {
        self.width
    }

    fn kernel(&self) -> RectangleKernel {
        RectangleKernel { height: (1.0 / self.width) as f32, half_width: (self.width / 2.0) as f32 }
    }
}

/// The f32 form of [`Rectangle`].
#[derive(Clone, Copy)]
pub struct RectangleKernel {
    height: f32,
    half_width: f32,
}

impl Kernel for RectangleKernel {
    #[inline(always)]
    fn derivative(self, v: f32) -> f32 {
        if v.abs() <= self.half_width { self.height } else { 0.0 }
    }
}

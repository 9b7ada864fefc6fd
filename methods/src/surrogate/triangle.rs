use super::{Curve, Kernel};
use serde::{Deserialize, Serialize};

/// The triangle of TET (Deng et al. 2022): `max(0, γ − |v|)/γ²`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triangle {
    /// Half the length of the base, γ.
    pub gamma: f64,
}

impl Curve for Triangle {
    type Kernel = TriangleKernel;

    fn primitive(&self, v: f64) -> f64 {
        let x = (v / self.gamma).clamp(-1.0, 1.0);
        if x < 0.0 { (1.0 + x).powi(2) / 2.0 } else { 1.0 - (1.0 - x).powi(2) / 2.0 }
    }

    fn derivative(&self, v: f64) -> f64 {
        (self.gamma - v.abs()).max(0.0) / (self.gamma * self.gamma)
    }

    fn width(&self) -> f64 {
        self.gamma
    }

    fn half_support(&self) -> f64 {
        self.gamma
    }

    fn parameter(&self) -> f64 {
        self.gamma
    }

    fn kernel(&self) -> TriangleKernel {
        TriangleKernel { gamma: self.gamma as f32, scale: (1.0 / (self.gamma * self.gamma)) as f32 }
    }
}

/// The f32 form of [`Triangle`].
#[derive(Clone, Copy)]
pub struct TriangleKernel {
    gamma: f32,
    scale: f32,
}

impl Kernel for TriangleKernel {
    #[inline(always)]
    fn derivative(self, v: f32) -> f32 {
        (self.gamma - v.abs()).max(0.0) * self.scale
    }
}

//! Surrogate derivatives: what replaces the derivative of the spike in the backward pass.
//!
//! Each is a function of `v = u - v_th`. One file a surrogate; [`Surrogate`] is the list.

mod arctan;
mod dspike;
mod rectangle;
mod sech2;
mod sigmoid;
mod triangle;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

pub use arctan::Arctan;
pub use dspike::Dspike;
pub use rectangle::Rectangle;
pub use sigmoid::Sigmoid;
pub use triangle::Triangle;

/// A surrogate's curves. The f64 functions are the definition, `kernel` makes the f32 form that kernels inline.
pub trait Curve {
    /// The f32 form of the derivative.
    type Kernel: Kernel;
    /// The soft step, 0 at −∞ and 1 at +∞, whose derivative this is.
    fn primitive(&self, v: f64) -> f64;
    /// The surrogate derivative at `v`.
    fn derivative(&self, v: f64) -> f64;
    /// Full width at half maximum, cut at the support.
    fn width(&self) -> f64;
    /// Half the length of the support: the derivative is 0 where `|v|` is larger.
    fn half_support(&self) -> f64;
    /// The parameter that the suite file names.
    fn parameter(&self) -> f64;
    /// Constants of the f32 form, computed once a call.
    fn kernel(&self) -> Self::Kernel;
}

/// An f32 derivative without branches or library calls, so that a loop over it becomes vector code.
pub trait Kernel: Copy + Send + Sync {
    /// The derivative at `v`; relative error below 2e-6 against the f64 definition.
    fn derivative(self, v: f32) -> f32;

    /// [`Kernel::derivative`] of each, in place, with the same bits.
    #[inline(always)]
    fn derivatives(self, v: &mut [f32]) {
        for v in v {
            *v = self.derivative(*v);
        }
    }
}

/// Something that must be compiled once for each surrogate: a kernel's inner loop.
pub trait WithKernel {
    /// What it returns.
    type Output;
    /// Called with the concrete kernel.
    fn call<K: Kernel>(self, kernel: K) -> Self::Output;
}

macro_rules! surrogates {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A surrogate with its parameter, as a suite names it: `{ name = "dspike", temperature = 3.0 }`.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name", rename_all = "kebab-case")]
        pub enum Surrogate {
            $($(#[$doc])* $name($name)),+
        }

        impl Surrogate {
            /// The soft step whose derivative this is.
            pub fn primitive(&self, v: f64) -> f64 {
                match self { $(Self::$name(s) => s.primitive(v)),+ }
            }
            /// The surrogate derivative at `v = u - v_th`.
            pub fn derivative(&self, v: f64) -> f64 {
                match self { $(Self::$name(s) => s.derivative(v)),+ }
            }
            /// Full width at half maximum, cut at the support.
            pub fn width(&self) -> f64 {
                match self { $(Self::$name(s) => s.width()),+ }
            }
            /// Half the length of the support; infinite for sigmoid and arctan.
            pub fn half_support(&self) -> f64 {
                match self { $(Self::$name(s) => s.half_support()),+ }
            }
            /// Temperature, width, alpha or gamma.
            pub fn parameter(&self) -> f64 {
                match self { $(Self::$name(s) => s.parameter()),+ }
            }
            /// Calls `f` with the concrete f32 kernel.
            pub fn with_kernel<F: WithKernel>(&self, f: F) -> F::Output {
                match self { $(Self::$name(s) => f.call(s.kernel())),+ }
            }
        }
    };
}

surrogates! {
    /// Dspike (Li et al. 2021), the paper's.
    Dspike,
    /// The rectangle of STBP.
    Rectangle,
    /// The derivative of a sigmoid.
    Sigmoid,
    /// The triangle of TET.
    Triangle,
    /// The arctan of SpikingJelly.
    Arctan,
}

impl Surrogate {
    /// The name that files use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dspike(_) => "dspike",
            Self::Rectangle(_) => "rectangle",
            Self::Sigmoid(_) => "sigmoid",
            Self::Triangle(_) => "triangle",
            Self::Arctan(_) => "arctan",
        }
    }

    /// Height at the threshold.
    pub fn peak(&self) -> f64 {
        self.derivative(0.0)
    }

    /// Integral of the derivative.
    pub fn area(&self) -> f64 {
        let edge = self.half_support().min(1e12);
        self.primitive(edge) - self.primitive(-edge)
    }

    /// The same surrogate at another temperature; `None` if it has none for FDG to choose.
    pub fn with_temperature(&self, temperature: f64) -> Option<Self> {
        matches!(self, Self::Dspike(_)).then_some(Self::Dspike(Dspike { temperature }))
    }

    /// Refuses a parameter outside the range in which the curve is defined and numerically safe.
    pub fn validate(&self) -> Result<()> {
        let (parameter, p) = match self {
            Self::Dspike(s) => ("temperature", s.temperature),
            Self::Rectangle(s) => ("width", s.width),
            Self::Sigmoid(s) => ("alpha", s.alpha),
            Self::Triangle(s) => ("gamma", s.gamma),
            Self::Arctan(s) => ("alpha", s.alpha),
        };
        ensure!((0.01..=100.0).contains(&p), "{}: {parameter} = {p}, but it must lie in [0.01, 100]", self.name());
        Ok(())
    }
}

#[cfg(test)]
mod tests;

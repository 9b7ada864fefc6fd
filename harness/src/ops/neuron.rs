//! Neurons on currents with folded norms: LIF over T, and the ReLU of the ANN twin.

use super::activation::{Activation, Host, host, modify};
use super::conv::{self, ConvWeightCache};
use super::cpu::lif::{Branch, Folded, LifShape};
use super::{cpu, cuda, norm, pad8};
use crate::model::layout::ConvNorm;
use crate::model::network::{Normed, Shortcut};
use candle_core::{Device, Result, Tensor};
use methods::lif::Lif;
use methods::surrogate::Surrogate;

/// Sums over all rows, f64 `[pad8(C)]`, from which the gradients of norms follow.
#[derive(Clone, Debug)]
pub struct ChannelSums {
    /// Σ gradient of the current.
    pub grad: Tensor,
    /// Σ gradient · main map.
    pub grad_main: Tensor,
    /// Σ gradient · shortcut map; zeros unless the shortcut is a branch.
    pub grad_shortcut: Tensor,
}

impl ChannelSums {
    fn on_host(sums: cpu::lif::ChannelSums) -> Result<Self> {
        let tensor = |values: Vec<f64>| {
            let channels = values.len();
            Tensor::from_vec(values, channels, &Device::Cpu)
        };
        Ok(Self {
            grad: tensor(sums.grad)?,
            grad_main: tensor(sums.grad_main)?,
            grad_shortcut: tensor(sums.grad_shortcut)?,
        })
    }
}

/// Borrowed values of a map and its norm.
struct BorrowedBranch<'a> {
    map: Host<'a, f32>,
    scale: Host<'a, f32>,
    shift: Host<'a, f32>,
}

impl<'a> BorrowedBranch<'a> {
    fn new(normed: &'a Normed) -> Result<Self> {
        Ok(Self { map: host(&normed.conv_out.tensor)?, scale: host(&normed.scale)?, shift: host(&normed.shift)? })
    }

    fn view(&self) -> Branch<'_> {
        Branch { map: &self.map, norm: Folded { scale: &self.scale, shift: &self.shift } }
    }

    /// Value `i` after the norm.
    fn affine(&self, i: usize) -> f32 {
        let c = i % self.scale.len();
        self.map[i] * self.scale[c] + self.shift[c]
    }
}

/// Borrowed values of a shortcut.
enum BorrowedShortcut<'a> {
    None,
    Spikes(Host<'a, u8>),
    Map(Host<'a, f32>),
    Branch(BorrowedBranch<'a>),
}

impl<'a> BorrowedShortcut<'a> {
    fn new(shortcut: &'a Shortcut) -> Result<Self> {
        Ok(match shortcut {
            Shortcut::None => Self::None,
            Shortcut::Identity(x) if x.is_spikes() => Self::Spikes(host(&x.tensor)?),
            Shortcut::Identity(x) => Self::Map(host(&x.tensor)?),
            Shortcut::Branch(normed) => Self::Branch(BorrowedBranch::new(normed)?),
        })
    }

    fn view(&self) -> cpu::lif::Shortcut<'_> {
        match self {
            Self::None => cpu::lif::Shortcut::None,
            Self::Spikes(bits) => cpu::lif::Shortcut::Spikes(bits),
            Self::Map(map) => cpu::lif::Shortcut::Map(map),
            Self::Branch(branch) => cpu::lif::Shortcut::Branch(branch.view()),
        }
    }
}

fn lif_shape(lif: &Lif, time_steps: usize, positions: usize, channels: usize) -> LifShape {
    LifShape {
        time_steps,
        positions,
        channels: pad8(channels),
        tau: lif.tau as f32,
        v_th: lif.v_th as f32,
        reset: lif.reset,
        detach_reset: lif.detach_reset,
    }
}

/// Spikes `[T·B, H, W, C]` from a current over T·B rows, or over B rows if it is the same at
/// every t.
pub fn lif(lif: &Lif, time_steps: usize, batch: usize, main: &Normed, shortcut: &Shortcut) -> Result<Activation> {
    let x = &main.conv_out;
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::neuron::lif(lif, time_steps, batch, main, shortcut);
    }
    let dims = (time_steps * batch, x.height(), x.width(), pad8(x.channels) / 8);
    let (main_branch, side) = (BorrowedBranch::new(main)?, BorrowedShortcut::new(shortcut)?);
    let shape = lif_shape(lif, time_steps, batch * x.height() * x.width(), x.channels);
    let spikes = cpu::lif::forward(&shape, &main_branch.view(), &side.view());
    Ok(Activation { tensor: Tensor::from_vec(spikes, dims, &Device::Cpu)?, channels: x.channels })
}

/// A convolution followed by a norm with known statistics.
pub struct FoldedConv<'a> {
    /// The convolution's geometry.
    pub conv: &'a ConvNorm,
    /// OIHW.
    pub weight: &'a Tensor,
    /// The layouts of this weight, which passes share.
    pub cache: Option<&'a ConvWeightCache>,
    pub norm: norm::Folded,
}

/// The spikes of [`lif`] for the main branch `main` over the spikes `x`, in host memory.
pub fn conv_lif(
    lif: &Lif,
    time_steps: usize,
    main: &FoldedConv<'_>,
    x: &Activation,
    shortcut: &Shortcut,
) -> Result<Activation> {
    let (s, own) = (conv::shape(main.conv, x), ConvWeightCache::default());
    let (height, width, channels) = (s.out_height(), s.out_width(), main.conv.c_out);
    let l = lif_shape(lif, time_steps, s.images / time_steps * height * width, channels);
    let (spikes, weight, side) = (host::<u8>(&x.tensor)?, host::<f32>(main.weight)?, BorrowedShortcut::new(shortcut)?);
    let cache = main.cache.unwrap_or(&own);
    let spikes = cpu::conv::fire(&s, &spikes, (&weight, cache), &l, main.norm.view(), &side.view());
    let dims = (s.images, height, width, pad8(channels) / 8);
    Ok(Activation { tensor: Tensor::from_vec(spikes, dims, &Device::Cpu)?, channels })
}

/// Turns the gradient of the spikes into that of the current, in its memory, and returns its
/// sums per channel. The membrane is recomputed.
pub fn lif_backward(
    lif: &Lif,
    time_steps: usize,
    batch: usize,
    main: &Normed,
    shortcut: &Shortcut,
    grad_spikes: Activation,
    surrogate: &Surrogate,
) -> Result<(Activation, ChannelSums)> {
    let x = &main.conv_out;
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::neuron::lif_backward(lif, time_steps, batch, main, shortcut, grad_spikes, surrogate);
    }
    let (main_branch, side) = (BorrowedBranch::new(main)?, BorrowedShortcut::new(shortcut)?);
    let shape = lif_shape(lif, time_steps, batch * x.height() * x.width(), x.channels);
    let backward = |grad: &mut [f32]| cpu::lif::backward(&shape, &main_branch.view(), &side.view(), grad, surrogate);
    let sums = ChannelSums::on_host(modify(&grad_spikes.tensor, backward)?)?;
    // A current that is the same at every t has one gradient: the sum over t.
    let tensor = grad_spikes.tensor.narrow(0, 0, x.images())?;
    Ok((Activation { tensor, channels: x.channels }, sums))
}

/// `max(0, current)`.
pub fn relu(main: &Normed, shortcut: &Shortcut) -> Result<Activation> {
    let x = &main.conv_out;
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::neuron::relu(main, shortcut);
    }
    let (main_branch, side) = (BorrowedBranch::new(main)?, BorrowedShortcut::new(shortcut)?);
    let mut out = vec![0f32; main_branch.map.len()];
    cpu::lif::relu_forward(&main_branch.view(), &side.view(), pad8(x.channels), &mut out);
    Ok(Activation { tensor: Tensor::from_vec(out, x.tensor.dims(), &Device::Cpu)?, channels: x.channels })
}

/// The backward pass of [`relu`], with the same sums as [`lif_backward`].
pub fn relu_backward(main: &Normed, shortcut: &Shortcut, grad: &Activation) -> Result<(Activation, ChannelSums)> {
    let x = &main.conv_out;
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::neuron::relu_backward(main, shortcut, grad);
    }
    let (main_branch, side, grad) =
        (BorrowedBranch::new(main)?, BorrowedShortcut::new(shortcut)?, host::<f32>(&grad.tensor)?);
    let mut out = vec![0f32; main_branch.map.len()];
    let sums = cpu::lif::relu_backward(&main_branch.view(), &side.view(), pad8(x.channels), &grad, &mut out);
    let tensor = Tensor::from_vec(out, x.tensor.dims(), &Device::Cpu)?;
    Ok((Activation { tensor, channels: x.channels }, ChannelSums::on_host(sums)?))
}

/// The current `[rows, H, W, pad8(C)]` of a neuron as a map, for dumps and histograms rather
/// than for training.
pub fn current(main: &Normed, shortcut: &Shortcut) -> Result<Vec<f32>> {
    let (main, shortcut) = (main.to_device(&Device::Cpu)?, shortcut.to_device(&Device::Cpu)?);
    let (main, side) = (BorrowedBranch::new(&main)?, BorrowedShortcut::new(&shortcut)?);
    let added = |i: usize| match &side {
        BorrowedShortcut::None => 0.0,
        BorrowedShortcut::Spikes(bits) => f32::from(bits[i / 8] >> (i % 8) & 1),
        BorrowedShortcut::Map(map) => map[i],
        BorrowedShortcut::Branch(branch) => branch.affine(i),
    };
    Ok((0..main.map.len()).map(|i| main.affine(i) + added(i)).collect())
}

//! Layers in the order in which they run, and the ordered list of parameters they name.

use super::config::{Architecture, NetworkConfig, Norm};
use crate::ops::cpu::pool::pooled;
use crate::rng::{Purpose, Stream};

/// A convolution and its batch norm, as indices into the parameter list.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    /// Index of the weight `[c_out, c_in, kernel, kernel]`; gamma is `weight + 1`, beta `weight + 2`.
    pub weight: usize,
    /// Index of the running statistics.
    pub running: usize,
    /// Channels in and out, without padding.
    pub c_in: usize,
    /// Channels out.
    pub c_out: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// tdBN's α·v_th, or 1: a constant factor on gamma.
    pub gain: f64,
}

impl ConvNorm {
    /// Outputs along an axis of `size`.
    pub fn out(&self, size: usize) -> usize {
        (size + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1
    }
}

/// Average pooling; windows that reach over the edge average what they cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Side of the window.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding.
    pub padding: usize,
    /// Whether a last, partial window counts.
    pub ceil_mode: bool,
}

impl Pool {
    /// Outputs along an axis of `size`; 0 where no window fits.
    pub fn out(&self, size: usize) -> usize {
        pooled(size, (self.kernel, self.stride, self.padding), self.ceil_mode)
    }
}

/// One step of the network.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Convolution, norm, neuron.
    Unit {
        /// The neuron's name, e.g. `lif1`.
        neuron: String,
        /// Convolution and norm.
        conv: ConvNorm,
    },
    /// Average pooling of spikes.
    Pool(Pool),
    /// A residual block; the shortcut is added to the current of the second neuron.
    Block {
        /// Names of the two neurons.
        neurons: [String; 2],
        /// First and second convolution.
        convs: [ConvNorm; 2],
        /// The downsampling shortcut: pooling (ResNet-D) and a 1×1 convolution.
        down: Option<(Option<Pool>, ConvNorm)>,
    },
}

/// A parameter: its name in checkpoints and dumps, its shape, how it starts.
#[derive(Clone, Debug)]
pub struct ParamSpec {
    /// E.g. `layer1.0.conv1.weight`.
    pub name: String,
    /// Shape; weights OIHW.
    pub shape: Vec<usize>,
    init: Init,
}

#[derive(Clone, Copy, Debug)]
enum Init {
    Normal(f64),
    Constant(f32),
}

impl ParamSpec {
    /// Initial values from the stream of `(seed, init, index)`, `index` being the parameter's place in the list.
    pub fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let n = self.shape.iter().product();
        match self.init {
            Init::Constant(value) => vec![value; n],
            Init::Normal(std) => {
                let mut stream = Stream::new(seed, Purpose::Init, (index as u64, 0));
                (0..n).map(|_| (std * stream.normal()) as f32).collect()
            }
        }
    }
}

/// The whole network as data.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In the order in which they run.
    pub layers: Vec<Layer>,
    /// In the order in which the optimiser walks them; the last two are the readout's weight and bias.
    pub params: Vec<ParamSpec>,
    /// Names and channels of the batch norms' running statistics.
    pub running: Vec<(String, usize)>,
    /// Channels of the last spikes.
    pub features: usize,
    norm: Norm,
    v_th: f64,
    zero_gamma: bool,
}

/// A convolution where it stands in a network on square images.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The convolution.
    pub conv: &'a ConvNorm,
    /// Side of its input.
    pub side: usize,
    /// Whether neurons follow it; a shortcut's is added to the current of others.
    pub spiking: bool,
}

impl Placed<'_> {
    /// Positions of its output.
    pub fn positions(&self) -> usize {
        self.conv.out(self.side).pow(2)
    }
}

impl Layout {
    /// The convolutions from input to output, for images of `size`².
    pub fn convolutions(&self, size: usize) -> Vec<Placed<'_>> {
        let (mut side, mut placed) = (size, Vec::new());
        for layer in &self.layers {
            match layer {
                Layer::Unit { conv, .. } => {
                    placed.push(Placed { conv, side, spiking: true });
                    side = conv.out(side);
                }
                Layer::Pool(pool) => side = pool.out(side),
                Layer::Block { convs: [first, second], down, .. } => {
                    placed.push(Placed { conv: first, side, spiking: true });
                    placed.push(Placed { conv: second, side: first.out(side), spiking: true });
                    if let Some((pool, conv)) = down {
                        let side = pool.map_or(side, |pool| pool.out(side));
                        placed.push(Placed { conv, side, spiking: false });
                    }
                    side = first.out(side);
                }
            }
        }
        placed
    }

    /// Neurons of an image of `size`²: as many membrane potentials must be kept from one time step to the next.
    pub fn neurons(&self, size: usize) -> usize {
        let spiking = self.convolutions(size).into_iter().filter(|placed| placed.spiking);
        spiking.map(|placed| placed.positions() * placed.conv.c_out).sum()
    }

    /// Builds the layers of `config` for `channels` input channels and `classes` classes.
    ///
    /// `stages` are the blocks a stage of a residual network; `None` takes the architecture's own.
    pub fn new(config: &NetworkConfig, channels: usize, classes: usize, stages: Option<&[usize]>) -> Self {
        let mut layout = Self {
            layers: Vec::new(),
            params: Vec::new(),
            running: Vec::new(),
            features: channels,
            norm: config.norm,
            v_th: config.neuron.v_th,
            zero_gamma: matches!(config.architecture, Architecture::Resnet18 | Architecture::Resnet34),
        };
        let w = config.width;
        match config.architecture {
            Architecture::Vgg16 => layout.vgg16(w),
            Architecture::Resnet18Plain => {
                layout.unit(1, w, 3, 1);
                layout.residual_stages(w, stages.unwrap_or(&[2, 2, 2, 2]), false);
            }
            Architecture::Resnet18 | Architecture::Resnet34 => {
                if config.imagenet_stem {
                    layout.unit(1, w, 7, 2);
                    layout.layers.push(Layer::Pool(Pool { kernel: 3, stride: 2, padding: 1, ceil_mode: false }));
                } else {
                    (1..=3).for_each(|i| layout.unit(i, w, 3, 1));
                    layout.layers.push(Layer::Pool(Pool { kernel: 2, stride: 2, padding: 0, ceil_mode: false }));
                }
                let own: &[usize] =
                    if config.architecture == Architecture::Resnet34 { &[3, 4, 6, 3] } else { &[2, 2, 2, 2] };
                layout.residual_stages(w, stages.unwrap_or(own), true);
            }
        }
        let features = layout.features;
        layout.param("fc.weight", &[classes, features], Init::Normal(1.0 / features as f64));
        layout.param("fc.bias", &[classes], Init::Constant(0.0));
        layout
    }

    fn param(&mut self, name: &str, shape: &[usize], init: Init) -> usize {
        self.params.push(ParamSpec { name: name.into(), shape: shape.into(), init });
        self.params.len() - 1
    }

    /// Adds the parameters `<conv>.weight`, `<bn>.weight`, `<bn>.bias`.
    fn conv_norm(&mut self, names: (&str, &str), channels: (usize, usize), kernel: usize, stride: usize) -> ConvNorm {
        let (c_in, c_out) = channels;
        let std = (2.0 / (kernel * kernel * c_out) as f64).sqrt();
        let weight = self.param(&format!("{}.weight", names.0), &[c_out, c_in, kernel, kernel], Init::Normal(std));
        self.param(&format!("{}.weight", names.1), &[c_out], Init::Constant(1.0));
        self.param(&format!("{}.bias", names.1), &[c_out], Init::Constant(0.0));
        self.running.push((names.1.to_string(), c_out));
        let gain = if self.norm == Norm::Tdbn { self.v_th } else { 1.0 };
        ConvNorm { weight, running: self.running.len() - 1, c_in, c_out, kernel, stride, gain }
    }

    fn unit(&mut self, index: usize, c_out: usize, kernel: usize, stride: usize) {
        let names = (format!("conv{index}"), format!("bn{index}"));
        let conv = self.conv_norm((&names.0, &names.1), (self.features, c_out), kernel, stride);
        self.features = c_out;
        self.layers.push(Layer::Unit { neuron: format!("lif{index}"), conv });
    }

    fn residual_stages(&mut self, width: usize, stages: &[usize], average_pooled: bool) {
        for (stage, &blocks) in stages.iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                self.block(&format!("layer{}.{block}", stage + 1), width << stage, stride, average_pooled);
            }
        }
    }

    fn block(&mut self, name: &str, c_out: usize, stride: usize, average_pooled: bool) {
        let c_in = self.features;
        let named = |part: &str| format!("{name}.{part}");
        let first = self.conv_norm((&named("conv1"), &named("bn1")), (c_in, c_out), 3, stride);
        let mut second = self.conv_norm((&named("conv2"), &named("bn2")), (c_out, c_out), 3, 1);
        if self.zero_gamma {
            self.params[second.weight + 1].init = Init::Constant(0.0);
        }
        let down = (stride != 1 || c_in != c_out).then(|| {
            let pool =
                (average_pooled && stride != 1).then_some(Pool { kernel: stride, stride, padding: 0, ceil_mode: true });
            let conv_stride = if average_pooled { 1 } else { stride };
            let mut conv = self.conv_norm((&named("down_conv"), &named("down_bn")), (c_in, c_out), 1, conv_stride);
            if self.norm == Norm::Tdbn && average_pooled {
                // Two currents meet here: each gets α = 1/√2 (the wiring of the authors' Re-Loss code).
                conv.gain *= std::f64::consts::FRAC_1_SQRT_2;
                second.gain *= std::f64::consts::FRAC_1_SQRT_2;
            }
            (pool, conv)
        });
        self.features = c_out;
        self.layers.push(Layer::Block { neurons: [named("lif1"), named("lif2")], convs: [first, second], down });
    }

    fn vgg16(&mut self, w: usize) {
        let mut index = 0;
        for (depth, units) in [2, 2, 3, 3, 3].into_iter().enumerate() {
            for _ in 0..units {
                index += 1;
                self.unit(index, w << depth.min(3), 3, 1);
            }
            if depth < 4 {
                self.layers.push(Layer::Pool(Pool { kernel: 2, stride: 2, padding: 0, ceil_mode: false }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use methods::lif::{Lif, Reset};

    fn config(architecture: Architecture, width: usize) -> NetworkConfig {
        let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
        NetworkConfig { architecture, width, norm: Norm::Tdbn, neuron, imagenet_stem: false }
    }

    fn parameters(layout: &Layout) -> usize {
        layout.params.iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn parameter_counts_are_those_of_the_published_networks() {
        let count = |architecture, classes| parameters(&Layout::new(&config(architecture, 64), 3, classes, None));
        assert_eq!(count(Architecture::Resnet18Plain, 10), 11_173_962); // the well-known CIFAR ResNet-18
        assert_eq!(count(Architecture::Resnet18, 10), 11_173_962 + 2 * (64 * 64 * 9 + 128)); // two more stem convolutions
        assert_eq!(count(Architecture::Resnet18, 100) - count(Architecture::Resnet18, 10), 90 * 513);
    }

    #[test]
    fn neurons_are_those_counted_by_hand() {
        let neurons = |architecture, size| Layout::new(&config(architecture, 64), 3, 10, None).neurons(size);
        // Stem and four of 64 at 32², then four each of 128 at 16², 256 at 8², 512 at 4².
        let plain = 5 * 64 * 32 * 32 + 4 * (128 * 16 * 16 + 256 * 8 * 8 + 512 * 4 * 4);
        assert_eq!(neurons(Architecture::Resnet18Plain, 32), plain);
        // Three stem layers at 32², a pool, then the same blocks at half the side.
        let modified = 3 * 64 * 32 * 32 + 4 * (64 * 16 * 16 + 128 * 8 * 8 + 256 * 4 * 4 + 512 * 2 * 2);
        assert_eq!(neurons(Architecture::Resnet18, 32), modified);
        // Odd sides are rounded up: 9, 5, 3, 2.
        let odd = 5 * 64 * 81 + 4 * (128 * 25 + 256 * 9 + 512 * 4);
        assert_eq!(neurons(Architecture::Resnet18Plain, 9), odd);
    }

    #[test]
    fn only_the_second_norm_of_a_block_starts_at_zero_and_only_meeting_branches_are_scaled_down() {
        let layout = Layout::new(&config(Architecture::Resnet18, 8), 3, 10, None);
        for p in &layout.params {
            if let Init::Constant(value) = p.init {
                let expected =
                    if p.name.ends_with("bn2.weight") && p.name.starts_with("layer") || p.name.ends_with("bias") {
                        0.0
                    } else {
                        1.0
                    };
                assert_eq!(value, expected, "{}", p.name);
            }
        }
        for layer in &layout.layers {
            if let Layer::Block { convs, down, .. } = layer {
                let expected = if down.is_some() { 0.5 * std::f64::consts::FRAC_1_SQRT_2 } else { 0.5 };
                assert_eq!((convs[0].gain, convs[1].gain), (0.5, expected));
            }
        }
    }

    #[test]
    fn initial_weights_have_the_stated_spread_and_repeat() {
        let layout = Layout::new(&config(Architecture::Resnet18, 64), 3, 10, None);
        let (i, p) =
            layout.params.iter().enumerate().find(|(_, p)| p.name == "layer3.0.conv2.weight").expect("in the list");
        let values = p.initial(0, i);
        assert_eq!(values, p.initial(0, i));
        assert_ne!(values, p.initial(1, i));
        let std = (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        let expected = (2.0f64 / (9.0 * 256.0)).sqrt();
        assert!((std / expected - 1.0).abs() < 0.01, "{std} against {expected}");
    }
}

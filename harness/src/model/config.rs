//! The network that every method trains.

use anyhow::{Result, ensure};
use methods::lif::Lif;
use serde::{Deserialize, Serialize};

/// Which network; all are scaled by `width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// The authors' modified ResNet-18: three 3×3 stem convolutions, AvgPool2, average-pooled shortcuts.
    Resnet18,
    /// One 3×3 stem convolution, strided 1×1 shortcuts: the network of the peers and the reference dumps.
    #[value(name = "resnet18-plain")]
    #[serde(rename = "resnet18-plain")]
    Resnet18Plain,
    /// `resnet18` with blocks `[3,4,6,3]` and the 7×7 ImageNet stem.
    Resnet34,
    /// VGG-16 with batch norm and average pooling, one fully connected layer.
    Vgg16,
}

/// What the batch norm's output is scaled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// `γ·x̂ + β`.
    Bn,
    /// `γ·(α·v_th·x̂) + β` (Zheng et al. 2021).
    Tdbn,
}

/// `[network]` of a suite: held equal over its methods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which network.
    pub architecture: Architecture,
    /// Channels of the first stage (the paper: 64).
    pub width: usize,
    /// Batch norm or tdBN.
    pub norm: Norm,
    /// The neuron.
    pub neuron: Lif,
    /// The 7×7 stride-2 stem with AvgPool(3,2,1), for 224×224 images.
    #[serde(default)]
    pub imagenet_stem: bool,
}

impl NetworkConfig {
    /// Refuses a network that cannot be built.
    pub fn validate(&self) -> Result<()> {
        ensure!((1..=1024).contains(&self.width), "network.width = {}, but it must lie in 1..=1024", self.width);
        self.neuron.validate().map_err(|error| anyhow::anyhow!("network.neuron: {error}"))
    }
}

impl Architecture {
    /// The name that files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet18Plain => "resnet18-plain",
            Self::Resnet34 => "resnet34",
            Self::Vgg16 => "vgg16",
        }
    }
}

impl Norm {
    /// The name that files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bn => "bn",
            Self::Tdbn => "tdbn",
        }
    }
}

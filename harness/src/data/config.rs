//! What a suite says of its data: everything here changes the result and is part of a cell's identity.

use std::borrow::Cow;
use std::str::FromStr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::catalog;
use super::string_enum::{named, string_serde};
use crate::exit::{nearest, usage};

/// Side of the event sensor (DVS128), in pixels.
pub const SENSOR: usize = 128;

named! {
    /// A data set the harness can open.
    DatasetName, "data set" {
        /// Photographs of hands showing the ten digits, 32×32 RGB, embedded.
        SignDigits = "sign-digits",
        /// Events simulated from `sign-digits`.
        SignDigitsDvs = "sign-digits-dvs",
        /// CIFAR-10, from its binary distribution.
        Cifar10 = "cifar10",
        /// CIFAR-100 (fine labels), from its binary distribution.
        Cifar100 = "cifar100",
        /// ImageNet (ILSVRC2012), from folders of images.
        ImageNet = "imagenet",
        /// CIFAR10-DVS, from its AEDAT 2.0 recordings.
        Cifar10Dvs = "cifar10-dvs",
    }
}

named! {
    /// How a recording is cut into T frames.
    Integration, "integration" {
        /// Equal numbers of events; the last frame takes the remainder.
        Number = "number",
        /// Equal spans of time; the last frame takes the remainder.
        Time = "time",
    }
}

named! {
    /// How the 128×128 event frame is made smaller.
    Resize, "resize" {
        /// The pixel nearest to the centre of each target pixel (as Pillow's NEAREST).
        Nearest = "nearest",
        /// The mean of the block of pixels that each target pixel covers.
        Average = "average",
    }
}

impl DatasetName {
    /// Number of classes of the whole data set.
    pub fn classes(self) -> usize {
        match self {
            Self::Cifar100 => 100,
            Self::ImageNet => 1000,
            _ => 10,
        }
    }

    /// Input channels of the network: red, green and blue, or OFF and ON events.
    pub fn channels(self) -> usize {
        if self.is_event() { 2 } else { 3 }
    }

    /// Training and test samples of the whole data set, as its owners state them.
    pub fn declared_samples(self) -> (usize, usize) {
        match self {
            Self::SignDigits | Self::SignDigitsDvs => (1_520, 380),
            Self::Cifar10 | Self::Cifar100 => (50_000, 10_000),
            Self::ImageNet => (1_281_167, 50_000),
            Self::Cifar10Dvs => (9_000, 1_000),
        }
    }

    /// Whether samples are event frames `[T, H, W, 2]`.
    pub fn is_event(self) -> bool {
        matches!(self, Self::SignDigitsDvs | Self::Cifar10Dvs)
    }

    /// Whether its events are simulated from stills: to be said wherever a number is shown.
    pub fn is_simulated(self) -> bool {
        self == Self::SignDigitsDvs
    }

    /// Whether it is compiled into the binary.
    pub fn is_embedded(self) -> bool {
        matches!(self, Self::SignDigits | Self::SignDigitsDvs)
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::SignDigits => "Sign digits",
            Self::SignDigitsDvs => "Sign digits DVS (simulated)",
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
            Self::ImageNet => "ImageNet",
            Self::Cifar10Dvs => "CIFAR10-DVS",
        }
    }
}

/// Which samples train and which test: a named protocol, never left unsaid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SplitRule {
    /// `official`: as the data set is distributed.
    Official,
    /// `students`: people in the test set are not in the training set (sign digits).
    Students,
    /// `last<n>`: of each class's 1,000 recordings the last n test.
    Last(usize),
    /// `tebn`: of each class's 1,000 recordings the first 100 test. Reads much higher than a random split.
    Tebn,
    /// `first<n>`: of each class's 1,000 recordings the first n train, the rest test.
    First(usize),
    /// `random@<seed>`: of each class's 1,000 recordings a random 100 test.
    Random(u64),
}

impl SplitRule {
    fn as_str(&self) -> Cow<'static, str> {
        match self {
            Self::Official => "official".into(),
            Self::Students => "students".into(),
            Self::Tebn => "tebn".into(),
            Self::Last(n) => format!("last{n}").into(),
            Self::First(n) => format!("first{n}").into(),
            Self::Random(seed) => format!("random@{seed}").into(),
        }
    }
}

impl FromStr for SplitRule {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse::<u64>().ok());
        let share = |prefix: &str| number(prefix).filter(|n| (1..1000).contains(n)).map(|n| n as usize);
        Ok(match name {
            "official" => Self::Official,
            "students" => Self::Students,
            "tebn" => Self::Tebn,
            _ => match (share("last"), share("first"), number("random@")) {
                (Some(n), ..) => Self::Last(n),
                (_, Some(n), _) => Self::First(n),
                (.., Some(seed)) => Self::Random(seed),
                _ => {
                    let known = ["official", "students", "last100", "tebn", "first700", "random@0"];
                    return Err(usage(format!("unknown split `{name}`{}", nearest(name, known))));
                }
            },
        })
    }
}

string_serde!(SplitRule);

/// One augmentation of training samples; they are applied in the order in which a suite lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Augment {
    /// `crop<n>`: pad by n black pixels, then crop the original size at random (torchvision's `RandomCrop`).
    Crop(usize),
    /// `flip`: mirror left to right with probability 1/2.
    Flip,
    /// `autoaugment`: the AutoAugment policy for CIFAR-10 (25 sub-policies).
    AutoAugment,
    /// `cutout<n>`: an n×n square at a random centre becomes 0, before normalisation.
    Cutout(usize),
    /// `random-resized-crop`: area 8 to 100 %, aspect 3/4 to 4/3, bilinear with antialiasing (torchvision's defaults).
    RandomResizedCrop,
    /// `roll<n>`: shift around the edges by whole pixels in [−n, n] on both axes (events).
    Roll(usize),
}

impl Augment {
    fn as_str(&self) -> Cow<'static, str> {
        match self {
            Self::Crop(n) => format!("crop{n}").into(),
            Self::Flip => "flip".into(),
            Self::AutoAugment => "autoaugment".into(),
            Self::Cutout(n) => format!("cutout{n}").into(),
            Self::RandomResizedCrop => "random-resized-crop".into(),
            Self::Roll(n) => format!("roll{n}").into(),
        }
    }

    fn is_for_events(self) -> bool {
        matches!(self, Self::Flip | Self::Roll(_))
    }
}

impl FromStr for Augment {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = |prefix: &str| {
            let n = name.strip_prefix(prefix)?.parse::<usize>().ok()?;
            (1..=SENSOR).contains(&n).then_some(n)
        };
        Ok(match name {
            "flip" => Self::Flip,
            "autoaugment" => Self::AutoAugment,
            "random-resized-crop" => Self::RandomResizedCrop,
            _ => match (number("crop"), number("cutout"), number("roll")) {
                (Some(n), ..) => Self::Crop(n),
                (_, Some(n), _) => Self::Cutout(n),
                (.., Some(n)) => Self::Roll(n),
                _ => {
                    let known = ["crop4", "flip", "autoaugment", "cutout16", "random-resized-crop", "roll5"];
                    return Err(usage(format!("unknown augmentation `{name}`{}", nearest(name, known))));
                }
            },
        })
    }
}

string_serde!(Augment);

/// The `[data]` of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataConfig {
    /// The data set.
    pub dataset: DatasetName,
    /// Which samples train and which test.
    pub split: SplitRule,
    /// How recordings become frames (event sets only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integration: Option<Integration>,
    /// Height and width of what the network sees, in pixels.
    pub size: usize,
    /// How event frames reach that size (event sets smaller than the sensor only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Whether each event frame is divided by its maximum: by that of the 128×128 frame with `nearest` (as the
    /// lineage's preprocessing does), by that of the averaged frame with `average`.
    #[serde(default)]
    pub per_frame_max: bool,
    /// Augmentation of training samples, in order.
    pub augment: Vec<Augment>,
    /// Only the first n training and the first n test samples, taken class by class in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl DataConfig {
    /// Refuses what cannot be opened, with the key to change.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(usage(format!("data set `{}`: {what}", self.dataset)));
        if !self.split_fits() {
            return wrong(format!("`split = \"{}\"` is not one of its splits; use {}", self.split, self.splits()));
        }
        if self.limit == Some(0) {
            return wrong("`limit = 0` leaves no samples; give at least 1 or remove the key".into());
        }
        if let Some(double) = self.augment.iter().enumerate().find(|(i, a)| self.augment[..*i].contains(a)) {
            return wrong(format!("`augment` lists `{}` twice", double.1));
        }
        if self.dataset.is_event() { self.validate_events() } else { self.validate_stills() }
    }

    fn validate_events(&self) -> Result<()> {
        let wrong = |what: String| Err(usage(format!("data set `{}`: {what}", self.dataset)));
        if self.integration.is_none() {
            return wrong("event data needs `integration = \"number\"` or `\"time\"`".into());
        }
        match (self.size, self.resize) {
            (SENSOR, None) => {}
            (SENSOR, Some(_)) => return wrong(format!("`size = {SENSOR}` is the sensor's own; remove `resize`")),
            (0, _) | (SENSOR.., _) => return wrong(format!("`size = {}` must be 1 to {SENSOR}", self.size)),
            (_, None) => {
                return wrong(format!("`size = {}` needs `resize = \"nearest\"` or `\"average\"`", self.size));
            }
            (size, Some(Resize::Average)) if !SENSOR.is_multiple_of(size) => {
                return wrong(format!("`resize = \"average\"` needs a `size` that divides {SENSOR}, not {size}"));
            }
            _ => {}
        }
        match self.augment.iter().find(|augment| !augment.is_for_events()) {
            Some(still) => {
                wrong(format!("augmentation `{still}` is for still images; events take `flip` and `roll<n>`"))
            }
            None => Ok(()),
        }
    }

    fn validate_stills(&self) -> Result<()> {
        let wrong = |what: String| Err(usage(format!("data set `{}`: {what}", self.dataset)));
        if self.integration.is_some() || self.resize.is_some() || self.per_frame_max {
            return wrong("`integration`, `resize` and `per-frame-max` are for event data; remove them".into());
        }
        let sizes = if self.dataset == DatasetName::ImageNet { 8..=1024 } else { 32..=32 };
        if !sizes.contains(&self.size) {
            return wrong(format!("`size = {}` must be {} to {}", self.size, sizes.start(), sizes.end()));
        }
        for (i, augment) in self.augment.iter().enumerate() {
            match augment {
                Augment::Roll(_) => return wrong(format!("augmentation `{augment}` is for event data")),
                Augment::RandomResizedCrop if i > 0 => {
                    return wrong(
                        "`random-resized-crop` must be the first augmentation: it reads the whole image".into(),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn split_fits(&self) -> bool {
        use {DatasetName as D, SplitRule as S};
        match self.dataset {
            D::SignDigits | D::SignDigitsDvs => self.split == S::Students,
            D::Cifar10 | D::Cifar100 | D::ImageNet => self.split == S::Official,
            D::Cifar10Dvs => !matches!(self.split, S::Official | S::Students),
        }
    }

    fn splits(&self) -> &'static str {
        match self.dataset {
            DatasetName::SignDigits | DatasetName::SignDigitsDvs => "`students`",
            DatasetName::Cifar10 | DatasetName::Cifar100 | DatasetName::ImageNet => "`official`",
            DatasetName::Cifar10Dvs => "`last100`, `tebn`, `first700` or `random@<seed>`",
        }
    }

    /// What numbers may be compared with: readable, and known without the data. Unlike ids are never averaged.
    ///
    /// Its checksum is the declared one of the official data. A result's row has the id of what was really read, see
    /// [`super::protocol_as_read`]; cells, `list`, `--dry-run` and `run.json` have this one.
    pub fn protocol_id(&self) -> String {
        let mut parts = vec![format!("{}/{}", self.dataset, self.split), catalog::declared_checksum(self.dataset)];
        if self.dataset.is_simulated() {
            parts.push("simulated".into());
        }
        parts.extend(self.integration.map(|integration| format!("equal-{integration}")));
        parts.push(match self.resize {
            Some(resize) => format!("size={}-{resize}", self.size),
            None => format!("size={}", self.size),
        });
        parts.extend(self.per_frame_max.then(|| "per-frame-max".into()));
        let augment: Vec<String> = self.augment.iter().map(|augment| augment.to_string()).collect();
        parts.push(format!("augment={}", if augment.is_empty() { "none".into() } else { augment.join("+") }));
        parts.extend(self.limit.map(|n| format!("limit={n}")));
        parts.push("selection=last".into());
        parts.join(";")
    }
}

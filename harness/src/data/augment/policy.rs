//! The AutoAugment policy for CIFAR-10 (Cubuk et al. 2019, table 7).

use super::operations::Operation;
use crate::data::image::Image;
use crate::rng::Stream;

/// An operation, the probability that it is applied, and its level (0–9; without meaning for some).
type Step = (Operation, f64, u8);

/// The 25 sub-policies, as published. (One port that the lineage uses has 0.8, not 0.6, for the second step of the 17th.)
#[rustfmt::skip]
const SUB_POLICIES: [[Step; 2]; 25] = {
    use Operation::*;
    [
        [(Invert, 0.1, 7), (Contrast, 0.2, 6)],
        [(Rotate, 0.7, 2), (TranslateX, 0.3, 9)],
        [(Sharpness, 0.8, 1), (Sharpness, 0.9, 3)],
        [(ShearY, 0.5, 8), (TranslateY, 0.7, 9)],
        [(AutoContrast, 0.5, 8), (Equalize, 0.9, 2)],
        [(ShearY, 0.2, 7), (Posterize, 0.3, 7)],
        [(Color, 0.4, 3), (Brightness, 0.6, 7)],
        [(Sharpness, 0.3, 9), (Brightness, 0.7, 9)],
        [(Equalize, 0.6, 5), (Equalize, 0.5, 1)],
        [(Contrast, 0.6, 7), (Sharpness, 0.6, 5)],
        [(Color, 0.7, 7), (TranslateX, 0.5, 8)],
        [(Equalize, 0.3, 7), (AutoContrast, 0.4, 8)],
        [(TranslateY, 0.4, 3), (Sharpness, 0.2, 6)],
        [(Brightness, 0.9, 6), (Color, 0.2, 8)],
        [(Solarize, 0.5, 2), (Invert, 0.0, 3)],
        [(Equalize, 0.2, 0), (AutoContrast, 0.6, 0)],
        [(Equalize, 0.2, 8), (Equalize, 0.6, 4)],
        [(Color, 0.9, 9), (Equalize, 0.6, 6)],
        [(AutoContrast, 0.8, 4), (Solarize, 0.2, 8)],
        [(Brightness, 0.1, 3), (Color, 0.7, 0)],
        [(Solarize, 0.4, 5), (AutoContrast, 0.9, 3)],
        [(TranslateY, 0.9, 9), (TranslateY, 0.7, 9)],
        [(AutoContrast, 0.9, 2), (Solarize, 0.8, 3)],
        [(Equalize, 0.8, 8), (Invert, 0.1, 3)],
        [(TranslateY, 0.7, 9), (AutoContrast, 0.9, 1)],
    ]
};

/// Applies one sub-policy, chosen uniformly. Every step draws its probability and its sign, used or not.
pub(super) fn auto_augment(mut image: Image, stream: &mut Stream) -> Image {
    for (operation, probability, level) in SUB_POLICIES[stream.below(SUB_POLICIES.len())] {
        let applied = stream.uniform() < probability;
        let negative = stream.below(2) == 1 && operation.is_signed();
        if applied {
            image = operation.apply(image, level, negative);
        }
    }
    image
}

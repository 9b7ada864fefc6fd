//! What data sheets promise of a card, to hold measured rates against.

use crate::ops::cuda::Precision;

/// Peak rates of one card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Dense products in TFLOP/s: f32, TF32, bf16.
    teraflops: [f64; 3],
    /// Memory, in GB/s.
    gigabytes: f64,
}

/// NVIDIA's data sheets, without sparsity and at boost clock; the first whose words are all in a card's name counts.
#[rustfmt::skip]
const CARDS: &[(&[&str], Peaks)] = &[
    (&["H200", "NVL"],        Peaks { teraflops: [60.0, 418.0, 836.0], gigabytes: 4800.0 }),
    (&["H200"],               Peaks { teraflops: [67.0, 495.0, 989.0], gigabytes: 4800.0 }),
    (&["H100", "PCIe"],       Peaks { teraflops: [51.0, 378.0, 756.0], gigabytes: 2000.0 }),
    (&["H100", "NVL"],        Peaks { teraflops: [60.0, 418.0, 836.0], gigabytes: 3900.0 }),
    (&["H100"],               Peaks { teraflops: [67.0, 495.0, 989.0], gigabytes: 3350.0 }),
    (&["A100", "SXM4", "80GB"], Peaks { teraflops: [19.5, 156.0, 312.0], gigabytes: 2039.0 }),
    (&["A100", "80GB"],       Peaks { teraflops: [19.5, 156.0, 312.0], gigabytes: 1935.0 }),
    (&["A100"],               Peaks { teraflops: [19.5, 156.0, 312.0], gigabytes: 1555.0 }),
    (&["A30"],                Peaks { teraflops: [10.3, 82.0, 165.0], gigabytes: 933.0 }),
    (&["A40"],                Peaks { teraflops: [37.4, 74.8, 149.7], gigabytes: 696.0 }),
    (&["A10"],                Peaks { teraflops: [31.2, 62.5, 125.0], gigabytes: 600.0 }),
    (&["L40S"],               Peaks { teraflops: [91.6, 183.0, 362.0], gigabytes: 864.0 }),
    (&["L40"],                Peaks { teraflops: [90.5, 90.5, 181.0], gigabytes: 864.0 }),
    (&["L4"],                 Peaks { teraflops: [30.3, 60.0, 121.0], gigabytes: 300.0 }),
    (&["RTX", "4090"],        Peaks { teraflops: [82.6, 82.6, 165.2], gigabytes: 1008.0 }),
    (&["RTX", "3090"],        Peaks { teraflops: [35.6, 35.6, 71.0], gigabytes: 936.0 }),
];

/// Of the card that the driver calls `name`; `None` where the table has none of that name.
pub fn of(name: &str) -> Option<Peaks> {
    let words: Vec<&str> = name.split([' ', '-']).collect();
    // A laptop's card or an Ampere "Ti" shares words with another one, and not its rates.
    if words.iter().any(|word| ["Laptop", "Ti", "SUPER", "D", "MIG"].contains(word)) {
        return None;
    }
    CARDS.iter().find(|(known, _)| known.iter().all(|word| words.contains(word))).map(|(_, peaks)| *peaks)
}

impl Peaks {
    /// FLOP/s of products in `precision`.
    pub fn flops_per_second(&self, precision: Precision) -> f64 {
        1e12 * self.teraflops[match precision {
            Precision::F32 => 0,
            Precision::Tf32 => 1,
            Precision::Bf16 => 2,
        }]
    }

    /// Bytes/s of its memory.
    pub fn bytes_per_second(&self) -> f64 {
        1e9 * self.gigabytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_known_by_the_words_of_their_names() {
        let gigabytes = |name: &str| of(name).map(|peaks| peaks.gigabytes);
        for (name, expected) in [
            ("NVIDIA H100 80GB HBM3", Some(3350.0)),
            ("NVIDIA H100 PCIe", Some(2000.0)),
            ("NVIDIA H200", Some(4800.0)),
            ("NVIDIA A100-SXM4-40GB", Some(1555.0)),
            ("NVIDIA A100-SXM4-80GB", Some(2039.0)),
            ("NVIDIA L4", Some(300.0)),
            ("NVIDIA L40S", Some(864.0)),
            ("NVIDIA A10", Some(600.0)),
            ("NVIDIA A10G", None),
            ("NVIDIA GeForce RTX 3090 Ti", None),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
            ("a mock CUDA device, no GPU", None),
        ] {
            assert_eq!(gigabytes(name), expected, "{name}");
        }
        assert_eq!(of("NVIDIA H100 80GB HBM3").unwrap().flops_per_second(Precision::Bf16), 989e12);
    }
}

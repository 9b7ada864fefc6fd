//! Seeded random streams, one a purpose: counter-based, so that a draw depends on nothing but its key.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is for. The numbers are part of every result: never reorder them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights; index = (parameter, 0).
    Init = 1,
    /// Order of the training samples; index = (epoch, 0).
    Order = 2,
    /// Augmentation; index = (epoch, sample).
    Augment = 3,
    /// The batch of the finite-difference gradient; index = (epoch, 0).
    FdgBatch = 4,
    /// Splits of a data set; index = (class, 0).
    Split = 5,
    /// Synthetic inputs of benchmarks and self-tests; index is the caller's.
    Synthetic = 6,
    /// Moves of a temperature that walks at random; index = (epoch, T).
    TemperatureWalk = 7,
}

/// The stream of `(seed, purpose, index)`.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Opens the stream at its start.
    pub fn new(seed: u64, purpose: Purpose, index: (u64, u64)) -> Self {
        let mut key = [0; 32];
        for (chunk, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, index.0, index.1]) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n (`n > 0`), without modulo bias.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box–Muller; ours, so that no library's release changes a result).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A uniformly random order of 0..n (Fisher–Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_part_of_their_key_and_repeat() {
        let first = |seed, purpose, index| Stream::new(seed, purpose, index).uniform();
        let base = first(1, Purpose::Init, (2, 3));
        assert_eq!(base, first(1, Purpose::Init, (2, 3)));
        for other in [
            first(0, Purpose::Init, (2, 3)),
            first(1, Purpose::Order, (2, 3)),
            first(1, Purpose::Init, (0, 3)),
            first(1, Purpose::Init, (2, 0)),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut stream = Stream::new(0, Purpose::Synthetic, (0, 0));
        let draws: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.015 && (variance - 1.0).abs() < 0.02, "mean {mean}, variance {variance}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Stream::new(7, Purpose::Order, (0, 0)).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}

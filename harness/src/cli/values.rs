//! What options may be.

use clap::ValueEnum;
use std::fmt;

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The best there is.
    Auto,
    /// The processor.
    Cpu,
    /// A CUDA card.
    Cuda,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// What starts the cells' processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Launcher {
    /// This process trains them, one after the other.
    Local,
    /// Array jobs of Slurm.
    Slurm,
}

/// A list of seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

/// The i-th of n parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u64,
    /// Number of parts.
    pub of: u64,
}

/// `3`, `0,2` or `0..3`.
pub fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let expected = || format!("`{text}` is no list of seeds; write 3, 0,2 or 0..3");
    let mut seeds = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            Some((first, end)) => {
                let range: std::ops::Range<u64> =
                    first.trim().parse().map_err(|_| expected())?..end.trim().parse().map_err(|_| expected())?;
                if range.end - range.start.min(range.end) > 10_000 {
                    return Err(format!("`{part}` are more than 10,000 seeds"));
                }
                seeds.extend(range);
            }
            None => seeds.push(part.trim().parse().map_err(|_| expected())?),
        }
    }
    if seeds.is_empty() { Err(expected()) } else { Ok(Seeds(seeds)) }
}

/// `0/4`.
pub fn parse_shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some(Shard { index: i.parse().ok()?, of: n.parse().ok()? }));
    match parts {
        Some(shard) if shard.index < shard.of => Ok(shard),
        _ => Err(format!("`{text}` is no shard; write 0/4, 1/4, 2/4 or 3/4 for four of them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_lists_and_ranges() {
        assert_eq!(parse_seeds("0..3"), Ok(Seeds(vec![0, 1, 2])));
        assert_eq!(parse_seeds("0,2"), Ok(Seeds(vec![0, 2])));
        assert!(parse_seeds("three").is_err());
        assert!(parse_seeds("3..3").is_err());
        assert!(parse_seeds("0..99999999999").is_err());
    }

    #[test]
    fn a_shard_lies_within_its_parts() {
        assert_eq!(parse_shard("1/4"), Ok(Shard { index: 1, of: 4 }));
        assert!(parse_shard("4/4").is_err());
        assert!(parse_shard("0/0").is_err());
    }
}

//! Throughput of loading: what `bench data` prints.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rayon::prelude::*;
use serde::Serialize;

use super::frames::Framing;
use super::{Batches, DataConfig, Draw, Split, aedat, open};
use crate::exit::data;

/// Times that all recordings are read between two looks at the clock.
const ROUNDS: usize = 16;

/// Images a second through [`Batches`], augmentation included.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// What was loaded.
    pub protocol_id: String,
    /// Worker threads.
    pub workers: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Images loaded.
    pub images: usize,
    /// The time that took.
    pub seconds: f64,
    /// Their ratio.
    pub images_per_second: f64,
}

/// Loads augmented training batches, epoch after epoch, for at least `duration`.
pub fn batches(
    config: &DataConfig,
    time_steps: Option<usize>,
    data_dir: Option<&Path>,
    batch: usize,
    workers: usize,
    duration: Duration,
) -> Result<Throughput> {
    let dataset = open(config, time_steps, data_dir, None)?;
    let (start, mut images, mut epoch) = (Instant::now(), 0, 0);
    while start.elapsed() < duration {
        let order = (0..dataset.len(Split::Train)).collect();
        let draw = Some(Draw { seed: 0, epoch });
        for loaded in Batches::new(dataset.clone(), Split::Train, order, batch, draw, workers, 0) {
            images += loaded?.len;
            if start.elapsed() >= duration {
                break;
            }
        }
        epoch += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let protocol_id = dataset.protocol_id().to_string();
    Ok(Throughput { protocol_id, workers, batch, images, seconds, images_per_second: images as f64 / seconds })
}

/// Bytes of recordings a second, from memory, recordings side by side as when a data set is opened.
#[derive(Clone, Debug, Serialize)]
pub struct ReadingRate {
    /// Bytes of the recordings.
    pub bytes: u64,
    /// Threads.
    pub threads: usize,
    /// AEDAT to events.
    pub read_bytes_per_second: f64,
    /// AEDAT to events to frames.
    pub frame_bytes_per_second: f64,
}

/// Reads and frames the recordings `files` again and again for at least `duration` each.
pub fn recordings(files: &[&Path], framing: Framing, duration: Duration) -> Result<ReadingRate> {
    let load = |path: &&Path| {
        let name = path.display().to_string();
        std::fs::read(path).map(|bytes| (bytes, name.clone())).map_err(|error| data(format!("{name}: {error}")))
    };
    let loaded: Vec<(Vec<u8>, String)> = files.iter().map(load).collect::<Result<_>>()?;
    let bytes: u64 = loaded.iter().map(|(bytes, _)| bytes.len() as u64).sum();
    let rate = |work: &(dyn Fn(&[u8], &str) -> Result<usize> + Sync)| -> Result<f64> {
        let (start, mut rounds) = (Instant::now(), 0);
        while rounds == 0 || start.elapsed() < duration {
            (0..ROUNDS * loaded.len()).into_par_iter().try_for_each(|i| {
                let (bytes, name) = &loaded[i % loaded.len()];
                work(bytes, name).map(|n| {
                    std::hint::black_box(n);
                })
            })?;
            rounds += ROUNDS;
        }
        Ok(rounds as f64 * bytes as f64 / start.elapsed().as_secs_f64())
    };
    Ok(ReadingRate {
        bytes,
        threads: rayon::current_num_threads(),
        read_bytes_per_second: rate(&|bytes, name| Ok(aedat::read(bytes, name)?.events.len()))?,
        frame_bytes_per_second: rate(&|bytes, name| Ok(framing.build(&aedat::read(bytes, name)?.events, name)?.len()))?,
    })
}

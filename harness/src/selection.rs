//! Which cells of a suite a command means, and how the command is written.

use crate::cell::{self, Cell, Filter, Overrides};
use crate::cli::Selection;
use crate::slurm::script::command_line;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The command line's changes to a suite.
pub fn overrides(selection: &Selection) -> Overrides {
    Overrides {
        seeds: selection.seeds.as_ref().map(|seeds| seeds.0.clone()),
        epochs: selection.epochs.map(|n| n as usize),
        limit: selection.limit.map(|n| n as usize),
        width: selection.width.map(|n| n as usize),
        fdg_batch: selection.fdg_batch.map(|n| n as usize),
        shards: selection.shards.map(|n| n as usize),
        max_memory: selection.max_memory.map(|size| size.as_u64()),
    }
}

/// The cells that the filters and the shard keep, with their ancestors.
pub fn select(cells: Vec<Cell>, selection: &Selection) -> Result<Vec<Cell>> {
    let cells = Filter::parse(&selection.filters)?.select(cells)?;
    let Some(shard) = selection.shard else { return Ok(cells) };
    let kept = cell::shard(cells, shard.index, shard.of);
    if kept.is_empty() {
        // No error: hashes deal the chains out, and a queue would start a failed task again.
        eprintln!("shard {}/{} holds no cell; nothing is left to do for it", shard.index, shard.of);
    }
    Ok(kept)
}

/// This process's command, as a person would type it again.
pub fn this_command() -> String {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    command_line(&std::iter::once("harness".to_string()).chain(words).collect::<Vec<_>>())
}

/// The default result folder of a suite.
pub fn default_out(suite: &str) -> PathBuf {
    Path::new("results").join(suite)
}

//! Checks that everything that trains a cell is of the same data: its checkpoints, its parent, and all processes.

use crate::cell::Cell;
use crate::data::Dataset;
use crate::exit;
use crate::train::state::{self, Checkpoints};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A finished parent cell.
pub struct Parent {
    /// Its `weights.safetensors`.
    pub weights: PathBuf,
    /// The data hash in its row. Versions whose weights have no hash already wrote it.
    pub data_hash: Option<String>,
}

/// Returns the data set that this process opened if its hash is `first`, the hash of process 0's data.
///
/// # Errors
/// The hashes differ (exit 3). [`Ranks::agree`](crate::ranks::Ranks::agree) tells all processes and puts this process's
/// number before the sentence.
pub fn like_the_first(dataset: Arc<dyn Dataset>, first: &str) -> Result<Arc<dyn Dataset>> {
    let mine = dataset.data_hash();
    if mine == first {
        return Ok(dataset);
    }
    Err(exit::data(format!(
        "its data have the hash {mine}, but those of process 0 have the hash {first}; give all processes the same files \
         with --data-dir"
    )))
}

/// Refuses to train a cell further from weights of other data than those of the hash `now`: the cell's own checkpoints in
/// `folder`, and its parent's weights. Reads only the headers of these files, and changes nothing.
///
/// Weights of an unknown hash are accepted with a warning.
pub fn refuse_other_data(cell: &Cell, now: &str, parent: Option<&Parent>, folder: &Path) -> Result<()> {
    let checkpoints = Checkpoints::new(folder, &cell.config_hash).data_hashes()?;
    for (checkpoint, before) in &checkpoints {
        if let Some(before) = before.as_deref().filter(|before| *before != now) {
            return Err(exit::data(format!(
                "the checkpoint {} was trained on data of the hash {before}, but the data that are open now have the hash \
                 {now}; restore the earlier data to go on from it, or train the cell again with --fresh",
                checkpoint.display()
            )));
        }
    }
    if let Some((checkpoint, None)) = checkpoints.first() {
        warn_of_unknown(&format!("the checkpoint {}", checkpoint.display()), now);
    }
    let Some(Parent { weights, data_hash }) = parent else { return Ok(()) };
    let name = cell.config.parent_cell.as_deref().unwrap_or_default();
    match state::data_hash_of(weights).or(data_hash.clone()) {
        Some(before) if before != now => Err(exit::data(format!(
            "its parent {name} was trained on data of the hash {before} ({}), but the data that are open now have the hash \
             {now}; restore the earlier data, train the whole chain again with --fresh, or choose another --out",
            weights.display()
        ))),
        Some(_) => Ok(()),
        None => {
            warn_of_unknown(&format!("its parent {name} ({})", weights.display()), now);
            Ok(())
        }
    }
}

fn warn_of_unknown(what: &str, now: &str) {
    tracing::warn!(
        "{what} does not record the hash of its data, because an earlier version wrote it. It cannot be checked whether it \
         was trained on the data that are open now (hash {now})"
    );
}

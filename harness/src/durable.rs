//! The one way in which a file that matters reaches the disk, and leaves it.

use anyhow::{Context, Result};
use std::path::Path;

pub use report::record::write_atomic as write;

/// Removes a file, where no other process was quicker.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

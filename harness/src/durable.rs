//! The one way in which a file that matters reaches the disk.

pub use report::record::write_atomic as write;

//! One file a command; each prints data to standard output and everything else to standard error.

pub mod list;
pub mod merge;
pub mod suite;

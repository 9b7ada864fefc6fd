//! One file a command; each prints data to standard output and everything else to standard error.

pub mod bench;
pub mod data;
pub mod doctor;
pub mod eval;
pub mod list;
pub mod merge;
pub mod report;
pub mod selftest;
pub mod suite;

//! One file a command; each prints data to standard output and everything else to standard error.

pub mod bench;
pub mod eval;
pub mod inspect;
pub mod list;
pub mod merge;
pub mod parity;
pub mod selftest;
pub mod suite;

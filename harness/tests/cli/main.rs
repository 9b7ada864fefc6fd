//! The binary as a person uses it.
#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod card;
mod commands;
mod foreign;
mod suites;

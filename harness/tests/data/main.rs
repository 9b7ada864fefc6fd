//! The data sets and event streams, whole and broken: one binary, since every binary links the whole harness.
#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod bench;
mod cifar;
mod cifar10_dvs;
mod commands;
mod config;
mod events;
mod fetch;
mod fuzz_smoke;
mod imagenet;
mod open;

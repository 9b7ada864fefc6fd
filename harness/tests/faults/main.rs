//! Nothing computed is lost: kills, full disks, several processes, damaged files, ten thousand cells.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod bench;
mod disk;
mod identity;
mod kill;
mod many;
mod memory;
mod other_data;
mod scale;
mod slurm;
mod syscalls;

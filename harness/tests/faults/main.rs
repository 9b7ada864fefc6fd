//! Nothing computed is lost: kills, full disks, several processes, damaged files, ten thousand cells.
#![cfg(target_os = "linux")]

mod bench;
mod disk;
mod identity;
mod kill;
mod many;
mod scale;
mod syscalls;

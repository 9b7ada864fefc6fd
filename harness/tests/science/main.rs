//! What the harness computes: parity with PyTorch, training as a library, the gate.
#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod gate;
mod parity;
mod training;

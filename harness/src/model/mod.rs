//! The spiking network: its description, initial weights, forward and backward pass.

pub mod backward;
pub mod config;
pub mod cost;
pub mod layout;
pub mod memory;
pub mod network;
pub mod probe;
pub mod readout;
pub mod running;

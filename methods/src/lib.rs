//! What is compared: surrogates, the LIF neuron, FDG, TIT. Scalar formulas and plain f64 references; no tensors, no files.

pub mod surrogate;

//! What is compared: surrogates, the LIF neuron, FDG, TIT.

#!/usr/bin/env bash
# Builds the CUDA binary on an x86-64 machine that has no card, no driver and no toolkit: nvcc and the CUDA runtime come from
# PyPI wheels, the other libraries are looked up where the binary runs (scripts/cuda_link.sh).
#   scripts/cuda_build.sh [FEATURES]      default: cuda,cudnn; the binary is target/cuda/release/harness
# Most of the time goes into candle's own kernels: a quarter of an hour of one core. PTX for compute capability 8.0: any
# card from Ampere on, driver 580 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=$(scripts/nvcc_wheels.sh)
CUDART=$(dirname "$nvcc")/../lib/libcudart_static.a scripts/cuda_link.sh target/cuda-libraries
export NVCC=$nvcc CUDA_HOME=$PWD/target/cuda-libraries CARGO_TARGET_DIR=target/cuda
export CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000
cargo build --release -p harness --features "${1:-cuda,cudnn}"
strip target/cuda/release/harness
ls -l target/cuda/release/harness

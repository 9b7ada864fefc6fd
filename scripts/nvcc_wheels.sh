#!/usr/bin/env bash
# Puts NVIDIA's CUDA 13.0 compiler from its PyPI wheels into DIR (0.7 GB, no root, no card) and prints the path of nvcc.
#   scripts/nvcc_wheels.sh [DIR]      default: target/nvcc-13.0
set -euo pipefail
dir=${1:-$(dirname "$0")/../target/nvcc-13.0}
home=$dir/nvidia/cu13
if [ ! -x "$home/bin/nvcc" ]; then
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$dir" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 \
    nvidia-cuda-cccl==13.0.85 >&2
fi
cd "$home" && echo "$PWD/bin/nvcc"

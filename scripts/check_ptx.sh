#!/usr/bin/env bash
# Compiles our CUDA kernels with the real nvcc (scripts/nvcc_wheels.sh) as build.rs does, and the PTX for each generation of
# cards; prints registers and spills. Needs no card.
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=$(scripts/nvcc_wheels.sh)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$nvcc" --ptx -arch=compute_80 --fmad=false -O3 -o "$out/kernels.ptx" harness/src/ops/cuda/kernels/kernels.cu
if grep -q 'fma\.rn\.f32' "$out/kernels.ptx"; then
  echo "the PTX fuses multiply-adds in f32: its results are not the CPU kernels' bits" >&2
  exit 1
fi
for card in sm_80 sm_89 sm_90 sm_100 sm_120; do
  "$(dirname "$nvcc")/ptxas" -v -arch=$card -o "$out/kernels.cubin" "$out/kernels.ptx" 2>"$out/report"
  spilled=$(grep -oE '[0-9]+ bytes spill stores' "$out/report" | awk '{ bytes += $1 } END { print bytes + 0 }')
  echo "$card: $(grep -c 'Compiling entry' "$out/report") kernels, $spilled bytes of registers spilled," \
    "at most $(grep -oE 'Used [0-9]+ registers' "$out/report" | awk '{ print $2 }' | sort -n | tail -1) registers"
done

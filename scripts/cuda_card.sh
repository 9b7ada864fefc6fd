#!/usr/bin/env bash
# Everything worth knowing of a card in about ten minutes: known answers, FDG, a training step in each precision, a cell on the
# card and on the CPU. Needs the release binary (scripts/cuda_build.sh), NVIDIA's driver 580 or later and CUDA 13's libraries
# (cuBLAS, cuRAND, cuDNN 9), installed or in Python's nvidia-* wheels. No Rust, no network, no data.
#   scripts/cuda_card.sh [BINARY] > card.json      one JSON line; what happens is told on standard error
# Where a Python with PyTorch is at hand, PEER=FOLDER (one that holds bench.py) times it too.
set -uo pipefail
binary=$(realpath "${1:-target/cuda/release/harness}")
[ -x "$binary" ] || { echo "$binary is not there; scripts/cuda_build.sh makes it" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 74

wheels=$(python3 -c 'import nvidia, glob; print(":".join(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' 2>/dev/null || true)
LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}:$wheels:$(printf '%s:' /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib)
export LD_LIBRARY_PATH
"$binary" doctor >&2

failed=0
# measure NAME COMMAND...: the command's last line as a JSON value; null where it failed.
measure() {
  local name=$1 line
  shift
  echo "$name ..." >&2
  if line=$("$@" | tail -1) && [ -n "$line" ]; then
    printf ', "%s": %s' "$name" "$line"
  else
    failed=1
    printf ', "%s": null' "$name"
  fi
}
# cell DEVICE: accuracy and seconds of one cell of paper-mini.
cell() {
  "$binary" suite paper-mini -f method=rectangle-no-tit -f time-steps=2 --seeds 0 --device "$1" --out "cell-$1" >&2 || return 1
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    { printf "{\"top1_last\": %s, \"train_seconds\": %s}\n", $at["top1_last"], $at["train_seconds"] }' "cell-$1/rows.csv"
}
step() { "$binary" bench step --device cuda --norm tdbn --batch 128 --width 64 --architecture resnet18-plain "$@"; }
peer() { python3 "$PEER/bench.py" --device cuda --width 64 --batch 128 --hw 32 --ch 3 --gamma 0.5; }

driver=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
{
  printf '{"card": "%s"' "$driver"
  if "$binary" selftest --device cuda --json >selftest.json; then passed=true; else passed=false failed=1; fi
  printf ', "selftest": {"passed": %s, "checks": [%s]}' $passed "$(paste -sd, selftest.json)"
  for precision in f32 tf32 bf16; do
    for t in 4 6; do
      measure "step_${precision}_t$t" step --precision $precision --time-steps $t
    done
    measure "imagenet_stem_$precision" "$binary" bench step --device cuda --precision $precision --imagenet-stem --norm tdbn \
      --batch 64 --time-steps 4 --input 3x224x224
  done
  measure fdg "$binary" bench fdg --device cuda --norm tdbn --weights 32
  measure cell_cuda cell cuda
  measure cell_cpu cell cpu
  if [ -n "${PEER:-}" ]; then measure peer peer; fi
  echo '}'
} >card.json
cat card.json
exit $failed

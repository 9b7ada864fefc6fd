#!/usr/bin/env bash
# Everything worth knowing of a card within ten minutes: known answers, FDG, a training step in each precision with its share of the
# card's peaks, our kernels against a plain copy, a cell of paper-mini on the card and on the CPU.
#   scripts/cuda_card.sh [BINARY] [PEER] > card.json      one JSON line; what happens is told on standard error
# Needs the release binary (scripts/cuda_build.sh), NVIDIA's driver 580 or later and CUDA 13's libraries, in the usual places or in
# Python's nvidia-* wheels (PYTHON names the interpreter). No Rust, no network, no data sets. PEER is a folder that holds bench.py:
# with PyTorch at hand it is timed too. Exit 0: all measured and every answer right; 1: not; 2: nothing can run here.
set -uo pipefail
refuse() { echo "cuda_card.sh: $*" >&2; exit 2; }
binary=${1:-target/cuda/release/harness} peer=${2:-${PEER:-}} python=${PYTHON:-python3}
[ -x "$binary" ] || refuse "$binary is not there, or not a program; scripts/cuda_build.sh makes it"
binary=$(realpath "$binary")
if [ -n "$peer" ]; then
  [ -f "$peer/bench.py" ] || refuse "$peer holds no bench.py"
  peer=$(realpath "$peer")
fi
# Seconds that all of it may take; what would begin later is left out, as null.
limit=600
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 74

read -r driver card < <(nvidia-smi --query-gpu=driver_version,name --format=csv,noheader 2>/dev/null | head -1 | tr -d '"\\' | sed 's/, / /')
if [ -z "${driver:-}" ]; then
  driver=$(grep -oE '[0-9]+\.[0-9.]+' /proc/driver/nvidia/version 2>/dev/null | head -1)
fi
[ -z "$driver" ] || [ "${driver%%.*}" -ge 580 ] || refuse "the driver is $driver; the kernels need 580 or later"

# Where the libraries are: what the loader knows anyway, a toolkit, a conda environment, Python's wheels.
wheels=$("$python" -c 'import nvidia, glob; print("\n".join(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' 2>/dev/null)
places=$(
  tr : '\n' <<<"${LD_LIBRARY_PATH:-}"
  printf '%s\n' /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib "${CONDA_PREFIX:+$CONDA_PREFIX/lib}" "$wheels"
)
LD_LIBRARY_PATH=$(while read -r place; do [ ! -d "$place" ] || printf '%s:' "$place"; done <<<"$places")
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH%:}
libraries= missing=
for library in libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libcudnn.so.9; do
  found=$(tr : '\n' <<<"$LD_LIBRARY_PATH" | while read -r place; do [ ! -e "$place/$library" ] || echo "$place/$library"; done | head -1)
  [ -n "$found" ] || found=$(ldconfig -p 2>/dev/null | awk -v name="$library" '$1 == name { print $NF; exit }')
  [ -n "$found" ] || missing="$missing $library"
  libraries="$libraries, \"$library\": ${found:+\"$found\"}"
  [ -n "$found" ] || libraries="${libraries}null"
done
if [ -n "$missing" ]; then
  echo "not found:$missing; pip install nvidia-cublas nvidia-curand nvidia-cudnn-cu13 brings them" >&2
fi
# The binary's own sentence where it cannot use the card.
tiny=(bench step --device cuda --width 8 --batch 2 --time-steps 2 --input 3x16x16 --warmup 0 --steps 1)
said=$("$binary" "${tiny[@]}" 2>&1 >tiny.json) || refuse "${said:-the binary does not start}"
[ -n "${card:-}" ] || card=$(grep -oE '"gpu":"[^"]*"' tiny.json | cut -d'"' -f4)

failed=0
# within SECONDS COMMAND...: no longer than that, nor than all may take.
within() {
  local rest=$((limit - SECONDS)) most=$1
  shift
  [ $rest -gt 0 ] || { echo "left out: ten minutes are over" >&2; return 1; }
  timeout $((rest < most ? rest : most)) "$@"
}
# measure NAME COMMAND...: the command's last line as a JSON value; null where it failed.
measure() {
  local name=$1 line
  shift
  echo "$name ..." >&2
  if line=$("$@" | tail -1) && [[ $line == \{*\} ]]; then
    printf ', "%s": %s' "$name" "$line"
  else
    failed=1
    printf ', "%s": null' "$name"
  fi
}
# cell DEVICE: accuracy and seconds of one cell of paper-mini.
cell() {
  within 240 "$binary" suite paper-mini -f method=rectangle-no-tit -f time-steps=2 -f dataset=sign-digits --seeds 0 --device "$1" \
    --out "cell-$1" >&2 || return 1
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    { printf "{\"top1_last\": %s, \"loss_last\": %s, \"train_seconds\": %s}\n", $at["top1_last"], $at["loss_last"],
      $at["train_seconds"] }' "cell-$1/rows.csv"
}
bench() { within 120 "$binary" bench "$1" --device cuda --norm tdbn --warmup 1 --steps 5 "${@:2}"; }
paper() { bench "$1" --architecture resnet18-plain --width 64 "${@:2}"; }
# trace: calls to the driver that wait, of ten and of twenty times 32 steps, as Nsight Systems counts them.
trace() {
  local rounds counts=
  for rounds in 10 20; do
    within 120 nsys profile --trace cuda --force-overwrite true --output "trace-$rounds" "$binary" "${tiny[@]:0:12}" --warmup 0 \
      --steps $rounds >&2 || return 1
    counts="$counts $(nsys stats --report cuda_api_sum --format csv "trace-$rounds.nsys-rep" 2>/dev/null |
      awk -F, '/StreamSynchronize|CtxSynchronize|MemcpyDtoH|MemAlloc_v2|MemFree_v2/ { sum += $3 } END { print sum + 0 }')"
  done
  read -r few many <<<"$counts"
  echo "{\"waits_in_10_rounds\": $few, \"waits_in_20_rounds\": $many, \"steps_a_round\": 32}"
}
peer() {
  within 180 "$python" "$peer/bench.py" --device cuda --width 64 --T 4 --batch 128 --hw 32 --ch 3 --gamma 0.5 --inner 20 --rounds 5 \
    --modes "$1"
}

{
  printf '{"card": "%s", "driver": "%s", "libraries": {%s}' "$card" "$driver" "${libraries#, }"
  echo "selftest ..." >&2
  if within 240 "$binary" selftest --device cuda --json >selftest.json; then passed=true; else passed=false failed=1; fi
  printf ', "selftest": {"passed": %s, "checks": [%s]}' $passed "$(paste -sd, selftest.json)"
  for precision in f32 tf32 bf16; do
    for t in 4 6; do
      measure "step_${precision}_t$t" paper step --batch 128 --precision $precision --time-steps $t
    done
    measure "imagenet_stem_$precision" bench step --imagenet-stem --batch 64 --precision $precision --time-steps 4 --input 3x224x224
  done
  measure kernels paper kernels --batch 128 --time-steps 4
  measure fdg paper fdg --batch 32 --time-steps 4 --precision bf16
  if command -v nsys >/dev/null; then measure trace trace; fi
  measure cell_cuda cell cuda
  measure cell_cpu cell cpu
  if [ -n "$peer" ]; then
    for modes in sjcupy+amp sjtriton+amp plain+cl+compile+amp; do measure "peer_$modes" peer $modes; done
  fi
  printf ', "seconds": %s}\n' $SECONDS
} >card.json
cat card.json
exit $failed

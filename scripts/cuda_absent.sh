#!/usr/bin/env bash
# The CUDA binary on a machine without CUDA. Builds it with scripts/fake-nvcc and scripts/cuda_link.sh; plays drivers that lack one
# thing after the other, which must be one sentence and exit 2, never a panic, never a silent run on the CPU; then plays a whole card
# (harness/host-kernels/mock_cuda.cpp) on which the self-test must pass and cells must train, with too little memory for a batch and,
# where there is MPI, as two cards under NCCL too. Proves nothing about a real card.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
scripts/cuda_link.sh target/cuda-link
export NVCC=$PWD/scripts/fake-nvcc CUDA_HOME=$PWD/target/cuda-link CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=80
features=cuda,cudnn
if command -v mpirun >/dev/null && command -v mpicc >/dev/null; then features+=,nccl,mpi; fi
# Unoptimised: it computes nothing.
CARGO_TARGET_DIR=target/fake-nvcc cargo build --quiet -p harness --features $features --config 'profile.dev.opt-level=0'
binary=$PWD/target/fake-nvcc/debug/harness
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >driver.c <<'C'
#include <stdlib.h>
static int number(const char *name, int otherwise) { const char *text = getenv(name); return text ? atoi(text) : otherwise; }
int cuInit(unsigned flags) { return number("INIT", 0); }
int cuDeviceGetCount(int *count) { *count = number("CARDS", 1); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? number("MAJOR", 9) : 0; /* compute capability */
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuCtxGetCurrent(void **context) { *context = (void *)1; return 0; }
int cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "an error of the mock driver"; return 0; }
int cuModuleLoadData(void **module, const void *image) { *module = (void *)1; return number("LOAD", 0); }
int cuModuleGetFunction(void **function, void *module, const char *name) { *function = (void *)1; return 0; }
int cuModuleUnload(void *module) { return 0; }
C
cat >blas.c <<'C'
int cublasCreate_v2(void **handle) { *handle = (void *)1; return 0; }
int cublasSetStream_v2(void *handle, void *stream) { return 0; }
int cublasDestroy_v2(void *handle) { return 0; }
C
cat >rand.c <<'C'
int curandCreateGenerator(void **generator, int kind) { *generator = (void *)1; return 0; }
int curandSetStream(void *generator, void *stream) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void *generator, unsigned long long seed) { return 0; }
int curandSetGeneratorOffset(void *generator, unsigned long long offset) { return 0; }
int curandDestroyGenerator(void *generator) { return 0; }
C
mkdir driver all
for folder in driver all; do cc -shared -fPIC -w -o $folder/libcuda.so.1 driver.c; done
cc -shared -fPIC -w -o all/libcublas.so.13 blas.c
cc -shared -fPIC -w -o all/libcurand.so.10 rand.c

# says SENTENCE [NAME=VALUE...]
says() {
  local sentence=$1 said code=0
  shift
  for command in "selftest --device cuda" "suite smoke --device cuda --out $work/out" "bench step --device cuda --precision bf16"; do
    code=0
    # shellcheck disable=SC2086
    said=$(env "$@" "$binary" $command 2>&1) || code=$?
    if [ $code != 2 ] || [[ $said != *"$sentence"* ]] || [[ $said == *panicked* ]] || [ "$(wc -l <<<"$said")" != 1 ]; then
      echo "harness $command with $*: exit $code, expected 2 and \`$sentence\`: $said" >&2
      exit 1
    fi
  done
  if [ -e "$work/out" ]; then echo "something was computed with $*" >&2; exit 1; fi
  echo "ok   $said"
}
says "no usable CUDA driver on this machine (libcuda.so.1 was not found)" LD_LIBRARY_PATH=
says "the CUDA driver sees no card" LD_LIBRARY_PATH=driver INIT=100
says "the CUDA driver sees no card" LD_LIBRARY_PATH=driver CARDS=0
says "no usable CUDA driver on this machine" LD_LIBRARY_PATH=driver INIT=803
says "the card cannot be opened" LD_LIBRARY_PATH=driver
says "compute capability 7.0; the kernels need 8.0" LD_LIBRARY_PATH=all MAJOR=7
says "the card refuses the kernels of this binary" LD_LIBRARY_PATH=all LOAD=222
says "cuDNN 9 cannot be used" LD_LIBRARY_PATH=all
"$binary" suite smoke --dry-run >/dev/null 2>said
grep -q "computing on the CPU" said
echo "ok   without --device: $(cat said)"

# card FOLDER KERNELS: the libraries of the mock CUDA driver
card() {
  mkdir "$1"
  "${CXX:-c++}" -std=c++17 -O2 -ffp-contract=off -Wno-unknown-pragmas -shared -fPIC -I"$2" \
    -o "$1/libcuda.so.1" "$root/harness/host-kernels/mock_cuda.cpp"
  for library in libcublas.so.13 libcurand.so.10 libcudnn.so.9 libnccl.so.2; do ln -s libcuda.so.1 "$1/$library"; done
}
card card "$root/harness/src/ops/cuda/kernels"
step() { "$binary" bench step --width 4 --batch 1 --time-steps 2 --input 3x8x8 --warmup 1 --steps 1 "$@"; }
rate() { grep -oE '"firing_rate":[0-9.]{8}'; }
cpu=$(step --device cpu | rate)
card=$(LD_LIBRARY_PATH=card step --device cuda | rate)
if [ "$cpu" != "$card" ]; then echo "the same step fires $card on the mock CUDA driver, $cpu on the CPU" >&2; exit 1; fi
for precision in tf32 bf16; do
  LD_LIBRARY_PATH=card step --device cuda --precision $precision >line
  grep -q "\"numerics\":\"cuda-sm90-cudnn-$precision\"" line
  # A trace of the calls to the driver: none within the steps can make the host wait.
  grep -q '"host_waits_within_steps":0,' line || { echo "the host waits for the card within a step: $(cat line)" >&2; exit 1; }
done
echo "ok   the host waits for nothing within 32 steps: $(grep -oE '"(host_waits|steps_between)[a-z_]*":[0-9]+' line | xargs)"
LD_LIBRARY_PATH=card "$binary" bench kernels --width 8 --batch 1 --time-steps 2 --input 3x8x8 --device cuda | grep -q '"share_of_copy_bandwidth":[0-9]'
# The short self-test comes first: every kernel and a training step against the CPU.
cells() {
  "$binary" suite smoke --device cuda --limit 8 --epochs 1 -f method=rectangle -f dataset=sign-digits -f time-steps=3 "$@"
}
LD_LIBRARY_PATH=card cells --out cells >log 2>&1 || { cat log >&2; exit 1; }
grep -q 'a mock CUDA device, no GPU' cells/rows.csv
echo "ok   mock CUDA driver: self-test passed, $(($(wc -l <cells/rows.csv) - 1)) cells trained"

# One cell of two batches, under other circumstances: the numbers in its weights tell whether these matter. Their header holds times.
cat >batches.toml <<'TOML'
name = "batches"
title = "two batches"
[[method]]
name = "rectangle"
surrogate = { name = "rectangle", width = 1.0 }
start = "scratch"
[[experiment]]
methods = ["rectangle"]
time-steps = [2]
seeds = [0]
batch = 16
momentum = 0.9
network = { architecture = "resnet18", width = 4, norm = "tdbn", neuron = { tau = 0.25, v-th = 0.5, reset = "hard", detach-reset = false } }
data = { dataset = "sign-digits", split = "students", size = 32, augment = ["crop4"], limit = 32 }
fdg = { epsilon = 0.1, step = 0.2, floor = 0.2, cap = 20.0, batch = 2 }
[experiment.recipe]
first = { epochs = 1, lr = 0.05, weight-decay = 0.0001 }
TOML
# batches FOLDER [NAME=VALUE...] [COMMAND...] -- [OPTION...]: prints a hash of the trained numbers
batches() {
  local out=$1 before=()
  shift
  while [ "$1" != -- ]; do before+=("$1") && shift; done
  shift
  if ! env LD_LIBRARY_PATH=card "${before[@]}" "$binary" suite batches.toml --device cuda --out "$out" "$@" >log 2>&1; then
    cat log >&2
    exit 1
  fi
  python3 -c 'import hashlib, sys
numbers = open(sys.argv[1], "rb").read()
print(hashlib.sha256(numbers[8 + int.from_bytes(numbers[:8], "little"):]).hexdigest())' "$out"/cells/*/weights.safetensors
}
batches whole CARD_PEAK=peak -- >hash
batches halves -- --shards 2 >expected
if cmp -s hash expected; then echo "halves of a batch have their own statistics, yet leave the same weights" >&2; exit 1; fi
batches small CARD_BYTES=$(($(cat peak) * 3 / 4)) -- >hash
grep -q "memory ran out at 16 images; from here on 8 at once" log
grep -q "micro-batch=8" small/rows.csv
cmp hash expected
echo "ok   where memory runs out, half of the images at once; the weights of --shards 2"
code=0
LD_LIBRARY_PATH=card CARD_BYTES=1000000 "$binary" suite batches.toml --device cuda --out none >log 2>&1 || code=$?
if [ $code != 20 ] || [ -e none ] || [ "$(wc -l <log)" != 1 ] || ! grep -q "memory ran out in its self-test" log; then cat log >&2; exit 1; fi
echo "ok   $(cat log)"
if [[ $features == *mpi* ]]; then
  # As root in a container, and without the calls that copy from process to process.
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
  batches two CARDS=2 mpirun --oversubscribe --bind-to none -n 2 -- --shards 2 --threads 1 >hash
  cmp hash expected
  echo "ok   two processes, one mock CUDA device each, gradients through a mock NCCL: the weights of one process"
  cp -r card lonely && rm lonely/libnccl.so.2
  code=0
  env LD_LIBRARY_PATH=lonely CARDS=2 mpirun --oversubscribe --bind-to none -n 2 "$binary" suite batches.toml --device cuda --out none \
    --shards 2 --threads 1 >log 2>&1 || code=$?
  if [ $code != 2 ] || ! grep -q "NCCL cannot connect the cards" log; then cat log >&2; exit 1; fi
  echo "ok   $(grep "NCCL cannot" log)"
else
  echo "skipped: two cards need mpirun and mpicc (Open MPI)"
fi

# A card whose optimiser is wrong must not train.
cp -r "$root/harness/src/ops/cuda/kernels" kernels
sed -i 's/a.momentum \* a.velocity/0.5f * a.velocity/' kernels/train.h
card wrong kernels
rm -r cells
code=0
LD_LIBRARY_PATH=wrong cells --out cells >log 2>&1 || code=$?
if [ $code != 1 ] || [ -e cells ] || ! grep -q "this card computes other numbers than the CPU: 3 of" log; then
  echo "a card that computes wrong numbers was not refused: exit $code" >&2
  cat log >&2
  exit 1
fi
echo "ok   $(cat log)"

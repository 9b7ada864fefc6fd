#!/usr/bin/env bash
# What a CUDA binary says where something is missing: one sentence and exit 2, never a panic, never a silent run on the CPU. Builds it
# with scripts/fake-nvcc and scripts/cuda_link.sh, and plays drivers that lack one thing after the other. Needs no CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/cuda_link.sh target/cuda-link
export NVCC=$PWD/scripts/fake-nvcc CUDA_HOME=$PWD/target/cuda-link CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=80
# Unoptimised: it computes nothing.
CARGO_TARGET_DIR=target/fake-nvcc cargo build --quiet -p harness --features cuda,cudnn --config 'profile.dev.opt-level=0'
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
int cuGetErrorString(int error, const char **text) { *text = "an error of the played driver"; return 0; }
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

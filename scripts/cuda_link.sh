#!/usr/bin/env bash
# Makes a folder to link a CUDA binary against where there is no CUDA: static libraries whose functions look the real ones up
# when the program starts, and answer with an error code where the library is absent. So one binary starts everywhere.
#   scripts/cuda_link.sh DIR        then CUDA_HOME=DIR cargo build --features cuda
# DIR/lib/libcudart.a is empty unless CUDART names the toolkit's libcudart_static.a.
set -euo pipefail
[ "$(uname -m)" = x86_64 ] || { echo "cuda_link.sh writes jumps for x86-64 only; link against the toolkit here" >&2; exit 2; }
dir=$1
cudarc=$(cargo metadata --format-version 1 --features harness/cuda,harness/cudnn,harness/nccl --manifest-path "$(dirname "$0")/../Cargo.toml" |
  python3 -c 'import json,os,sys; print(*[os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"])')
mkdir -p "$dir/lib"

# Library, module of cudarc that declares its functions, error code for "not here", file to open.
while read -r library module code file; do
  source=$dir/lib/$library.c
  # Only what linking asks for is in the binary; a name is declared once for each version of CUDA.
  names=$(grep -hoE 'pub unsafe fn [A-Za-z0-9_]+|pub fn [A-Za-z0-9_]+' "$cudarc/src/$module/sys/mod.rs" | awk '{print $NF}' |
    grep -E '^(cu[A-Z]|cublas|curand|cudnn|nvrtc|p?nccl)' | sort -u)
  {
    echo '#include <dlfcn.h>'
    echo "static long absent_$library(void) { return $code; }"
    [ "$library" != cuda ] || echo "long harness_host_waits;"
    for name in $names; do
      count=
      # Calls that can make the host wait for the card are counted: `bench step` prints how many there are within its steps.
      case $name in
        cuCtxSynchronize | cuStreamSynchronize | cuMemcpyDtoH*_v2 | cuMemcpyHtoD*_v2 | cuMemAlloc_v2 | cuMemFree_v2 | \
          cuMemHostAlloc | cuMemFreeHost | cuModuleLoadData*) count='lock incq harness_host_waits(%rip)\n' ;;
      esac
      # A jump through a slot keeps every argument where it is, whatever the function's type.
      echo "void *${library}_slot_$name = (void *)absent_$library;"
      echo "__asm__(\".globl $name\\n.type $name,@function\\n$name: ${count}jmp *${library}_slot_$name(%rip)\\n\");"
    done
    echo "__attribute__((constructor(101))) static void open_$library(void) {"
    echo "  void *library = dlopen(\"$file\", RTLD_LAZY | RTLD_GLOBAL), *found;"
    echo "  if (!library) return;"
    for name in $names; do
      echo "  if ((found = dlsym(library, \"$name\"))) ${library}_slot_$name = found;"
    done
    echo "}"
  } >"$source"
  "${CC:-cc}" -O1 -fPIC -fvisibility=hidden -w -c "$source" -o "$dir/lib/$library.o"
  rm -f "$dir/lib/lib$library.a" && ar cr "$dir/lib/lib$library.a" "$dir/lib/$library.o"
done <<'LIBRARIES'
cuda driver 34 libcuda.so.1
nvrtc nvrtc 11 libnvrtc.so.13
curand curand 203 libcurand.so.10
cublas cublas 1 libcublas.so.13
cublasLt cublaslt 1 libcublasLt.so.13
cudnn cudnn 1001 libcudnn.so.9
nccl nccl 3 libnccl.so.2
LIBRARIES
rm -f "$dir/lib/libcudart.a"
if [ -n "${CUDART:-}" ]; then cp "$CUDART" "$dir/lib/libcudart.a"; else ar cr "$dir/lib/libcudart.a"; fi

// The CUDA kernels as host code: `kernels.cu` includes `host.h` where the compiler is not nvcc.
#include "kernels.cu"

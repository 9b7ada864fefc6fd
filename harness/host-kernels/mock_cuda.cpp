// A mock CUDA driver: the functions of the CUDA driver, cuBLAS, cuRAND and cuDNN that the CUDA binary calls, on host memory, with our
// kernels compiled for the host and candle's few that the network needs; and NCCL's among processes that have one each. For
// scripts/cuda_absent.sh: it runs the Rust side that only a card would, and proves nothing about a card's own arithmetic or speed.
#include "kernels.cu"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace {
struct Function {
  std::string name;
};

float from_bf16(uint16_t x) { return __uint_as_float((unsigned)x << 16); }
uint16_t to_bf16(float x) {
  unsigned bits = __float_as_uint(x);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A value of f32 or bf16 memory.
struct Values {
  void* memory;
  bool half;
  float get(size_t i) const { return half ? from_bf16(((uint16_t*)memory)[i]) : ((float*)memory)[i]; }
  void set(size_t i, float x) const {
    if (half)
      ((uint16_t*)memory)[i] = to_bf16(x);
    else
      ((float*)memory)[i] = x;
  }
};

// Where element `i` of a strided tensor is; `info` is its dims and strides, or null for a contiguous one.
size_t place_of(size_t i, size_t dims, const size_t* info, size_t set = 1) {
  if (!info) return i;
  size_t at = 0;
  for (size_t d = dims; d-- > 0;) {
    at += i % info[d] * info[set * dims + d];
    i /= info[d];
  }
  return at;
}

template <class T>
T argument(void** arguments, int i) {
  return *(T*)arguments[i];
}

bool ends(const std::string& name, const char* end) {
  size_t n = strlen(end);
  return name.size() >= n && !name.compare(name.size() - n, n, end);
}

// The kernels of candle that the network's steps use; false for others.
bool candle(const std::string& name, unsigned grid, void** a) {
  if (!name.compare(0, 7, "copy2d_")) {
    size_t size = ends(name, "_f64") || ends(name, "_i64") ? 8 : ends(name, "_u8") ? 1 : ends(name, "_bf16") ? 2 : 4;
    unsigned rows = argument<unsigned>(a, 2), bytes = argument<unsigned>(a, 3) * size;
    for (unsigned r = 0; r < rows; r++)
      memcpy(argument<char*>(a, 1) + r * argument<unsigned>(a, 5) * size,
             argument<char*>(a, 0) + r * argument<unsigned>(a, 4) * size, bytes);
    return true;
  }
  size_t count = argument<size_t>(a, 0), dims = argument<size_t>(a, 1);
  const size_t* info = argument<const size_t*>(a, 2);
  if (name == "badd_f32") {
    for (size_t i = 0; i < count; i++)
      argument<float*>(a, 5)[i] =
          argument<float*>(a, 3)[place_of(i, dims, info, 1)] + argument<float*>(a, 4)[place_of(i, dims, info, 2)];
  } else if (name == "affine_f32") {
    float* to = argument<float*>(a, 4);
    for (size_t i = 0; i < count; i++) {
      size_t at = place_of(i, dims, info);
      to[i] = (argument<float*>(a, 3) ? argument<float*>(a, 3)[at] : to[i]) * argument<float>(a, 5) + argument<float>(a, 6);
    }
  } else if (name == "ucopy_f32") {
    for (size_t i = 0; i < count; i++) argument<float*>(a, 4)[i] = argument<float*>(a, 3)[place_of(i, dims, info)];
  } else if (name == "cast_f32_bf16" || name == "cast_bf16_f32") {
    bool half = name == "cast_bf16_f32";
    Values from = {argument<void*>(a, 3), half}, to = {argument<void*>(a, 4), !half};
    for (size_t i = 0; i < count; i++) to.set(i, from.get(place_of(i, dims, info)));
  } else if (name == "fast_sum_f32" || name == "fast_sum_small_f32") {
    size_t each = argument<size_t>(a, 1), outputs = name == "fast_sum_f32" ? grid : count;
    dims = argument<size_t>(a, 2);
    info = argument<const size_t*>(a, 3);
    for (size_t o = 0; o < outputs; o++) {
      float sum = 0;
      for (size_t i = 0; i < each; i++) sum += argument<float*>(a, 4)[place_of(o * each + i, dims, info)];
      argument<float*>(a, 5)[o] = sum;
    }
  } else {
    return false;
  }
  return true;
}
}  // namespace

extern "C" {
int cuInit(unsigned) { return 0; }
// CARDS of them, where that is said.
int cuDeviceGetCount(int* count) {
  const char* text = getenv("CARDS");
  return *count = text ? atoi(text) : 1, 0;
}
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetName(char* name, int size, int) { return snprintf(name, size, "a mock CUDA device, no GPU"), 0; }
// 75: compute capability; 115: memory in the order of a stream.
int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute == 75 ? 9 : attribute == 115 ? 1 : 0, 0; }
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = (void*)1, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(void*) { return 0; }
int cuCtxGetCurrent(void** context) { return *context = (void*)1, 0; }
int cuCtxSynchronize() { return 0; }
int cuGetErrorName(int, const char** text) { return *text = "CUDA_ERROR", 0; }
int cuGetErrorString(int, const char** text) { return *text = "an error of the mock CUDA driver", 0; }
int cuEventCreate(void** event, unsigned) { return *event = (void*)1, 0; }
int cuEventDestroy_v2(void*) { return 0; }
int cuEventRecord(void*, void*) { return 0; }
int cuEventSynchronize(void*) { return 0; }
int cuStreamCreate(void** stream, unsigned) { return *stream = (void*)2, 0; }
int cuStreamDestroy_v2(void*) { return 0; }
int cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cuStreamSynchronize(void*) { return 0; }
int cuStreamIsCapturing(void*, int* status) { return *status = 0, 0; }
// Memory that was not written holds NaN, in f32, f64 and bf16. There are CARD_BYTES of it, where that is said.
static std::map<uint64_t, size_t> allocations;
static size_t allocated;
// The most that was ever taken goes to the file CARD_PEAK.
static struct Peak {
  size_t bytes = 0;
  ~Peak() {
    const char* name = getenv("CARD_PEAK");
    FILE* file = name ? fopen(name, "w") : nullptr;
    if (file) fprintf(file, "%zu\n", bytes), fclose(file);
  }
} peak;
static size_t card_bytes() {
  const char* text = getenv("CARD_BYTES");
  return text ? strtoull(text, nullptr, 10) : ~0ull >> 1;
}
int cuMemAllocAsync(uint64_t* at, size_t bytes, void*) {
  if (allocated + bytes > card_bytes()) return 2;
  *at = (uint64_t)memset(aligned_alloc(256, (bytes + 511) & ~255ul), 0xff, bytes);
  allocations[*at] = bytes;
  allocated += bytes;
  if (allocated > peak.bytes) peak.bytes = allocated;
  return 0;
}
int cuMemFreeAsync(uint64_t at, void*) {
  allocated -= allocations.at(at);
  allocations.erase(at);
  return free((void*)at), 0;
}
int cuMemAlloc_v2(uint64_t* at, size_t bytes) { return cuMemAllocAsync(at, bytes, nullptr); }
int cuMemFree_v2(uint64_t at) { return cuMemFreeAsync(at, nullptr); }
int cuMemGetInfo_v2(size_t* free, size_t* total) { return *total = card_bytes(), *free = card_bytes() - allocated, 0; }
int cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = (void*)1, 0; }
int cuMemPoolSetAttribute(void*, int attribute, const uint64_t* value) { return attribute == 4 && *value == ~0ull ? 0 : 1; }
int cuMemHostAlloc(void** at, size_t bytes, unsigned) { return *at = aligned_alloc(256, (bytes + 511) & ~255ul), 0; }
int cuMemFreeHost(void* at) { return free(at), 0; }
int cuMemcpyAsync(uint64_t to, uint64_t from, size_t bytes, void*) { return memcpy((void*)to, (void*)from, bytes), 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) { return memcpy((void*)to, from, bytes), 0; }
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) { return memcpy(to, (void*)from, bytes), 0; }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void*) { return memcpy((void*)to, (void*)from, bytes), 0; }
int cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, void*) { return memset((void*)at, value, bytes), 0; }
int cuModuleLoadData(void** module, const void*) { return *module = (void*)1, 0; }
int cuModuleUnload(void*) { return 0; }
int cuModuleGetFunction(void** function, void*, const char* name) { return *function = new Function{name}, 0; }
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned, void*,
                   void** arguments, void**) {
  const std::string& name = ((Function*)function)->name;
  const unsigned grid[2] = {x, y};
  if (const Kernel* kernel = Kernel::find(name.c_str())) {
    if (threads != THREADS || z != 1) abort();
    return kernels_launch(kernel->name, grid, arguments[0], kernel->size);
  }
  if (candle(name, x, arguments)) return 0;
  fprintf(stderr, "the mock CUDA driver has no kernel %s\n", name.c_str());
  return 500;
}

int cublasCreate_v2(void** handle) { return *handle = (void*)1, 0; }
int cublasSetStream_v2(void*, void*) { return 0; }
int cublasDestroy_v2(void*) { return 0; }
int cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k, const float* alpha, const void* a, int type_a, int lda,
                               long long next_a, const void* b, int type_b, int ldb, long long next_b, const float* beta, void* c,
                               int type_c, int ldc, long long next_c, int batch, int, int) {
  Values A = {(void*)a, type_a == 14}, B = {(void*)b, type_b == 14}, C = {c, type_c == 14};
  for (int t = 0; t < batch; t++)
    for (int j = 0; j < n; j++)
      for (int i = 0; i < m; i++) {
        float sum = 0;
        for (int l = 0; l < k; l++)
          sum += A.get(t * next_a + (ta ? l + (size_t)i * lda : i + (size_t)l * lda)) *
                 B.get(t * next_b + (tb ? j + (size_t)l * ldb : l + (size_t)j * ldb));
        size_t at = t * next_c + i + (size_t)j * ldc;
        C.set(at, *alpha * sum + (*beta != 0 ? *beta * C.get(at) : 0));
      }
  return 0;
}

int curandCreateGenerator(void** generator, int) { return *generator = (void*)1, 0; }
int curandSetStream(void*, void*) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
int curandSetGeneratorOffset(void*, unsigned long long) { return 0; }
int curandDestroyGenerator(void*) { return 0; }

// Descriptors: what was set, checked where it is used.
struct Descriptor {
  int format, type, n, c, h, w;
  int pad, stride, mode;
};
int cudnnCreate(void** handle) { return *handle = (void*)1, 0; }
int cudnnDestroy(void*) { return 0; }
int cudnnSetStream(void*, void*) { return 0; }
int cudnnCreateTensorDescriptor(Descriptor** d) { return *d = new Descriptor(), 0; }
int cudnnCreateFilterDescriptor(Descriptor** d) { return *d = new Descriptor(), 0; }
int cudnnCreateConvolutionDescriptor(Descriptor** d) { return *d = new Descriptor(), 0; }
int cudnnDestroyTensorDescriptor(Descriptor* d) { return delete d, 0; }
int cudnnDestroyFilterDescriptor(Descriptor* d) { return delete d, 0; }
int cudnnDestroyConvolutionDescriptor(Descriptor* d) { return delete d, 0; }
int cudnnSetTensor4dDescriptor(Descriptor* d, int format, int type, int n, int c, int h, int w) {
  return *d = {format, type, n, c, h, w, 0, 0, 0}, 0;
}
int cudnnSetFilter4dDescriptor(Descriptor* d, int type, int format, int k, int c, int h, int w) {
  return *d = {format, type, k, c, h, w, 0, 0, 0}, 0;
}
int cudnnSetConvolution2dDescriptor(Descriptor* d, int pad, int, int stride, int, int dilation, int, int mode, int) {
  return *d = {0, 0, 0, 0, 0, 0, pad, stride, mode}, dilation == 1 && mode == 1 ? 0 : 3000;
}
int cudnnSetConvolutionMathType(Descriptor*, int) { return 0; }
int cudnnGetConvolutionForwardWorkspaceSize(void*, Descriptor*, Descriptor*, Descriptor*, Descriptor*, int algorithm, size_t* bytes) {
  return *bytes = 64, algorithm == 1 ? 0 : 3000;
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(void*, Descriptor*, Descriptor*, Descriptor*, Descriptor*, int algorithm, size_t* bytes) {
  return *bytes = 128, algorithm == 1 ? 0 : 3000;
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, Descriptor*, Descriptor*, Descriptor*, Descriptor*, int algorithm, size_t* bytes) {
  return *bytes = 32, algorithm == 1 ? 0 : 3000;
}
}

namespace {
// Calls f(x, w, y) with the indices of every product of a channel-last convolution; 3000 where the descriptors do not fit.
template <class F>
int products(const Descriptor& x, const Descriptor& w, const Descriptor& y, const Descriptor& conv, F f) {
  bool fits = x.format == 1 && w.format == 1 && y.format == 1 && x.type == w.type && x.type == y.type && x.c == w.c && y.c == w.n &&
              x.n == y.n && w.h == w.w && y.h == (x.h + 2 * conv.pad - w.h) / conv.stride + 1 &&
              y.w == (x.w + 2 * conv.pad - w.w) / conv.stride + 1;
  if (!fits) return 3000;
  for (int n = 0; n < y.n; n++)
    for (int oy = 0; oy < y.h; oy++)
      for (int ox = 0; ox < y.w; ox++)
        for (int r = 0; r < w.h; r++)
          for (int s = 0; s < w.w; s++) {
            int iy = oy * conv.stride + r - conv.pad, ix = ox * conv.stride + s - conv.pad;
            if (iy < 0 || ix < 0 || iy >= x.h || ix >= x.w) continue;
            size_t from = ((size_t)n * x.h + iy) * x.w + ix, to = ((size_t)n * y.h + oy) * y.w + ox;
            for (int k = 0; k < w.n; k++)
              for (int c = 0; c < w.c; c++) f(from * x.c + c, (((size_t)k * w.h + r) * w.w + s) * w.c + c, to * y.c + k);
          }
  return 0;
}

size_t size_of(const Descriptor& d) { return (size_t)d.n * d.c * d.h * d.w; }

// Sums in f32, then written as alpha * sum + beta * old.
struct Sums {
  std::vector<float> sum;
  Sums(const Descriptor& d) : sum(size_of(d)) {}
  int write(const Descriptor& d, void* to, float alpha, float beta, int code) {
    Values out = {to, d.type == 9};
    for (size_t i = 0; i < sum.size() && !code; i++) out.set(i, alpha * sum[i] + (beta != 0 ? beta * out.get(i) : 0));
    return code;
  }
};
}  // namespace

extern "C" {
int cudnnConvolutionForward(void*, const float* alpha, Descriptor* x, const void* from, Descriptor* w, const void* weight,
                            Descriptor* conv, int, void*, size_t bytes, const float* beta, Descriptor* y, void* to) {
  Values X = {(void*)from, x->type == 9}, W = {(void*)weight, w->type == 9};
  Sums out(*y);
  int code = products(*x, *w, *y, *conv, [&](size_t i, size_t k, size_t o) { out.sum[o] += X.get(i) * W.get(k); });
  return out.write(*y, to, *alpha, *beta, bytes < 64 ? 3000 : code);
}
int cudnnConvolutionBackwardData(void*, const float* alpha, Descriptor* w, const void* weight, Descriptor* y, const void* grad,
                                 Descriptor* conv, int, void*, size_t bytes, const float* beta, Descriptor* x, void* to) {
  Values G = {(void*)grad, y->type == 9}, W = {(void*)weight, w->type == 9};
  Sums out(*x);
  int code = products(*x, *w, *y, *conv, [&](size_t i, size_t k, size_t o) { out.sum[i] += G.get(o) * W.get(k); });
  return out.write(*x, to, *alpha, *beta, bytes < 128 ? 3000 : code);
}
int cudnnConvolutionBackwardFilter(void*, const float* alpha, Descriptor* x, const void* from, Descriptor* y, const void* grad,
                                   Descriptor* conv, int, void*, size_t bytes, const float* beta, Descriptor* w, void* to) {
  Values X = {(void*)from, x->type == 9}, G = {(void*)grad, y->type == 9};
  Sums out(*w);
  int code = products(*x, *w, *y, *conv, [&](size_t i, size_t k, size_t o) { out.sum[k] += X.get(i) * G.get(o); });
  return out.write(*w, to, *alpha, *beta, bytes < 32 ? 3000 : code);
}
}

namespace {
// What the processes share: a file that all map, whose name is NCCL's id.
struct Together {
  std::atomic<int> arrived, round;
  char bytes[64 << 20];
};

struct Communicator {
  Together* together;
  int processes, rank;

  // Returns once every process has come here.
  void meet() {
    int round = together->round;
    if (++together->arrived == processes) {
      together->arrived = 0;
      together->round++;
    }
    while (together->round == round) usleep(20);
  }
};
}  // namespace

extern "C" {
struct Id {
  char name[128];
};
int ncclGetUniqueId(Id* id) {
  snprintf(id->name, sizeof id->name, "/tmp/mock-nccl-XXXXXX");
  int file = mkstemp(id->name);
  return file < 0 || ftruncate(file, sizeof(Together)) || close(file) ? 2 : 0;
}
int ncclCommInitRank(Communicator** to, int processes, Id id, int rank) {
  int file = open(id.name, O_RDWR);
  void* memory = file < 0 ? MAP_FAILED : mmap(nullptr, sizeof(Together), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED || close(file)) return 2;
  *to = new Communicator{(Together*)memory, processes, rank};
  (*to)->meet();
  return rank == 0 ? 2 * !!unlink(id.name) : 0;
}
int ncclCommAbort(Communicator* c) { return munmap(c->together, sizeof(Together)), delete c, 0; }
int ncclAllGather(const void* from, void* to, size_t count, int type, Communicator* c, void*) {
  size_t bytes = 4 * count;
  if (type != 7 || c->processes * bytes > sizeof c->together->bytes) return 4;  // 7: f32
  memcpy(c->together->bytes + c->rank * bytes, from, bytes);
  c->meet();
  memcpy(to, c->together->bytes, c->processes * bytes);
  c->meet();
  return 0;
}
const char* ncclGetErrorString(int) { return "an error of the mock NCCL"; }
}

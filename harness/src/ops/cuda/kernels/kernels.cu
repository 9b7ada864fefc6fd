// All kernels in one translation unit, which gives one PTX file and one host library.
#include "device.h"
#include "arguments.h"
#include "surrogate.h"
#include "norm.h"
#include "neuron.h"
#include "pool.h"
#include "conv.h"
#include "train.h"

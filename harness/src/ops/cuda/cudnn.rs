//! Convolutions by cuDNN, channel-last. The algorithms are fixed, so results are reproducible
//! and no search is needed.

use super::launch::Element;
use super::{Precision, precision};
use crate::ops::{ConvShape, pad8};
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t as Mode, cudnnMathType_t as Math,
    cudnnTensorFormat_t as Format,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType, FilterDescriptor,
    TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, CudaViewMut};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, Error, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

const FORWARD: ForwardAlgorithm = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
const DATA: DataAlgorithm = DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
const FILTER: FilterAlgorithm = FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

/// The three passes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    Forward,
    InputGrad,
    WeightGrad,
}

/// The state of the thread that queues work on the device.
struct CudnnState {
    cudnn: Arc<Cudnn>,
    device: CudaDevice,
    /// One workspace for all convolutions, as large as the largest need so far.
    workspace: Option<CudaSlice<u8>>,
    needs: HashMap<(ConvShape, Precision, Direction), usize>,
}

thread_local! {
    static CUDNN: RefCell<Option<CudnnState>> = const { RefCell::new(None) };
}

/// Opens cuDNN on the device's stream.
pub fn open(device: &CudaDevice) -> Result<()> {
    let cudnn = Cudnn::new(device.cuda_stream()).map_err(Error::wrap)?;
    CUDNN.set(Some(CudnnState { cudnn, device: device.clone(), workspace: None, needs: HashMap::new() }));
    Ok(())
}

/// A convolution's descriptors over padded channels.
struct Descriptors<T> {
    conv: ConvDescriptor<f32>,
    x: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
}

impl<T: CudnnDataType> Descriptors<T> {
    fn new(cudnn: &Arc<Cudnn>, s: &ConvShape) -> Result<Self> {
        let int = |n: usize| n as i32;
        let (padding, stride) = (int(s.padding), int(s.stride));
        let (c_in, c_out, kernel) = (int(pad8(s.c_in)), int(pad8(s.c_out)), int(s.kernel));
        let mut conv = cudnn
            .create_conv2d::<f32>([padding; 2], [stride; 2], [1; 2], Mode::CUDNN_CROSS_CORRELATION)
            .map_err(Error::wrap)?;
        // The default would allow TF32 for f32 products.
        let math = if precision() == Precision::F32 { Math::CUDNN_FMA_MATH } else { Math::CUDNN_DEFAULT_MATH };
        conv.set_math_type(math).map_err(Error::wrap)?;
        let map = |c: i32, height: usize, width: usize| {
            let dims = [int(s.images), c, int(height), int(width)];
            cudnn.create_4d_tensor::<T>(Format::CUDNN_TENSOR_NHWC, dims).map_err(Error::wrap)
        };
        let w = cudnn.create_4d_filter::<T>(Format::CUDNN_TENSOR_NHWC, [c_out, c_in, kernel, kernel]);
        Ok(Self {
            conv,
            x: map(c_in, s.height, s.width)?,
            w: w.map_err(Error::wrap)?,
            y: map(c_out, s.out_height(), s.out_width())?,
        })
    }
}

impl CudnnState {
    /// Grows the workspace to the size that `direction` needs.
    fn workspace<T: CudnnDataType>(
        &mut self,
        s: &ConvShape,
        direction: Direction,
        descriptors: &Descriptors<T>,
    ) -> Result<()> {
        let Descriptors { conv, x, w, y } = descriptors;
        let key = (*s, precision(), direction);
        let need = match self.needs.get(&key) {
            Some(need) => *need,
            None => {
                let need = match direction {
                    Direction::Forward => ConvForward { conv, x, w, y }.get_workspace_size(FORWARD),
                    Direction::InputGrad => ConvBackwardData { conv, dx: x, w, dy: y }.get_workspace_size(DATA),
                    Direction::WeightGrad => ConvBackwardFilter { conv, x, dw: w, dy: y }.get_workspace_size(FILTER),
                };
                *self.needs.entry(key).or_insert(need.map_err(Error::wrap)?)
            }
        };
        if self.workspace.as_ref().is_none_or(|workspace| workspace.len() < need) {
            // SAFETY: cuDNN only reads what it has written to its workspace.
            self.workspace = Some(unsafe { self.device.alloc::<u8>(need.max(1)) }?);
        }
        Ok(())
    }
}

/// Runs `f` with cuDNN, the descriptors and the workspace.
fn with<T: CudnnDataType>(
    s: &ConvShape,
    direction: Direction,
    f: impl FnOnce(&Descriptors<T>, &mut CudaSlice<u8>) -> Result<()>,
) -> Result<()> {
    CUDNN.with_borrow_mut(|state| {
        let Some(state) = state else { bail!("cuDNN is used on another thread than the one that opened the card") };
        let descriptors = Descriptors::new(&state.cudnn, s)?;
        state.workspace(s, direction, &descriptors)?;
        let Some(workspace) = &mut state.workspace else { bail!("no workspace") };
        f(&descriptors, workspace)
    })
}

/// `out[images, H', W', c_out]` from `x[images, H, W, c_in]` and `weight[c_out, k, k, c_in]`, channels padded.
pub fn forward<T: Element + CudnnDataType>(s: &ConvShape, x: &Tensor, weight: &Tensor, out: &Tensor) -> Result<()> {
    with::<T>(s, Direction::Forward, |Descriptors { conv, x: dx, w, y }, workspace| {
        let operation = ConvForward { conv, x: dx, w, y };
        reading::<T>(x, |x| {
            reading::<T>(weight, |weight| {
                writing::<T>(out, |out| {
                    // SAFETY: maps and weight have the shapes and the type of the descriptors
                    // (see conv.rs).
                    unsafe { operation.launch(FORWARD, Some(workspace), (T::one(), T::zero()), x, weight, out) }
                        .map_err(Error::wrap)
                })
            })
        })
    })
}

/// The gradient of the input, written to `out`, or added to it if `accumulate`.
pub fn grad_input<T: Element + CudnnDataType>(
    s: &ConvShape,
    weight: &Tensor,
    grad: &Tensor,
    out: &Tensor,
    accumulate: bool,
) -> Result<()> {
    with::<T>(s, Direction::InputGrad, |Descriptors { conv, x, w, y }, workspace| {
        let operation = ConvBackwardData { conv, dx: x, w, dy: y };
        let kept = if accumulate { T::one() } else { T::zero() };
        reading::<T>(weight, |weight| {
            reading::<T>(grad, |grad| {
                writing::<T>(out, |out| {
                    // SAFETY: as above.
                    unsafe { operation.launch(DATA, Some(workspace), (T::one(), kept), out, weight, grad) }
                        .map_err(Error::wrap)
                })
            })
        })
    })
}

/// The gradient of the weight.
pub fn grad_weight<T: Element + CudnnDataType>(s: &ConvShape, x: &Tensor, grad: &Tensor, out: &Tensor) -> Result<()> {
    with::<T>(s, Direction::WeightGrad, |Descriptors { conv, x: dx, w, y }, workspace| {
        let operation = ConvBackwardFilter { conv, x: dx, dw: w, dy: y };
        reading::<T>(x, |x| {
            reading::<T>(grad, |grad| {
                writing::<T>(out, |out| {
                    // SAFETY: as above.
                    unsafe { operation.launch(FILTER, Some(workspace), (T::one(), T::zero()), x, out, grad) }
                        .map_err(Error::wrap)
                })
            })
        })
    })
}

/// Calls `f` with a contiguous tensor's values on the device.
fn reading<T: Element>(tensor: &Tensor, f: impl FnOnce(&CudaView<'_, T>) -> Result<()>) -> Result<()> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("cuDNN was given a tensor that is not contiguous on the card")
    };
    f(&storage.as_cuda_slice::<T>()?.slice(start..end))
}

/// Calls `f` with a contiguous tensor's values to change them. Every clone of the tensor sees
/// the change.
fn writing<T: Element>(tensor: &Tensor, f: impl FnOnce(&mut CudaViewMut<'_, T>) -> Result<()>) -> Result<()> {
    struct Op<F, T>(RefCell<Option<F>>, std::marker::PhantomData<T>);
    impl<T: Element, F: FnOnce(&mut CudaViewMut<'_, T>) -> Result<()>> InplaceOp1 for Op<F, T> {
        fn name(&self) -> &'static str {
            "cudnn"
        }

        fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
            bail!("cuDNN was given a tensor in host memory")
        }

        fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
            let (Some((start, end)), Some(f)) = (layout.contiguous_offsets(), self.0.take()) else {
                bail!("cuDNN was given a tensor that is not contiguous")
            };
            f(&mut storage.as_cuda_slice_mut::<T>()?.slice_mut(start..end))
        }
    }
    tensor.inplace_op1(&Op(RefCell::new(Some(f)), std::marker::PhantomData::<T>))
}

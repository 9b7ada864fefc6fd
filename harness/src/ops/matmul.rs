//! The product of small matrices, dispatched by device.

use super::cpu::matmul::{Matrix, product};
use super::cuda;
use candle_core::{CpuStorage, Device, Result, Storage, Tensor, bail};

/// `a · b` for f32 matrices with any strides.
///
/// On a CPU, the result is bit-identical to candle's matmul. We call `gemm` directly because
/// candle reads `/proc/cpuinfo` on every call (0.1 ms, unless `RAYON_NUM_THREADS` is set),
/// which costs more than the readout of a small network.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if cuda::runs_on_cuda(a) {
        return a.matmul(b);
    }
    let dims = (a.dim(0)?, b.dim(1)?);
    if a.dim(1)? != b.dim(0)? {
        bail!(
            "a product of {:?} and {:?}: the first needs as many columns as the second has rows",
            a.shape(),
            b.shape()
        );
    }
    let out = with_matrix(a, |a| with_matrix(b, |b| product(a, b)))??;
    Tensor::from_vec(out, dims, &Device::Cpu)
}

fn with_matrix<R>(tensor: &Tensor, f: impl FnOnce(Matrix<'_>) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.stride()) {
        (Storage::Cpu(CpuStorage::F32(values)), &[down, across]) => {
            let values = &values[layout.start_offset()..];
            Ok(f(Matrix { values, dims: tensor.dims2()?, strides: (down, across) }))
        }
        _ => bail!(
            "a product takes two f32 matrices in host memory, not {:?} {:?} on {:?}",
            tensor.dtype(),
            tensor.shape(),
            tensor.device()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn products_have_candles_bits_on_any_number_of_threads() {
        let pools = [1, 4].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
        let mut stream = Stream::new(0, Purpose::Synthetic, (0, 0));
        let mut matrix = |rows: usize, columns: usize| {
            let values: Vec<f32> = (0..rows * columns).map(|_| stream.normal() as f32).collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let bits = |tensor: Tensor| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        for (m, k, n) in [(1, 1, 1), (32, 64, 10), (10, 128, 64), (128, 10, 64), (3, 512, 1000), (256, 700, 7)] {
            let (a, b) = (matrix(m, k), matrix(k, n));
            let (a_t, b_t) = (a.t().unwrap().contiguous().unwrap(), b.t().unwrap().contiguous().unwrap());
            let (a_t, b_t) = (a_t.t().unwrap(), b_t.t().unwrap());
            for (a, b) in [(&a, &b), (&a_t, &b), (&a, &b_t), (&a_t, &b_t)] {
                let expected = bits(a.matmul(b).unwrap());
                for pool in &pools {
                    assert_eq!(bits(pool.install(|| matmul(a, b)).unwrap()), expected, "{m} × {k} × {n}");
                }
            }
        }
    }

    #[test]
    fn a_product_is_the_one_by_hand() {
        let a = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu).unwrap();
        let square = matmul(&a, &a.t().unwrap()).unwrap();
        assert_eq!(square.to_vec2::<f32>().unwrap(), [[14.0, 32.0], [32.0, 77.0]]);
        // A view of a part of a tensor: columns 1 and 2.
        let part = a.narrow(1, 1, 2).unwrap();
        let product = matmul(&part.t().unwrap(), &part).unwrap();
        assert_eq!(product.to_vec2::<f32>().unwrap(), [[29.0, 36.0], [36.0, 45.0]]);
        assert!(matmul(&a, &a).unwrap_err().to_string().contains("as many columns as the second has rows"));
        let double = a.to_dtype(candle_core::DType::F64).unwrap();
        assert!(matmul(&a, &double.t().unwrap()).unwrap_err().to_string().contains("not F64"));
    }
}

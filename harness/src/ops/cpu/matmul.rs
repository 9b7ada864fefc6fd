//! The product of small matrices.

use gemm::{Parallelism, gemm};

/// A matrix in memory.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// From the first element on.
    pub values: &'a [f32],
    /// Rows and columns.
    pub dims: (usize, usize),
    /// Floats from a row, and from a column, to the next.
    pub strides: (usize, usize),
}

impl Matrix<'_> {
    fn check(&self) {
        let ((rows, columns), (down, across)) = (self.dims, self.strides);
        let floats = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * down + (columns - 1) * across + 1 };
        assert!(floats <= self.values.len(), "{rows} × {columns} elements, strides {down}, {across}, lie in the slice");
    }
}

/// `a · b`, row after row, on this thread: what the threads of a pool would win on a readout, they lose on each other.
///
/// # Panics
/// If a has not as many columns as b has rows, or the elements of one lie outside its slice.
pub fn product(a: Matrix, b: Matrix) -> Vec<f32> {
    a.check();
    b.check();
    let ((m, k), (rows, n)) = (a.dims, b.dims);
    assert_eq!(k, rows, "as many columns as rows");
    let mut out = vec![0f32; m * n];
    let stride = |stride: usize| stride.cast_signed();
    // SAFETY: `check` has seen that all elements of `a` and `b` lie in their slices; `out` has m rows of n.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            false,
            a.values.as_ptr(),
            stride(a.strides.1),
            stride(a.strides.0),
            b.values.as_ptr(),
            stride(b.strides.1),
            stride(b.strides.0),
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    out
}

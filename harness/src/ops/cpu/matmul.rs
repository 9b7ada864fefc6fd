//! The product of two matrices.

use gemm::{Parallelism, gemm};

/// A view of a matrix in memory.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// The values from the first element on.
    pub values: &'a [f32],
    /// The number of rows and of columns.
    pub dims: (usize, usize),
    /// Floats between two rows, and between two columns.
    pub strides: (usize, usize),
}

impl Matrix<'_> {
    fn check(&self) {
        let ((rows, columns), (down, across)) = (self.dims, self.strides);
        let last = || (rows - 1).checked_mul(down)?.checked_add((columns - 1).checked_mul(across)?);
        let inside = rows == 0 || columns == 0 || last().is_some_and(|last| last < self.values.len());
        assert!(inside, "{rows} × {columns} elements, strides {down}, {across}, lie in the slice");
    }
}

/// `a · b` in row-major order. Large products run on the pool, bit-identically.
///
/// # Panics
/// If `a` does not have as many columns as `b` has rows, if an element lies outside its slice,
/// or if the product does not fit in memory.
pub fn product(a: Matrix, b: Matrix) -> Vec<f32> {
    a.check();
    b.check();
    let ((m, k), (rows, n)) = (a.dims, b.dims);
    assert_eq!(k, rows, "as many columns as rows");
    let mut out = vec![0f32; m.checked_mul(n).expect("a product that memory holds")];
    let parallelism = match rayon::current_num_threads() {
        1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    let stride = |stride: usize| stride.cast_signed();
    // SAFETY: `check` has verified that all elements of `a` and `b` lie in their slices; `out`
    // has m rows of n.
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
            parallelism,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "lie in the slice")]
    fn elements_outside_the_slice_panic() {
        let matrix = |columns| Matrix { values: &[1.0; 6], dims: (2, columns), strides: (columns, 1) };
        assert_eq!(product(matrix(2), matrix(3)), [2.0; 6]);
        product(matrix(2), matrix(4));
    }
}

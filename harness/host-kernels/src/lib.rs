//! The CUDA kernels compiled for the host, for tests of the harness: launched by name, as on a card.
#![allow(unsafe_code)]

/// Whether there was a C++ compiler.
pub const COMPILED: bool = cfg!(compiled);

/// Runs a kernel, block after block.
///
/// # Errors
/// A name that no kernel has, or arguments of another size.
///
/// # Safety
/// `A` is the kernel's struct of arguments, and every pointer in it is to memory of the size that the kernel asks for.
pub unsafe fn launch<A>(kernel: &str, grid: [u32; 2], arguments: &A) -> Result<(), String> {
    #[cfg(compiled)]
    {
        use std::ffi::{CString, c_char, c_int, c_void};
        unsafe extern "C" {
            fn kernels_launch(name: *const c_char, grid: *const u32, arguments: *const c_void, size: usize) -> c_int;
        }
        let name = CString::new(kernel).map_err(|error| error.to_string())?;
        let size = size_of::<A>();
        // SAFETY: the caller's; the name ends in 0, the grid has two numbers, and the size is that of the arguments.
        let code = unsafe { kernels_launch(name.as_ptr(), grid.as_ptr(), std::ptr::from_ref(arguments).cast(), size) };
        match code {
            0 => Ok(()),
            1 => Err(format!("there is no kernel `{kernel}`")),
            _ => Err(format!("the kernel `{kernel}` takes another struct than one of {size} bytes")),
        }
    }
    #[cfg(not(compiled))]
    {
        let _ = (kernel, grid, arguments);
        Err("there was no C++ compiler for the kernels".into())
    }
}

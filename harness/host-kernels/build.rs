//! Compiles the CUDA kernels for the host, where there is a C++ compiler.

use std::path::Path;

const KERNELS: &str = "../src/ops/cuda/kernels";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(compiled)");
    println!("cargo::rerun-if-changed={KERNELS}");
    let mut build = cc::Build::new();
    // The order of operations is the source's: no fused multiply-adds, as under nvcc.
    build.cpp(true).std("c++17").opt_level(2).flag("-ffp-contract=off").flag("-Wno-unknown-pragmas");
    build.file("kernels.cpp").include(Path::new(KERNELS)).warnings(true).cargo_warnings(true);
    println!("cargo::rerun-if-changed=kernels.cpp");
    match build.try_compile("harness_host_kernels") {
        Ok(()) => println!("cargo::rustc-cfg=compiled"),
        Err(error) => println!("cargo::warning=the tests of the CUDA kernels are skipped: no C++ compiler ({error})"),
    }
}

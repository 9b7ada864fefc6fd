//! Records where the binary comes from: the revision and the compiler, for every row.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(counted_waits)");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        kernels();
    }
    // A commit and a change of the sources, which are compiled anew in any case; not the index, which `git add` touches.
    for path in ["../.git/logs/HEAD", "src", "../methods/src", "../report/src", "../suites"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    for (name, value) in [
        ("HARNESS_RUSTC", output(Command::new(rustc).arg("--version"))),
        ("HARNESS_GIT_REVISION", output(Command::new("git").args(["rev-parse", "HEAD"]))),
        ("HARNESS_GIT_STATUS", output(Command::new("git").args(["status", "--porcelain", "--untracked-files=no"]))),
    ] {
        // The status only matters as empty or not; a line break would end the instruction to cargo.
        println!(
            "cargo:rustc-env={name}={}",
            value.unwrap_or_else(|| "unknown".into()).lines().next().unwrap_or_default()
        );
    }
}

/// The CUDA kernels as PTX for compute capability 8.0, which later cards take too.
fn kernels() {
    let source = Path::new("src/ops/cuda/kernels");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed=NVCC");
    let nvcc = std::env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
    // The stand-ins of scripts/cuda_link.sh count the calls that can wait for a card.
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    if std::env::var_os("CUDA_HOME").is_some_and(|home| Path::new(&home).join("lib/libcuda.a").exists()) {
        println!("cargo:rustc-cfg=counted_waits");
    }
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("kernels.ptx");
    // No fused multiply-adds: elementwise results are the CPU kernels' bits.
    let run = Command::new(&nvcc)
        .args(["--ptx", "-arch=compute_80", "--fmad=false", "-O3", "-o"])
        .args([&out, &source.join("kernels.cu")])
        .output();
    match run {
        Ok(run) if run.status.success() => {}
        Ok(run) => panic!("{nvcc} refused the kernels:\n{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => {
            panic!("the feature `cuda` needs nvcc 13 (NVCC={nvcc}): {error}; scripts/cuda_build.sh fetches one")
        }
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

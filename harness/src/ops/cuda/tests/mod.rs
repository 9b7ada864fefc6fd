//! Compares the kernels compiled for the host, launched as on a device, with the CPU's kernels.

use super::arguments;
use super::compare::{Size, all};
use super::launch::on_host;
use super::{Precision, set_precision, step};
use crate::parity::dump::Dump;
use crate::parity::parity;
use candle_core::Device;

/// Whether there was a C++ compiler. If not, prints which test is skipped.
fn compiled(test: &str) -> bool {
    if !host_kernels::COMPILED {
        eprintln!("skipped: {test} needs a C++ compiler");
    }
    host_kernels::COMPILED
}

#[test]
fn every_kernel_agrees_with_the_cpu_kernel() {
    if !compiled("every_kernel_agrees_with_the_cpu_kernel") {
        return;
    }
    let list = all(&Device::Cpu, Size::Small).unwrap();
    let missed: Vec<String> = list
        .iter()
        .filter(|case| !case.passed())
        .map(|case| format!("{}: {:e} of {:e}", case.name, case.error, case.tolerance))
        .collect();
    assert!(missed.is_empty(), "{} of {} missed:\n{}", missed.len(), list.len(), missed.join("\n"));
    assert!(list.len() > 500, "{} comparisons", list.len());
}

/// Compares forward, backward, SGD, running statistics, evaluation and FDG of whole networks
/// with PyTorch.
#[test]
fn whole_networks_agree_with_the_pytorch_dumps() {
    if !compiled("whole_networks_agree_with_the_pytorch_dumps") {
        return;
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_dump = path.extension().is_some_and(|extension| extension == "safetensors");
        let Some(dump) = is_dump.then(|| Dump::read(&path).unwrap()).filter(|dump| dump.has("input")) else { continue };
        let result = on_host(|| parity(&dump, &Device::Cpu)).unwrap();
        let missed: Vec<_> = result.checks.iter().filter(|check| !check.passed()).collect();
        assert!(missed.is_empty(), "{}: {missed:?}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen} dumps");
}

#[test]
fn a_kernel_takes_its_own_struct_and_name() {
    if !compiled("a_kernel_takes_its_own_struct_and_name") {
        return;
    }
    fn size<A: Default>(kernel: &str) -> Result<(), String> {
        // SAFETY: an empty grid runs nothing, so no address is read.
        unsafe { host_kernels::launch(kernel, [0, 0], &A::default()) }
    }
    assert!(size::<arguments::Sgd>("no_such_kernel").unwrap_err().contains("no kernel"));
    assert!(size::<arguments::Sgd>("cross_entropy").unwrap_err().contains("another struct"));
    for result in [
        size::<arguments::Moments>("moments"),
        size::<arguments::Totals>("totals"),
        size::<arguments::Statistics>("statistics"),
        size::<arguments::Fold>("fold"),
        size::<arguments::Coefficients>("norm_coefficients"),
        size::<arguments::NormBackward>("norm_backward"),
        size::<arguments::Neurons>("lif_backward_8"),
        size::<arguments::Pooling>("pool_backward"),
        size::<arguments::CountSpikes>("count_spikes"),
        size::<arguments::Sgd>("sgd"),
        size::<arguments::CrossEntropy>("cross_entropy"),
        size::<arguments::Columns>("col2im"),
        size::<arguments::Weights>("weight_unpack"),
        size::<arguments::Expand>("expand"),
        size::<arguments::Pad>("pad"),
        size::<arguments::Spread>("spread"),
        size::<arguments::Bias>("bias_gradient"),
        size::<arguments::CopyMap>("copy"),
    ] {
        result.unwrap();
    }
}

#[test]
fn a_training_step_differs_by_rounding_alone() {
    if !compiled("a_training_step_differs_by_rounding_alone") {
        return;
    }
    for (precision, expected) in [(Precision::F32, 0.0..1e-9), (Precision::Bf16, 0.01..0.4)] {
        set_precision(precision);
        for seed in 0..3 {
            let cpu = step::step(&Device::Cpu, seed).unwrap();
            let host = on_host(|| step::step(&Device::Cpu, seed)).unwrap();
            let distance = step::distance(&host, &cpu).abs();
            assert!(expected.contains(&distance), "{precision:?}, seed {seed}: {distance:e}");
        }
        assert!(step::compare(&Device::Cpu, precision).unwrap().passed());
        set_precision(Precision::F32);
    }
}

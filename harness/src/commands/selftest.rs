//! `harness selftest`: known answers, compiled in, so that a binary can prove itself on the machine it runs on.

use crate::cli;
use crate::data::{self, DataConfig, Split};
use crate::device;
use crate::exit::{self, Code};
use crate::ops::cuda::compare::{self, Comparison, Size};
use crate::ops::cuda::{self, Precision, step};
use crate::parity::dump::Dump;
use crate::parity::{Check, Parity, parity};
use anyhow::{Context, Result};
use candle_core::Device;
use serde_json::json;
use std::path::Path;

/// PyTorch dumps small enough to carry.
const DUMPS: &[(&str, &[u8])] = &[
    ("surrogate curves", include_bytes!("../../tests/fixtures/surrogates.safetensors")),
    ("neuron, hard reset", include_bytes!("../../tests/fixtures/lif_tau0.25_vth0.5.safetensors")),
    ("neuron, soft reset", include_bytes!("../../tests/fixtures/lif_soft_tau0.25_vth0.5.safetensors")),
    ("resnet18, tdbn", include_bytes!("../../tests/fixtures/resnet18_tdbn_w4_T1_8x8x1.safetensors")),
    ("resnet18, events", include_bytes!("../../tests/fixtures/resnet18_event_tdbn_w4_T3_10x10x2.safetensors")),
    ("resnet18-plain, tdbn", include_bytes!("../../tests/fixtures/resnet18-plain_tdbn_w4_T2_8x8x3.safetensors")),
    ("finite-difference gradient", include_bytes!("../../tests/fixtures/fdg_resnet18_tdbn_w4_b4_8x8.safetensors")),
];

/// Runs every known answer, on a card also every kernel and a training step against the CPU; exit 1 on a miss.
pub fn selftest(choice: cli::Device, json: bool) -> Result<()> {
    let device = device::open(choice, Precision::F32)?;
    let numerics = device::describe(&device).numerics;
    let mut failed = 0;
    let mut show = |name: &str, checks: &[Check]| {
        let passed = checks.iter().all(Check::passed);
        failed += usize::from(!passed);
        let worst = checks.iter().max_by(|a, b| severity(a).total_cmp(&severity(b)));
        let (worst_name, error, tolerance) =
            worst.map_or(("", f64::NAN, 0.0), |c| (c.name.as_str(), c.error, c.tolerance));
        if json {
            println!(
                "{}",
                json!({ "name": name, "passed": passed, "checks": checks.len(), "worst": worst_name, "error": error, "tolerance": tolerance })
            );
        } else {
            let mark = if passed { "ok  " } else { "FAIL" };
            println!(
                "{mark} {name:<28} {:>3} checks, worst {error:.1e} of {tolerance:.0e} ({worst_name})",
                checks.len()
            );
        }
    };
    for (name, bytes) in DUMPS {
        let dump = Dump::parse(bytes).with_context(|| format!("the compiled-in dump `{name}`"))?;
        show(name, &parity(&dump, &device)?.checks);
    }
    show("embedded photographs", &[pixels()?]);
    show("statistics", &statistics()?);
    if device.is_cuda() {
        for size in [Size::Small, Size::Layers] {
            failed += table(&compare::all(&device, size)?, json);
        }
        failed += table(&steps(&device)?, json);
    }
    if failed > 0 {
        return Err(exit::failure(Code::Check, format!("{failed} known answers were missed on {numerics}")));
    }
    if !json {
        println!("all known answers met, kernels {numerics}");
    }
    Ok(())
}

/// The short form, before a card trains anything: every kernel on small shapes and a training step.
///
/// # Errors
/// Exit 1 where the card computes other numbers; exit 20 where it has no memory even for these.
pub fn card(device: &Device) -> Result<()> {
    let all = || -> candle_core::Result<_> {
        let mut list = compare::all(device, Size::Small)?;
        list.push(step::compare(device, cuda::precision())?);
        Ok(list)
    };
    let list = all().map_err(anyhow::Error::from).map_err(|error| match cuda::is_out_of_memory(&error) {
        true => exit::failure(
            Code::CellFailed,
            format!(
                "the card's memory ran out in its self-test, which needs some megabytes ({}); free the card of other programs \
                 (nvidia-smi lists them), or take another. Nothing was trained",
                cuda::reason(&error)
            ),
        ),
        false => error,
    })?;
    let missed: Vec<&Comparison> = list.iter().filter(|case| !case.passed()).collect();
    let Some(first) = missed.first() else { return Ok(()) };
    Err(exit::failure(
        Code::Check,
        format!(
            "this card computes other numbers than the CPU: {} of {} checks failed, the first `{}` (error {:.1e}, at most {:.0e}); \
             `harness selftest --device cuda` shows all. Nothing was trained",
            missed.len(),
            list.len(),
            first.name,
            first.error,
            first.tolerance
        ),
    ))
}

/// A training step in each precision; f32 again afterwards.
fn steps(device: &Device) -> Result<Vec<Comparison>> {
    let list = [Precision::F32, Precision::Tf32, Precision::Bf16].map(|precision| {
        cuda::set_precision(precision);
        step::compare(device, precision)
    });
    cuda::set_precision(Precision::F32);
    Ok(list.into_iter().collect::<candle_core::Result<_>>()?)
}

/// Prints one line a comparison; returns how many were missed.
fn table(list: &[Comparison], json: bool) -> usize {
    for case in list {
        let (cpu, card, passed) = (case.cpu.as_secs_f64(), case.device.as_secs_f64(), case.passed());
        if json {
            let line = json!({
                "name": case.name, "passed": passed, "error": case.error, "tolerance": case.tolerance, "cpu_seconds": cpu,
                "device_seconds": card,
            });
            println!("{line}");
        } else {
            let (mark, ratio) = (if passed { "ok  " } else { "FAIL" }, cpu / card);
            let (error, tolerance) = (case.error, case.tolerance);
            println!("{mark} {error:.1e} of {tolerance:.0e}  {:>9.3} ms, CPU x{ratio:<7.1} {}", 1e3 * card, case.name);
        }
    }
    list.iter().filter(|case| !case.passed()).count()
}

/// `harness parity`: recomputes one dump; prints one JSON object, a verdict without checks where the dump cannot be used.
pub fn parity_of(path: &Path) -> Result<()> {
    let read =
        Dump::read(path).and_then(|dump| parity(&dump, &Device::Cpu).with_context(|| path.display().to_string()));
    let unusable = Parity { verdict: "fail", checks: Vec::new() };
    println!("{}", serde_json::to_string(read.as_ref().unwrap_or(&unusable))?);
    match read?.verdict {
        "pass" => Ok(()),
        _ => Err(exit::failure(Code::Check, "the dump and this program disagree; see `checks`")),
    }
}

fn severity(check: &Check) -> f64 {
    check.error / if check.tolerance > 0.0 { check.tolerance } else { f64::MIN_POSITIVE }
}

/// The mean of the embedded training images after normalisation is 0 (the constants are those of these images).
fn pixels() -> Result<Check> {
    let config: DataConfig =
        toml::from_str("dataset = \"sign-digits\"\nsplit = \"students\"\nsize = 32\naugment = []")?;
    let dataset = data::open(&config, None, None, None)?;
    let mut sample = vec![0f32; dataset.input().sample_len()];
    let mut sum = 0.0;
    for index in 0..dataset.len(Split::Train) {
        dataset.sample(Split::Train, index, None, &mut sample)?;
        sum += sample.iter().map(|v| f64::from(*v)).sum::<f64>();
    }
    let mean = sum / (dataset.len(Split::Train) * sample.len()) as f64;
    Ok(Check { name: "mean of the normalised training images".into(), error: mean.abs(), tolerance: 0.01 })
}

/// The 95 % t interval of 1, 2, 3 is 2 ± 4.302653/√3 (t tables, 2 degrees of freedom).
fn statistics() -> Result<Vec<Check>> {
    let values = [1.0, 2.0, 3.0];
    let (low, high) = report::stats::t_interval(&values, 0.95).context("an interval of three values")?;
    let half = 4.302_652_729_7 / 3f64.sqrt();
    Ok(vec![
        Check { name: "t interval, low end".into(), error: (low - (2.0 - half)).abs(), tolerance: 1e-6 },
        Check { name: "t interval, high end".into(), error: (high - (2.0 + half)).abs(), tolerance: 1e-6 },
    ])
}

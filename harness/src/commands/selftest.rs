//! `harness selftest`: known answers, compiled in, so that a binary can prove itself on the machine it runs on.

use crate::data::{self, DataConfig, Split};
use crate::exit::{self, Code};
use crate::parity::dump::Dump;
use crate::parity::{Check, parity};
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

/// Runs every known answer; exit 1 on a miss.
pub fn selftest(json: bool) -> Result<()> {
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
        show(name, &parity(&dump, &Device::Cpu)?.checks);
    }
    show("embedded photographs", &[pixels()?]);
    show("statistics", &statistics()?);
    if failed > 0 {
        return Err(exit::failure(
            Code::Check,
            format!("{failed} known answers were missed on {}", crate::ops::cpu::numerics()),
        ));
    }
    if !json {
        println!("all known answers met, kernels {}", crate::ops::cpu::numerics());
    }
    Ok(())
}

/// `harness parity`: recomputes one dump; prints one JSON object.
pub fn parity_of(path: &Path) -> Result<()> {
    let parity = parity(&Dump::read(path)?, &Device::Cpu).with_context(|| path.display().to_string())?;
    println!("{}", serde_json::to_string(&parity)?);
    match parity.verdict {
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

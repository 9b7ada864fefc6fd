//! The network against PyTorch dumps: those in the project, and the larger ones beside it where they are there.
use candle_core::Device;
use harness::parity::dump::Dump;
use harness::parity::parity;
use std::path::{Path, PathBuf};

fn dumps(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    paths.sort();
    paths
}

fn check(folder: &Path) -> usize {
    let paths = dumps(folder);
    for path in &paths {
        let result = parity(&Dump::read(path).unwrap(), &Device::Cpu).unwrap();
        let failed: Vec<_> = result.checks.iter().filter(|check| !check.passed()).collect();
        assert!(result.verdict == "pass" && failed.is_empty(), "{}: {failed:#?}", path.display());
    }
    paths.len()
}

#[test]
fn every_dump_of_the_project_is_met() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    assert!(check(&folder) >= 14);
}

#[test]
fn every_larger_dump_is_met() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    if check(&folder) == 0 {
        eprintln!("skipped: every_larger_dump_is_met needs the folder shared/fixtures beside the project");
    }
}

#[test]
fn a_changed_value_fails_the_dump() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lif_tau0.25_vth1.0.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 6;
    bytes[last] ^= 0x40;
    let result = parity(&Dump::parse(&bytes).unwrap(), &Device::Cpu).unwrap();
    assert_eq!(result.verdict, "fail");
}

#[test]
fn synaptic_operations_are_those_that_spikingjelly_counts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = std::fs::read_to_string(folder.join("synops.json")).unwrap();
    let counted: serde_json::Value = serde_json::from_str(&text).unwrap();
    let dump = Dump::read(&folder.join(format!("{}.safetensors", counted["dump"].as_str().unwrap()))).unwrap();
    assert_eq!(harness::parity::synops(&dump).unwrap(), counted["synops"].as_f64().unwrap());
}

#[test]
fn neurons_are_those_that_pytorch_gave_a_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in
        ["resnet18-plain_tdbn_w4_T2_8x8x3", "resnet18_soft_bn_w4_T4_10x10x3", "resnet18_event_tdbn_w4_T3_10x10x2"]
    {
        let dump = Dump::read(&folder.join(format!("{name}.safetensors"))).unwrap();
        let (ours, dumped) = harness::parity::neuron_count(&dump).unwrap();
        assert!(ours == dumped && ours > 0, "{name}: {ours}, {dumped}");
    }
}

//! The network against PyTorch dumps: those in the project, and the larger ones beside it where they are there.
use candle_core::Device;
use harness::exit::{Code, code_of};
use harness::parity::dump::Dump;
use harness::parity::{Parity, parity};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
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

/// A dump's tensors (type, shape, bytes) and metadata, to be changed.
struct Parts {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl Parts {
    fn of(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.safetensors"));
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let all = SafeTensors::deserialize(&bytes).unwrap().tensors();
        let part = |view: TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Self { tensors: all.into_iter().map(|(name, view)| (name, part(view))).collect(), metadata }
    }

    fn set(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name.into(), (Dtype::F32, shape.to_vec(), bytes));
    }

    /// Keeps the first `rows` of a tensor.
    fn cut(&mut self, name: &str, rows: usize) {
        let (_, shape, bytes) = self.tensors.get_mut(name).unwrap();
        bytes.truncate(bytes.len() / shape[0] * rows);
        shape[0] = rows;
    }

    fn parity(self) -> anyhow::Result<Parity> {
        let views = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data)));
        let views = views.map(|(name, view)| (name, view.unwrap()));
        parity(&Dump::parse(&safetensors::serialize(views, Some(self.metadata)).unwrap())?, &Device::Cpu)
    }
}

#[test]
fn an_incomplete_or_contradictory_dump_is_refused_in_a_sentence() {
    type Change = fn(&mut Parts);
    let network: [(Change, &str); 16] = [
        (|d| drop(d.metadata.remove("T")), "metadata has no `T`"),
        (|d| drop(d.metadata.insert("T".into(), "2.5".into())), "`T` is 2.5"),
        (|d| drop(d.metadata.insert("tau".into(), "1.5".into())), "(0, 1]"),
        (|d| drop(d.metadata.insert("norm".into(), "tdbm".into())), "did you mean `tdbn`"),
        (|d| drop(d.metadata.insert("reset".into(), "Soft".into())), "did you mean `soft`"),
        (|d| drop(d.metadata.insert("architecture".into(), "resnet81".into())), "did you mean `resnet18`"),
        (|d| drop(d.metadata.insert("stages".into(), "(0, 1)".into())), "numbers of blocks"),
        (|d| d.set("labels", &[3], &[0.0, 1.0, 10.0]), "`labels` holds 10"),
        (|d| d.set("labels", &[3], &[0.0, -1.0, 9.0]), "`labels` holds -1"),
        (|d| d.set("labels", &[2], &[0.0, 1.0]), "2 values for 3 images"),
        (|d| d.set("input", &[0, 3, 8, 8], &[]), "holds nothing"),
        (|d| d.set("input", &[3, 3, 8, 0], &[]), "holds nothing"),
        (|d| d.set("param.fc.weight", &[], &[1.0]), "`param.fc.weight` is not"),
        (|d| drop(d.tensors.remove("spikes.lif1")), "no tensor `spikes.lif1`"),
        (|d| d.tensors.retain(|name, _| !name.contains("_detach")), "no tensor `<surrogate>…/logits_f64`"),
        (
            |d| d.set("dspike_1_detach2/logits_f64", &[3, 10], &[0.0; 30]),
            "`dspike_1_detach2`: expected detach0 or detach1",
        ),
    ];
    for (change, sentence) in network {
        let mut parts = Parts::of("resnet18-plain_tdbn_w4_T2_8x8x3");
        change(&mut parts);
        let error = parts.parity().unwrap_err();
        assert!(error.to_string().contains(sentence), "{error:#} lacks `{sentence}`");
        assert_eq!(code_of(&error), Code::Data);
    }
    let mut other_step = Parts::of("fdg_small_w4_b4_8x8");
    other_step.metadata.insert("eps".into(), "0.2".into());
    assert!(other_step.parity().unwrap_err().to_string().contains("no `fdg_eps0.2_f64`"));
}

#[test]
fn a_value_that_is_missing_or_not_a_number_fails_its_check() {
    type Change = fn(&mut Parts);
    let cases: [(&str, Change, &str); 5] = [
        ("resnet18-plain_tdbn_w4_T2_8x8x3", |d| d.cut("spikes.lif1", 1), "spikes.lif1, flipped"),
        ("resnet18-plain_tdbn_w4_T2_8x8x3", |d| d.set("running_f64.bn1.running_mean", &[4], &[f32::NAN; 4]), "means"),
        (
            "resnet18-plain_tdbn_w4_T2_8x8x3",
            |d| d.set("running_f64.bn1.running_var", &[4], &[f32::NAN; 4]),
            "variances",
        ),
        ("lif_tau0.25_vth1.0", |d| d.cut("spikes", 2), "spikes, kernel"),
        ("fdg_small_w4_b4_8x8", |d| d.cut("fdg_eps0.1_f64", 3), "finite-difference gradient, eps 0.1"),
    ];
    for (name, change, check) in cases {
        let mut parts = Parts::of(name);
        change(&mut parts);
        let result = parts.parity().unwrap();
        assert_eq!(result.verdict, "fail");
        assert!(result.checks.iter().any(|c| c.name.contains(check) && !c.passed()), "{check}: {:?}", result.checks);
    }
}

#[test]
fn a_curve_is_met_beside_the_edges_of_its_support_too() {
    // The f32 next to these v is the edge itself, inside the support; v is outside.
    let v: Vec<f64> = vec![-0.500_000_000_1, -0.5, 0.0, 0.5, 0.500_000_000_1, 1e4];
    let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (v, curve) = (bytes(&v), bytes(&[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
    let tensors = [("v", &v), ("rect_1", &curve)].map(|(name, data)| (name, (Dtype::F64, vec![6], data.clone())));
    let tensors = tensors.into_iter().map(|(name, part)| (name.to_string(), part)).collect();
    let result = Parts { tensors, metadata: HashMap::new() }.parity().unwrap();
    assert!(result.verdict == "pass" && result.checks.len() == 2, "{:?}", result.checks);
}

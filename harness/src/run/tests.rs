use super::*;
use crate::cell::{Overrides, cells};
use crate::plan::run_plan;
use crate::ranks::threads;
use crate::suite::{Suite, source};

/// Files in the layout of CIFAR-10: 20 training images and 4 test images, whose pixels depend on `factor`.
fn write_data(folder: &Path, factor: usize) {
    let folder = folder.join("cifar-10-batches-bin");
    std::fs::create_dir_all(&folder).unwrap();
    for file in 0..6 {
        let name = if file < 5 { format!("data_batch_{}.bin", file + 1) } else { "test_batch.bin".into() };
        let image = |label: u8| std::iter::once(label).chain((0..3072).map(move |p| (p * factor % 251) as u8));
        std::fs::write(folder.join(name), (0..4).flat_map(image).collect::<Vec<u8>>()).unwrap();
    }
}

/// Trains an ANN in two processes on the data in `folders`: how it ended, and why its data count as missing.
fn trained_on(folders: [&Path; 2]) -> (Outcome, Option<String>) {
    let text = source("smoke").unwrap().text;
    let images = "dataset = \"sign-digits\", split = \"students\", size = 32, limit = 64, augment = [\"crop4\"]";
    let suite = text.replace(images, "dataset = \"cifar10\", split = \"official\", size = 32, augment = []");
    let suite = Suite::parse(&suite).unwrap();
    let overrides = Overrides { width: Some(2), epochs: Some(1), ..Overrides::default() };
    let cells = vec![cells(&suite, &overrides, "cpu-f32").unwrap().remove(0)];
    let out = tempfile::tempdir().unwrap();
    let outcomes = threads::run(2, |ranks| {
        let data_dir = Some(folders[ranks.rank()].to_path_buf());
        let interrupt = Interrupt::default();
        if !ranks.is_first() {
            follow(&Device::Cpu, data_dir.as_deref(), &interrupt, ranks).unwrap();
            return None;
        }
        let request = Request {
            suite: suite.name.clone(),
            plan: run_plan(&suite, &cells, "a test"),
            cells: cells.clone(),
            out: out.path().to_path_buf(),
            data_dir,
            fresh: false,
            retry: false,
            audit: false,
            device: Device::Cpu,
            rows: Rows::Now,
            jobs: 1,
            interrupt,
        };
        Some(run(&request, ranks).unwrap())
    });
    let plan = Store::existing(out.path()).unwrap().plan().unwrap();
    (outcomes.into_iter().flatten().next().unwrap(), plan.cells[0].missing.clone())
}

#[test]
fn a_process_with_other_data_than_the_first_is_named_before_anything_is_trained() {
    let [first, same, other] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    write_data(first.path(), 7);
    write_data(same.path(), 7);
    write_data(other.path(), 11);
    let (outcome, missing) = trained_on([first.path(), same.path()]);
    assert_eq!((outcome, missing), (Outcome { trained: 1, ..Outcome::default() }, None));

    let (outcome, missing) = trained_on([first.path(), other.path()]);
    assert_eq!(outcome, Outcome { missing: 1, ..Outcome::default() });
    assert_eq!(outcome.code(), Some(Code::Data));
    let reason = missing.unwrap();
    let hash = |folder: &Path| {
        let config = r#"dataset = "cifar10"
split = "official"
size = 32
augment = []"#;
        let config = toml::from_str(config).unwrap();
        data::open(&config, None, Some(folder), None).unwrap().data_hash().to_string()
    };
    for part in ["process 1: its data", &hash(first.path()), &hash(other.path()), "--data-dir"] {
        assert!(reason.contains(part), "`{part}` is not in {reason}");
    }
}

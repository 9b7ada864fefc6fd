//! The gate closes on a real fault: a surrogate whose derivative is wrong while everything else says it is right.
use harness::cell::{Cell, Overrides, cells};
use harness::plan;
use harness::ranks::Ranks;
use harness::run::{self, Request, Rows};
use harness::suite::Suite;
use harness::train::trainer::Interrupt;
use methods::surrogate::{Rectangle, Surrogate};
use report::{Outcome, Tolerance};
use std::path::Path;

const SUITE: &str = r#"
name = "gate"
title = "a test"
[[method]]
name = "rectangle"
surrogate = { name = "rectangle", width = 1.0 }
start = "scratch"
[[experiment]]
methods = ["rectangle"]
time-steps = [2]
seeds = [0]
batch = 8
momentum = 0.9
network = { architecture = "resnet18-plain", width = 8, norm = "bn", neuron = { tau = 0.25, v-th = 0.5, reset = "hard", detach-reset = false } }
data = { dataset = "sign-digits", split = "students", size = 32, augment = [], limit = 40 }
fdg = { epsilon = 0.1, step = 0.2, floor = 0.2, cap = 20.0, batch = 2 }
[experiment.recipe]
first = { epochs = 40, lr = 0.05, weight-decay = 0.0001 }
"#;

fn train(suite: &Suite, cells: Vec<Cell>, out: &Path) {
    let request = Request {
        suite: suite.name.clone(),
        plan: plan::run_plan(suite, &cells, "harness suite gate"),
        cells,
        out: out.to_path_buf(),
        data_dir: None,
        fresh: false,
        retry: false,
        audit: false,
        device: candle_core::Device::Cpu,
        rows: Rows::Now,
        jobs: 1,
        interrupt: Interrupt::default(),
    };
    assert_eq!(run::run(&request, &Ranks::alone()).unwrap().trained, 1);
}

#[test]
fn a_wrong_surrogate_factor_closes_the_gate_and_the_right_one_passes() {
    let suite = Suite::parse(SUITE).unwrap();
    let right = cells(&suite, &Overrides::default(), "cpu-f32").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    train(&suite, right.clone(), &at("baseline"));
    train(&suite, right.clone(), &at("same"));
    // The fault: a derivative twenty times too wide and too low, under the identity of the right cell.
    let mut wrong = right;
    if let Some(method) = &mut wrong[0].config.method {
        method.surrogate = Surrogate::Rectangle(Rectangle { width: 20.0 });
    }
    train(&suite, wrong, &at("faulty"));
    let gate = |name: &str| report::check(&at(name), &at("baseline").join("rows.csv"), &Tolerance::default()).unwrap();
    assert_eq!(gate("same").outcome, Outcome::Pass, "{}", gate("same").markdown());
    assert_eq!(gate("faulty").outcome, Outcome::Regression, "{}", gate("faulty").markdown());
}

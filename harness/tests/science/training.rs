//! Training as a library: determinism, FDG against the plain loop, divergence, resume.
use harness::cell::{Cell, Overrides, cells};
use harness::data::{self, Dataset, Split};
use harness::model::config::NetworkConfig;
use harness::model::network::{Network, Neuron, Pass, Statistics};
use harness::model::readout;
use harness::ops::activation::{Activation, host};
use harness::ranks::Ranks;
use harness::suite::Suite;
use harness::train::Evaluation;
use harness::train::audit::audit;
use harness::train::fdg::{Probe, choose_temperature};
use harness::train::state::{Checkpoints, State};
use harness::train::trainer::{Ended, Interrupt, Job, Tick};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const SUITE: &str = r#"
name = "test"
title = "a test"
[[method]]
name = "dspike"
surrogate = { name = "dspike", temperature = 1.0 }
fdg = true
start = "scratch"
[[experiment]]
methods = ["dspike"]
time-steps = [2]
seeds = [0]
batch = 8
momentum = 0.9
network = { architecture = "resnet18", width = 4, norm = "tdbn", neuron = { tau = 0.25, v-th = 0.5, reset = "hard", detach-reset = false } }
data = { dataset = "sign-digits", split = "students", size = 32, augment = ["crop4"], limit = 20 }
fdg = { epsilon = 0.1, step = 0.2, floor = 0.2, cap = 20.0, batch = 2 }
[experiment.recipe]
first = { epochs = 2, lr = 0.05, weight-decay = 0.0001 }
"#;

fn cell(text: &str) -> Cell {
    cells(&Suite::parse(text).unwrap(), &Overrides::default(), "cpu-f32").unwrap().remove(0)
}

fn dataset(cell: &Cell) -> Arc<dyn Dataset> {
    data::open(&cell.config.data, None, None, None).unwrap()
}

fn job<'a>(cell: &'a Cell, dataset: &'a Arc<dyn Dataset>, folder: &'a Path, interrupt: &'a Interrupt) -> Job<'a> {
    let (device, ranks) = (&candle_core::Device::Cpu, Box::leak(Box::new(Ranks::alone())));
    Job {
        cell,
        dataset,
        device,
        parent: None,
        folder,
        audit: true,
        save_every: Duration::from_secs(3600),
        interrupt,
        ranks,
    }
}

fn train(cell: &Cell) -> State {
    train_and_evaluate(cell).0
}

fn train_and_evaluate(cell: &Cell) -> (State, Evaluation) {
    let (dataset, folder, interrupt) = (dataset(cell), tempfile::tempdir().unwrap(), Interrupt::default());
    match job(cell, &dataset, folder.path(), &interrupt).run(&mut |_| Ok(())).unwrap() {
        Ended::Finished(state, evaluation) => (*state, evaluation),
        _ => panic!("the training did not finish"),
    }
}

/// Everything that must repeat: weights, statistics, metrics without clocks.
fn essence(state: &State) -> (Vec<Vec<u32>>, String) {
    let bits = |tensor| host::<f32>(tensor).unwrap().iter().map(|v| v.to_bits()).collect();
    let mut progress = state.progress.clone();
    progress.train_seconds = 0.0;
    progress.curves.iter_mut().for_each(|point| point.seconds = None);
    let tensors = state.network.params.iter().chain(&state.velocities).map(bits).collect();
    (tensors, format!("{progress:?} {:?}", state.network.running))
}

#[test]
fn the_same_seed_gives_the_same_bits_on_one_and_two_threads() {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| essence(&train(&cell(SUITE))))
    };
    let one = on(1);
    assert_eq!(one, on(1));
    assert_eq!(one, on(2));
}

#[test]
fn an_audited_training_holds_every_surrogate_against_each_finite_difference_gradient() {
    let progress = train(&cell(SUITE)).progress;
    for epoch in 0..2 {
        let of_epoch: Vec<_> = progress.fidelity.iter().filter(|point| point.epoch == epoch).collect();
        for name in ["dspike", "rectangle", "sigmoid", "triangle", "arctan"] {
            assert!(of_epoch.iter().any(|point| point.surrogate == name), "{name} in epoch {epoch}");
        }
        // The temperature that the epoch began with is a candidate of FDG too: the same gradients, the same cosine.
        let began = progress.fdg.iter().find(|point| point.epoch == epoch).unwrap();
        let same = of_epoch.iter().find(|p| p.surrogate == "dspike" && p.parameter == Some(began.candidate)).unwrap();
        assert_eq!((same.cosine, same.norm_ratio), (began.cosine, began.norm_ratio));
        assert!(same.layer == "conv1" && same.sampled == same.weights);
    }
}

#[test]
fn another_seed_gives_other_weights() {
    let other = SUITE.replace("seeds = [0]", "seeds = [1]");
    assert_ne!(essence(&train(&cell(SUITE))).0, essence(&train(&cell(&other))).0);
}

/// Trains on from what the folder holds, until a signal in the first step.
fn stopped_after_a_step(cell: &Cell, dataset: &Arc<dyn Dataset>, folder: &Path) -> Ended {
    let interrupt = Interrupt::default();
    let signal = |_: &Tick<'_>| {
        interrupt.ask();
        Ok(())
    };
    job(cell, dataset, folder, &interrupt).run(&mut { signal }).unwrap()
}

#[test]
fn a_training_that_is_interrupted_at_every_step_ends_with_the_bits_of_one_that_is_not() {
    let cell = cell(SUITE);
    let (dataset, folder) = (dataset(&cell), tempfile::tempdir().unwrap());
    let mut attempts = 0;
    let state = loop {
        attempts += 1;
        assert!(attempts < 50, "it does not come to an end");
        match stopped_after_a_step(&cell, &dataset, folder.path()) {
            Ended::Finished(state, _) => break *state,
            Ended::Interrupted => {}
            Ended::Diverged(..) => panic!("diverged"),
        }
    };
    assert!(attempts > 4, "{attempts} attempts: it was hardly interrupted");
    assert_eq!(essence(&state), essence(&train(&cell)));
}

#[test]
fn a_stop_within_the_finite_difference_gradient_keeps_the_differences_that_are_known() {
    let cell = cell(SUITE);
    let (dataset, folder) = (dataset(&cell), tempfile::tempdir().unwrap());
    let interrupt = Interrupt::default();
    interrupt.0.store(1, Ordering::Relaxed);
    let network =
        Network::new(&cell.config.network, Neuron::Lif(cell.config.network.neuron), 3, 10, cell.config.seed).unwrap();
    let checkpoints = Checkpoints::new(folder.path(), &cell.config_hash);
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut known = 0;
    for _ in 0..2 {
        let run = || job(&cell, &dataset, folder.path(), &interrupt).run(&mut |_| panic!("a step was taken"));
        let ended = alone.install(run).unwrap();
        assert!(matches!(ended, Ended::Interrupted));
        let progress = checkpoints.latest(&network).unwrap().unwrap().progress;
        assert!(progress.differences.len() > known && progress.differences.len() < 108 && progress.step == 0);
        known = progress.differences.len();
    }
    let goes_on = Interrupt::default();
    match job(&cell, &dataset, folder.path(), &goes_on).run(&mut |_| Ok(())).unwrap() {
        Ended::Finished(state, _) => assert_eq!(essence(&state), essence(&train(&cell))),
        _ => panic!("the training did not finish"),
    }
}

#[test]
fn a_stop_within_an_evaluation_keeps_the_images_that_are_counted() {
    let mut cell = cell(&SUITE.replace("fdg = true", "fdg = false"));
    cell.config.micro_batch = Some(4); // of images evaluated at once
    let (dataset, folder) = (dataset(&cell), tempfile::tempdir().unwrap());
    let interrupt = Interrupt::default();
    let signal = interrupt.clone();
    let last_step = |tick: &Tick| tick.steps.0 == tick.steps.1 / 2 && tick.finished_epoch.is_none();
    // The last step of the first epoch is saved; every attempt after it evaluates four images.
    job(&cell, &dataset, folder.path(), &interrupt)
        .run(&mut |tick| {
            signal.0.store(usize::from(last_step(tick)), Ordering::Relaxed);
            Ok(())
        })
        .map(|ended| assert!(matches!(ended, Ended::Interrupted)))
        .unwrap();
    let network = Network::new(&cell.config.network, Neuron::Lif(cell.config.network.neuron), 3, 10, 0).unwrap();
    let checkpoints = Checkpoints::new(folder.path(), &cell.config_hash);
    for counted in [4, 8, 12] {
        let ended = job(&cell, &dataset, folder.path(), &interrupt).run(&mut |_| panic!("a step was taken")).unwrap();
        assert!(matches!(ended, Ended::Interrupted));
        let evaluated = checkpoints.latest(&network).unwrap().unwrap().progress.evaluated;
        assert_eq!(serde_json::to_value(&evaluated[0]).unwrap()["samples"], counted);
    }
    // Stopped after each four images of the last evaluation too: the predictions are those of one that was not stopped.
    let mut stops = 0;
    let (state, evaluation) = loop {
        match job(&cell, &dataset, folder.path(), &interrupt).run(&mut |_| Ok(())).unwrap() {
            Ended::Finished(state, evaluation) => break (state, evaluation),
            _ => stops += 1,
        }
        assert!(stops < 50, "it does not come to an end");
    };
    let (whole, expected) = train_and_evaluate(&cell);
    assert!(stops >= 5 && evaluation.predictions.len() == 20, "{stops} stops");
    assert_eq!((essence(&state), evaluation), (essence(&whole), expected));
}

#[test]
fn a_cell_that_goes_on_with_another_program_names_both() {
    let cell = cell(SUITE);
    let (dataset, folder) = (dataset(&cell), tempfile::tempdir().unwrap());
    stopped_after_a_step(&cell, &dataset, folder.path());
    let network = Network::new(&cell.config.network, Neuron::Lif(cell.config.network.neuron), 3, 10, 0).unwrap();
    let checkpoints = Checkpoints::new(folder.path(), &cell.config_hash);
    let mut state = checkpoints.latest(&network).unwrap().unwrap();
    let this = state.progress.git_revision.replace("0123abc".into());
    checkpoints.save(&state).unwrap();
    match job(&cell, &dataset, folder.path(), &Interrupt::default()).run(&mut |_| Ok(())).unwrap() {
        Ended::Finished(state, _) => {
            let expected = this.map_or("0123abc".to_string(), |this| format!("0123abc+{this}"));
            assert_eq!(state.progress.git_revision, Some(expected));
        }
        _ => panic!("the training did not finish"),
    }
    state.progress.git_revision = Some("a".into());
    for (revision, expected) in
        [(Some("a"), "a"), (None, "a"), (Some("b"), "a+b"), (Some("b"), "a+b"), (Some("a"), "a+b+a")]
    {
        state.progress.computed_by(revision.map(String::from));
        assert_eq!(state.progress.git_revision.as_deref(), Some(expected));
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before_it() {
    let cell = cell(SUITE);
    let (dataset, folder) = (dataset(&cell), tempfile::tempdir().unwrap());
    for _ in 0..2 {
        stopped_after_a_step(&cell, &dataset, folder.path());
    }
    let mut saved: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    saved.sort();
    assert_eq!(saved.len(), 2);
    let mut bytes = std::fs::read(&saved[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&saved[1], bytes).unwrap();
    let neuron = Neuron::Lif(cell.config.network.neuron);
    let network = Network::new(&cell.config.network, neuron, 3, 10, 0).unwrap();
    let kept = Checkpoints::new(folder.path(), &cell.config_hash).latest(&network).unwrap().unwrap();
    assert_eq!(kept.progress.step, 1);
    let other = Checkpoints::new(folder.path(), "another configuration").latest(&network).unwrap();
    assert!(other.is_none());
}

#[test]
fn a_loss_that_leaves_the_finite_numbers_is_a_divergence_with_its_last_finite_step() {
    let cell = cell(&SUITE.replace("lr = 0.05", "lr = 1e30"));
    let (dataset, folder, interrupt) = (dataset(&cell), tempfile::tempdir().unwrap(), Interrupt::default());
    match job(&cell, &dataset, folder.path(), &interrupt).run(&mut |_| Ok(())).unwrap() {
        Ended::Diverged(_, message) => {
            assert!(message.contains("the loss became") && message.contains("last finite step"), "{message}");
        }
        _ => panic!("a rate of 1e30 should diverge"),
    }
}

/// A small network with a batch, for FDG.
fn probe_network(width: usize, architecture: &str) -> (Network, Activation, Vec<u32>) {
    let text = format!(
        "architecture = \"{architecture}\"\nwidth = {width}\nnorm = \"tdbn\"\nneuron = {{ tau = 0.25, v-th = 0.5, reset = \"hard\", detach-reset = false }}"
    );
    let config: NetworkConfig = toml::from_str(&text).unwrap();
    let network = Network::new(&config, Neuron::Lif(config.neuron), 3, 10, 3).unwrap();
    let mut stream = harness::rng::Stream::new(5, harness::rng::Purpose::Synthetic, (1, 1));
    let pixels: Vec<f32> = (0..4 * 16 * 16 * 3).map(|_| stream.normal() as f32).collect();
    let input = Activation::from_images(&pixels, [4, 16, 16, 3], &candle_core::Device::Cpu).unwrap();
    (network, input, vec![1, 5, 9, 2])
}

#[test]
fn the_finite_difference_gradient_has_the_bits_of_the_plain_loop() {
    for architecture in ["resnet18", "resnet18-plain"] {
        let (network, input, labels) = probe_network(4, architecture);
        let probe = Probe { input: &input, labels: &labels, time_steps: 2, classes: 10 };
        let fast = probe.finite_difference_gradient(&network, 0.1).unwrap();
        let weights = readout::values(&network.params[0]).unwrap();
        let pass = Pass { time_steps: 2, statistics: Statistics::Batch, keep_tape: false, count_synops: false };
        let plain = methods::fdg::finite_difference_gradient(&weights, 0.1, |weights| {
            let mut perturbed = network.clone();
            perturbed.params[0] =
                candle_core::Tensor::from_slice(weights, network.params[0].dims(), &candle_core::Device::Cpu)?;
            let output = perturbed.forward(&input, 4, &pass)?;
            Ok(readout::cross_entropy(&output.logits, &labels, 2, 10)?.score()?.loss)
        })
        .unwrap();
        let bits = |gradient: &[f64]| gradient.iter().map(|g| g.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&fast), bits(&plain), "{architecture}");
        assert!(fast.iter().any(|g| *g != 0.0));
    }
}

#[test]
fn an_evaluation_has_the_bits_of_a_pass_that_keeps_its_maps() {
    for architecture in ["resnet18", "resnet18-plain"] {
        let (network, input, _) = probe_network(8, architecture);
        let pass = |keep_tape| {
            let pass = Pass { time_steps: 3, statistics: Statistics::Running, keep_tape, count_synops: true };
            let output = network.forward_packed(&input, input.images(), &pass, &network.shared()).unwrap();
            assert_eq!(output.tape.is_empty(), !keep_tape);
            (output.host_logits().unwrap(), output.activity().unwrap())
        };
        let (logits, activity) = pass(false);
        assert!(activity[..3].iter().all(|layer| layer.spikes > 0 && layer.synops > 0.0), "{activity:?}");
        assert_eq!((logits, activity), pass(true), "{architecture}");
    }
}

#[test]
fn the_candidate_with_the_highest_cosine_is_chosen_and_running_statistics_stay() {
    let (network, input, labels) = probe_network(4, "resnet18-plain");
    let before = network.running.clone();
    let probe = Probe { input: &input, labels: &labels, time_steps: 2, classes: 10 };
    let fdg = methods::fdg::Fdg { epsilon: 0.1, step: 0.2, floor: 0.2, cap: 20.0, batch: 4 };
    let surrogate = methods::surrogate::Surrogate::Dspike(methods::surrogate::Dspike { temperature: 1.0 });
    let reference = probe.finite_difference_gradient(&network, fdg.epsilon).unwrap();
    let candidates = choose_temperature(&probe, &network, &surrogate, &fdg, &reference).unwrap().unwrap();
    assert_eq!(candidates.iter().map(|c| c.temperature).collect::<Vec<_>>(), [1.0, 1.2, 0.8]);
    let best = candidates.iter().map(|c| c.fidelity.cosine).fold(f64::NEG_INFINITY, f64::max);
    let chosen: Vec<_> = candidates.iter().filter(|c| c.chosen).collect();
    assert!(chosen.len() == 1 && chosen[0].fidelity.cosine == best);
    assert_eq!(before, network.running);
}

#[test]
fn the_loss_falls_on_a_handful_of_images() {
    let text = SUITE
        .replace("fdg = true\n", "")
        .replace("resnet18\", width = 4, norm = \"tdbn\"", "resnet18-plain\", width = 8, norm = \"bn\"")
        .replace("augment = [\"crop4\"], limit = 20", "augment = [], limit = 40")
        .replace("epochs = 2", "epochs = 80");
    let cell = cell(&text);
    assert_eq!(dataset(&cell).len(Split::Train), 40);
    let curves = train(&cell).progress.curves;
    let loss = |i: usize| curves[i].train_loss.unwrap();
    assert!(loss(79) < 0.5 * loss(0), "from {} to {}", loss(0), loss(79));
}

#[test]
fn a_stop_within_the_audit_keeps_the_differences_that_are_known() {
    let cell = cell(SUITE);
    let (dataset, folder) = (dataset(&cell), tempfile::tempdir().unwrap());
    let surrogate = cell.config.method.as_ref().unwrap().surrogate;
    let mut trained = train(&cell);
    let goes_on = Interrupt::default();
    let whole =
        audit(&job(&cell, &dataset, folder.path(), &goes_on), &mut trained, &cell.audit_fdg, &surrogate).unwrap();
    assert!(trained.progress.differences.is_empty());

    let signal = Interrupt::default();
    signal.0.store(1, Ordering::Relaxed);
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (mut known, mut attempts) = (0, 0);
    let resumed = loop {
        let interrupt = if attempts < 9 { &signal } else { &goes_on };
        let attempt = || {
            let stopped = job(&cell, &dataset, folder.path(), interrupt);
            audit(&stopped, &mut trained, &cell.audit_fdg, &surrogate)
        };
        match alone.install(attempt) {
            Ok(resumed) => break resumed,
            Err(error) => assert_eq!(harness::exit::code_of(&error), harness::exit::Code::Resumable),
        }
        let checkpoints = Checkpoints::new(folder.path(), &cell.config_hash);
        trained = checkpoints.latest(&trained.network).unwrap().unwrap();
        assert!(trained.progress.differences.len() > known, "nothing more was kept");
        known = trained.progress.differences.len();
        attempts += 1;
    };
    // 108 of the first layer, then those of another.
    assert!(known > 108 && attempts > 4, "{known} differences, {attempts} stops");
    assert_eq!(resumed.fidelity, whole.fidelity);
    assert!(trained.progress.differences.is_empty());
}

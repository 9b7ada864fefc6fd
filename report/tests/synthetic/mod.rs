//! A made-up result folder: every number is a formula of its place, every name says that it is fake.
#![allow(dead_code)] // each test file uses its own part

use std::path::Path;

use report::record::*;

/// What the folder holds. Fields are public so that a test reads as a sentence.
pub struct Synthetic {
    /// Data set, protocol, whether it has chains.
    pub datasets: Vec<(&'static str, &'static str, bool)>,
    pub methods: Vec<&'static str>,
    pub times: Vec<usize>,
    pub seeds: u64,
    pub epochs: usize,
    pub width: usize,
    pub rows: Vec<Record>,
    pub plan: RunPlan,
}

pub const ARMS: [&str; 9] = [
    "dspike",
    "dspike-no-fdg",
    "dspike-no-fdg-b3",
    "dspike-no-tit",
    "dspike-equal-epochs",
    "rectangle",
    "rectangle-no-tit",
    "sigmoid",
    "sigmoid-no-tit",
];

impl Default for Synthetic {
    fn default() -> Self {
        Self::new(&ARMS, &[4, 3, 2], 3)
    }
}

impl Synthetic {
    pub fn new(methods: &[&'static str], times: &[usize], seeds: u64) -> Self {
        Self::over(
            vec![("fake-shapes", "fake-shapes/holdout", true), ("fake-shapes-dvs", "fake-shapes-dvs/simulated", false)],
            methods,
            times,
            seeds,
        )
    }

    pub fn over(
        datasets: Vec<(&'static str, &'static str, bool)>,
        methods: &[&'static str],
        times: &[usize],
        seeds: u64,
    ) -> Self {
        let plan = RunPlan {
            suite: "fake-suite".into(),
            command: "harness suite fake-suite --seeds 0..3".into(),
            banner: Some("Made-up numbers for a test of the report; nothing was trained.".into()),
            reference: Some(methods[0].into()),
            deviations: vec!["Width 8 instead of 64.".into()],
            cells: Vec::new(),
        };
        let (epochs, width) = (6, 8);
        let mut synthetic = Self {
            datasets,
            methods: methods.to_vec(),
            times: times.to_vec(),
            seeds,
            epochs,
            width,
            rows: Vec::new(),
            plan,
        };
        synthetic.rows = synthetic.make_rows();
        synthetic.plan.cells = synthetic.rows.iter().map(planned).collect();
        synthetic
    }

    /// CIFAR-10 in every part as the paper has it, under another name than the paper's: the ANN, then a chain down from
    /// T = 6.
    pub fn of_the_paper(method: &'static str, times: &[usize], seeds: u64) -> Self {
        let mut synthetic = Self::over(vec![("cifar10", OFFICIAL, true)], &[method], times, seeds);
        synthetic.rows.iter_mut().for_each(as_in_the_paper);
        synthetic.plan.cells = synthetic.rows.iter().map(planned).collect();
        synthetic
    }

    fn make_rows(&self) -> Vec<Record> {
        let mut rows = Vec::new();
        for &(dataset, protocol, chained) in &self.datasets {
            for seed in 0..self.seeds {
                if chained {
                    rows.push(self.row(dataset, protocol, "ann", None, seed, None));
                }
                for &method in &self.methods {
                    let chain = chained && !method.contains("no-tit") && !method.contains("equal");
                    let mut parent = chain.then(|| rows_id(dataset, "ann", None, seed));
                    let times = if chained { &self.times[..] } else { &self.times[..1] };
                    for &time in times {
                        rows.push(self.row(dataset, protocol, method, Some(time), seed, parent.clone()));
                        if chain {
                            parent = Some(rows_id(dataset, method, Some(time), seed));
                        }
                    }
                }
            }
        }
        rows
    }

    fn row(
        &self,
        dataset: &str,
        protocol: &str,
        method: &str,
        time: Option<usize>,
        seed: u64,
        parent: Option<String>,
    ) -> Record {
        let place = ARMS.iter().position(|arm| *arm == method).unwrap_or(0) as f64;
        let wobble = ((seed * 7 + time.unwrap_or(0) as u64 * 3 + place as u64 * 5) % 11) as f64 / 11.0 - 0.5;
        let base = if dataset.ends_with("dvs") { 0.72 } else { 0.95 };
        let top1 = base - 0.006 * place + 0.004 * time.unwrap_or(6) as f64 + 0.008 * wobble;
        let spiking = time.is_some();
        let surrogate = spiking.then(|| method.split('-').next().unwrap_or(method).to_string());
        Record {
            schema_version: SCHEMA_VERSION,
            cell_id: rows_id(dataset, method, time, seed),
            series_id: None, // see `identified`
            suite: "fake-suite".into(),
            dataset: dataset.into(),
            protocol_id: protocol.into(),
            architecture: "resnet18".into(),
            width: Some(self.width),
            norm: "tdbn".into(),
            tau: spiking.then_some(0.25),
            v_th: spiking.then_some(0.5),
            reset: spiking.then(|| "hard".into()),
            detach_reset: spiking.then_some(false),
            method: method.into(),
            surrogate_start: surrogate.as_ref().map(|_| 1.0),
            surrogate_parameter: surrogate.as_ref().map(|_| 1.0),
            surrogate,
            surrogate_width: spiking.then_some(1.0),
            surrogate_peak: spiking.then_some(1.08),
            surrogate_area: spiking.then_some(1.0),
            fdg: Some(has_fdg(method)),
            fdg_batch: has_fdg(method).then_some(8),
            tit: Some(parent.is_some()),
            train_time_steps: time,
            eval_time_steps: time,
            seed,
            epochs: Some(if method.contains("equal") { 3 * self.epochs } else { self.epochs }),
            batch: Some(32),
            lr: Some(0.05),
            top1_last: Some(top1),
            top1_best: Some(top1 + 0.003),
            top1_held_out: None,
            top5_last: Some(0.995),
            loss_last: Some(1.0 - top1),
            firing_rate: spiking.then_some(0.12 + 0.01 * place),
            synops_ac: spiking.then(|| 1.2e6 * time.unwrap_or(1) as f64 * (1.0 + 0.05 * place)),
            macs: Some(2.4e5),
            energy_picojoules: Some(2.2e6 + 1e6 * time.unwrap_or(1) as f64),
            parameters: Some(176_000),
            state_bytes: spiking.then_some(48_000),
            peak_memory_bytes: Some(90 << 20),
            train_seconds: Some(20.0 * time.unwrap_or(1) as f64 + place),
            numerics: Some("cpu-fake".into()),
            device: Some("cpu".into()),
            threads: Some(2),
            host: Some("nowhere".into()),
            os: Some("FakeOS 1".into()),
            cpu: Some("Fake CPU".into()),
            gpu: None,
            rustc: Some("rustc 0.0.0".into()),
            harness_version: "0.0.0".into(),
            candle_version: "0.0.0".into(),
            git_revision: Some("0000000".into()),
            git_dirty: Some(false),
            config_hash: format!("{:08x}", seed * 31 + time.unwrap_or(0) as u64),
            data_hash: Some("fake".into()),
            parent_cell: parent,
            started_utc: Some("2000-01-01T00:00:00Z".into()),
            finished_utc: Some("2000-01-01T00:10:00Z".into()),
            status: Status::Done,
            error: None,
            ..Record::default()
        }
    }

    /// Writes run.json and all CSV files.
    pub fn write(&self, dir: &Path) {
        std::fs::write(dir.join("run.json"), serde_json::to_vec(&self.plan).unwrap()).unwrap();
        write_csv(&dir.join("rows.csv"), identified(&self.rows)).unwrap();
        let done = || self.rows.iter().filter(|row| row.status == Status::Done);
        write_csv(&dir.join("curves.csv"), done().flat_map(curves)).unwrap();
        write_csv(&dir.join("anytime.csv"), done().flat_map(anytime)).unwrap();
        write_csv(&dir.join("fdg.csv"), done().flat_map(fdg)).unwrap();
        write_csv(&dir.join("layers.csv"), done().flat_map(layers)).unwrap();
        write_csv(&dir.join("fidelity.csv"), done().flat_map(fidelity)).unwrap();
        write_csv(&dir.join("membrane.csv"), done().flat_map(membrane)).unwrap();
    }
}

/// CIFAR-10 as the paper has it, from verified files.
pub const OFFICIAL: &str = "cifar10/official;md5:0;size=32;augment=crop4+flip+autoaugment+cutout16;selection=last";

fn as_in_the_paper(row: &mut Record) {
    (row.width, row.train_samples, row.test_samples) = (Some(64), Some(50_000), Some(10_000));
    row.momentum = Some(0.9);
    (row.epochs, row.lr, row.weight_decay) = match row.train_time_steps {
        None => (Some(300), Some(0.1), Some(5e-4)),
        Some(6) => (Some(300), Some(0.01), Some(1e-4)),
        Some(_) => (Some(50), Some(0.004), Some(1e-4)),
    };
    if row.train_time_steps.is_some() {
        (row.surrogate, row.fdg) = (Some("dspike".into()), Some(true));
        (row.fdg_batch, row.fdg_epsilon, row.fdg_step) = (Some(32), Some(0.1), Some(0.2));
        // FDG moved the temperature from where it started.
        row.surrogate_parameter = Some(1.8);
    }
}

/// The rows with the series that the harness would give them: a name for all that says what the experiment is, of the
/// cell and of its parents.
pub fn identified(rows: &[Record]) -> Vec<Record> {
    let own = |row: &Record| {
        let columns = serde_json::to_value(row).unwrap();
        let columns = columns.as_object().unwrap().iter().filter(|(name, _)| is_identity(name));
        columns.map(|(name, value)| format!("{name}={value} ")).collect::<String>()
    };
    let series = |row: &Record| {
        let parent = |row: &&Record| rows.iter().find(|other| row.parent_cell.as_ref() == Some(&other.cell_id));
        std::iter::successors(Some(row), parent).take(9).map(own).collect::<String>()
    };
    let with = |row: &Record| Record { series_id: row.series_id.clone().or_else(|| Some(series(row))), ..row.clone() };
    rows.iter().map(with).collect()
}

pub fn rows_id(dataset: &str, method: &str, time: Option<usize>, seed: u64) -> String {
    let time = time.map_or_else(String::new, |time| format!("-t{time}"));
    format!("{dataset}-{method}{time}-s{seed}-fake")
}

fn has_fdg(method: &str) -> bool {
    method.starts_with("dspike") && !method.contains("no-fdg")
}

pub fn planned(row: &Record) -> PlannedCell {
    PlannedCell {
        cell_id: row.cell_id.clone(),
        parent_cell: row.parent_cell.clone(),
        dataset: row.dataset.clone(),
        protocol_id: row.protocol_id.clone(),
        architecture: row.architecture.clone(),
        method: row.method.clone(),
        time_steps: row.train_time_steps,
        seed: row.seed,
        epochs: row.epochs.unwrap_or(0),
        missing: None,
    }
}

fn stage(row: &Record) -> String {
    row.train_time_steps.map_or_else(|| "ann".into(), |time| format!("t{time}"))
}

fn curves(row: &Record) -> Vec<CurvePoint> {
    let top1 = row.top1_last.unwrap_or(0.5);
    let point = |epoch: usize| {
        let share = (epoch + 1) as f64 / row.epochs.unwrap() as f64;
        CurvePoint {
            cell_id: row.cell_id.clone(),
            stage: stage(row),
            epoch,
            lr: 0.05 * (1.0 - share),
            train_loss: Some(2.3 * (-2.0 * share).exp() + 0.1 * (1.0 - top1)),
            train_top1: Some(top1 * share),
            test_loss: Some(2.3 * (-1.6 * share).exp() + 1.0 - top1),
            test_top1: Some(top1 * (0.5 + 0.5 * share)),
            temperature: (row.fdg == Some(true)).then_some(1.0 + 0.2 * epoch as f64),
            firing_rate: row.firing_rate,
            seconds: Some(2.0),
        }
    };
    (0..row.epochs.unwrap()).map(point).collect()
}

fn anytime(row: &Record) -> Vec<AnytimePoint> {
    let last = row.train_time_steps.unwrap_or(0);
    let top1 = |t: usize| row.top1_last.unwrap_or(0.5) - 0.03 * (last - t) as f64;
    (1..=last).map(|t| AnytimePoint { cell_id: row.cell_id.clone(), t, top1: top1(t) }).collect()
}

fn fdg(row: &Record) -> Vec<FdgPoint> {
    if row.fdg != Some(true) {
        return Vec::new();
    }
    let start = 1.0 + 0.2 * (6 - row.train_time_steps.unwrap_or(6)) as f64;
    let of_epoch = |epoch: usize| {
        let b = start + 0.2 * (epoch / 2) as f64;
        [0.0, 0.2, -0.2].map(|step| FdgPoint {
            cell_id: row.cell_id.clone(),
            stage: stage(row),
            epoch,
            candidate: b + step,
            cosine: 0.6 + 0.02 * epoch as f64 + if epoch % 2 == 1 { step } else { -step.abs() } * 0.1,
            norm_ratio: 1.4,
            chosen: if epoch % 2 == 1 { step > 0.0 } else { step == 0.0 },
        })
    };
    (0..row.epochs.unwrap()).flat_map(of_epoch).collect()
}

pub const LAYERS: [&str; 9] = [
    "stem.0",
    "stem.1",
    "stem.2",
    "layer1.0.lif1",
    "layer1.0.lif2",
    "layer2.0.lif1",
    "layer2.0.lif2",
    "layer3.1.lif1",
    "layer4.1.lif2",
];

fn layers(row: &Record) -> Vec<LayerPoint> {
    let Some(rate) = row.firing_rate else { return Vec::new() };
    let point = |(index, layer): (usize, &&str)| LayerPoint {
        cell_id: row.cell_id.clone(),
        layer: layer.to_string(),
        firing_rate: rate * (1.0 - 0.08 * index as f64),
        synops: 1e5,
        active_gradient_share: Some(match row.method == "dspike-no-fdg-b3" && index == 8 {
            true => 0.004,
            false => 0.5 - 0.04 * index as f64,
        }),
    };
    LAYERS.iter().enumerate().map(point).collect()
}

fn fidelity(row: &Record) -> Vec<FidelityPoint> {
    let Some(time_steps) = row.train_time_steps.filter(|_| row.method == "dspike") else { return Vec::new() };
    let mut points = Vec::new();
    for epoch in [0, row.epochs.unwrap()] {
        for (layer, sampled, weights) in [("stem.0", 216, 216), ("layer3.1.conv1", 64, 9216)] {
            for b in [0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0f64] {
                let cosine = 0.75 - 0.15 * (b.ln() - 0.7).powi(2) - 0.02 * epoch as f64;
                points.push(("dspike", Some(b), layer, sampled, weights, epoch, cosine));
            }
            for (place, surrogate) in ["rectangle", "sigmoid", "triangle", "arctan"].into_iter().enumerate() {
                points.push((surrogate, Some(1.0), layer, sampled, weights, epoch, 0.6 - 0.05 * place as f64));
            }
        }
    }
    let point =
        |(surrogate, parameter, layer, sampled, weights, epoch, cosine): (&str, _, &str, usize, usize, usize, f64)| {
            FidelityPoint {
                cell_id: row.cell_id.clone(),
                stage: stage(row),
                epoch,
                time_steps,
                surrogate: surrogate.into(),
                parameter,
                layer: layer.into(),
                sampled,
                weights,
                cosine,
                cosine_low: (sampled < weights).then_some(cosine - 0.1),
                cosine_high: (sampled < weights).then_some(cosine + 0.1),
                norm_ratio: 1.2,
                sign_agreement: Some(0.7),
                epsilon: 0.1,
            }
        };
    points.into_iter().map(point).collect()
}

fn membrane(row: &Record) -> Vec<MembraneBin> {
    if row.train_time_steps.is_none() || row.seed > 0 {
        return Vec::new();
    }
    let bin = |layer: usize, k: i32| {
        let low = 0.1 * f64::from(k);
        let centre = low + 0.05 + 0.3 + 0.05 * layer as f64;
        MembraneBin {
            cell_id: row.cell_id.clone(),
            layer: LAYERS[layer].into(),
            bin_low: low,
            bin_high: low + 0.1,
            count: (1e5 * (-centre * centre * 4.0).exp()) as u64,
            derivative: if (-5..5).contains(&k) { 1.0 } else { 0.0 },
        }
    };
    (0..LAYERS.len()).flat_map(|layer| (-20..10).map(move |k| bin(layer, k))).collect()
}

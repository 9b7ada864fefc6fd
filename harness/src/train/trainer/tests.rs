use super::*;
use crate::cell::{Overrides, cells};
use crate::data;
use crate::ops::activation::host;
use crate::ops::cuda::launch::{on_host, with_max_spike_bytes};
use crate::ranks::{Ranks, threads};
use crate::suite::Suite;

fn weights(state: &State) -> Vec<f32> {
    state.network.params.iter().flat_map(|p| host::<f32>(p).unwrap().to_vec()).collect()
}

/// A spiking cell of the suite `smoke` without a parent, its state, and a batch of the first four images, `repeats` times.
fn with_job<R>(
    dataset_name: &str,
    micro_batch: Option<usize>,
    repeats: usize,
    f: impl FnOnce(&Job<'_>, State, &Batch) -> R,
) -> R {
    let suite = Suite::load("smoke").unwrap();
    let all = cells(&suite, &Overrides::default(), "cpu-f32").unwrap();
    let of_set = |c: &Cell| c.config.time_steps.is_some() && c.config.data.dataset.to_string() == dataset_name;
    let mut cell = all.into_iter().find(of_set).unwrap();
    cell.config.parent_cell = None;
    cell.config.micro_batch = micro_batch;
    let dataset = data::open(&cell.config.data, cell.config.time_steps, None, None).unwrap();
    let (folder, interrupt) = (tempfile::tempdir().unwrap(), Interrupt::default());
    let save_every = Duration::from_secs(3600);
    let (dataset, device, interrupt, ranks) = (&dataset, &Device::Cpu, &interrupt, &Ranks::alone());
    let (cell, folder) = (&cell, folder.path());
    let job = Job { cell, dataset, device, parent: None, folder, audit: false, save_every, interrupt, ranks };
    let order: Vec<usize> = (0..repeats).flat_map(|_| 0..4).collect();
    let size = order.len();
    let batch = Batches::new(dataset.clone(), Split::Train, order, size, None, 0, 0).next().unwrap().unwrap();
    let state = job.initial_state().unwrap();
    f(&job, state, &batch)
}

/// One step on a batch, in parts of `micro_batch` images: the weights after it, the loss, the weights before.
fn after_a_step(dataset_name: &str, micro_batch: Option<usize>, repeats: usize) -> (Vec<f32>, f64, Vec<f32>) {
    with_job(dataset_name, micro_batch, repeats, |job, mut state, batch| {
        let (before, mut pending) = (weights(&state), Pending::default());
        job.step(&mut state, &mut pending, batch, batch.len, 10).unwrap();
        let loss = job.settle(&mut state, &mut pending).unwrap();
        assert_eq!(state.progress.step, 1);
        (weights(&state), loss, before)
    })
}

#[test]
fn parts_with_the_statistics_of_the_whole_give_the_step_of_the_whole() {
    for name in ["sign-digits", "sign-digits-dvs"] {
        // The same four images three times: each part of four has the mean and variance of all twelve.
        let (whole, whole_loss, before) = after_a_step(name, None, 3);
        let (parts, parts_loss, _) = after_a_step(name, Some(4), 3);
        assert!((whole_loss - parts_loss).abs() < 1e-6, "{name}: {whole_loss}, {parts_loss}");
        let moved = whole.iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let apart = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved > 1e-4 && apart < 1e-3 * moved, "{name}: moved by {moved}, apart by {apart}");
        // Parts of other images have other statistics: it is another step.
        let (other, ..) = after_a_step(name, Some(5), 3);
        assert_ne!(whole, other, "{name}");
    }
}

/// A spiking cell with FDG, 20 images in batches of 8: the last one is short of parts.
fn sharded(shards: usize) -> Cell {
    let overrides =
        Overrides { width: Some(2), limit: Some(20), epochs: Some(2), shards: Some(shards), ..Overrides::default() };
    let mut suite = Suite::load("smoke").unwrap();
    suite.experiments.iter_mut().for_each(|e| e.batch = 8);
    let all = cells(&suite, &overrides, "cpu-f32").unwrap();
    let mut cell = all.into_iter().find(|cell| cell.config.fdg.is_some()).unwrap();
    cell.config.parent_cell = None;
    cell
}

/// Each process's whole state at the end, without clocks, and its evaluation; the files that they left.
fn trained(cell: &Cell, processes: usize, audited: bool) -> (Vec<(Vec<u8>, Evaluation)>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let told = threads::run(processes, |ranks| {
        let (device, interrupt) = (&Device::Cpu, &Interrupt::default());
        let dataset = &data::open(&cell.config.data, cell.config.time_steps, None, None).unwrap();
        // Only the first may touch the folder.
        let folder = if ranks.is_first() { folder.path() } else { Path::new("/nowhere") };
        let (save_every, parent) = (Duration::ZERO, None);
        let job = Job { cell, dataset, device, parent, folder, audit: audited, save_every, interrupt, ranks };
        let Ended::Finished(mut state, evaluation) = ranks.together(|| job.run(&mut |_| Ok(()))).unwrap() else {
            panic!("the training did not finish")
        };
        let audit = crate::row::audit_of(&job, &mut state).unwrap().unwrap_or_default();
        state.progress.fidelity.extend(audit.fidelity);
        state.progress.train_seconds = 0.0;
        state.progress.curves.iter_mut().for_each(|point| point.seconds = None);
        let metadata = format!("{:?}", state.progress);
        let mut bytes = metadata.into_bytes();
        bytes.extend(weights(&state).iter().chain(&velocities(&state)).flat_map(|v| v.to_bits().to_le_bytes()));
        bytes.extend(format!("{:?}", state.network.running).into_bytes());
        (bytes, evaluation)
    });
    (told, std::fs::read_dir(folder.path()).unwrap().count())
}

fn velocities(state: &State) -> Vec<f32> {
    state.velocities.iter().flat_map(|p| host::<f32>(p).unwrap().to_vec()).collect()
}

#[test]
fn any_number_of_processes_trains_the_same_shards_to_the_same_bits() {
    let cell = sharded(4);
    assert_eq!((cell.config.batch, cell.config.micro_batch), (8, Some(2)));
    let (alone, files) = trained(&cell, 1, true);
    assert!(String::from_utf8_lossy(&alone[0].0).contains("FidelityPoint"));
    assert_eq!(alone[0].1.predictions.len(), 20);
    for processes in [2, 3, 4] {
        let (all, written) = trained(&cell, processes, true);
        assert!(all.iter().all(|one| *one == alone[0]), "{processes} processes");
        assert_eq!(written, files);
    }
    // Other shards are another training.
    assert_ne!(trained(&sharded(2), 2, false).0[0].0, trained(&cell, 1, false).0[0].0);
}

#[test]
fn a_signal_to_one_process_stops_all_and_any_number_goes_on_to_the_same_bits() {
    let cell = sharded(4);
    let (whole, _) = trained(&cell, 1, false);
    let folder = tempfile::tempdir().unwrap();
    let attempt = |processes: usize, stop_after: usize| {
        threads::run(processes, |ranks| {
            let (device, interrupt) = (&Device::Cpu, &Interrupt::default());
            let dataset = &data::open(&cell.config.data, cell.config.time_steps, None, None).unwrap();
            let (folder, save_every, cell) = (folder.path(), Duration::from_secs(3600), &cell);
            let job = Job { cell, dataset, device, parent: None, folder, audit: false, save_every, interrupt, ranks };
            let mut steps = 0;
            let ended = job.run(&mut |tick| {
                steps += usize::from(tick.finished_epoch.is_none());
                if steps == stop_after && ranks.rank() + 1 == processes {
                    interrupt.0.store(1, Ordering::Relaxed);
                }
                Ok(())
            });
            match ended.unwrap() {
                Ended::Interrupted => None,
                Ended::Finished(state, _) => Some(weights(&state)),
                Ended::Diverged(..) => panic!("diverged"),
            }
        })
    };
    assert_eq!(attempt(2, 2), [None, None]);
    assert_eq!(attempt(4, 1), [None, None, None, None]);
    assert_eq!(attempt(1, 1), [None]);
    let ended = attempt(3, usize::MAX);
    let bits: Vec<u8> = ended[0].iter().flatten().flat_map(|v| v.to_bits().to_le_bytes()).collect();
    assert!(ended.iter().all(|weights| *weights == ended[0]));
    assert!(whole[0].0.windows(bits.len()).any(|window| window == bits));
}

#[test]
fn data_that_one_process_cannot_read_fail_the_cell_everywhere() {
    struct Torn(Arc<dyn Dataset>);
    impl Dataset for Torn {
        fn input(&self) -> InputShape {
            self.0.input()
        }

        fn classes(&self) -> usize {
            self.0.classes()
        }

        fn len(&self, split: Split) -> usize {
            self.0.len(split)
        }

        fn label(&self, split: Split, index: usize) -> usize {
            self.0.label(split, index)
        }

        fn data_hash(&self) -> &str {
            self.0.data_hash()
        }

        fn protocol_id(&self) -> &str {
            self.0.protocol_id()
        }

        fn verified(&self) -> bool {
            self.0.verified()
        }

        fn sample(&self, _: Split, index: usize, _: Option<Draw>, _: &mut [f32]) -> Result<()> {
            Err(exit::data(format!("image {index} is torn")))
        }
    }
    let mut cell = sharded(4);
    cell.config.fdg = None;
    let told = threads::run(2, |ranks| {
        let (device, interrupt) = (&Device::Cpu, &Interrupt::default());
        let whole = data::open(&cell.config.data, cell.config.time_steps, None, None).unwrap();
        let dataset: &Arc<dyn Dataset> = &if ranks.rank() == 1 { Arc::new(Torn(whole)) } else { whole };
        let (folder, save_every) = (tempfile::tempdir().unwrap(), Duration::from_secs(3600));
        let (cell, folder) = (&cell, folder.path());
        let job = Job { cell, dataset, device, parent: None, folder, audit: false, save_every, interrupt, ranks };
        match ranks.together(|| job.run(&mut |_| Ok(()))) {
            Err(error) => (exit::code_of(&error), format!("{error:#}")),
            Ok(_) => panic!("trained on torn data"),
        }
    });
    assert_eq!(told[0], told[1]);
    assert!(told[0].0 == exit::Code::Data && told[0].1.starts_with("process 1: image "), "{:?}", told[0]);
}

#[test]
fn steps_that_are_looked_at_late_are_the_same_steps() {
    let run = |looks: [bool; 3]| {
        with_job("sign-digits", None, 1, |job, mut state, batch| {
            let mut pending = Pending::default();
            for look in looks {
                job.step(&mut state, &mut pending, batch, batch.len, 10).unwrap();
                if look {
                    job.settle(&mut state, &mut pending).unwrap();
                }
            }
            (weights(&state), state.network.running.clone(), state.progress.clone())
        })
    };
    let (at_once, late) = (run([true; 3]), run([false, false, true]));
    assert_eq!(late.2.step, 3);
    assert_eq!(at_once, late);
}

#[test]
fn a_step_that_spoils_the_weights_is_named_however_late() {
    let named = |wait: usize| {
        with_job("sign-digits", None, 1, |job, mut state, batch| {
            let mut pending = Pending::default();
            job.step(&mut state, &mut pending, batch, batch.len, 10).unwrap();
            job.settle(&mut state, &mut pending).unwrap();
            let readout = state.network.params.len() - 2;
            state.network.params[readout] = (&state.network.params[readout] * f64::NAN).unwrap();
            (0..wait).for_each(|_| job.step(&mut state, &mut pending, batch, batch.len, 10).unwrap());
            let loss = job.settle(&mut state, &mut pending).unwrap();
            assert!(loss.is_nan(), "{loss}");
            divergence(&state.progress, "loss", loss)
        })
    };
    assert_eq!(named(1), named(4));
    assert!(named(4).contains("before step 1; the last finite step was 0"), "{}", named(4));
}

#[test]
fn a_card_without_room_takes_smaller_parts_of_the_same_batch() {
    if !host_kernels::COMPILED {
        eprintln!("skipped: a_card_without_room_takes_smaller_parts_of_the_same_batch needs a C++ compiler");
        return;
    }
    let step = |micro_batch, most_bytes| {
        with_job("sign-digits", micro_batch, 3, |job, mut state, batch| {
            let mut pending = Pending::default();
            let step = || job.step(&mut state, &mut pending, batch, batch.len, 10);
            on_host(|| with_max_spike_bytes(most_bytes, step)).map(|()| (weights(&state), state.progress.micro_batch))
        })
    };
    // Memory grows: no image fits, then halves of halves of the suite's batch of 16, at last the whole batch of twelve.
    let mut seen = Vec::new();
    for power in 10..28 {
        match step(None, 1 << power) {
            Ok((weights, Some(parts))) if !seen.contains(&parts) => {
                assert_eq!(weights, step(Some(parts), usize::MAX).unwrap().0, "parts of {parts}");
                seen.push(parts);
            }
            Ok((weights, None)) => {
                assert_eq!(weights, step(None, usize::MAX).unwrap().0);
                break;
            }
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().contains("the least that can be computed") && seen.is_empty(), "{error}")
            }
        }
    }
    assert!(seen.contains(&8) && seen.iter().all(|parts| [1, 2, 4, 8].contains(parts)), "{seen:?}");
}

/// The temperatures of ten epochs under a schedule, from b = 1 with the grid 0.2, 0.6 to 5.
fn path_of(schedule: methods::Schedule, seed: u64) -> Vec<f64> {
    with_job("sign-digits", None, 1, |job, mut state, _| {
        let mut cell = job.cell.clone();
        cell.config.seed = seed;
        cell.config.stage.epochs = 10;
        cell.config.temperature_grid = Some(methods::fdg::Grid { step: 0.2, floor: 0.6, cap: 5.0 });
        cell.config.method.as_mut().unwrap().temperature = Some(schedule);
        let job = Job {
            cell: &cell,
            parent: None,
            dataset: job.dataset,
            device: job.device,
            folder: job.folder,
            audit: false,
            save_every: job.save_every,
            interrupt: job.interrupt,
            ranks: job.ranks,
        };
        state.progress.temperature = Some(1.0);
        let epoch = |epoch| {
            (state.progress.epoch, state.progress.temperature_chosen) = (epoch, false);
            job.move_temperature(&mut state);
            // Resumed within the epoch, it does not move again.
            job.move_temperature(&mut state);
            state.progress.temperature.unwrap()
        };
        (0..10).map(epoch).collect()
    })
}

#[test]
fn a_random_walk_moves_by_one_step_each_epoch_and_repeats_itself() {
    let walk = path_of(methods::Schedule::RandomWalk, 1);
    assert_eq!(walk, path_of(methods::Schedule::RandomWalk, 1));
    assert_ne!(walk, path_of(methods::Schedule::RandomWalk, 2));
    let moves = std::iter::once(&1.0).chain(&walk).zip(&walk).map(|(from, to)| ((to - from) / 0.2).round());
    // A step up or down, or none where the floor holds it.
    assert!(moves.zip(&walk).all(|(moved, b)| moved.abs() == 1.0 || (moved == 0.0 && *b == 0.6)), "{walk:?}");
}

#[test]
fn a_ramp_goes_in_equal_steps_from_where_the_stage_starts_to_its_end() {
    let ramp = path_of(methods::Schedule::Ramp(2.8), 0);
    let expected: Vec<f64> = (0..10).map(|epoch| 1.0 + 0.2 * f64::from(epoch)).collect();
    assert!(ramp.iter().zip(&expected).all(|(b, expected)| (b - expected).abs() < 1e-8), "{ramp:?}");
}

/// Trains the cell in `folder`, with a signal after `stop_after` steps: its curve's temperatures if it came to its end.
fn temperatures(cell: &Cell, folder: &Path, stop_after: usize) -> Option<Vec<f64>> {
    let (device, interrupt, ranks) = (&Device::Cpu, &Interrupt::default(), &Ranks::alone());
    let dataset = &data::open(&cell.config.data, cell.config.time_steps, None, None).unwrap();
    let save_every = Duration::from_secs(3600);
    let job = Job { cell, dataset, device, parent: None, folder, audit: false, save_every, interrupt, ranks };
    let mut steps = 0;
    let ended = job.run(&mut |tick| {
        steps += usize::from(tick.finished_epoch.is_none());
        if steps == stop_after {
            interrupt.ask();
        }
        Ok(())
    });
    match ended.unwrap() {
        Ended::Interrupted => None,
        Ended::Finished(state, _) => state.progress.curves.iter().map(|point| point.temperature).collect(),
        Ended::Diverged(..) => panic!("diverged"),
    }
}

#[test]
fn a_trained_cell_follows_its_schedule_and_goes_on_along_it_after_a_stop() {
    const EPOCHS: usize = 3;
    for (schedule, ramp) in
        [(methods::Schedule::RandomWalk, None), (methods::Schedule::Ramp(2.0), Some([1.0, 1.5, 2.0]))]
    {
        let mut cell = sharded(1);
        cell.config.stage.epochs = EPOCHS;
        let grid = cell.config.fdg.take().unwrap().grid();
        cell.config.temperature_grid = Some(grid);
        let method = cell.config.method.as_mut().unwrap();
        (method.fdg, method.temperature) = (false, Some(schedule));
        let (seed, time_steps) = (cell.config.seed, cell.config.time_steps.unwrap() as u64);
        let mut b = 1.0;
        let walk: Vec<f64> = (0..EPOCHS as u64)
            .map(|epoch| {
                let coin = Stream::new(seed, Purpose::TemperatureWalk, (epoch, time_steps)).below(2);
                b = if coin == 1 { b + grid.step } else { b - grid.step };
                b
            })
            .collect();
        let expected = ramp.map_or(walk, Vec::from);
        let near = |curve: &[f64]| curve.iter().zip(&expected).all(|(b, expected)| (b - expected).abs() < 1e-8);

        let whole = tempfile::tempdir().unwrap();
        let curve = temperatures(&cell, whole.path(), usize::MAX).unwrap();
        assert!(curve.len() == EPOCHS && near(&curve), "{curve:?} is not {expected:?}");
        // Three steps per epoch: stopped within the second epoch, then within the third.
        let stopped = tempfile::tempdir().unwrap();
        assert_eq!(temperatures(&cell, stopped.path(), 4), None);
        assert_eq!(temperatures(&cell, stopped.path(), 4), None);
        assert_eq!(temperatures(&cell, stopped.path(), usize::MAX), Some(curve));
    }
}

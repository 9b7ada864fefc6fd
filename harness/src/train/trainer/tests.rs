use super::*;
use crate::cell::{Overrides, cells};
use crate::data;
use crate::ops::activation::host;
use crate::ops::cuda::launch::{on_host, with_most_bytes};
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
    let (dataset, device, interrupt) = (&dataset, &Device::Cpu, &interrupt);
    let job =
        Job { cell: &cell, dataset, device, parent: None, folder: folder.path(), audit: false, save_every, interrupt };
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
        job.step(&mut state, &mut pending, batch, 10).unwrap();
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

#[test]
fn steps_that_are_looked_at_late_are_the_same_steps() {
    let run = |looks: [bool; 3]| {
        with_job("sign-digits", None, 1, |job, mut state, batch| {
            let mut pending = Pending::default();
            for look in looks {
                job.step(&mut state, &mut pending, batch, 10).unwrap();
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
            job.step(&mut state, &mut pending, batch, 10).unwrap();
            job.settle(&mut state, &mut pending).unwrap();
            let readout = state.network.params.len() - 2;
            state.network.params[readout] = (&state.network.params[readout] * f64::NAN).unwrap();
            (0..wait).for_each(|_| job.step(&mut state, &mut pending, batch, 10).unwrap());
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
            let step = || job.step(&mut state, &mut pending, batch, 10);
            on_host(|| with_most_bytes(most_bytes, step)).map(|()| (weights(&state), state.progress.micro_batch))
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

use super::*;
use crate::cell::{Overrides, cells};
use crate::data;
use crate::ops::activation::host;
use crate::suite::Suite;

fn weights(state: &State) -> Vec<f32> {
    state.network.params.iter().flat_map(|p| host::<f32>(p).unwrap().to_vec()).collect()
}

/// One step on `batch`, in parts of `micro_batch` images.
fn after_a_step(dataset_name: &str, micro_batch: Option<usize>, repeats: usize) -> (Vec<f32>, f64, Vec<f32>) {
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
    let mut state = job.initial_state().unwrap();
    let before = weights(&state);
    let loss = job.step(&mut state, &batch, 10).unwrap();
    assert_eq!(state.progress.step, 1);
    (weights(&state), loss, before)
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

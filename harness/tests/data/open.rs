//! Opening data sets, samples and batches: what training relies on.

use crate::{data_config, shared};
use std::sync::Arc;
use std::time::Instant;

use harness::data::{Batches, DataConfig, Dataset, DatasetName, Draw, Split, open, protocol_as_read};
use harness::exit::{Code, code_of};

fn sign_digits() -> DataConfig {
    data_config("dataset = 'sign-digits'\nsplit = 'students'\nsize = 32\naugment = ['crop4', 'flip', 'cutout8']")
}

fn sign_digits_dvs(limit: usize) -> DataConfig {
    data_config(&format!(
        "dataset = 'sign-digits-dvs'\nsplit = 'students'\nintegration = 'number'\nsize = 32\nresize = 'average'\n\
         per-frame-max = true\naugment = ['flip', 'roll2']\nlimit = {limit}"
    ))
}

fn cifar10() -> DataConfig {
    data_config("dataset = 'cifar10'\nsplit = 'official'\nsize = 32\naugment = ['crop4', 'flip']")
}

fn sample(dataset: &dyn Dataset, split: Split, index: usize, draw: Option<Draw>) -> Vec<f32> {
    let mut out = vec![f32::NAN; dataset.input().sample_len()];
    dataset.sample(split, index, draw, &mut out).unwrap();
    out
}

#[test]
fn sign_digits_are_1520_and_380_with_zero_mean_and_unit_variance() {
    let data = open(&sign_digits(), None, None, None).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test), data.classes()), (1520, 380, 10));
    let values: Vec<f32> = (0..1520).flat_map(|i| sample(&*data, Split::Train, i, None)).collect();
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
    assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "mean {mean}, variance {variance}");
    assert_eq!(data.protocol_id(), sign_digits().protocol_id());
    assert_eq!(data.data_hash().len(), 16);
}

#[test]
fn a_draw_depends_on_seed_epoch_and_index_alone() {
    let data = open(&sign_digits(), None, None, None).unwrap();
    let draw = |seed, epoch| Some(Draw { seed, epoch });
    let base = sample(&*data, Split::Train, 3, draw(0, 0));
    assert_eq!(base, sample(&*data, Split::Train, 3, draw(0, 0)));
    for other in [draw(1, 0), draw(0, 1), None] {
        assert_ne!(base, sample(&*data, Split::Train, 3, other), "{other:?}");
    }
}

fn epoch(data: &Arc<dyn Dataset>, workers: usize, skip: usize) -> Vec<harness::data::Batch> {
    let order = (0..data.len(Split::Train)).rev().collect();
    let draw = Some(Draw { seed: 5, epoch: 2 });
    Batches::new(data.clone(), Split::Train, order, 7, draw, workers, skip).map(|batch| batch.unwrap()).collect()
}

#[test]
fn batches_come_in_order_whatever_the_workers_and_the_resume() {
    let mut small = sign_digits();
    small.limit = Some(100);
    for data in [open(&small, None, None, None).unwrap(), open(&sign_digits_dvs(30), Some(3), None, None).unwrap()] {
        let alone = epoch(&data, 0, 0);
        assert_eq!(alone.len(), data.len(Split::Train).div_ceil(7));
        assert_eq!(alone.last().unwrap().len, data.len(Split::Train) % 7);
        for workers in [1, 2, 5] {
            assert_eq!(alone, epoch(&data, workers, 0), "{workers} workers");
            assert_eq!(alone[2..], epoch(&data, workers, 2), "{workers} workers, 2 batches skipped");
        }
    }
}

#[test]
fn a_batch_of_event_frames_has_time_as_its_first_axis() {
    let data = open(&sign_digits_dvs(20), Some(4), None, None).unwrap();
    let shape = data.input();
    assert_eq!((shape.time_steps, shape.channels, shape.height, shape.width), (Some(4), 2, 32, 32));
    let order = vec![5, 9, 2];
    let batch = Batches::new(data.clone(), Split::Test, order.clone(), 3, None, 0, 0).next().unwrap().unwrap();
    for (b, &index) in order.iter().enumerate() {
        assert_eq!(batch.labels[b] as usize, data.label(Split::Test, index));
        let alone = sample(&*data, Split::Test, index, None);
        for t in 0..4 {
            let frame = &batch.input[(t * 3 + b) * shape.frame_len()..][..shape.frame_len()];
            assert_eq!(frame, &alone[t * shape.frame_len()..][..shape.frame_len()]);
            assert_eq!(frame.iter().copied().fold(0.0, f32::max), 1.0, "divided by its maximum");
        }
    }
}

#[test]
fn a_dropped_epoch_ends_its_workers() {
    let data = open(&sign_digits(), None, None, None).unwrap();
    let before = Arc::strong_count(&data);
    let mut batches = Batches::new(data.clone(), Split::Train, (0..1520).collect(), 8, None, 3, 0);
    batches.next().unwrap().unwrap();
    drop(batches);
    assert_eq!(Arc::strong_count(&data), before);
}

#[test]
fn simulated_recordings_are_labelled_balanced_and_repeat() {
    let first = open(&sign_digits_dvs(20), Some(5), None, None).unwrap();
    let again = open(&sign_digits_dvs(20), Some(5), None, None).unwrap();
    assert!(first.protocol_id().contains("simulated"));
    assert_eq!(first.data_hash(), again.data_hash());
    let other_steps = open(&sign_digits_dvs(20), Some(2), None, None).unwrap();
    assert_eq!(other_steps.data_hash(), first.data_hash(), "a hash of the recordings, whatever T is");
    let read = protocol_as_read(first.protocol_id(), DatasetName::SignDigitsDvs, &*first);
    assert!(first.verified() && read == first.protocol_id(), "embedded data are verified when they are decoded");
    let labels: Vec<usize> = (0..20).map(|i| first.label(Split::Train, i)).collect();
    assert_eq!(labels, (0..10).chain(0..10).collect::<Vec<_>>());
    assert_eq!(sample(&*first, Split::Train, 7, None), sample(&*again, Split::Train, 7, None));
}

#[test]
fn cifar10_of_any_record_count_is_read_with_rows_columns_and_channels_in_place() {
    let test = "cifar10_of_any_record_count_is_read_with_rows_columns_and_channels_in_place";
    let Some(folder) = shared(test, "cifar10-subset") else { return };
    let data = open(&cifar10(), None, Some(&folder), None).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (5000, 1000));
    let labels = |split| (0..10).map(|i| data.label(split, i)).collect::<Vec<_>>();
    assert_eq!(labels(Split::Train), [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
    assert_eq!(labels(Split::Test), [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]);
    let image = sample(&*data, Split::Train, 0, None);
    let level = |value: f32, c: usize| {
        let (mean, std) = ([0.4914, 0.4822, 0.4465][c], [0.2023, 0.1994, 0.2010][c]);
        ((value * std + mean) * 255.0).round() as u8
    };
    let pixel = |i: usize| [0, 1, 2].map(|c| level(image[i * 3 + c], c));
    assert_eq!((pixel(0), pixel(1023)), ([59, 62, 63], [123, 92, 72]));
    // The second pixel of row 0 and the first of row 1, from the file itself: height and width are not swapped.
    let file = std::fs::read(folder.join("cifar-10-batches-bin/data_batch_1.bin")).unwrap();
    assert_eq!(pixel(1), [file[2], file[1026], file[2050]]);
    assert_eq!(pixel(32), [file[33], file[1057], file[2081]]);
    assert_ne!(pixel(1), pixel(32));
}

#[test]
fn absent_data_is_exit_3_and_says_what_is_expected_where() {
    let missing = open(&cifar10(), None, None, None).err().unwrap();
    assert!(missing.to_string().contains("--data-dir"), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let absent = open(&cifar10(), None, Some(folder.path()), None).err().unwrap();
    assert!(absent.to_string().contains("cifar-10-batches-bin"), "{absent}");
    assert_eq!((code_of(&missing), code_of(&absent)), (Code::Data, Code::Data));
}

/// Averaged frames are sums over 4×4 pixels divided by 16: their sum tells the number of events.
#[test]
fn a_simulated_recording_has_about_50_000_events() {
    let mut counts = sign_digits_dvs(100);
    counts.per_frame_max = false;
    let data = open(&counts, Some(5), None, None).unwrap();
    let events: f32 = (0..100).map(|i| sample(&*data, Split::Train, i, None).iter().sum::<f32>() * 16.0).sum();
    assert!((45_000.0..62_000.0).contains(&(events / 100.0)), "{} events a recording", events / 100.0);
}

/// All 1,900 recordings, as `paper-mini` opens them.
#[test]
#[ignore = "takes seconds; run by hand for the time"]
fn the_whole_simulated_set_takes_well_under_a_minute() {
    let mut whole = sign_digits_dvs(1);
    (whole.limit, whole.per_frame_max) = (None, false);
    let start = Instant::now();
    let data = open(&whole, Some(5), None, None).unwrap();
    println!("{} recordings in {:?}", data.len(Split::Train) + data.len(Split::Test), start.elapsed());
    let events: f32 = (0..1520).map(|i| sample(&*data, Split::Train, i, None).iter().sum::<f32>() * 16.0).sum();
    println!("{} events a recording", events / 1520.0);
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn all_four_sets_of_the_paper_are_found_in_the_shared_samples() {
    let test = "all_four_sets_of_the_paper_are_found_in_the_shared_samples";
    let Some(root) = shared(test, "") else { return };
    let mut imagenet =
        data_config("dataset = 'imagenet'\nsplit = 'official'\nsize = 64\naugment = ['random-resized-crop']");
    imagenet.limit = Some(20);
    let dvs = data_config(
        "dataset = 'cifar10-dvs'\nsplit = 'last100'\nintegration = 'time'\nsize = 48\nresize = 'nearest'\naugment = []",
    );
    let cifar100 = data_config("dataset = 'cifar100'\nsplit = 'official'\nsize = 32\naugment = []\nlimit = 150");
    for (config, train, test) in [(cifar10(), 5000, 1000), (cifar100, 150, 150), (imagenet, 20, 20), (dvs, 10, 10)] {
        let data = open(&config, Some(10), Some(&root), None).unwrap();
        assert_eq!((data.len(Split::Train), data.len(Split::Test)), (train, test), "{}", config.dataset);
        assert!(sample(&*data, Split::Test, 0, None).iter().all(|value| value.is_finite()));
    }
}

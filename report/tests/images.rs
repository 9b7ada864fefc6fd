//! The error over test images beside the error over seeds, from the predictions that cells kept.
#![allow(clippy::unwrap_used)] // also in helpers, which the lint does not count as tests

mod synthetic;

use std::fs;
use std::path::Path;

use report::predictions::Predictions;
use report::{Comparison, compare, render};
use synthetic::Synthetic;
use tempfile::TempDir;

/// One image per class 0 … 9, of which those in `right` are answered rightly.
fn predictions(right: &[u16]) -> Predictions {
    let label: Vec<u16> = (0..10).collect();
    let right: Vec<bool> = label.iter().map(|class| right.contains(class)).collect();
    let predicted = label.iter().zip(&right).map(|(class, right)| if *right { *class } else { (class + 1) % 10 });
    Predictions { predicted: predicted.collect(), label, right }
}

/// Adds a cell per seed with its predictions and its row.
fn add(dir: &Path, method: &str, seeds: &[&[u16]]) {
    let mut rows = fs::read_to_string(dir.join("rows.csv"))
        .unwrap_or_else(|_| "cell_id,method,dataset,protocol,T,seed,top1,test_samples\n".into());
    for (seed, right) in seeds.iter().enumerate() {
        let id = format!("{method}-s{seed}");
        rows += &format!("{id},{method},shapes,official,4,{seed},{},10\n", right.len() as f64 / 10.0);
        fs::create_dir_all(dir.join("cells").join(&id)).unwrap();
        fs::write(dir.join("cells").join(&id).join("predictions.npy"), predictions(right).to_npy()).unwrap();
    }
    fs::write(dir.join("rows.csv"), rows).unwrap();
}

fn folder(method: &str, seeds: &[&[u16]]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    add(dir.path(), method, seeds);
    dir
}

fn compared(a: &TempDir, b: &TempDir) -> Comparison {
    compare(a.path(), b.path()).unwrap_or_else(|error| panic!("{error:#}"))
}

const ALL: &[u16] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const FOUR: &[u16] = &[0, 1, 2, 3];
const SIX: &[u16] = &[4, 5, 6, 7, 8, 9];

#[test]
fn a_single_pair_has_an_interval_over_images_and_mcnemars_p() {
    let comparison = compared(&folder("mine", &[FOUR]), &folder("mine", &[ALL]));
    let images = comparison.rows[0].images.clone().unwrap();
    // Six images of ten change to right: the standard deviation is √(0.24·10/9), and p is 2/2⁶.
    let standard_error = (0.24_f64 * 10.0 / 9.0 / 10.0).sqrt();
    assert!((images.standard_error - standard_error).abs() < 1e-12, "{images:?}");
    assert!((images.interval.0 - (0.6 - 1.959_963_985 * standard_error)).abs() < 1e-9, "{images:?}");
    assert!((images.interval.1 - (0.6 + 1.959_963_985 * standard_error)).abs() < 1e-9, "{images:?}");
    assert_eq!((images.n_images, images.mcnemar_p, images.dominant), (10, Some(0.03125), None));
    let text = comparison.to_string();
    assert!(text.contains("| 95 % over images | p, McNemar | larger error |"), "{text}");
    assert!(text.contains("| \\[27.99, 92.01\\] | 0.0312 | – |"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&comparison.json().unwrap()).unwrap();
    assert_eq!(
        (&json["rows"][0]["images"]["mcnemar_p"], &json["rows"][0]["images"]["n_images"]),
        (&0.03125.into(), &10.into())
    );
}

#[test]
fn the_larger_of_the_two_errors_is_named() {
    // Equal differences in both seeds leave the images; opposite ones leave the seeds.
    for (seeds, name, json_name) in
        [([ALL, ALL], "the choice of test images", "images"), ([ALL, &[][..]], "the choice of seeds", "seeds")]
    {
        let comparison = compared(&folder("mine", &[FOUR, FOUR]), &folder("mine", &seeds));
        assert!(comparison.to_string().contains(name), "{comparison}");
        let images = comparison.rows[0].images.clone().unwrap();
        assert_eq!((images.mcnemar_p, images.standard_error_of_seeds.is_some()), (None, true));
        assert!(comparison.json().unwrap().contains(&format!("\"dominant\":\"{json_name}\"")));
    }
}

#[test]
fn predictions_that_cannot_be_used_are_named_and_the_rest_is_compared() {
    let unlike_images = |b: &TempDir| {
        let mut other = predictions(SIX);
        other.label.reverse();
        fs::write(b.path().join("cells/mine-s1/predictions.npy"), other.to_npy()).unwrap();
    };
    let another_run = |b: &TempDir| {
        fs::write(b.path().join("cells/mine-s1/predictions.npy"), predictions(&[1]).to_npy()).unwrap();
    };
    let absent = |b: &TempDir| fs::remove_file(b.path().join("cells/mine-s1/predictions.npy")).unwrap();
    type Case<'a> = (&'a dyn Fn(&TempDir), &'a str);
    let cases: [Case; 3] = [
        (&unlike_images, "belong to other test images"),
        (
            &another_run,
            "cells/mine-s1/predictions.npy holds an accuracy of 0.1000, the row 0.6000: they come from two runs",
        ),
        (&absent, "1 of 4 predictions are absent, first cells/mine-s1/predictions.npy"),
    ];
    for (change, sentence) in cases {
        let (a, b) = (folder("mine", &[FOUR, FOUR]), folder("mine", &[ALL, SIX]));
        change(&b);
        let comparison = compared(&a, &b);
        assert!(comparison.rows[0].images.is_none() && comparison.rows[0].paired.n == 2);
        assert!(comparison.notes[0].contains(sentence), "{:?}", comparison.notes);
        assert_eq!(comparison.exit_code(), 0);
    }
}

#[test]
fn damaged_predictions_are_an_error_that_names_the_file() {
    let (a, b) = (folder("mine", &[FOUR]), folder("mine", &[ALL]));
    fs::write(b.path().join("cells/mine-s0/predictions.npy"), b"no array").unwrap();
    let error = format!("{:#}", compare(a.path(), b.path()).unwrap_err());
    assert!(error.contains("cells/mine-s0/predictions.npy: byte") && error.contains("delete it"), "{error}");
}

#[test]
fn an_id_with_separators_reads_nothing_outside_the_folder() {
    let (a, b) = (folder("mine", &[FOUR]), folder("mine", &[ALL]));
    fs::write(b.path().join("predictions.npy"), b"outside of cells").unwrap();
    let rows = fs::read_to_string(b.path().join("rows.csv")).unwrap().replace("mine-s0", "..");
    fs::write(b.path().join("rows.csv"), rows).unwrap();
    let comparison = compared(&a, &b);
    assert!(comparison.rows[0].images.is_none() && comparison.notes.is_empty(), "{:?}", comparison.notes);
}

#[test]
fn the_report_shows_both_errors_of_two_arms() {
    let dir = folder("mine", &[ALL, ALL]);
    let text = || fs::read_to_string(render(dir.path()).unwrap().markdown).unwrap();
    add(dir.path(), "rect", &[FOUR, FOUR]);
    let shown = text();
    assert!(shown.contains("| \\[−92.01, −27.99\\] | – | the choice of test images |"), "{shown}");
    assert!(shown.contains("Two errors."), "{shown}");
    fs::remove_file(dir.path().join("cells/rect-s1/predictions.npy")).unwrap();
    let shown = text();
    assert!(shown.contains("the error over test images is left out: 1 of 4 predictions are absent"), "{shown}");
    assert!(!shown.contains("p, McNemar"), "{shown}");
}

#[test]
fn a_single_accuracy_has_wilsons_interval_and_every_accuracy_its_image_error() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", false)], &["dspike"], &[2], 1);
    synthetic.rows[0].top1_last = Some(0.9);
    synthetic.rows[0].test_samples = Some(10);
    let text = markdown(&synthetic);
    // scipy.stats.binomtest(9, 10).proportion_ci(method="wilson"), and sqrt(0.9 * 0.1 / 10) = 9.49 points
    assert!(text.contains("| fake | dspike | 2 | 1 | 90.00 | \\[59.58, 98.21\\] (images) | 9.49 |"), "{text}");
    assert!(text.contains("has a standard error of 9.49 points from the choice of its 10 test images"), "{text}");
}

#[test]
fn classes_and_confusions_follow_from_the_predictions() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", false)], &["dspike"], &[2], 1);
    synthetic.rows[0].top1_last = Some(0.75);
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    let (label, predicted) = (vec![0, 0, 1, 1], vec![0, 1, 1, 1]);
    let right = vec![true, false, true, true];
    let cell = dir.path().join("cells").join(&synthetic.rows[0].cell_id);
    fs::create_dir_all(&cell).unwrap();
    fs::write(cell.join("predictions.npy"), Predictions { label, predicted, right }.to_npy()).unwrap();
    let page = fs::read_to_string(report::render(dir.path()).unwrap().html).unwrap();
    let section = page.split("id=\"classes\"").nth(1).unwrap();
    assert!(section.contains("Accuracy per class: fake, dspike, T = 2, 1 of 1 seeds"), "{section}");
    assert!(section.contains("50.00") && section.contains("100.00"), "one class is half right, the other wholly");
    assert!(section.contains("1 of 1 pairs of classes"), "{section}");
}

fn markdown(synthetic: &Synthetic) -> String {
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    fs::read_to_string(report::render(dir.path()).unwrap().markdown).unwrap()
}

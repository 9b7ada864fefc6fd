use serde_json::Value;

use super::*;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/stats_golden.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(got: f64, want: &Value) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{got} instead of {want}");
}

#[track_caller]
fn close_pair(got: (f64, f64), want: &Value) {
    close(got.0, &want[0]);
    close(got.1, &want[1]);
}

#[test]
fn summaries_agree_with_scipy() {
    for (_, want) in golden()["samples"].as_object().unwrap() {
        let values = numbers(&want["values"]);
        let summary = Summary::of(&values).unwrap();
        close(summary.mean, &want["mean"]);
        close(summary.std.unwrap(), &want["std"]);
        close_pair(summary.interval.unwrap(), &want["interval_95"]);
        close_pair(t_interval(&values, 0.9).unwrap(), &want["interval_90"]);
        close(detectable_difference(values.len(), summary.std.unwrap()).unwrap(), &want["detectable_difference"]);
        match interquartile_mean(&values) {
            Some(iqm) => close(iqm, &want["interquartile_mean"]),
            None => assert!(want["interquartile_mean"].is_null()),
        }
    }
}

#[test]
fn the_bootstrap_comes_close_to_its_exact_distribution_and_repeats_itself() {
    for name in ["three", "five"] {
        let want = &golden()["samples"][name];
        let values = numbers(&want["values"]);
        let (low, high) = bootstrap_interval(&values).unwrap();
        let exact = numbers(&want["bootstrap_exact_95"]);
        let slack = 0.05 * (exact[1] - exact[0]);
        assert!((low - exact[0]).abs() <= slack && (high - exact[1]).abs() <= slack, "{name}: {low} {high} {exact:?}");
        assert_eq!(bootstrap_interval(&values), Some((low, high)));
    }
}

#[test]
fn paired_tests_agree_with_scipy() {
    for (_, want) in golden()["pairs"].as_object().unwrap() {
        let differences: Vec<f64> = numbers(&want["a"]).iter().zip(numbers(&want["b"])).map(|(a, b)| a - b).collect();
        let paired = paired(&differences).unwrap();
        close(paired.difference, &want["difference"]);
        close_pair(paired.interval.unwrap(), &want["interval_95"]);
        close(paired.p.unwrap(), &want["p"]);
        close(paired.effect.unwrap(), &want["hedges_g"]);
    }
}

#[test]
fn holm_follows_its_definition() {
    for want in golden()["holm"].as_array().unwrap() {
        let adjusted = holm(&numbers(&want["p"]));
        for (got, want) in adjusted.iter().zip(want["adjusted"].as_array().unwrap()) {
            close(*got, want);
        }
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn one_seed_has_no_spread() {
    let one = Summary::of(&[0.9]).unwrap();
    assert_eq!((one.n, one.mean, one.std, one.interval), (1, 0.9, None, None));
    assert_eq!(bootstrap_interval(&[0.9]), None);
    assert_eq!(detectable_difference(1, 0.1), None);
    assert_eq!(band(&[0.9], 0.9, 0.1), Band::Undecided);
    let pair = paired(&[0.01]).unwrap();
    assert_eq!((pair.interval, pair.p, pair.effect), (None, None, None));
    assert_eq!(Summary::of(&[]), None);
    assert_eq!(paired(&[0.01, 0.02]).unwrap().effect, None);
}

#[test]
fn equal_values_have_neither_interval_nor_test_nor_verdict() {
    let pair = paired(&[0.25, 0.25, 0.25]).unwrap();
    assert_eq!((pair.interval, pair.p, pair.effect), (None, None, None));
    assert_eq!(Summary::of(&[0.9, 0.9]).unwrap().interval, None);
    assert_eq!(band(&[0.9366; 3], 0.9366, 0.005), Band::Undecided);
    assert_eq!(detectable_difference(3, 0.0), None);
}

#[test]
fn the_band_needs_the_whole_interval() {
    let values = [0.9366, 0.9371, 0.9359];
    assert_eq!(band(&values, 0.9366, 0.005), Band::Within);
    assert_eq!(band(&values, 0.9500, 0.005), Band::Below);
    assert_eq!(band(&values, 0.9200, 0.005), Band::Above);
    assert_eq!(band(&values, 0.9415, 0.005), Band::Undecided);
}

/// Relative, so that a tiny p value counts as much as one near 1.
#[track_caller]
fn very_close(got: f64, want: &Value) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= 1e-12 * want.abs(), "{got} instead of {want}");
}

#[test]
fn wilson_intervals_agree_with_scipy() {
    for want in golden()["proportions"].as_array().unwrap() {
        let count = |name: &str| want[name].as_u64().unwrap() as usize;
        for (confidence, name) in [(0.95, "wilson_95"), (0.9, "wilson_90")] {
            let (low, high) = wilson(count("right"), count("n"), confidence).unwrap();
            very_close(low, &want[name][0]);
            very_close(high, &want[name][1]);
        }
    }
}

#[test]
fn a_proportion_without_images_or_with_too_many_right_has_no_interval() {
    assert_eq!(wilson(0, 0, 0.95), None);
    assert_eq!(wilson(3, 2, 0.95), None);
    for confidence in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
        assert_eq!(wilson(1, 2, confidence), None, "{confidence}");
    }
}

#[test]
fn mcnemar_agrees_with_scipy_and_does_not_depend_on_the_order() {
    for want in golden()["mcnemar"].as_array().unwrap() {
        let [b, c] = ["b", "c"].map(|name| want[name].as_u64().unwrap() as usize);
        very_close(mcnemar(b, c), &want["p"]);
        assert_eq!(mcnemar(b, c), mcnemar(c, b));
    }
    assert_eq!(mcnemar(0, usize::MAX), 0.0);
}

#[test]
fn the_error_over_images_agrees_with_scipy() {
    for (_, want) in golden()["images"].as_object().unwrap() {
        let differences = numbers(&want["differences"]);
        let error = over_images(&differences).unwrap();
        assert_eq!(error.n_images, differences.len());
        close(error.difference, &want["difference"]);
        very_close(error.standard_error, &want["standard_error"]);
        close_pair(error.interval, &want["interval_95"]);
        assert_eq!(standard_error_of_seeds(&differences), Some(error.standard_error));
    }
    assert_eq!((over_images(&[]), over_images(&[0.5])), (None, None));
    assert_eq!(standard_error_of_seeds(&[0.01]), None);
}

#[test]
fn the_larger_standard_error_dominates_unless_both_are_within_a_tenth() {
    let of = |seeds, images| dominant(Some(seeds), Some(images)).unwrap();
    assert_eq!((of(0.02, 0.01), of(0.01, 0.02)), (Dominant::Seeds, Dominant::Images));
    assert_eq!((of(1.0, 0.91), of(0.91, 1.0), of(0.0, 0.0)), (Dominant::Alike, Dominant::Alike, Dominant::Alike));
    assert_eq!((of(1.0, 0.89), of(0.89, 1.0)), (Dominant::Seeds, Dominant::Images));
    assert_eq!(
        [Dominant::Seeds, Dominant::Images, Dominant::Alike].map(|dominant| dominant.to_string()),
        ["the choice of seeds", "the choice of test images", "both alike"]
    );
    for unknown in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        assert_eq!((dominant(unknown, Some(0.01)), dominant(Some(0.01), unknown)), (None, None));
    }
}

#[test]
fn the_interval_of_a_mean_accuracy_stays_between_nothing_and_everything() {
    let (low, high) = Summary::of(&[0.99, 1.0]).unwrap().interval.unwrap();
    assert!(low > 0.9 && high == 1.0 && t_interval(&[0.99, 1.0], CONFIDENCE).unwrap().1 > 1.0, "{low} {high}");
    assert_eq!(Summary::of(&[0.0, 0.01]).unwrap().interval.unwrap().0, 0.0);
    assert_eq!(clip_interval((-0.5, 1.5), 0.0, 1.0), (0.0, 1.0));
    assert_eq!(clip_interval((0.25, 0.75), 0.0, 1.0), (0.25, 0.75));
    assert!(clip_interval((f64::NAN, 2.0), 0.0, 1.0).0.is_nan());
}

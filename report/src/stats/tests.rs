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
fn equal_differences_have_an_interval_but_no_test() {
    let pair = paired(&[0.25, 0.25, 0.25]).unwrap();
    assert_eq!((pair.interval, pair.p, pair.effect), (Some((0.25, 0.25)), None, None));
}

#[test]
fn the_band_needs_the_whole_interval() {
    let values = [0.9366, 0.9371, 0.9359];
    assert_eq!(band(&values, 0.9366, 0.005), Band::Within);
    assert_eq!(band(&values, 0.9500, 0.005), Band::Below);
    assert_eq!(band(&values, 0.9200, 0.005), Band::Above);
    assert_eq!(band(&values, 0.9415, 0.005), Band::Undecided);
}

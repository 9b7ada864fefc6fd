//! Verdicts on published numbers: a cell earns one by what it is, never by what its method is called.
#![allow(clippy::unwrap_used)] // also in helpers, which the lint does not count as tests

mod synthetic;

use std::path::Path;

use report::claims::{Claims, Judged, Kind, Outcome, claims};
use report::record::{Record, Status, write_csv};
use report::{render, render_against};
use serde_json::{Value, json};
use synthetic::{Synthetic, planned};

const IMAGENET: &str = "imagenet/official;unverified:counts;size=224;augment=random-resized-crop+flip;selection=last";
const DVS: &str = "cifar10-dvs/last100;unverified:counts;equal-number;size=48-nearest;per-frame-max;selection=last";

fn claims_of(synthetic: &Synthetic) -> Claims {
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    claims(dir.path(), None).unwrap_or_else(|error| panic!("{error:#}"))
}

fn claim<'a>(claims: &'a Claims, id: &str) -> &'a Judged {
    claims.claims.iter().find(|claim| claim.id == id).unwrap()
}

const T6: &str = "cifar10-modified-resnet-18-t6";
const T4: &str = "cifar10-modified-resnet-18-t4";

/// The paper's experiment at T = 6 and 4 by a method called `mine`, with some rows changed.
fn changed(change: impl Fn(&mut Record)) -> Claims {
    let mut synthetic = Synthetic::of_the_paper("mine", &[6, 4], 3);
    for row in &mut synthetic.rows {
        row.top1_last = row.train_time_steps.map(|t| if t == 6 { 0.9425 } else { 0.9366 } + 0.0001 * row.seed as f64);
        row.top1_last = row.top1_last.or(Some(0.95));
        change(row);
    }
    claims_of(&synthetic)
}

/// `column: here published` of the differences, as JSON.
fn differing(claim: &Judged) -> Vec<(Option<&str>, &str, &Value, &Value)> {
    let parts = claim.differences.iter();
    parts.map(|part| (part.stage.as_deref(), part.column.as_str(), &part.here, &part.published)).collect()
}

/// Another data set at one T from scratch, by a method called `dspike`.
fn one_arm(dataset: &'static str, protocol: &'static str, t: usize, change: impl Fn(&mut Record)) -> Claims {
    let mut synthetic = Synthetic::over(vec![(dataset, protocol, false)], &["dspike"], &[t], 3);
    for row in &mut synthetic.rows {
        (row.width, row.top1_last) = (Some(64), Some(0.33 + 0.001 * row.seed as f64));
        change(row);
    }
    claims_of(&synthetic)
}

#[test]
fn the_papers_experiment_earns_its_verdict_under_any_name() {
    let claims = changed(|_| {});
    for (id, mean) in [(T6, 0.9426), (T4, 0.9367)] {
        let claim = claim(&claims, id);
        assert_eq!(
            (claim.verdict, claim.n, claim.differences.len()),
            (Kind::Reproduced, Some(3), 0),
            "{}",
            claim.reason
        );
        assert!((claim.mean.unwrap() - mean).abs() < 1e-12);
    }
    assert_eq!(claims.outcome(), Outcome::Reproduced);
}

#[test]
fn twelve_pngs_and_a_rectangle_earn_no_verdict_by_the_name_of_dspike() {
    let pngs = |row: &mut Record| {
        (row.architecture, row.epochs) = ("resnet34".into(), Some(1));
        (row.surrogate, row.fdg) = (Some("rectangle".into()), Some(false));
        (row.train_samples, row.test_samples) = (Some(12), Some(3));
    };
    let claims = one_arm("imagenet", IMAGENET, 6, pngs);
    let claim = claim(&claims, "imagenet-resnet-34-t6");
    assert_eq!((claim.verdict, claim.n, claim.mean), (Kind::ProtocolDiffers, None, None));
    let parts = [
        (None, "fdg", &json!(false), &json!(true)),
        (None, "surrogate", &json!("rectangle"), &json!("dspike")),
        (None, "test_samples", &json!(3), &json!(50_000)),
        (None, "train_samples", &json!(12), &json!(1_281_167)),
    ];
    assert_eq!(differing(claim), parts);
    assert_eq!(claims.outcome(), Outcome::NothingJudged);
}

#[test]
fn twenty_of_ten_thousand_recordings_are_a_toy_and_all_of_them_are_judged_by_their_count() {
    let dvs = |train, test| {
        one_arm("cifar10-dvs", DVS, 10, move |row| {
            (row.train_samples, row.test_samples) = (Some(train), Some(test));
        })
    };
    let few = dvs(18, 2);
    let claim_of = |claims: &Claims| claim(claims, "cifar10-dvs-resnet-18-t10").verdict;
    assert_eq!((claim_of(&few), few.outcome()), (Kind::ToyScale, Outcome::NothingJudged));
    assert_eq!(claim_of(&dvs(9000, 1001)), Kind::ProtocolDiffers, "more than published is no toy");
    let all = dvs(9000, 1000);
    let claim = claim(&all, "cifar10-dvs-resnet-18-t10");
    assert_eq!((claim.verdict, all.outcome()), (Kind::Below, Outcome::Contradicted));
    assert!(claim.reason.contains("content not verified, counts equal"), "{}", claim.reason);
}

#[test]
fn every_part_that_the_paper_states_must_agree() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change, Value, Value); 13] = [
        ("surrogate", |row| row.surrogate = Some("sigmoid".into()), json!("sigmoid"), json!("dspike")),
        ("surrogate_start", |row| row.surrogate_start = Some(3.0), json!(3.0), json!(1)),
        ("fdg", |row| row.fdg = Some(false), json!(false), json!(true)),
        ("fdg_epsilon", |row| row.fdg_epsilon = Some(0.3), json!(0.3), json!(0.1)),
        ("fdg_step", |row| row.fdg_step = None, json!(null), json!(0.2)),
        ("tit", |row| row.tit = Some(false), json!(false), json!(true)),
        ("architecture", |row| row.architecture = "resnet19".into(), json!("resnet19"), json!("resnet18")),
        ("width", |row| row.width = Some(128), json!(128), json!(64)),
        ("epochs", |row| row.epochs = Some(400), json!(400), json!(300)),
        ("lr", |row| row.lr = Some(0.1), json!(0.1), json!(0.01)),
        ("weight_decay", |row| row.weight_decay = Some(5e-4), json!(5e-4), json!(1e-4)),
        ("momentum", |row| row.momentum = Some(0.0), json!(0.0), json!(0.9)),
        ("eval_time_steps", |row| row.eval_time_steps = Some(4), json!(4), json!(6)),
    ];
    for (column, change, here, published) in changes {
        let claims = changed(|row| {
            if row.train_time_steps == Some(6) {
                change(row);
            }
        });
        let claim = claim(&claims, T6);
        assert_eq!(claim.verdict, Kind::ProtocolDiffers, "{column}");
        assert_eq!(differing(claim), [(None, column, &here, &published)], "{column}");
    }
}

#[test]
fn what_the_paper_does_not_say_is_evidence_and_no_difference() {
    let claims = changed(|row| {
        (row.batch, row.tau) = (Some(77), row.tau.map(|_| 0.5));
        row.protocol_id += ";micro-batch=11";
    });
    let claim = claim(&claims, T6);
    assert_eq!(claim.verdict, Kind::Reproduced);
    assert_eq!((&claim.silent["batch"], &claim.silent["tau"]), (&json!(77), &json!(0.5)));
    assert_eq!(claim.silent["protocol_id"], json!("md5:0;selection=last;micro-batch=11"));
    assert!(["lr", "surrogate", "width", "top1_last", "host"].iter().all(|column| !claim.silent.contains_key(*column)));
}

#[test]
fn a_cell_is_the_papers_only_if_what_it_inherits_from_is() {
    // T = 4 itself is as published each time.
    let parents = |change: fn(&mut Record)| {
        let claims = changed(|row| {
            if row.train_time_steps == Some(6) {
                change(row);
            }
        });
        let claim = claim(&claims, T4);
        (claim.verdict, claim.reason.clone())
    };
    let (verdict, reason) = parents(|row| row.surrogate = Some("rectangle".into()));
    assert_eq!(verdict, Kind::ProtocolDiffers);
    assert!(reason.ends_with("t6 before it, surrogate: here rectangle, published dspike"), "{reason}");
    let (verdict, reason) = parents(|row| row.epochs = Some(1));
    assert_eq!(verdict, Kind::ToyScale, "{reason}");
    let (verdict, reason) = parents(|row| (row.train_time_steps, row.eval_time_steps) = (Some(8), Some(8)));
    assert_eq!(verdict, Kind::ProtocolDiffers);
    assert!(reason.contains("t8 before it") && reason.contains("stage t6"), "{reason}");
    // A parent without a row could have been anything.
    let mut synthetic = Synthetic::of_the_paper("mine", &[6], 3);
    synthetic.rows.retain(|row| row.method == "mine");
    let claims = claims_of(&synthetic);
    assert_eq!(claim(&claims, T6).differences[0].column, "parent_cell", "{}", claim(&claims, T6).reason);
    // The ANN's data are the network's data too.
    let claims = changed(|row| {
        if row.train_time_steps.is_none() {
            row.train_samples = Some(500);
        }
    });
    let part = [(Some("ann"), "train_samples", &json!(500), &json!(50_000))];
    assert_eq!((claim(&claims, T6).verdict, differing(claim(&claims, T6))), (Kind::ToyScale, part.to_vec()));
}

#[test]
fn unverified_or_partial_data_earn_no_verdict_where_a_checksum_is_asked_for() {
    let with = |from: &str, to: &str| changed(|row| row.protocol_id = row.protocol_id.replace(from, to));
    let claims = with("md5:0", "unverified:50000+10000");
    let first = claim(&claims, T6);
    assert_eq!(first.verdict, Kind::ProtocolDiffers);
    assert_eq!(first.differences[0].here, json!("unverified:50000+10000"));
    assert!(first.reason.contains("of verified data"), "{}", first.reason);
    let claims = with(";selection=last", ";limit=5000;selection=last");
    assert_eq!(claim(&claims, T6).verdict, Kind::ToyScale);
    let claims = with(";size=32", ";simulated;size=32");
    assert_eq!(claim(&claims, T6).verdict, Kind::ProtocolDiffers);
    let claims = with("+cutout16", "");
    let first = claim(&claims, T6);
    assert_eq!(first.differences[0].here, json!("augment=crop4+flip+autoaugment"));
    assert_eq!(first.differences[0].published, json!("augment=crop4+flip+autoaugment+cutout16"));
}

#[test]
fn only_what_is_smaller_in_nothing_but_scale_is_a_toy() {
    let small = |row: &mut Record| {
        (row.width, row.epochs) = (Some(8), Some(2));
        (row.train_samples, row.test_samples) = (Some(500), Some(100));
        row.protocol_id += ";limit=500";
    };
    let claims = changed(small);
    let columns: Vec<&str> = claim(&claims, T6).differences.iter().map(|part| part.column.as_str()).collect();
    assert_eq!(claim(&claims, T6).verdict, Kind::ToyScale);
    assert!(
        ["width", "epochs", "train_samples", "test_samples", "protocol_id"].iter().all(|one| columns.contains(one))
    );
    let claims = changed(|row| {
        small(row);
        row.momentum = Some(0.5);
    });
    assert_eq!(claim(&claims, T6).verdict, Kind::ProtocolDiffers);
}

#[test]
fn the_nearest_experiment_is_named_and_never_chosen_by_its_outcome() {
    let mut synthetic = Synthetic::of_the_paper("mine", &[6], 3);
    let far = Synthetic::of_the_paper("far", &[6], 3).rows.into_iter().filter(|row| row.method == "far");
    synthetic.rows.extend(far.map(|row| Record { lr: Some(0.5), momentum: Some(0.1), ..row }));
    for row in synthetic.rows.iter_mut().filter(|row| row.method == "mine") {
        row.lr = Some(0.5);
    }
    let claims = claims_of(&synthetic);
    assert!(
        claim(&claims, T6).reason.starts_with("nearest here is mine: lr: here 0.5"),
        "{}",
        claim(&claims, T6).reason
    );

    // Two experiments that the paper does not tell apart: the one of more seeds is judged, and the other is named.
    let mut synthetic = Synthetic::of_the_paper("worse", &[6], 3);
    let better = Synthetic::of_the_paper("better", &[6], 2).rows.into_iter().filter(|row| row.method == "better");
    synthetic.rows.extend(better.map(|row| Record { tau: Some(0.5), top1_last: Some(0.9425), ..row }));
    synthetic
        .rows
        .iter_mut()
        .filter(|row| row.method == "worse")
        .for_each(|row| row.top1_last = Some(0.5 + 0.001 * row.seed as f64));
    let claims = claims_of(&synthetic);
    let claim = claim(&claims, T6);
    assert_eq!((claim.verdict, claim.n), (Kind::Below, Some(3)));
    assert!(claim.reason.contains("judged is worse, and in all that the paper states better is"), "{}", claim.reason);
}

#[test]
fn a_failed_or_planned_cell_is_not_run_and_says_why() {
    let claims = changed(|row| {
        if row.train_time_steps == Some(6) {
            (row.status, row.top1_last, row.error) = (Status::Failed, None, Some("the disk is full".into()));
        }
    });
    let first = claim(&claims, T6);
    assert_eq!((first.verdict, first.reason.as_str()), (Kind::NotRun, "the cell failed: the disk is full"));

    let mut synthetic = Synthetic::of_the_paper("mine", &[6], 1);
    synthetic.plan.cells = synthetic.rows.iter().map(planned).collect();
    synthetic.rows.retain(|row| row.method == "ann");
    let claims = claims_of(&synthetic);
    assert_eq!(claim(&claims, T6).reason, "planned, not finished yet");
    assert_eq!(claim(&claims, T4).reason, "no cell here has T = 4 on this data set");
    assert_eq!(claim(&claims, "imagenet-vgg-16-t5").reason, "no cell here is on this data set");
    assert!(claims.claims.iter().all(|claim| claim.verdict == Kind::NotRun && claim.per_seed.is_empty()));
}

#[test]
fn the_report_writes_the_verdicts_as_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut synthetic = Synthetic::of_the_paper("mine", &[6, 4], 3);
    for row in &mut synthetic.rows {
        row.top1_last = Some([0.939, 0.9425, 0.946][row.seed as usize]);
    }
    synthetic.write(dir.path());
    render(dir.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join("report").join(name)).unwrap();
    let text = read("claims.json");
    assert!(read("manifest.json").contains("\"claims.json\""));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json, serde_json::from_str::<Value>(&claims(dir.path(), None).unwrap().to_json().unwrap()).unwrap());
    assert_eq!((&json["schema"], &json["suite"]), (&json!("harness-claims/1"), &json!("fake-suite")));
    assert_eq!((&json["published"], json["claims"].as_array().unwrap().len()), (&json!("built-in"), 9));
    let first = &json["claims"][0];
    assert_eq!(first["published"]["certainty"], json!("quoted"));
    assert_eq!((&first["verdict"], &first["n"], &first["band"]), (&json!("underpowered"), &json!(3), &json!(0.005)));
    // 0.9425 ± t(0.95, 2) · 0.0035 / √3, t(0.95, 2) = 2.919986.
    let half = 2.919_985_580_355_516 * 0.0035 / 3f64.sqrt();
    let interval: Vec<f64> = serde_json::from_value(first["interval_90"].clone()).unwrap();
    assert!((interval[0] - 0.9425 + half).abs() < 1e-9 && (interval[1] - 0.9425 - half).abs() < 1e-9, "{interval:?}");
    let seed = &first["per_seed"][2];
    assert_eq!(
        (&seed["seed"], &seed["top1"], &seed["cell_id"]),
        (&json!(2), &json!(0.946), &json!("cifar10-mine-t6-s2-fake"))
    );
    assert_eq!(seed["command"], json!("harness suite fake-suite --seeds 0..3 -f cell=cifar10-mine-t6-s2-fake"));
    let not_run = &json["claims"][8];
    assert_eq!((&not_run["verdict"], &not_run["n"], &not_run["test"]), (&json!("not-run"), &json!(null), &json!(null)));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let dictionary = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../results/README.md")).unwrap();
    let section = dictionary.split("\n## claims.json\n").nth(1).unwrap();
    for key in keys(&json).iter().chain(&keys(first)).chain(&keys(seed)).chain(&keys(&first["published"])) {
        assert!(section.contains(&format!("`{key}`")), "claims.json: `{key}` is not in results/README.md");
    }
    let before = text;
    render(dir.path()).unwrap();
    assert_eq!(before, read("claims.json"), "the same folder gives the same bytes");
}

/// Another paper's file: one number of a data set of its own.
const OTHER: &str = r#"
name = "Mine"
[[setting]]
dataset = "mnist"
label = "MNIST"
protocols = ["mnist/official"]
content = "counts"
band = 0.002
[setting.expect]
lr = 0.1
train_samples = 60000
test_samples = 10000
[[claim]]
dataset = "mnist"
network = "a small one"
time_steps = 5
top1 = 0.99
certainty = "quoted"
source = "its table 1"
"#;

#[test]
fn another_papers_numbers_are_held_against_bare_rows_of_another_program() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, other) = (dir.path().join("rows.csv"), dir.path().join("other.toml"));
    std::fs::write(&other, OTHER).unwrap();
    let head = "method,dataset,protocol,T,seed,top1,lr,train_samples,test_samples\n";
    let row = |seed: u64| format!("net,mnist,mnist/official,5,{seed},0.99{seed},0.1,60000,10000\n");
    std::fs::write(&rows, format!("{head}{}{}{}", row(0), row(1), row(0).replace("5,0,0.990", "5,2,0.9905"))).unwrap();
    let judged = claims(&rows, Some(&other)).unwrap();
    assert_eq!((judged.outcome(), judged.claims.len()), (Outcome::Reproduced, 1), "{judged}");
    assert_eq!(judged.claims[0].per_seed[0].command, None);
    assert!(judged.published.ends_with("other.toml"));
    let rendered = render_against(&rows, Some(&other)).unwrap();
    let html = std::fs::read_to_string(rendered.html).unwrap();
    assert!(html.contains("published Mine, as quoted") && !html.contains("published Dspike"));

    // The minimum of columns records no learning rate and no count: nothing is judged, and the list says what is blank.
    std::fs::write(&rows, "method,dataset,protocol,T,seed,top1\nnet,mnist,mnist/official,5,0,0.99\n").unwrap();
    let judged = claims(&rows, Some(&other)).unwrap();
    assert_eq!((judged.outcome(), judged.claims[0].verdict), (Outcome::NothingJudged, Kind::ProtocolDiffers));
    assert!(judged.claims[0].reason.contains("lr: here not recorded, published 0.1"), "{judged}");
}

#[test]
fn a_wrong_file_of_published_numbers_is_named_with_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::new(&["dspike"], &[2], 1).write(dir.path());
    let path = dir.path().join("other.toml");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        format!("{:#}", claims(dir.path(), Some(&path)).unwrap_err())
    };
    for (from, to, expected) in [("top1 = 0.99", "top1 = 99", "line 17"), ("lr =", "learning-rate =", "line 10")] {
        let error = refused(&OTHER.replace(from, to));
        assert!(error.contains("other.toml") && error.contains(expected), "{error}");
    }
    let error = format!("{:#}", claims(dir.path(), Some(Path::new("nowhere.toml"))).unwrap_err());
    assert!(error.contains("reading nowhere.toml"), "{error}");
}

#[test]
fn what_all_verdicts_say_together() {
    let of = |values: [f64; 3]| {
        let mut synthetic = Synthetic::of_the_paper("mine", &[6], 3);
        for row in synthetic.rows.iter_mut().filter(|row| row.method == "mine") {
            row.top1_last = Some(values[row.seed as usize]);
        }
        let claims = claims_of(&synthetic);
        (claims.outcome(), claims.to_string())
    };
    let (outcome, text) = of([0.9424, 0.9425, 0.9426]);
    assert_eq!(outcome, Outcome::Reproduced);
    assert!(
        text.contains("CIFAR-10, modified ResNet-18, T = 6: published 94.25 %; measured 94.25 % (n = 3)"),
        "{text}"
    );
    assert!(text.ends_with("Of 9 published numbers: 1 reproduced, 8 not run."), "{text}");
    assert_eq!(of([0.90, 0.901, 0.902]).0, Outcome::Contradicted);
    assert_eq!(of([0.90, 0.94, 0.98]).0, Outcome::Inconclusive);
}

#[test]
fn seeds_of_another_program_that_ran_on_unlike_counts_all_count() {
    // Without a data hash, nothing but the counts says that the second seed ran on a part.
    let dir = tempfile::tempdir().unwrap();
    let mut synthetic = Synthetic::of_the_paper("mine", &[6], 2);
    for row in &mut synthetic.rows {
        row.data_hash = None;
        if row.seed == 1 && row.method == "mine" {
            row.train_samples = Some(40_000);
        }
    }
    write_csv(&dir.path().join("rows.csv"), synthetic::identified(&synthetic.rows)).unwrap();
    let claims = claims(dir.path(), None).unwrap();
    let part = [(None, "train_samples", &json!(40_000), &json!(50_000))];
    assert_eq!((claim(&claims, T6).verdict, differing(claim(&claims, T6))), (Kind::ToyScale, part.to_vec()));
}

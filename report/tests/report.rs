//! The report of made-up folders: what it says, what it marks, and what it must never do.
#![allow(clippy::unwrap_used)] // also in helpers, which the lint does not count as tests

mod synthetic;

use std::path::Path;

use proptest::prelude::*;
use report::record::{
    AnytimePoint, CurvePoint, FdgPoint, FidelityPoint, LayerPoint, MembraneBin, Record, Status, read_csv, write_csv,
};
use report::render;
use synthetic::{ARMS, OFFICIAL, Synthetic};

/// HTML and Markdown of a folder.
fn texts(synthetic: &Synthetic) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    texts_of(dir.path())
}

fn texts_of(dir: &Path) -> (String, String) {
    let rendered = render(dir).unwrap_or_else(|error| panic!("{error:#}"));
    (std::fs::read_to_string(rendered.html).unwrap(), std::fs::read_to_string(rendered.markdown).unwrap())
}

fn svg(synthetic: &Synthetic, name: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    let rendered = render(dir.path()).unwrap();
    let plot = rendered.plots.iter().find(|path| {
        let file = path.file_name().unwrap().to_str().unwrap();
        file.starts_with(name) && file.ends_with(".svg")
    });
    std::fs::read_to_string(plot.unwrap_or_else(|| panic!("no plot {name} in {:?}", rendered.plots))).unwrap()
}

/// Circles of a fill: the marks of `dspike`.
fn circles(svg: &str, fill: &str) -> usize {
    let tags = svg.split("<circle").skip(1).filter_map(|rest| rest.split('>').next());
    tags.filter(|tag| tag.contains(&format!("fill=\"{fill}\""))).count()
}

#[test]
fn the_markdown_of_a_small_folder() {
    let mut synthetic = Synthetic::new(&["dspike", "rectangle"], &[4, 2], 2);
    synthetic.rows.retain(|row| row.dataset == "fake-shapes" || row.seed == 0);
    let failed = synthetic.rows.iter_mut().find(|row| row.method == "rectangle" && row.seed == 1).unwrap();
    failed.status = Status::Failed;
    failed.top1_last = None;
    failed.error = Some("the disk is full".into());
    insta::assert_snapshot!(texts(&synthetic).1);
}

#[test]
fn means_that_read_the_same_share_the_first_place_and_arms_with_fewer_seeds_are_not_ranked() {
    let mut synthetic = Synthetic::new(&["dspike", "rectangle", "sigmoid"], &[4, 2], 3);
    let mean = |row: &Record| if row.method == "sigmoid" { 0.5 } else { 0.9 };
    synthetic.rows.iter_mut().for_each(|row| row.top1_last = Some(mean(row)));
    let text = texts(&synthetic).1;
    let both = "the highest mean belongs to dspike with 90.00 % (n = 3: no interval) and rectangle with 90.00 %";
    assert!(text.contains(&format!("Of the 3 arms with n = 3 at T = 4, {both}")), "{text}");
    // One seed of a third arm reads best, and says nothing.
    synthetic.rows.retain(|row| row.method != "sigmoid" || row.seed == 0);
    synthetic.rows.iter_mut().filter(|row| row.method == "sigmoid").for_each(|row| row.top1_last = Some(0.99));
    let text = texts(&synthetic).1;
    assert!(text.contains(&format!("Of the 2 arms with n = 3 at T = 4, {both}")), "{text}");
    assert!(text.contains("1 arm with fewer seeds is not ranked"), "{text}");
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let synthetic = Synthetic::new(&["dspike", "rectangle"], &[2], 2);
    assert_eq!(texts(&synthetic), texts(&synthetic));
}

#[test]
fn one_seed_is_drawn_hollow_and_has_no_interval() {
    let one = Synthetic::new(&["dspike"], &[4, 2], 1);
    let plot = svg(&one, "accuracy-fake-shapes-resnet18");
    assert_eq!((circles(&plot, "#FFFFFF"), circles(&plot, "#0072B2")), (3, 0), "two points and the legend, hollow");
    let (_, markdown) = texts(&one);
    assert!(markdown.contains("One seed: no interval."));
    assert!(markdown.contains("rest on one seed"));
    assert!(!markdown.contains('±') || !markdown.contains("dspike | 4 | 1 | 96.62 ±"));

    let three = Synthetic::new(&["dspike"], &[4, 2], 3);
    let plot = svg(&three, "accuracy-fake-shapes-resnet18");
    assert_eq!((circles(&plot, "#FFFFFF"), circles(&plot, "#0072B2")), (0, 3), "two points and the legend, filled");
    let (_, markdown) = texts(&three);
    assert!(!markdown.contains("rest on one seed"));
    assert!(markdown.contains("3 seeds."));
}

#[test]
fn simulated_stands_beside_the_numbers_of_simulated_data_only() {
    let (html, markdown) = texts(&Synthetic::new(&["dspike", "rectangle"], &[2], 2));
    let results = markdown.split("**Results, means over seeds**").nth(1).unwrap().split("\n\n**").next().unwrap();
    for row in results.lines().filter(|line| line.starts_with("| fake-shapes")) {
        let top1 = row.split('|').nth(5).unwrap();
        assert_eq!(top1.contains("(simulated)"), row.contains("fake-shapes-dvs"), "{row}");
    }
    assert!(html.contains("fake-shapes-dvs (simulated)"));
    assert!(html.contains("<small>simulated</small>"));
}

#[test]
fn unlike_protocols_are_neither_averaged_nor_drawn_together() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", true)], &["dspike"], &[2], 4);
    for row in synthetic.rows.iter_mut().filter(|row| row.seed >= 2) {
        row.protocol_id = "fake/b".into();
    }
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    let rendered = render(dir.path()).unwrap();
    let plots = rendered
        .plots
        .iter()
        .filter(|path| {
            path.ends_with("accuracy-fake-resnet18-w8.svg") || path.ends_with("accuracy-fake-resnet18-w8-2.svg")
        })
        .count();
    assert_eq!(plots, 2);
    let (_, markdown) = texts_of(dir.path());
    for protocol in ["fake/a", "fake/b"] {
        assert!(markdown.contains(&format!("| fake · {protocol} | dspike | 2 | 2 |")), "{markdown}");
    }
    assert!(!markdown.contains("dspike | 2 | 4 |"));
}

#[test]
fn one_method_under_two_recipes_makes_two_lines() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", false)], &["dspike"], &[2], 4);
    for row in synthetic.rows.iter_mut().filter(|row| row.seed >= 2) {
        row.epochs = Some(1);
    }
    let (_, markdown) = texts(&synthetic);
    assert!(markdown.contains("| fake | dspike · epochs 1 | 2 | 2 |"), "{markdown}");
    assert!(markdown.contains("| fake | dspike · epochs 6 | 2 | 2 |"));
}

#[test]
fn the_papers_points_share_an_axis_with_the_papers_experiment_only() {
    let names = |protocol: &str, width| {
        let mut synthetic = Synthetic::of_the_paper("dspike", &[6, 4, 2], 3);
        for row in &mut synthetic.rows {
            (row.width, row.protocol_id) = (Some(width), protocol.into());
        }
        (svg(&synthetic, "accuracy-cifar10"), texts(&synthetic).1)
    };
    let (plot, markdown) = names(OFFICIAL, 64);
    assert!(plot.contains("published Dspike, as quoted"));
    assert!(plot.contains("stroke-dasharray=\"8 8\""));
    assert!(!markdown.contains("published-cifar10.svg"));
    assert_eq!(markdown.matches("| protocol differs |").count(), 0, "{markdown}");

    for (protocol, width, verdict) in [
        ("cifar10/official;md5:0;size=32;augment=none", 64, "protocol differs"),
        (OFFICIAL, 128, "protocol differs"),
        (OFFICIAL, 8, "toy scale"),
    ] {
        let (plot, markdown) = names(protocol, width);
        assert!(!plot.contains("published Dspike"));
        assert!(markdown.contains("published-cifar10.svg"));
        assert_eq!(markdown.matches(&format!("| {verdict} |")).count(), 3);
    }
}

#[test]
fn each_verdict_is_given_where_it_is_due() {
    // top-1 of three seeds at T = 6, 4, 2, against 94.25, 93.66 and 93.13 within half a point.
    let verdicts = |values: [[f64; 3]; 3]| {
        let mut synthetic = Synthetic::of_the_paper("dspike", &[6, 4, 2], 3);
        for row in &mut synthetic.rows {
            if let Some(t) = row.train_time_steps {
                row.top1_last = Some(values[3 - t / 2][row.seed as usize]);
            }
        }
        texts(&synthetic).1
    };
    let spread = |centre: f64, step: f64| [centre - step, centre, centre + step];
    let markdown = verdicts([spread(0.9425, 0.0005), spread(0.9200, 0.0005), spread(0.9500, 0.0005)]);
    for (verdict, row) in [("reproduced", "| 6 | 94.25"), ("below", "| 4 | 93.66"), ("above", "| 2 | 93.13")] {
        let line = markdown.lines().find(|line| line.contains("CIFAR-10 |") && line.contains(row)).unwrap();
        assert!(line.contains(&format!("| {verdict} |")), "{line}");
    }
    let markdown = verdicts([spread(0.9425, 0.01), spread(0.93, 0.01), spread(0.93, 0.01)]);
    assert_eq!(markdown.matches("| underpowered |").count(), 3);
    assert!(markdown.contains("3 seeds show differences of"));
    assert_eq!(markdown.matches("| not run |").count(), 6, "CIFAR-100, ImageNet and DVS");
}

#[test]
fn unverified_figures_are_marked() {
    let (html, markdown) = texts(&Synthetic::new(&["dspike"], &[2], 1));
    assert!(markdown.lines().any(|line| line.contains("71.68") && line.contains("UNVERIFIED")));
    assert!(markdown.lines().any(|line| line.contains("68.19") && line.contains("UNVERIFIED")));
    assert!(markdown.lines().all(|line| !line.contains("75.40") || !line.contains("UNVERIFIED")));
    assert!(html.contains("published Dspike, UNVERIFIED"));
}

#[test]
fn failed_diverged_and_missing_cells_stand_with_their_reason() {
    let mut synthetic = Synthetic::new(&["dspike", "rectangle"], &[4, 2], 1);
    synthetic.rows.pop();
    synthetic.plan.cells.last_mut().unwrap().missing = Some("data set not found: run `harness data fetch`".into());
    for (row, status) in synthetic.rows.iter_mut().rev().zip([Status::Failed, Status::Diverged]) {
        (row.status, row.top1_last, row.error) = (status, None, Some(format!("made-up reason of {status:?}")));
    }
    let (html, markdown) = texts(&synthetic);
    for text in ["made-up reason of Failed", "made-up reason of Diverged", "data set not found"] {
        assert!(html.contains(text) && markdown.contains(text), "{text}");
    }
    assert!(markdown.contains("Failed, diverged and missing cells (3)"));
    assert!(markdown.contains("Cells diverged (loss not finite): 1"));
}

#[test]
fn hostile_text_stays_text() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> javascript:alert(3) | `x` {{7*191}} \u{1}";
    let mut synthetic = Synthetic::new(&["dspike"], &[2], 1);
    synthetic.plan.banner = Some(evil.into());
    synthetic.plan.command = format!("harness suite {evil}");
    synthetic.plan.suite = evil.into();
    synthetic.plan.deviations = vec![evil.into()];
    for row in &mut synthetic.rows {
        row.dataset = format!("{evil}{}", row.dataset);
        row.protocol_id = format!("{evil}{}", row.protocol_id);
        row.method = evil.into();
        row.cell_id = format!("{evil}{}", row.cell_id);
        row.numerics = Some(evil.into());
        row.cpu = Some(evil.into());
    }
    let last = synthetic.rows.last_mut().unwrap();
    (last.status, last.top1_last, last.error) = (Status::Failed, None, Some(evil.into()));
    let (html, markdown) = texts(&synthetic);
    let script = html.matches("<script").count();
    assert_eq!(script, 1, "only our own script");
    assert!(!html.contains("<img") && !html.contains("\"'><"));
    assert!(!html.contains("href=\"javascript:") && !html.contains("1337"), "no link, no template evaluated");
    assert!(html.contains("&#60;script&#62;alert(1)") || html.contains("&lt;script&gt;alert(1)"));
    assert!(!html.contains('\u{1}') || !html.contains("<svg>\u{1}"));
    for line in markdown.lines().filter(|line| !line.starts_with("harness suite")) {
        let unescaped = line.match_indices("<script").any(|(place, _)| !line[..place].ends_with('\\'));
        assert!(!unescaped, "{line}");
    }
}

#[test]
fn the_page_asks_for_nothing_outside_itself() {
    let (html, _) = texts(&Synthetic::default());
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    for text in ["http://", "https://", "src=", "@import", "url(", "<link"] {
        assert!(!outside.contains(text), "{text}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn absent_files_are_named_and_the_rest_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::new(&["dspike"], &[2], 1).write(dir.path());
    for name in ["curves.csv", "fdg.csv", "layers.csv", "anytime.csv", "fidelity.csv", "membrane.csv", "run.json"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let (html, _) = texts_of(dir.path());
        assert!(html.contains(&format!("{name} is absent")), "{name}");
    }
    std::fs::remove_file(dir.path().join("rows.csv")).unwrap();
    let error = render(dir.path()).unwrap_err().to_string();
    assert!(error.contains("neither rows.csv nor run.json is here"), "{error}");
}

#[test]
fn a_plan_without_rows_still_makes_a_report() {
    let mut synthetic = Synthetic::new(&["dspike"], &[2], 1);
    synthetic.rows.clear();
    let (html, markdown) = texts(&synthetic);
    assert!(markdown.contains("0 of 3 planned cells were finished."), "{markdown}");
    assert!(html.contains("not run yet"));
}

#[test]
fn wrong_rows_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut Record)| {
        let mut synthetic = Synthetic::new(&["dspike"], &[2], 1);
        change(&mut synthetic.rows[1]);
        synthetic.write(dir.path());
        render(dir.path()).unwrap_err().to_string()
    };
    let error = refused(&|row| row.top1_last = Some(97.6));
    assert!(error.contains("rows.csv:3: column `top1_last`: 97.6 is not a fraction"), "{error}");
    let error = refused(&|row| row.top1_last = Some(f64::NAN));
    assert!(error.contains("rows.csv:3: column `top1_last`: NaN"), "{error}");
    let error = refused(&|row| row.schema_version = 99);
    assert!(error.contains("schema_version 99 is newer"), "{error}");
    let error = refused(&|row| row.top1_last = None);
    assert!(error.contains("`top1_last` is blank though `status` is done"), "{error}");
}

#[test]
fn ten_thousand_cells_stay_collapsed_and_complete() {
    let names: Vec<&'static str> = (0..20).map(|i| &*format!("fake-{i}").leak()).collect();
    let datasets = names.iter().map(|name| (*name, &*format!("{name}/holdout").leak(), true)).collect();
    let synthetic = Synthetic::over(datasets, &ARMS, &[6, 5, 4, 3, 2], 11);
    assert!(synthetic.rows.len() >= 10_000);
    let (html, markdown) = texts(&synthetic);
    assert_eq!(html.matches(" id=\"cell-").count(), synthetic.rows.len());
    assert_eq!(
        html.matches("<details class=\"table\">").count(),
        html.matches("<details class=\"table\"").count() - html.matches("<details class=\"table\" open>").count()
    );
    let open =
        html.split("<details class=\"table\" open>").skip(1).map(|table| table.split("</details>").next().unwrap());
    assert!(open.clone().all(|table| !table.contains("id=\"cell-")), "a table of cells is open");
    assert!(open.map(|table| table.matches("<tr").count()).max().unwrap() < 1200);
    let results = html.split("<summary>Results, means over seeds").nth(1).unwrap().split("</details>").next().unwrap();
    assert!(results.contains("<tr data-dataset=\"fake-19\" data-method=\"sigmoid-no-tit\">"));
    assert!(markdown.contains("20 tables with 10120 rows are in index.html; rows.csv has the numbers"), "{markdown}");
    assert!(markdown.lines().count() <= 300, "{} lines", markdown.lines().count());
}

/// Reads a file of a folder, changes every row, and writes it back.
fn rewrite<T: serde::Serialize + serde::de::DeserializeOwned>(dir: &Path, name: &str, change: impl FnMut(&mut T)) {
    let mut rows = read_csv::<T>(&dir.join(name)).unwrap().rows;
    rows.iter_mut().for_each(change);
    write_csv(&dir.join(name), &rows).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_number_breaks_the_report(values in prop::collection::vec(any::<f64>(), 7), count in any::<usize>()) {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::new(&["dspike", "rectangle"], &[4, 2], 2).write(dir.path());
        let mut next = values.iter().copied().cycle();
        let mut value = move || next.next().unwrap_or_default();
        rewrite(dir.path(), "rows.csv", |row: &mut Record| {
            (row.synops_ac, row.energy_picojoules, row.train_seconds) = (Some(value()), Some(value()), Some(value()));
            (row.epochs, row.peak_memory_bytes) = (Some(count), Some(count as u64));
        });
        rewrite(dir.path(), "curves.csv", |row: &mut CurvePoint| {
            (row.train_loss, row.test_loss, row.epoch) = (Some(value()), Some(value()), row.epoch.wrapping_add(count));
        });
        rewrite(dir.path(), "anytime.csv", |row: &mut AnytimePoint| row.top1 = value());
        rewrite(dir.path(), "fdg.csv", |row: &mut FdgPoint| (row.candidate, row.cosine) = (value(), value()));
        rewrite(dir.path(), "layers.csv", |row: &mut LayerPoint| row.firing_rate = value());
        rewrite(dir.path(), "fidelity.csv", |row: &mut FidelityPoint| {
            (row.parameter, row.cosine, row.cosine_low, row.epoch) = (Some(value()), value(), Some(value()), count);
        });
        rewrite(dir.path(), "membrane.csv", |row: &mut MembraneBin| {
            (row.bin_low, row.bin_high, row.derivative, row.count) = (value(), value(), value(), count as u64);
        });
        prop_assert!(render(dir.path()).is_ok());
    }
}

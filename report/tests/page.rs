//! The page as a reader meets it: how large it is, what stands on top, and what can be clicked.
#![allow(clippy::unwrap_used)] // also in helpers, which the lint does not count as tests

mod synthetic;

use std::path::Path;

use report::render;
use synthetic::Synthetic;

/// The page, its Markdown twin and the names of its plots.
struct Rendered {
    html: String,
    markdown: String,
    plots: Vec<String>,
    folder: tempfile::TempDir,
}

impl Rendered {
    fn of(synthetic: &Synthetic) -> Self {
        let folder = tempfile::tempdir().unwrap();
        synthetic.write(folder.path());
        Self::of_folder(folder)
    }

    fn of_folder(folder: tempfile::TempDir) -> Self {
        let rendered = render(folder.path()).unwrap_or_else(|error| panic!("{error:#}"));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
        let svg = rendered.plots.iter().filter(|path| path.extension().unwrap() == "svg");
        let plots = svg.map(|path| name(path)).collect();
        Self { html: read(&rendered.html), markdown: read(&rendered.markdown), plots, folder }
    }

    fn svg(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("report").join(name)).unwrap()
    }

    fn is_light(&self) {
        assert!(self.plots.len() <= 40, "{} plots", self.plots.len());
        assert_eq!(self.html.matches("<svg").count(), self.plots.len(), "each plot stands on the page once");
        assert!(self.html.len() <= 1_000_000, "{} bytes", self.html.len());
        let lines = self.markdown.lines().count();
        assert!(lines <= 300, "{lines} lines of Markdown");
        for plot in &self.plots {
            let image = format!("]({plot})");
            assert!(self.markdown.matches(&image).count() <= 1, "{plot} twice");
        }
    }
}

/// One data set, two time steps; `top1` gives the accuracy by method and seed.
fn folder(methods: &[&'static str], seeds: u64, top1: impl Fn(&str, u64) -> f64) -> Rendered {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", true)], methods, &[4, 2], seeds);
    for row in &mut synthetic.rows {
        row.top1_last = Some(top1(&row.method, row.seed));
    }
    Rendered::of(&synthetic)
}

#[test]
fn a_folder_of_the_size_of_the_mini_suite_makes_a_light_page() {
    let page = Rendered::of(&Synthetic::default());
    page.is_light();
    for name in ["fidelity-parameter.svg", "audit-membranes.svg", "loss.svg", "temperature.svg", "anytime.svg"] {
        assert!(page.plots.iter().any(|plot| plot == name), "no {name} in {:?}", page.plots);
    }
}

#[test]
fn the_reference_folder_makes_a_light_page() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/2026-11-29");
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    Rendered::of_folder(folder).is_light();
}

#[test]
fn what_is_left_out_is_named_with_its_file() {
    let page = Rendered::of(&Synthetic::new(&synthetic::ARMS, &[6, 5, 4, 3, 2], 1));
    assert!(page.html.contains("6 more panels are left out; curves.csv has their numbers."), "T = 5, 4, 3: two losses");
    assert!(page.html.contains("(first 250 of 486 rows; layers.csv has all)"));
    assert!(page.markdown.contains("rows in index.html; fidelity.csv has the numbers"), "{}", page.markdown);
    assert!(page.markdown.contains("rows in index.html; layers.csv has the numbers"));
    assert!(page.markdown.contains("rows in index.html; rows.csv has the numbers"));
    assert!(!page.markdown.contains("| layer3.1.conv1 |"), "the rows of fidelity.csv stand in the Markdown");
}

#[test]
fn the_accuracy_axis_breaks_above_arms_that_failed() {
    let failed = |method: &str, seed: u64| match method {
        "dspike-no-tit" => 0.20 + 0.01 * seed as f64,
        "ann" => 0.99,
        _ => 0.95 + 0.005 * seed as f64,
    };
    let page = folder(&["dspike", "rectangle", "dspike-no-tit"], 3, failed);
    assert!(page.html.contains("Arms below the break: dspike-no-tit."));
    let svg = page.svg("accuracy-fake-resnet18-w8.svg");
    for tick in [">94<", ">20<"] {
        assert!(svg.replace(['\n', ' '], "").contains(tick), "no tick {tick} in {svg}");
    }
    let page = folder(&["dspike", "rectangle", "dspike-no-tit"], 3, |_, seed| 0.95 + 0.005 * seed as f64);
    assert!(!page.html.contains("Arms below the break"));
}

#[test]
fn bars_are_t_intervals_and_stay_within_a_hundred_percent() {
    // Standard deviation 1 point over 3 seeds: ±4.3027/√3 = ±2.48 points about 97 %, and cut at 100 % about 99 %.
    let page = folder(&["dspike"], 3, |_, seed| 0.96 + 0.01 * seed as f64);
    assert!(page.svg("accuracy-fake-resnet18-w8.svg").contains("97.00 %, 95 % interval [94.52, 99.48] (n = 3)"));
    let page = folder(&["dspike"], 3, |_, seed| 0.98 + 0.01 * seed as f64);
    assert!(page.svg("accuracy-fake-resnet18-w8.svg").contains("99.00 %, 95 % interval [96.52, 100.00] (n = 3)"));
    let page = folder(&["dspike"], 1, |_, _| 0.98);
    assert!(!page.svg("accuracy-fake-resnet18-w8.svg").contains("interval"), "one seed has no interval");
}

#[test]
fn lines_can_be_toggled_filters_linked_and_tables_downloaded() {
    let page = Rendered::of(&Synthetic::default());
    for plot in &page.plots {
        let svg = page.svg(plot);
        let keys = svg.matches("<g class=\"key\" data-series=\"").count();
        let lines = svg.matches("<g data-series=\"").count();
        assert!(keys > 0 && lines >= keys, "{plot}: {keys} legend entries, {lines} lines");
        assert!(!svg.contains("tabindex") && svg.contains("role=\"img\""), "{plot} has no script of its own");
    }
    assert_eq!(page.html.matches("<button type=\"button\" class=\"csv\"").count(), page.html.matches("<table").count());
    assert!(page.html.contains("data-file=\"results-means-over-seeds.csv\""));
    for hook in ["history.replaceState", "URLSearchParams", "aria-pressed", "createObjectURL", "hashchange"] {
        assert!(page.html.contains(hook), "the script has no {hook}");
    }
}

#[test]
fn questions_are_answered_on_top_of_page_and_markdown() {
    let accuracy = |method: &str, seed: u64| match method {
        "rectangle" => 0.95 + 0.001 * [1.0, -1.0, 0.0][seed as usize],
        "dspike-no-tit" => 0.20 + 0.01 * seed as f64,
        _ => 0.95,
    };
    let page = folder(&["dspike", "rectangle", "dspike-no-tit"], 3, accuracy);
    // Differences −0.1, 0 and 0.1 points: ±4.3027·0.1/√3 = ±0.25 points.
    for text in [
        "Which arms were compared, on what?",
        "dspike, rectangle, dspike-no-tit, ann on fake; T = 2, 4",
        "is rectangle better than dspike at T = 4?",
        "no difference larger than 0.25 points (95 %)",
        "no: lower by 74.00 points",
        "published numbers judged",
    ] {
        assert!(page.html.contains(text) && page.markdown.contains(text), "{text}: {}", page.markdown);
    }
    assert!(page.html.find("id=\"glance\"").unwrap() < page.html.find("id=\"summary\"").unwrap());
    assert!(page.markdown.find("## At a glance").unwrap() < page.markdown.find("## What was shown").unwrap());
    assert!(page.markdown.contains("[comparison](index.html#comparison)"));

    let page = folder(&["dspike", "rectangle"], 1, |_, _| 0.95);
    assert!(page.markdown.contains("one seed: nothing can be said"));
    let many = Rendered::of(&Synthetic::default());
    let table = many.markdown.split("## At a glance").nth(1).unwrap().split("\n## ").next().unwrap();
    assert!(table.lines().filter(|line| line.starts_with("| ")).count() <= 14, "{table}");
}

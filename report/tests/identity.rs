//! Which rows are one experiment: unlike things never share a number, whatever file they stand in.
#![allow(clippy::unwrap_used)] // also in helpers, which the lint does not count as tests

mod synthetic;

use std::path::{Path, PathBuf};

use report::record::{Record, write_csv};
use report::{Outcome, Tolerance, check, compare, render};
use synthetic::{Synthetic, identified};
use tempfile::TempDir;

/// One arm at T = 2, from scratch, four seeds.
fn one_arm() -> Synthetic {
    Synthetic::over(vec![("fake", "fake/a", false)], &["dspike"], &[2], 4)
}

fn markdown(synthetic: &Synthetic) -> String {
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    markdown_of(dir.path())
}

fn markdown_of(dir: &Path) -> String {
    let rendered = render(dir).unwrap_or_else(|error| panic!("{error:#}"));
    std::fs::read_to_string(rendered.markdown).unwrap()
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn seeds_of_unlike_recipes_are_never_averaged_and_the_legend_says_what_differs() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 10] = [
        ("lr 0.5", |row| row.lr = Some(0.5)),
        ("weight decay 0.01", |row| row.weight_decay = Some(0.01)),
        ("momentum 0.5", |row| row.momentum = Some(0.5)),
        ("soft reset", |row| row.reset = Some("soft".into())),
        ("detach reset", |row| row.detach_reset = Some(true)),
        ("fdg epsilon 0.3", |row| row.fdg_epsilon = Some(0.3)),
        ("fdg step 1.0", |row| row.fdg_step = Some(1.0)),
        ("fdg floor 1.0", |row| row.fdg_floor = Some(1.0)),
        ("surrogate start 3.0", |row| row.surrogate_start = Some(3.0)),
        ("loss tet", |row| row.loss = Some("tet".into())),
    ];
    for (label, change) in changes {
        let mut synthetic = one_arm();
        synthetic.rows.iter_mut().filter(|row| row.seed >= 2).for_each(change);
        let text = markdown(&synthetic);
        assert!(text.contains(&format!("dspike · {label} | 2 | 2 |")), "{label}: {text}");
        assert!(text.matches("| fake | dspike · ").count() >= 2, "{label}: a line without its counterpart");
        assert!(!text.contains("| fake | dspike | 2 | 4 |"), "{label}");
    }
}

#[test]
fn equal_seeds_of_unlike_recipes_are_both_shown() {
    let mut synthetic = one_arm();
    synthetic.rows.truncate(2);
    let mut better = synthetic.rows.clone();
    for row in &mut better {
        row.cell_id += "-better";
        (row.lr, row.top1_last) = (Some(0.1), Some(0.268 + 0.037 * row.seed as f64));
    }
    synthetic.rows.extend(better);
    let text = markdown(&synthetic);
    assert!(text.contains("dspike · lr 0.1 | 2 | 2 | 28.65"), "{text}");
    assert!(text.contains("dspike · lr 0.05 | 2 | 2 |"), "{text}");
}

#[test]
fn chains_that_differ_in_an_ancestor_only_are_two_lines() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", true)], &["dspike"], &[4, 2], 4);
    for row in synthetic.rows.iter_mut().filter(|row| row.seed >= 2 && row.method == "ann") {
        row.lr = Some(0.5);
    }
    let text = markdown(&synthetic);
    // The cells of seeds 2 and 3 record the same settings, but come from another ANN.
    assert!(text.matches("| fake | dspike · series ").count() >= 4, "{text}");
    assert!(!text.contains("| fake | dspike | 2 | 4 |"), "{text}");
}

#[test]
fn a_chain_with_another_rate_at_each_t_is_one_line() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", true)], &["dspike"], &[4, 2], 2);
    synthetic.rows.iter_mut().filter(|row| row.train_time_steps == Some(2)).for_each(|row| row.lr = Some(0.02));
    let text = markdown(&synthetic);
    assert!(text.contains("| fake | dspike | 4 | 2 |") && text.contains("| fake | dspike | 2 | 2 |"), "{text}");
}

#[test]
fn unlike_data_are_like_unlike_protocols() {
    let mut synthetic = one_arm();
    synthetic.rows.iter_mut().filter(|row| row.seed >= 2).for_each(|row| row.data_hash = Some("other".into()));
    let text = markdown(&synthetic);
    assert!(text.contains("data fake") && text.contains("data other"), "{text}");
    assert!(!text.contains("| 2 | 4 |"), "{text}");

    let (dir, baseline) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut synthetic = one_arm();
    synthetic.write(baseline.path());
    synthetic.rows.iter_mut().for_each(|row| row.data_hash = Some("other".into()));
    synthetic.write(dir.path());
    let gate = check(dir.path(), baseline.path(), &Tolerance::default()).unwrap();
    assert_eq!(gate.outcome, Outcome::Missing, "{}", gate.markdown());
    assert!(gate.markdown().contains("other data (checksum fake in the baseline, other in the folder)"));
    let comparison = compare(baseline.path(), dir.path()).unwrap();
    assert!(comparison.rows.is_empty() && comparison.exit_code() == 11);
}

#[test]
fn the_gate_does_not_depend_on_the_order_of_the_rows() {
    let (dir, baseline) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A sweep: the same arm at two rates, of which one collapses in the folder.
    let mut synthetic = one_arm();
    let mut fast = synthetic.rows.clone();
    for row in &mut fast {
        row.cell_id += "-fast";
        row.lr = Some(0.5);
    }
    synthetic.rows.extend(fast);
    synthetic.write(baseline.path());
    let collapse = |row: &&mut Record| row.lr == Some(0.5);
    synthetic.rows.iter_mut().filter(collapse).for_each(|row| row.top1_last = row.top1_last.map(|top1| top1 - 0.3));
    for _ in 0..2 {
        synthetic.write(dir.path());
        let gate = check(dir.path(), baseline.path(), &Tolerance::default()).unwrap();
        assert_eq!(gate.outcome, Outcome::Regression, "{}", gate.markdown());
        synthetic.rows.reverse();
    }
}

#[test]
fn a_repeated_experiment_is_an_error_that_names_both_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut synthetic = one_arm();
    let mut double = synthetic.rows[1].clone();
    double.cell_id = "the-double".into();
    synthetic.rows.push(double);
    synthetic.write(dir.path());
    let error = format!("{:#}", render(dir.path()).unwrap_err());
    assert!(error.contains("rows.csv:6: cell the-double repeats the experiment, data and seed of cell"), "{error}");
    assert!(error.contains("on line 3"), "{error}");
    assert!(check(dir.path(), dir.path(), &Tolerance::default()).is_err());
    assert!(compare(dir.path(), dir.path()).is_err());
}

#[test]
fn rows_of_several_versions_are_an_error_with_the_right_line_even_after_windows_line_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    let mut rows = identified(&one_arm().rows);
    rows[2].schema_version = 1;
    write_csv(&path, &rows).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for text in [text.clone(), text.replace('\n', "\r\n")] {
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", render(dir.path()).unwrap_err());
        assert!(error.contains("rows.csv:4: schema_version is 1, but line 2 has 2"), "{error}");
    }
}

#[test]
fn columns_in_any_order_give_the_same_report() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let synthetic = one_arm();
    synthetic.write(dir.path());
    synthetic.write(other.path());
    let text = std::fs::read_to_string(dir.path().join("rows.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut writer = csv::Writer::from_path(other.path().join("rows.csv")).unwrap();
    let headers = reader.headers().unwrap().clone();
    writer.write_record(headers.iter().rev()).unwrap();
    reader.records().for_each(|record| writer.write_record(record.unwrap().iter().rev()).unwrap());
    writer.flush().unwrap();
    assert_eq!(markdown_of(dir.path()), markdown_of(other.path()));
}

#[test]
fn files_of_the_first_version_stay_readable_and_say_what_they_lack() {
    let (dir, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut synthetic = one_arm();
    synthetic.write(new.path());
    for row in &mut synthetic.rows {
        (row.schema_version, row.series_id, row.lr, row.reset) = (1, None, None, None);
        (row.detach_reset, row.surrogate_start) = (None, None);
    }
    std::fs::write(dir.path().join("run.json"), serde_json::to_vec(&synthetic.plan).unwrap()).unwrap();
    write_csv(&dir.path().join("rows.csv"), &synthetic.rows).unwrap();
    let text = markdown_of(dir.path());
    assert!(text.contains("| fake | dspike | 2 | 4 |"), "{text}");
    assert!(text.contains("is of schema version 1: it lacks series\\_id, the learning rate"), "{text}");
    let gate = check(new.path(), dir.path(), &Tolerance::default()).unwrap();
    assert_eq!(gate.outcome, Outcome::Pass, "{}", gate.markdown());
    assert!(gate.markdown().contains("differ in these alone cannot be told apart here"), "{}", gate.markdown());
}

const BARE: &str = "method,dataset,protocol,T,seed,top1\n\
    mine,shapes,shapes/official,4,0,0.91\nmine,shapes,shapes/official,4,1,0.92\nmine,shapes,shapes/official,4,2,0.915\n\
    rect,shapes,shapes/official,4,0,0.90\nrect,shapes,shapes/official,4,1,0.90\nrect,shapes,shapes/official,4,2,0.905\n";

#[test]
fn another_programs_rows_go_through_check_compare_and_report() {
    let (dir, path) = file(BARE);
    assert_eq!(check(&path, &path, &Tolerance::default()).unwrap().outcome, Outcome::Pass);
    assert_eq!(compare(&path, dir.path()).unwrap().rows.len(), 2);
    let text = markdown_of(dir.path());
    assert!(text.contains("| shapes | mine | 4 | 3 | 91.50"), "{text}");
    assert!(text.contains("Differences to mine"), "{text}");
}

#[test]
fn an_unknown_column_tells_experiments_apart_unless_it_is_a_note() {
    let with = |column: &str| {
        let mut lines = BARE.lines().enumerate().map(|(n, line)| match n {
            0 => format!("{line},{column}\n"),
            n => format!("{line},{}\n", if n % 3 == 1 { "adam" } else { "sgd" }),
        });
        let (dir, _) = file(&lines.by_ref().collect::<String>());
        markdown_of(dir.path())
    };
    let text = with("optimizer");
    assert!(
        text.contains("mine · optimizer adam | 4 | 1 |") && text.contains("mine · optimizer sgd | 4 | 2 |"),
        "{text}"
    );
    assert!(with("note_optimizer").contains("| shapes | mine | 4 | 3 |"));
}

#[test]
fn a_header_without_a_required_column_says_which_and_what_was_found() {
    let (dir, _) = file(&BARE.replace(",seed,", ",sede,"));
    let error = format!("{:#}", render(dir.path()).unwrap_err());
    assert!(
        error.contains("rows.csv:1: the header has no column `seed`; rows need at least method, dataset"),
        "{error}"
    );
    assert!(error.contains("found: method, dataset, protocol, T, sede, top1"), "{error}");
    // A double among bare rows asks for the column that tells the two apart.
    let (dir, _) = file(&format!("{BARE}mine,shapes,shapes/official,4,0,0.30\n"));
    let error = format!("{:#}", render(dir.path()).unwrap_err());
    assert!(error.contains("rows.csv:8:") && error.contains("give it a column of its own"), "{error}");
}

#[test]
fn folders_drawn_together_share_no_mean() {
    let (a, b, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", true)], &["dspike"], &[4, 2], 2);
    let folders = [a.path().join("mine"), b.path().join("theirs")];
    for folder in &folders {
        std::fs::create_dir(folder).unwrap();
        synthetic.write(folder);
        synthetic.rows.iter_mut().for_each(|row| row.top1_last = row.top1_last.map(|top1| top1 - 0.1));
    }
    let rendered = report::render_together(&[&folders[0], &folders[1]], &out.path().join("both"), None).unwrap();
    let text = std::fs::read_to_string(rendered.markdown).unwrap();
    for line in
        ["dspike · folder mine | 4 | 2 |", "dspike · folder theirs | 4 | 2 |", "dspike · folder theirs | 2 | 2 |"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("| 4 | 4 |"), "{text}");
}

#[test]
fn the_reference_is_the_suites_and_the_bias_is_each_arms_own() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", false)], &["mine", "rectangle"], &[2], 3);
    let text = markdown(&synthetic);
    assert!(text.contains("Paired differences to mine") && text.contains("| fake | rectangle | 2 | 3 |"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    synthetic.write(dir.path());
    let page = std::fs::read_to_string(render(dir.path()).unwrap().html).unwrap();
    let bias = page.split("Selection bias per arm").last().unwrap().split("</table>").next().unwrap();
    assert_eq!(bias.matches("<tr").count(), 3, "a header and one row per arm: {bias}");
    synthetic.plan.reference = Some("rectangle".into());
    assert!(markdown(&synthetic).contains("Paired differences to rectangle"));
}

#[test]
fn tables_name_the_protocol_where_rows_differ_in_it() {
    let mut synthetic = one_arm();
    synthetic
        .rows
        .iter_mut()
        .filter(|row| row.seed >= 2)
        .for_each(|row| row.protocol_id = "fake/a;held-out=152".into());
    let text = markdown(&synthetic);
    assert!(text.contains("| fake · held-out=152 | dspike | 2 | 2 |"), "{text}");
    assert!(text.contains("| fake · plain | dspike | 2 | 2 |"), "{text}");
}

#[test]
fn unlike_protocols_of_one_experiment_are_not_compared() {
    // A card ran out of memory in the folder: norms over fewer images, said in the row's protocol only.
    let (dir, baseline) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut synthetic = one_arm();
    synthetic.rows.iter_mut().for_each(|row| row.series_id = Some("one".into()));
    synthetic.write(baseline.path());
    synthetic.rows[1].protocol_id += ";micro-batch=32";
    synthetic.write(dir.path());
    let gate = check(dir.path(), baseline.path(), &Tolerance::default()).unwrap();
    assert_eq!(gate.outcome, Outcome::Missing, "{}", gate.markdown());
    assert!(gate.markdown().contains("seed 1: ran under another protocol"), "{}", gate.markdown());
    // Equal data are equal data, whoever verified them.
    let mut synthetic = one_arm();
    synthetic.rows.iter_mut().for_each(|row| row.series_id = Some("one".into()));
    synthetic.rows.iter_mut().for_each(|row| row.protocol_id = "fake/a;unverified:train=9,test=9".into());
    synthetic.write(dir.path());
    synthetic.rows.iter_mut().for_each(|row| row.protocol_id = "fake/a;md5:0123".into());
    synthetic.write(baseline.path());
    assert_eq!(check(dir.path(), baseline.path(), &Tolerance::default()).unwrap().outcome, Outcome::Pass);
}

#[test]
fn rows_that_the_other_side_cannot_tell_apart_pair_with_nothing() {
    let bare = BARE.lines().take(2).collect::<Vec<_>>().join("\n") + "\n";
    let (_a, first) = file(&bare);
    for lines in [["0.5,0.30", "0.05,0.91"], ["0.05,0.91", "0.5,0.30"]] {
        let sweep = lines.map(|line| {
            let (lr, top1) = line.split_once(',').unwrap();
            format!("mine,shapes,shapes/official,4,0,{top1},{lr}\n")
        });
        let (_b, second) = file(&format!("method,dataset,protocol,T,seed,top1,lr\n{}", sweep.concat()));
        let comparison = compare(&first, &second).unwrap();
        assert!(comparison.rows.is_empty() && comparison.exit_code() == 11);
        assert!(
            comparison.gaps[0].contains("differ only in columns that the other side does not have"),
            "{:?}",
            comparison.gaps
        );
    }
}

#[test]
fn a_line_continues_where_the_epochs_are_equal() {
    // Two experiments of one suite: T = 4 with 16 epochs, T = 4 and 2 with 32.
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", true)], &["dspike-no-tit"], &[4, 2], 1);
    synthetic.rows.retain(|row| row.method != "ann");
    synthetic.rows.iter_mut().for_each(|row| row.epochs = Some(32));
    let mut short = synthetic.rows[0].clone();
    (short.epochs, short.cell_id) = (Some(16), "short".into());
    synthetic.rows.insert(0, short);
    let text = markdown(&synthetic);
    for line in ["epochs 16 | 4 | 1 |", "epochs 32 | 4 | 1 |", "epochs 32 | 2 | 1 |"] {
        assert!(text.contains(&format!("| fake | dspike-no-tit · {line}")), "{line}: {text}");
    }
}

#[test]
fn each_arm_is_compared_with_the_reference_of_its_own_recipe() {
    let mut synthetic = Synthetic::over(vec![("fake", "fake/a", false)], &["dspike", "rectangle"], &[2], 2);
    let mut fast = synthetic.rows.clone();
    for row in &mut fast {
        row.cell_id += "-fast";
        row.lr = Some(0.5);
    }
    synthetic.rows.extend(fast);
    let text = markdown(&synthetic);
    assert!(text.contains("rectangle · lr 0.5 (with dspike · lr 0.5) | 2 | 2 |"), "{text}");
    assert!(text.contains("rectangle · lr 0.05 (with dspike · lr 0.05) | 2 | 2 |"), "{text}");
}

#[test]
fn doubled_columns_and_ids_and_folders_are_errors() {
    let (dir, _) = file(&BARE.replacen("top1", "top1,top1_last", 1).replace("0.9", "0.9,0.9"));
    let error = format!("{:#}", render(dir.path()).unwrap_err());
    assert!(error.contains("rows.csv:1: the columns `top1` and `top1_last` mean the same"), "{error}");
    let (dir, _) = file("cell_id,method,dataset,protocol,T,seed,top1\na,m,d,p,4,0,0.5\na,m,d,p,4,1,0.5\n");
    let error = format!("{:#}", render(dir.path()).unwrap_err());
    assert!(error.contains("rows.csv:3: cell_id a stands on line 2 too"), "{error}");
    let (dir, path) = file(BARE);
    let error =
        format!("{:#}", report::render_together(&[dir.path(), &path], &dir.path().join("x"), None).unwrap_err());
    assert!(error.contains("is given twice"), "{error}");
    // A whole last line with a field too few is no torn write.
    let (dir, _) = file(&format!("{BARE}mine,shapes,shapes/official,4\n"));
    let error = format!("{:#}", render(dir.path()).unwrap_err());
    assert!(error.contains("rows.csv:8: 4 fields where the header has 6"), "{error}");
}

//! `harness report`, `harness compare`, `harness check`, `harness verify`.

use crate::cli::{CheckArgs, ReportArgs, VerifyArgs};
use crate::durable;
use crate::exit::{self, Code};
use crate::store::Store;
use anyhow::Result;
use report::claims::Outcome as Verdicts;
use report::published::Published;
use report::{Outcome, Tolerance};
use std::path::{Path, PathBuf};

/// Renders the report of one result folder, or of several together.
pub fn report(args: &ReportArgs) -> Result<()> {
    let published = args.published.as_deref();
    check_published(published)?;
    args.dirs.iter().try_for_each(|dir| renew_rows(dir))?;
    let rendered = match (args.dirs.as_slice(), &args.out) {
        ([dir], None) => report::render_against(dir, published),
        (dirs, Some(out)) => {
            report::render_together(&dirs.iter().map(PathBuf::as_path).collect::<Vec<_>>(), out, published)
        }
        (_, None) => return Err(exit::usage("a report of several folders needs --out DIR, the folder to write it to")),
    };
    let rendered = rendered.map_err(|error| match exit::code_of(&error) {
        Code::Io => error,
        _ => unreadable(error),
    })?;
    println!("{}\nreport  {}", rendered.summary, rendered.html.display());
    if let Some(file) = &args.splice {
        let [dir] = args.dirs.as_slice() else {
            return Err(exit::usage("--splice takes the plots of one folder; give one"));
        };
        report::splice(file, dir, published)?;
        println!("spliced {}", file.display());
    }
    Ok(())
}

/// Rebuilds the CSV files of a folder that `harness suite` wrote, where a result is newer than they are. Rows that
/// stand alone, e.g. another program's, stay as they are.
fn renew_rows(dir: &Path) -> Result<()> {
    if dir.is_file() || (dir.join("rows.csv").is_file() && !dir.join("run.json").exists()) {
        return Ok(());
    }
    let store = Store::existing(dir)?;
    if store.is_stale() {
        store.rebuild_csv(&store.plan()?)?;
    }
    Ok(())
}

/// Prints the verdicts on the published numbers; the exit code says what they are together.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let published = args.published.as_deref();
    check_published(published)?;
    renew_rows(&args.dir)?;
    let claims = report::claims::claims(&args.dir, published).map_err(unreadable)?;
    match args.json {
        true => println!("{}", claims.to_json()?),
        false => println!("{claims}"),
    }
    match claims.outcome() {
        Verdicts::Reproduced => Ok(()),
        Verdicts::Contradicted => {
            Err(exit::failure(Code::Regression, "a measured mean is below or above its published number"))
        }
        Verdicts::Inconclusive => {
            Err(exit::failure(Code::Inconclusive, "the seeds cannot tell for some published numbers; more seeds would"))
        }
        Verdicts::NothingJudged => {
            let what = "no published number could be judged: none of the published experiments ran here as published";
            Err(exit::failure(Code::MissingCell, what))
        }
    }
}

/// A wrong file of published numbers is wrong usage: exit 2, with file, line and key.
fn check_published(file: Option<&Path>) -> Result<()> {
    Published::load(file).map(drop).map_err(|error| match file {
        Some(_) => exit::usage(format!("--published: {error:#}")),
        None => exit::usage(format!("{error:#}")),
    })
}

/// Prints a comparison, as Markdown or as JSON.
pub fn compare(a: &Path, b: &Path, json: bool) -> Result<()> {
    let comparison = report::compare(a, b).map_err(unreadable)?;
    println!("{}", if json { comparison.json()? } else { comparison.to_string() });
    match comparison.exit_code() {
        0 => Ok(()),
        _ => Err(exit::failure(Code::MissingCell, "a cell is missing from either side, or nothing could be compared")),
    }
}

/// The gate.
pub fn check(args: &CheckArgs) -> Result<()> {
    let mut tolerance = Tolerance::default();
    for text in &args.tolerance {
        tolerance.set(text).map_err(|error| exit::usage(format!("--tolerance: {error:#}")))?;
    }
    let gate = report::check(&args.dir, &args.baseline, &tolerance).map_err(unreadable)?;
    match args.json {
        true => println!("{}", gate.json()?),
        false => print!("{}", gate.markdown()),
    }
    if let Some(path) = &args.summary {
        durable::write(path, gate.markdown().as_bytes())?;
    }
    if let Some(path) = &args.junit {
        durable::write(path, gate.junit().as_bytes())?;
    }
    match gate.outcome {
        Outcome::Pass => Ok(()),
        Outcome::Regression => Err(exit::failure(Code::Regression, "a metric moved by more than its tolerance")),
        Outcome::Missing => {
            Err(exit::failure(Code::MissingCell, "a cell is missing or failed, or nothing was measured"))
        }
    }
}

/// Result files that cannot be read are data: exit 3.
fn unreadable(error: anyhow::Error) -> anyhow::Error {
    exit::data(format!("{error:#}"))
}

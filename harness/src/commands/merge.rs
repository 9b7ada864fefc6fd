//! `harness merge`: joins result folders of one suite.

use crate::cli::MergeArgs;
use crate::exit;
use crate::predictions;
pub use crate::store::blanked;
use crate::store::{CellResult, Store, different_data, same};
use anyhow::{Context, Result};
use report::record::PlannedCell;
use std::collections::HashMap;
use std::fs;

/// Joins the folders into `--out`; a cell that two folders computed differently is a conflict.
pub fn merge(args: &MergeArgs) -> Result<()> {
    let sources: Vec<Store> = args.from.iter().map(|dir| Store::existing(dir)).collect::<Result<_>>()?;
    let mut plan = sources[0].plan()?;
    let mut cells: Vec<PlannedCell> = Vec::new();
    for source in &sources {
        let other = source.plan()?;
        if other.suite != plan.suite {
            let (a, b) = (sources[0].root().display(), source.root().display());
            return Err(exit::usage(format!(
                "{a} holds suite `{}`, {b} holds `{}`; only one suite's folders can be joined",
                plan.suite, other.suite
            )));
        }
        for cell in other.cells {
            match cells.iter_mut().find(|known| known.cell_id == cell.cell_id) {
                Some(known) => known.missing = known.missing.take().and(cell.missing),
                None => cells.push(cell),
            }
        }
    }
    let earlier = Store::existing(&args.out).ok();
    refuse_different_data(&cells, sources.iter().chain(&earlier))?;
    let mut joined = Vec::new();
    for cell in &cells {
        joined.extend(agreed(&cell.cell_id, &sources)?);
    }
    let out = Store::open(&args.out)?;
    for (result, from) in &joined {
        let id = &result.record.cell_id;
        // An earlier result of other kernels stays, and so do its weights, configuration and predictions.
        if !out.holds(id, result)? {
            copy_files(from, &out, id)?;
            out.commit(id, result)?;
        }
    }
    let joined = joined.len();
    plan.cells = cells;
    out.write_plan(&plan)?;
    out.rebuild_csv(&plan)?;
    let rendered = report::render(&args.out)?;
    println!("{joined} of {} cells in {}\nreport  {}", plan.cells.len(), args.out.display(), rendered.html.display());
    Ok(())
}

/// The cell's result and the first folder that holds it, if there is one.
///
/// # Errors
/// Two folders computed the cell differently.
fn agreed<'a>(id: &str, sources: &'a [Store]) -> Result<Option<(CellResult, &'a Store)>> {
    let mut kept: Option<(CellResult, &Store)> = None;
    for source in sources {
        let Some(result) = source.result(id)? else { continue };
        match &kept {
            Some((first, from)) if !same(first, &result)? => {
                let (a, b) = (from.root().display(), source.root().display());
                return Err(exit::usage(format!(
                    "conflict: {a} and {b} hold different results of {id}; nothing was joined"
                )));
            }
            Some(_) => {}
            None => kept = Some((result, source)),
        }
    }
    Ok(kept)
}

/// Refuses folders that were computed on different data, before anything is written: for each data set and protocol, all
/// results of all folders must have one data hash. A result without one (an older file's) fits any.
fn refuse_different_data<'a>(cells: &[PlannedCell], sources: impl Iterator<Item = &'a Store> + Clone) -> Result<()> {
    let mut known: HashMap<(&str, &str), (CellResult, &Store)> = HashMap::new();
    for cell in cells {
        for source in sources.clone() {
            let Some(result) = source.result(&cell.cell_id)?.filter(|result| result.record.data_hash.is_some()) else {
                continue;
            };
            let Some((first, from)) = known.get(&(&*cell.dataset, &*cell.protocol_id)) else {
                known.insert((&cell.dataset, &cell.protocol_id), (result, source));
                continue;
            };
            if let Some((first_hash, hash)) = different_data(first, &result) {
                return Err(conflict((from, &first.record.cell_id, first_hash), (source, &cell.cell_id, hash), cell));
            }
        }
    }
    Ok(())
}

/// The sentence about two results of different data: (folder, cell, data hash) of each.
fn conflict(a: (&Store, &str, &str), b: (&Store, &str, &str), cell: &PlannedCell) -> anyhow::Error {
    let (first, second) = (a.0.root().display(), b.0.root().display());
    let hashes = format!(
        "results of different data for {} ({}): {} has data_hash {}, {} has data_hash {}. Nothing was joined",
        cell.dataset, cell.protocol_id, a.1, a.2, b.1, b.2
    );
    if a.0.root() == b.0.root() {
        return exit::data(format!(
            "conflict: the folder {first} alone holds {hashes}; remove the cells of one of the two data sets from \
             {first}/cells, or train them again with --fresh"
        ));
    }
    exit::data(format!(
        "conflict: {first} and {second} hold {hashes}; keep the folders apart and compare them with `harness report \
         {first} {second} --out DIR`, which treats them as unlike data"
    ))
}

fn copy_files(from: &Store, to: &Store, id: &str) -> Result<()> {
    let (from, to) = (from.cell_folder(id), to.cell_folder(id));
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    for name in ["config.toml", "weights.safetensors", "metrics.jsonl", predictions::FILE, "log"] {
        let path = from.join(name);
        if path.is_file() {
            fs::copy(&path, to.join(name)).with_context(|| format!("copying {}", path.display()))?;
        }
    }
    Ok(())
}

//! `harness list` and `harness status`.

use crate::cell;
use crate::cli::{Device, ListArgs, Listing, StatusArgs};
use crate::data::DatasetName;
use crate::device;
use crate::exit::{self, Code};
use crate::ops::cuda::Precision;
use crate::plan;
use crate::run;
use crate::selection::{overrides, select};
use crate::slurm::queue;
use crate::store::Store;
use crate::suite::{self, Suite};
use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// Lists what there is.
pub fn list(args: &ListArgs) -> Result<()> {
    match args.what {
        Listing::Suites => {
            for name in suite::names() {
                let title =
                    Suite::load(&name).map_or_else(|error| format!("unreadable: {error:#}"), |suite| suite.title);
                show(args.json, &format!("{name:<16} {title}"), &json!({ "suite": name, "title": title }))?;
            }
        }
        Listing::Cells => {
            let suite = Suite::load(&args.suite)?;
            let cells = cell::cells(
                &suite,
                &overrides(&args.selection),
                &device::class_of_choice(Device::Auto, Precision::F32)?,
            )?;
            let cells = select(cells, &args.selection)?;
            if args.json {
                for cell in &cells {
                    println!("{}", serde_json::to_string(&plan::listed(&suite.name, cell))?);
                }
            } else {
                print!("{}", plan::table(&cells));
            }
        }
        Listing::Datasets => {
            for &dataset in DatasetName::ALL {
                let (train, test) = dataset.declared_samples();
                let line =
                    format!("{:<16} {:>9} train {:>7} test  {}", dataset.to_string(), train, test, dataset.title());
                let object = json!({ "dataset": dataset, "train": train, "test": test, "classes": dataset.classes(), "simulated": dataset.is_simulated(), "embedded": dataset.is_embedded() });
                show(args.json, &line, &object)?;
            }
        }
        Listing::Methods => {
            let suite = Suite::load(&args.suite)?;
            for method in &suite.methods {
                let surrogate = &method.surrogate;
                let line = format!(
                    "{:<20} {:<10} parameter {:<5} width {:.3} peak {:.3}  fdg {:<5} start {}",
                    method.name,
                    surrogate.name(),
                    surrogate.parameter(),
                    surrogate.width(),
                    surrogate.peak(),
                    method.fdg,
                    json!(method.start).as_str().unwrap_or_default()
                );
                show(args.json, &line, method)?;
            }
        }
    }
    Ok(())
}

fn show(json: bool, line: &str, object: &impl Serialize) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(object)?);
    } else {
        println!("{line}");
    }
    Ok(())
}

/// What a result folder has; exit 5 where something is outstanding.
pub fn status(args: &StatusArgs) -> Result<()> {
    let store = Store::existing(&args.dir)?;
    let statuses = run::statuses(&store)?;
    let queue = queue::queue(&store.root().join("slurm")).unwrap_or_else(|error| {
        eprintln!("harness: the queue is not shown: {error:#}");
        HashMap::new()
    });
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (cell, status) in &statuses {
        *counts.entry(status.as_str()).or_default() += 1;
        let queued = queue.get(&cell.cell_id).filter(|_| status != "done");
        if args.json {
            println!(
                "{}",
                json!({ "cell_id": cell.cell_id, "parent": cell.parent_cell, "method": cell.method, "dataset": cell.dataset, "time_steps": cell.time_steps, "seed": cell.seed, "status": status, "queue": queued })
            );
        } else if status != "done" {
            let reason = cell.missing.as_ref().map_or(String::new(), |reason| format!("  {reason}"));
            let queued = queued.map_or(String::new(), |q| format!("  {} {} ({})", q.job, q.state, q.reason));
            println!("{status:<9} {}{reason}{queued}", cell.cell_id);
        }
    }
    let counted: Vec<String> = counts.iter().map(|(status, n)| format!("{n} {status}")).collect();
    let outstanding = statuses.len() - counts.get("done").copied().unwrap_or(0);
    if !args.json {
        let queued = if queue.is_empty() { String::new() } else { format!("; {} of them in the queue", queue.len()) };
        println!("{} cells: {}{queued}", statuses.len(), counted.join(", "));
    }
    if outstanding > 0 {
        let command = store.plan()?.command;
        return Err(exit::failure(
            Code::Outstanding,
            format!("{outstanding} cells are outstanding; `{command}` goes on"),
        ));
    }
    Ok(())
}

//! `harness data`.

use crate::cli::DataCommand;
use crate::data::DatasetName;
use crate::data::commands::{self, FetchOptions};
use anyhow::Result;
use std::time::Duration;

/// Wait before the second try of a mirror; grows with each.
const PAUSE: Duration = Duration::from_secs(2);

/// Lists, fetches, verifies, finds or inspects.
pub fn data(command: &DataCommand) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match command {
        DataCommand::List { data_dir, json } => commands::list(data_dir.as_deref(), *json, &mut out),
        DataCommand::Fetch { dataset, data_dir, from, offline } => {
            let options =
                FetchOptions { data_dir: data_dir.clone(), from: from.clone(), offline: *offline, pause: PAUSE };
            commands::fetch(dataset.parse::<DatasetName>()?, &options, &mut out)
        }
        DataCommand::Verify(args) => commands::verify(args.dataset.parse()?, Some(&args.data_dir), &mut out),
        DataCommand::Path(args) => commands::path(args.dataset.parse()?, Some(&args.data_dir), &mut out),
        DataCommand::Inspect { file, json } => commands::inspect(file, *json, &mut out),
    }
}

//! `harness report`.

use crate::cli::ReportArgs;
use crate::store::Store;
use anyhow::Result;

/// Renders the report of a result folder.
pub fn report(args: &ReportArgs) -> Result<()> {
    Store::existing(&args.dir)?;
    let rendered = report::render(&args.dir)?;
    println!("{}\nreport  {}", rendered.summary, rendered.html.display());
    Ok(())
}

//! `harness doctor`: what this machine offers.

use crate::data::{self, DatasetName};
use crate::environment::{CANDLE_VERSION, Environment};
use std::path::Path;

/// Prints toolchain, device, threads, data and suites.
pub fn doctor(data_dir: Option<&Path>) {
    let environment = Environment::new();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    println!("harness    {} (candle {CANDLE_VERSION}, {})", env!("CARGO_PKG_VERSION"), text(&environment.rustc));
    println!(
        "revision   {}{}",
        text(&environment.git_revision),
        if environment.git_dirty == Some(true) { " with changes" } else { "" }
    );
    println!("machine    {}, {}", text(&environment.cpu), text(&environment.os));
    println!("threads    {}", environment.threads);
    println!("kernels    {}", environment.numerics);
    println!("CUDA       not in this binary");
    for &dataset in DatasetName::ALL {
        let found = if dataset.is_embedded() {
            "compiled in".to_string()
        } else {
            match data_dir.map(|dir| data::locate(dataset, dir)) {
                None => "unknown: say where with --data-dir DIR".into(),
                Some(None) => "not there; `harness data list` says how to get it".into(),
                Some(Some(path)) => path.display().to_string(),
            }
        };
        println!("{:<16} {found}", dataset.to_string());
    }
}

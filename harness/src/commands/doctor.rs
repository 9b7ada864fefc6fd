//! `harness doctor`: what this machine offers.

use crate::cli;
use crate::data::{self, DatasetName};
use crate::device;
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
    println!("kernels    {}", crate::ops::cpu::numerics());
    match device::open(cli::Device::Cuda) {
        Ok(card) => {
            let card = device::describe(&card);
            println!("CUDA       {}, {}", card.gpu.unwrap_or_else(|| "a card without a name".into()), card.numerics);
        }
        Err(_) if !cfg!(feature = "cuda") => println!("CUDA       not in this binary"),
        Err(error) => println!("CUDA       {error:#}"),
    }
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

//! Data files that are compiled in, and that a file of the same name in `./suites` replaces.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Where a data file came from: the path of the file in `./suites`, or `None` for the copy compiled in.
pub type Local = Option<PathBuf>;

pub(crate) fn load<T>(name: &str, built_in: &str, parse: impl Fn(&str) -> Result<T>) -> Result<(T, Local)> {
    let path = PathBuf::from("suites").join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let value = parse(&text).with_context(|| format!("reading {}", path.display()))?;
            Ok((value, (text != built_in).then_some(path)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok((parse(built_in).with_context(|| format!("reading the built-in {name}"))?, None))
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

//! Records where the binary comes from: the revision and the compiler, for every row.

use std::path::Path;
use std::process::Command;

fn main() {
    // A commit and a change of the sources, which are compiled anew in any case; not the index, which `git add` touches.
    for path in ["../.git/logs/HEAD", "src", "../methods/src", "../report/src", "../suites"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    for (name, value) in [
        ("HARNESS_RUSTC", output(Command::new(rustc).arg("--version"))),
        ("HARNESS_GIT_REVISION", output(Command::new("git").args(["rev-parse", "HEAD"]))),
        ("HARNESS_GIT_STATUS", output(Command::new("git").args(["status", "--porcelain", "--untracked-files=no"]))),
    ] {
        // The status only matters as empty or not; a line break would end the instruction to cargo.
        println!(
            "cargo:rustc-env={name}={}",
            value.unwrap_or_else(|| "unknown".into()).lines().next().unwrap_or_default()
        );
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

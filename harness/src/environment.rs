//! Where a number came from: machine, compiler, revision.

use std::fs;

/// Version of candle that this binary links (pinned in Cargo.toml).
pub const CANDLE_VERSION: &str = "0.11.1";

/// The machine and the build.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Host name.
    pub host: Option<String>,
    /// Kernel and distribution.
    pub os: Option<String>,
    /// Processor.
    pub cpu: Option<String>,
    /// Compiler.
    pub rustc: Option<String>,
    /// Commit of the source.
    pub git_revision: Option<String>,
    /// Whether the source differed from it.
    pub git_dirty: Option<bool>,
    /// Worker threads.
    pub threads: usize,
}

impl Environment {
    /// Of this process.
    pub fn new() -> Self {
        let known = |value: &str| (!value.is_empty() && value != "unknown").then(|| value.to_string());
        let revision = known(env!("HARNESS_GIT_REVISION"));
        Self {
            host: read("/proc/sys/kernel/hostname"),
            os: field("/etc/os-release", "PRETTY_NAME=").map(|name| name.trim_matches('"').to_string()),
            cpu: field("/proc/cpuinfo", "model name").map(|name| name.trim_start_matches([':', '\t', ' ']).to_string()),
            rustc: known(env!("HARNESS_RUSTC")),
            git_dirty: revision.as_ref().map(|_| !env!("HARNESS_GIT_STATUS").is_empty()),
            git_revision: revision,
            threads: rayon::current_num_threads(),
        }
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

/// The largest resident memory of this process so far, in bytes (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

/// Memory that programs can still have, in bytes (Linux): the machine's, or what a container's limit leaves.
pub fn available_memory_bytes() -> Option<u64> {
    let number = |name: &str| read(&format!("/sys/fs/cgroup/{name}"))?.parse::<u64>().ok();
    let left = number("memory.max").map(|most| most.saturating_sub(number("memory.current").unwrap_or(0)));
    kilobytes("/proc/meminfo", "MemAvailable:").map(|free| left.map_or(free, |left| free.min(left)))
}

fn kilobytes(path: &str, key: &str) -> Option<u64> {
    let kilobytes = field(path, key)?;
    kilobytes.trim_end_matches("kB").trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

/// Now, as `2026-11-24T06:00:00Z`.
pub fn utc_now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
}

fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_string())
}

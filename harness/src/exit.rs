//! Exit codes (the command line's contract with scripts), carried through `anyhow` as a [`Failure`].

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a failed command tells a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Code {
    /// A check failed: parity, selftest, repro-check.
    Check = 1,
    /// Wrong usage, or a suite that changed under its results.
    Usage = 2,
    /// Data missing or corrupt.
    Data = 3,
    /// The filters select nothing.
    NothingSelected = 4,
    /// `status`: cells are outstanding.
    Outstanding = 5,
    /// `check`: a regression. `verify`: a measured mean contradicts a published number.
    Regression = 10,
    /// `check`, `compare`: a cell is missing from either side. `verify`: no published number could be judged.
    MissingCell = 11,
    /// `verify`: nothing contradicts a published number, but the seeds cannot tell for some.
    Inconclusive = 12,
    /// A cell failed; the others went on.
    CellFailed = 20,
    /// The output folder cannot be written.
    Io = 74,
    /// Stopped but resumable: a signal, or another process holds the cell.
    Resumable = 75,
}

/// An error that knows its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error that ends the process with `code`.
pub fn failure(code: Code, message: impl fmt::Display) -> anyhow::Error {
    Failure { code, message: message.to_string() }.into()
}

/// Data missing or corrupt: exit 3.
pub fn data(message: impl fmt::Display) -> anyhow::Error {
    failure(Code::Data, message)
}

/// The system refused a thread: exit 2.
pub fn no_thread(error: impl fmt::Display) -> anyhow::Error {
    usage(format!(
        "the system refuses a thread: {error}; ask for fewer with --threads and --jobs, or raise the limits of memory \
         (ulimit -v) and processes (ulimit -u)"
    ))
}

/// Wrong usage: exit 2.
pub fn usage(message: impl fmt::Display) -> anyhow::Error {
    failure(Code::Usage, message)
}

/// The code of an error: that of the first [`Failure`] in its chain, 74 for a bare I/O error, else 1.
pub fn code_of(error: &anyhow::Error) -> Code {
    if let Some(failure) = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()) {
        return failure.code;
    }
    match error.chain().any(|cause| cause.is::<std::io::Error>()) {
        true => Code::Io,
        false => Code::Check,
    }
}

/// The known name nearest to a wrong one, as the tail of an error sentence: ``; did you mean `x`? Known: …``.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match closest(wrong, known.iter().copied()) {
        Some(name) => format!("; did you mean `{name}`? Known: {}", known.join(", ")),
        None => format!("; known: {}", known.join(", ")),
    }
}

fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min();
    best.filter(|(distance, name)| *distance <= wrong.len().max(name.len()) / 2).map(|(_, name)| name)
}

/// serde's "unknown field `x`, expected one of `a`, `b`" with the nearest of these names; other messages as they are.
pub fn suggest(message: &str) -> String {
    let message = message.trim_end();
    let starts = ["unknown field `", "unknown variant `"].map(|words| message.rfind(words));
    let Some(start) = starts.into_iter().flatten().max() else { return message.to_string() };
    let mut names = message[start..].split('`').skip(1).step_by(2);
    let wrong = names.next().unwrap_or_default();
    closest(wrong, names).map_or(message.to_string(), |name| format!("{message}; did you mean `{name}`?"))
}

//! Getting one file over HTTP: resumed where it was cut off, and never taken for whole before its checksum is right.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use md5::Md5;
use sha2::Sha256;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::catalog::Archive;
use super::digest_of;
use crate::exit::data;

/// Tries of one mirror without any more bytes than before.
const TRIES: u32 = 4;

/// Downloads files; `pause` is between tries.
pub struct Downloader {
    agent: Agent,
    pause: Duration,
}

/// Why a try ended before the file was whole.
enum Stop {
    /// Another try may go further.
    Again(String),
    /// This mirror cannot give the file.
    Never(String),
}

impl Downloader {
    /// `pause` grows with each fruitless try.
    pub fn new(pause: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            // A stalled body ends here, and the next try resumes it.
            .timeout_recv_body(Some(Duration::from_secs(1800)))
            .http_status_as_error(false)
            .user_agent(concat!("harness/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: Agent::new_with_config(config), pause }
    }

    /// The archive, whole and checked, at `folder/<its name>`: found there, or fetched from the first of `urls` that
    /// gives it. What has arrived of it stays in `<its name>.part`, for the next time.
    pub fn get(&self, archive: &Archive, urls: &[String], folder: &Path, out: &mut dyn Write) -> Result<PathBuf> {
        let target = folder.join(&archive.file);
        if target.exists() {
            check(archive, &target).map_err(|what| {
                data(format!("{} is not the official file: {what}; remove it and run this again", target.display()))
            })?;
            writeln!(out, "{} is here already", target.display())?;
            return Ok(target);
        }
        let part = folder.join(format!("{}.part", archive.file));
        let mut reasons = Vec::new();
        for url in urls {
            writeln!(out, "fetching {} ({} bytes) from {url}", archive.file, archive.bytes)?;
            match self.get_from(url, archive, &part) {
                Ok(()) => {
                    std::fs::rename(&part, &target)?;
                    return Ok(target);
                }
                Err(reason) => reasons.push(format!("{url}: {reason}")),
            }
        }
        let have = std::fs::metadata(&part).map_or(0, |metadata| metadata.len());
        let kept = if have > 0 { format!(" ({have} bytes are kept; run this again to go on)") } else { String::new() };
        let reasons = if reasons.is_empty() { "no mirror is known".into() } else { reasons.join("; ") };
        Err(data(format!(
            "{} could not be fetched{kept}: {reasons}; `--from FILE` takes a copy of your own",
            archive.file
        )))
    }

    /// Tries one mirror until the file is whole or nothing more comes.
    fn get_from(&self, url: &str, archive: &Archive, part: &Path) -> Result<(), String> {
        let mut best = length(part);
        let mut fruitless = 0;
        loop {
            let resumed = length(part) > 0;
            match self.attempt(url, archive, part) {
                Ok(()) => match check(archive, part) {
                    Ok(()) => return Ok(()),
                    Err(what) => {
                        // Parts of two different files may have met in it: once more from the start.
                        std::fs::remove_file(part).map_err(|error| error.to_string())?;
                        if !resumed {
                            return Err(format!("the file it gives is not the official one: {what}"));
                        }
                        best = 0;
                    }
                },
                Err(Stop::Never(reason)) => return Err(reason),
                Err(Stop::Again(reason)) => {
                    fruitless = if length(part) > best { 0 } else { fruitless + 1 };
                    best = best.max(length(part));
                    if fruitless >= TRIES {
                        return Err(format!("{reason} ({best} of {} bytes)", archive.bytes));
                    }
                    std::thread::sleep(self.pause * (fruitless + 1));
                }
            }
        }
    }

    /// One request, from where `part` ends.
    fn attempt(&self, url: &str, archive: &Archive, part: &Path) -> Result<(), Stop> {
        if length(part) > archive.bytes {
            std::fs::remove_file(part).map_err(|error| Stop::Never(error.to_string()))?;
        }
        let have = length(part);
        if have == archive.bytes {
            return Ok(());
        }
        let mut request = self.agent.get(url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let mut response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Stop::Never(error.to_string()),
            other => Stop::Again(other.to_string()),
        })?;
        let start = accept(&response, have, archive)?;
        let file = OpenOptions::new().create(true).write(true).append(start > 0).truncate(start == 0).open(part);
        let mut file = file.map_err(|error| Stop::Never(format!("{}: {error}", part.display())))?;
        let bar = progress(archive, start);
        let mut reader = response.body_mut().as_reader();
        let (mut at, mut buffer) = (start, vec![0; 1 << 17]);
        while at < archive.bytes {
            let most = buffer.len().min((archive.bytes - at) as usize);
            let n = reader.read(&mut buffer[..most]).map_err(|error| Stop::Again(error.to_string()))?;
            if n == 0 {
                return Err(Stop::Again("the connection was cut off".into()));
            }
            if at == 0 && buffer[..n].trim_ascii_start().starts_with(b"<") {
                drop(file);
                let _ = std::fs::remove_file(part);
                return Err(Stop::Never("it gives a web page, not the archive".into()));
            }
            file.write_all(&buffer[..n]).map_err(|error| Stop::Never(format!("{}: {error}", part.display())))?;
            at += n as u64;
            bar.set_position(at);
        }
        bar.finish_and_clear();
        file.sync_all().map_err(|error| Stop::Never(format!("{}: {error}", part.display())))
    }
}

/// Where the body of a response starts in the file; or why it is not the file.
fn accept<B>(response: &Response<B>, have: u64, archive: &Archive) -> Result<u64, Stop> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status();
    let start = match status {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT => {
            let range = header("content-range").unwrap_or("");
            if !range.starts_with(&format!("bytes {have}-")) {
                return Err(Stop::Never(format!("it answers a request from byte {have} with `{range}`")));
            }
            have
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Stop::Again(format!("it answers {status}")));
        }
        _ => return Err(Stop::Never(format!("it answers {status}"))),
    };
    if header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return Err(Stop::Never("it gives a web page, not the archive".into()));
    }
    let offered = header("content-length").and_then(|length| length.parse::<u64>().ok());
    match offered {
        Some(offered) if start + offered != archive.bytes => Err(Stop::Never(format!(
            "it offers {} bytes, but the official file has {}",
            start + offered,
            archive.bytes
        ))),
        _ => Ok(start),
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// A bar on a terminal; nothing elsewhere.
fn progress(archive: &Archive, start: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(archive.bytes).with_message(archive.file.clone()).with_position(start);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Length, MD5 and SHA-256 of a file against the official ones; what is wrong, if anything.
pub(super) fn check(archive: &Archive, path: &Path) -> Result<(), String> {
    let bytes = length(path);
    if bytes != archive.bytes {
        return Err(format!("it has {bytes} bytes, the official file {}", archive.bytes));
    }
    let open = || File::open(path).map_err(|error| error.to_string());
    let md5 = digest_of::<Md5>(open()?).map_err(|error| error.to_string())?;
    if md5 != archive.md5 {
        return Err(format!("its MD5 is {md5}, the official one {}", archive.md5));
    }
    let Some(expected) = &archive.sha256 else { return Ok(()) };
    let sha256 = digest_of::<Sha256>(open()?).map_err(|error| error.to_string())?;
    if sha256 != *expected {
        return Err(format!("its SHA-256 is {sha256}, the official one {expected}"));
    }
    Ok(())
}

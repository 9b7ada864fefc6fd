//! A disk that is full, broken or read-only: exit 74 with the path, nothing lost, and the next run completes.

use crate::bench::{Bench, each, text};
use crate::syscalls::{inject, points};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

#[test]
fn an_error_at_any_write_sync_or_rename_is_exit_74_with_the_path_and_loses_nothing() {
    let Some(points) = points("an_error_at_any_write_sync_or_rename_is_exit_74_with_the_path_and_loses_nothing") else {
        return;
    };
    let is_file = |line: &str| line.contains("/results/tiny");
    let points: Vec<_> = points
        .into_iter()
        .filter(|point| matches!(point.call, "write" | "fsync" | "renameat" | "rename") && is_file(&point.line))
        .collect();
    assert!(points.len() >= 100, "{} points", points.len());
    each(&points, |point| {
        let bench = Bench::new();
        let error = if point.nth % 2 == 0 { "ENOSPC" } else { "EIO" };
        let output = inject(&bench, point, &format!("error={error}"), 1);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{error} at {point:?}: {message}");
        let cause = if error == "EIO" { "Input/output error" } else { "No space left on device" };
        assert!(message.contains("results/tiny") && message.contains(cause), "{error} at {point:?}: {message}");
        bench.finish();
        bench.assert_whole();
    });
    println!("{} errors, one at every write, fsync and rename", points.len());
}

#[test]
fn a_log_on_a_full_disk_stops_no_training() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        println!("a_log_on_a_full_disk_stops_no_training: skipped, there is no /dev/full");
        return;
    };
    let bench = Bench::new();
    let status = bench.command().stderr(full).status().unwrap();
    assert!(status.success(), "{status}");
    bench.assert_whole();

    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = bench.command().stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    let message = text(&output.stderr);
    assert!(message.contains("stdout: No space left") && !message.contains("panicked"), "{message}");
    bench.assert_whole();
}

/// A file system in memory that ends with the test.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, size: &str, test: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at);
        if !mounted {
            println!("{test}: skipped, mounting a tmpfs needs root");
        }
        mounted.then_some(Self(at))
    }
}

fn mount(words: &[&str], at: &Path) -> bool {
    Command::new("mount").args(words).arg(at).output().is_ok_and(|output| output.status.success())
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

#[test]
fn a_disk_that_is_really_full_or_read_only_is_exit_74_and_the_run_goes_on_when_it_is_not() {
    let test = "a_disk_that_is_really_full_or_read_only_is_exit_74_and_the_run_goes_on_when_it_is_not";
    let bench = Bench::new();
    let results = bench.path().join("results");
    let Some(_mounted) = Tmpfs::mount(&results, "640k", test) else { return };
    let refused = |output: Output, cause: &str| {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{message}");
        assert!(message.contains("results/tiny") && message.contains(cause), "{message}");
        message
    };
    refused(bench.command().output().unwrap(), "No space left on device");
    assert!(mount(&["-o", "remount,ro,size=16m"], &results));
    let message = refused(bench.command().output().unwrap(), "Read-only file system");
    assert!(!message.contains("epoch"), "{message}");
    assert!(mount(&["-o", "remount,rw,size=16m"], &results));
    bench.finish();
    bench.assert_whole();
}

//! One process at a time in a folder: a lock of the kernel, which ends with its process however that ends; where the
//! file system has none, a lease that names its process.
//!
//! Neither is what results rest on: training is deterministic and files are replaced whole, so that two processes on
//! one cell waste time and harm nothing.

use crate::environment::Environment;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Held until it is dropped or its process ends.
#[derive(Debug)]
pub struct Lock(Kind);

#[derive(Debug)]
enum Kind {
    Kernel { _file: File },
    Lease { path: PathBuf },
}

/// The process that holds a lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    host: String,
    pid: u32,
    /// Another one means that the host was started anew since, and the process is gone.
    boot_id: String,
}

impl Lock {
    /// Takes a folder's lock; `None` where another process has it.
    pub fn take(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("LOCK");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(Kind::Kernel { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if without_locks(&error) => lease(folder),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Waits for a folder's lock, but not for ever: `None` where its holder hangs.
    pub fn wait(folder: &Path, most: Duration) -> Result<Option<Self>> {
        let started = Instant::now();
        loop {
            let lock = Self::take(folder)?;
            if lock.is_some() || started.elapsed() > most {
                return Ok(lock);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether some process holds a folder's lock.
    pub fn is_held(folder: &Path) -> bool {
        let locked = File::open(folder.join("LOCK"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        locked || holder(&folder.join("LEASE")).is_some_and(|holder| holder.is_alive())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Kind::Lease { path } = &self.0
            && holder(path) == Some(Holder::new())
        {
            std::fs::remove_file(path).ok();
        }
    }
}

/// Whether an error says that the file system, not another process, refuses the lock (ENOLCK has no `ErrorKind`).
fn without_locks(error: &std::io::Error) -> bool {
    let enolck = if cfg!(target_os = "macos") { 77 } else { 37 };
    error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(enolck)
}

fn lease(folder: &Path) -> Result<Option<Lock>> {
    let path = folder.join("LEASE");
    let write = || -> Result<bool> {
        let mut file = tempfile::Builder::new().prefix(".lease-").tempfile_in(folder)?;
        file.write_all(&serde_json::to_vec(&Holder::new())?)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(true),
            Err(refused) if refused.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(refused) => Err(refused.error.into()),
        }
    };
    let taken = |ok: bool| ok.then(|| Lock(Kind::Lease { path: path.clone() }));
    let context = || format!("writing {}", path.display());
    if write().with_context(context)? {
        return Ok(taken(true));
    }
    match holder(&path) {
        Some(holder) if holder.is_alive() => {
            let Holder { host, pid, .. } = holder;
            let path = path.display();
            tracing::warn!("process {pid} on {host} holds {path}; if it is gone, remove that file");
            Ok(None)
        }
        _ => {
            std::fs::remove_file(&path).ok();
            Ok(taken(write().with_context(context)?))
        }
    }
}

fn holder(lease: &Path) -> Option<Holder> {
    serde_json::from_slice(&std::fs::read(lease).ok()?).ok()
}

impl Holder {
    fn new() -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let host = Environment::new().host.unwrap_or_default();
        Self { host, pid: std::process::id(), boot_id: boot_id.trim().to_string() }
    }

    /// A process on another host cannot be asked: it counts as alive.
    fn is_alive(&self) -> bool {
        let here = Self::new();
        if self.host != here.host || !cfg!(target_os = "linux") {
            return true;
        }
        self.boot_id == here.boot_id && Path::new("/proc").join(self.pid.to_string()).exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_processs_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Lock::is_held(folder.path()));
        let lock = Lock::take(folder.path()).unwrap();
        assert!(lock.is_some() && Lock::is_held(folder.path()));
        assert!(Lock::take(folder.path()).unwrap().is_none());
        assert!(Lock::wait(folder.path(), Duration::from_millis(20)).unwrap().is_none());
        drop(lock);
        assert!(Lock::take(folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_lease_outlives_neither_its_process_nor_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LEASE");
        let lock = lease(folder.path()).unwrap();
        assert!(lock.is_some() && Lock::is_held(folder.path()));
        assert!(lease(folder.path()).unwrap().is_none());
        drop(lock);
        assert!(!path.exists());
        let here = Holder::new();
        for (left, free) in [
            (Holder { pid: u32::MAX, ..Holder::new() }, true),
            (Holder { boot_id: "of yesterday".into(), ..Holder::new() }, true),
            (Holder { host: "elsewhere".into(), ..Holder::new() }, false),
        ] {
            std::fs::write(&path, serde_json::to_vec(&left).unwrap()).unwrap();
            let taken = lease(folder.path()).unwrap();
            assert_eq!(taken.is_some(), free, "{left:?}");
            assert_eq!(holder(&path), Some(if free { here.clone() } else { left }));
        }
        // Torn: nobody's.
        std::fs::write(&path, "{\"host\":").unwrap();
        assert!(lease(folder.path()).unwrap().is_some());
    }
}

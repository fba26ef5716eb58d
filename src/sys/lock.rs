//! Says "this directory is mine" to other agents, for as long as the process lives.
//! The kernel lets go of it when the process dies, however it dies; the file itself stays and means nothing.
#![allow(clippy::disallowed_methods, reason = "sys is where the system is asked")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// Held until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{} is held by another agent{}", path.display(), by(*pid))]
    Held {
        path: PathBuf,
        /// As the holder wrote it; a process of another pid namespace may be meant.
        pid: Option<u32>,
    },
    #[error("cannot lock {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DirectoryLock {
    /// Locks the file `name` in `directory`, which must exist. Doesn't wait.
    pub fn acquire(directory: &Path, name: &str) -> Result<DirectoryLock, LockError> {
        let path = directory.join(name);
        let failed = |source: io::Error| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Held { pid: holder(&mut file), path }),
            Err(error) => return Err(failed(error.into())),
        }
        // The pid is only for the message another agent prints: a full disk must not keep this one from starting.
        let _only_for_people = note_pid(&mut file);
        Ok(DirectoryLock { _file: file })
    }
}

impl DirectoryLock {
    /// Tries for so long.
    pub fn acquire_within(directory: &Path, name: &str, time: Duration) -> Result<DirectoryLock, LockError> {
        const PAUSE: Duration = Duration::from_millis(20);
        let mut left = time;
        loop {
            match DirectoryLock::acquire(directory, name) {
                Err(LockError::Held { .. }) if left > PAUSE => {
                    left -= PAUSE;
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }
}

fn note_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_holder_is_told_of_the_first() {
        let place = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(place.path(), "lock").unwrap();
        let mode = std::fs::metadata(place.path().join("lock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = DirectoryLock::acquire(place.path(), "lock").unwrap_err();
        let LockError::Held { pid, .. } = &error else { panic!("{error}") };
        assert_eq!(*pid, Some(std::process::id()));
        assert!(error.to_string().contains("held by another agent (pid "), "{error}");
        DirectoryLock::acquire(place.path(), "other").unwrap();

        drop(lock);
        DirectoryLock::acquire(place.path(), "lock").unwrap();
    }

    #[test]
    fn a_place_that_can_t_be_locked_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let missing = DirectoryLock::acquire(&place.path().join("none"), "lock").unwrap_err();
        assert!(matches!(&missing, LockError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound));
        std::os::unix::fs::symlink("/etc/passwd", place.path().join("lock")).unwrap();
        assert!(matches!(DirectoryLock::acquire(place.path(), "lock"), Err(LockError::Io { .. })));
    }
}

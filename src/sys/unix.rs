//! The real machine: [`Os`] on Linux, and a few questions about the process.
//! Never blocks on what pretends to be a log: every open is non-blocking and refuses all but regular files.
#![allow(clippy::disallowed_methods, reason = "sys is where the system is asked")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::Resource;
use rustix::time::ClockId;

use super::{Create, FileId, Kind, Os, Space, Stat};

/// How often an output that appears and vanishes between two calls is tried again.
const OPEN_TRIES: u32 = 8;
/// Asked for where the hard limit of open files is unlimited; the kernel's own ceiling (`fs.nr_open`).
const OPEN_FILES_UNLIMITED: u64 = 1 << 20;
const READING: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const WRITING: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Changes with each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unix;

impl Os for Unix {
    type File = Arc<OwnedFd>;

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn each_name(&self, directory: &Path, name: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            name(&entry?.file_name());
        }
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(from_kernel(&rustix::fs::lstat(path)?))
    }

    fn stat_open(&self, file: &Self::File) -> io::Result<Stat> {
        Ok(from_kernel(&rustix::fs::fstat(file)?))
    }

    fn open(&self, path: &Path) -> io::Result<Self::File> {
        // Reading a log must not write to it. Only its owner may ask for that.
        let opened = match open_raw(path, READING | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => open_raw(path, READING, Mode::empty()),
            other => other,
        };
        regular(opened.map_err(not_a_file)?)
    }

    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        // Ends: each turn fills at least a byte.
        while filled < buffer.len() {
            let n_read = retry_on_intr(|| rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64))?;
            if n_read == 0 {
                break;
            }
            filled += n_read;
        }
        Ok(filled)
    }

    fn data_at(&self, file: &Self::File, offset: u64) -> io::Result<u64> {
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(found) => Ok(found),
            Err(Errno::NXIO) => Ok(self.stat_open(file)?.size),
            // A file system that knows nothing of holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
            Err(error) => Err(error.into()),
        }
    }

    fn forget(&self, file: &Self::File, start: u64, end: u64) {
        if let Some(length) = NonZeroU64::new(end.saturating_sub(start)) {
            let _only_advice = rustix::fs::fadvise(file, start, Some(length), rustix::fs::Advice::DontNeed);
        }
    }

    fn create_directories(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)
    }

    fn open_output(&self, path: &Path, mode: u32, create: Create) -> io::Result<Self::File> {
        match create {
            Create::Never => regular(open_raw(path, WRITING, Mode::empty()).map_err(not_a_file)?),
            Create::New => make_output(path, mode).map_err(not_a_file),
            Create::IfMissing => {
                for _ in 0..OPEN_TRIES {
                    match open_raw(path, WRITING, Mode::empty()) {
                        Err(Errno::NOENT) => {}
                        opened => return regular(opened.map_err(not_a_file)?),
                    }
                    match make_output(path, mode) {
                        Err(Errno::EXIST) => {}
                        made => return made.map_err(not_a_file),
                    }
                }
                Err(Errno::EXIST.into())
            }
        }
    }

    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        match retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            n_written => Ok(n_written),
        }
    }

    fn truncate(&self, file: &Self::File, size: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(file, size))?)
    }

    fn sync(&self, file: &Self::File) -> io::Result<()> {
        // fdatasync also makes the size durable, which is what is needed to read the bytes back.
        Ok(retry_on_intr(|| rustix::fs::fdatasync(file))?)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = open_raw(directory, flags, Mode::empty())?;
        Ok(retry_on_intr(|| rustix::fs::fsync(&opened))?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // NFS, overlayfs on old kernels and some FUSE file systems don't know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_checked(from, to),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(CWD, path, AtFlags::empty())?)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = retry_on_intr(|| rustix::fs::statvfs(path))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn wall_ns(&self) -> i64 {
        let now = rustix::time::clock_gettime(ClockId::Realtime);
        nanoseconds(now.tv_sec, now.tv_nsec)
    }

    fn boot_id(&self) -> String {
        match fs::read_to_string(BOOT_ID) {
            Ok(id) => id.trim().to_owned(),
            Err(error) => {
                // Asked once an agent: a backfill has several.
                static SAID: std::sync::Once = std::sync::Once::new();
                SAID.call_once(|| {
                    tracing::warn!(path = BOOT_ID, %error, "cannot tell this boot from another: what a power loss takes from outputs may go unnoticed; --sync avoids that");
                });
                String::new()
            }
        }
    }
}

/// Lifts the soft limit of open files to the hard one; gives the limit that then holds.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(OPEN_FILES_UNLIMITED);
    match limit.current {
        Some(current) if current < wanted => {
            limit.current = Some(wanted);
            rustix::process::setrlimit(Resource::Nofile, limit)?;
            Ok(wanted)
        }
        Some(current) => Ok(current),
        None => Ok(u64::MAX),
    }
}

/// The name of this machine; in a pod, that of the pod.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Threads that can run at the same time here, by affinity and cgroup quota.
pub fn thread_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn open_raw(path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| rustix::fs::open(path, flags, mode))
}

fn make_output(path: &Path, mode: u32) -> Result<Arc<OwnedFd>, Errno> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    let opened = open_raw(path, WRITING | OFlags::CREATE | OFlags::EXCL, mode)?;
    // The operator's mode, whatever the umask.
    rustix::fs::fchmod(&opened, mode)?;
    Ok(Arc::new(opened))
}

fn regular(opened: OwnedFd) -> io::Result<Arc<OwnedFd>> {
    let stat = rustix::fs::fstat(&opened)?;
    if from_kernel(&stat).kind != Kind::File {
        return Err(no_regular_file());
    }
    Ok(Arc::new(opened))
}

/// `ELOOP` is a link that O_NOFOLLOW met, `ENXIO` a socket: both are no regular file.
fn not_a_file(error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::NXIO => no_regular_file(),
        other => other.into(),
    }
}

fn no_regular_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn rename_checked(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::lstat(to) {
        Ok(_) => Err(Errno::EXIST.into()),
        Err(Errno::NOENT) => Ok(rustix::fs::rename(from, to)?),
        Err(error) => Err(error.into()),
    }
}

#[allow(clippy::unnecessary_cast, reason = "the width of these fields depends on the architecture")]
fn from_kernel(stat: &rustix::fs::Stat) -> Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    Stat {
        id: FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64 },
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        disk_bytes: (stat.st_blocks as u64).saturating_mul(512),
        modified_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        links: stat.st_nlink as u64,
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    fn place() -> (TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        (directory, path)
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let (_keep, at) = place();
        fs::write(at.join("log"), "x").unwrap();
        symlink(at.join("log"), at.join("link")).unwrap();
        symlink(at.join("nowhere"), at.join("dangling")).unwrap();
        fifo(&at.join("fifo"));
        let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
        fs::create_dir(at.join("directory")).unwrap();
        for name in ["link", "dangling", "fifo", "socket", "directory"] {
            assert_eq!(Unix.open(&at.join(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        for name in ["link", "dangling", "fifo", "socket"] {
            for create in [Create::IfMissing, Create::Never] {
                let error = Unix.open_output(&at.join(name), 0o640, create).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
            }
        }
        assert!(Unix.open_output(&at.join("directory"), 0o640, Create::IfMissing).is_err());
        assert!(!at.join("nowhere").exists());
        assert_eq!(Unix.open(&at.join("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn stat_tells_kinds_apart() {
        let (_keep, at) = place();
        fs::write(at.join("log"), "12345").unwrap();
        symlink(at.join("log"), at.join("link")).unwrap();
        let stat = Unix.stat(&at.join("log")).unwrap();
        assert_eq!((stat.kind, stat.size, stat.links), (Kind::File, 5, 1));
        assert_eq!(Unix.stat(&at.join("link")).unwrap().kind, Kind::Other);
        assert_eq!(Unix.stat(&at).unwrap().kind, Kind::Directory);
        assert!((Unix.wall_ns() - stat.modified_ns).abs() < 60_000_000_000);

        let file = Unix.open(&at.join("log")).unwrap();
        Unix.remove(&at.join("log")).unwrap();
        let held = Unix.stat_open(&file).unwrap();
        assert_eq!((held.id, held.links), (stat.id, 0));
        let mut names = Unix.list(&at).unwrap();
        names.sort();
        assert_eq!(names, ["link"]);
    }

    #[test]
    fn a_short_read_is_the_end() {
        let (_keep, at) = place();
        fs::write(at.join("log"), "hello world").unwrap();
        let file = Unix.open(&at.join("log")).unwrap();
        let mut buffer = [0u8; 8];
        assert_eq!(Unix.read_at(&file, 0, &mut buffer).unwrap(), 8);
        assert_eq!(&buffer, b"hello wo");
        assert_eq!(Unix.read_at(&file, 6, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"world");
        assert_eq!(Unix.read_at(&file, 11, &mut buffer).unwrap(), 0);
        assert_eq!(Unix.read_at(&file, 4096, &mut buffer).unwrap(), 0);
        assert_eq!(Unix.read_at(&file, 0, &mut []).unwrap(), 0);
        Unix.forget(&file, 0, 8);
        Unix.forget(&file, 8, 8);
    }

    #[test]
    fn holes_are_skipped() {
        let (_keep, at) = place();
        let file = Unix.open_output(&at.join("holes"), 0o640, Create::New).unwrap();
        Unix.truncate(&file, 1 << 20).unwrap();
        assert_eq!(Unix.data_at(&file, 0).unwrap(), 1 << 20, "only holes follow");
        Unix.write_at(&file, 1 << 19, b"here").unwrap();
        let found = Unix.data_at(&file, 0).unwrap();
        assert!(found <= 1 << 19, "{found}");
        assert_eq!(Unix.data_at(&file, (1 << 19) + 1).unwrap(), (1 << 19) + 1);
        assert_eq!(Unix.data_at(&file, 1 << 21).unwrap(), 1 << 20);
        assert!(Unix.stat_open(&file).unwrap().disk_bytes < 1 << 20);
    }

    #[test]
    fn an_output_is_made_with_its_mode_and_kept_as_it_is() {
        let (_keep, at) = place();
        let path = at.join("out.log");
        assert_eq!(Unix.open_output(&path, 0o640, Create::Never).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = Unix.open_output(&path, 0o666, Create::IfMissing).unwrap();
        // 0666 is what a umask would narrow.
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o666);
        assert_eq!(Unix.write_at(&file, 0, b"abc").unwrap(), 3);
        assert_eq!(Unix.write_at(&file, 3, b"").unwrap(), 0);
        Unix.sync(&file).unwrap();
        Unix.sync_directory(&at).unwrap();

        let again = Unix.open_output(&path, 0o600, Create::IfMissing).unwrap();
        assert_eq!(Unix.stat_open(&again).unwrap().size, 3);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o666);
        assert_eq!(Unix.open_output(&path, 0o640, Create::New).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_rename_never_replaces() {
        let (_keep, at) = place();
        fs::write(at.join("a"), "a").unwrap();
        fs::write(at.join("b"), "b").unwrap();
        for rename in [rename_checked, |from: &Path, to: &Path| Unix.rename_new(from, to)] {
            assert_eq!(rename(&at.join("a"), &at.join("b")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(at.join("b")).unwrap(), b"b");
            rename(&at.join("a"), &at.join("c")).unwrap();
            rename(&at.join("c"), &at.join("a")).unwrap();
            assert_eq!(rename(&at.join("none"), &at.join("d")).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn the_machine_answers() {
        let (_keep, at) = place();
        let space = Unix.space(&at).unwrap();
        assert!(space.free <= space.total && space.total > 0);
        assert!(Unix.monotonic() <= Unix.monotonic());
        assert!(!hostname().is_empty());
        assert!(thread_count() >= 1);
        assert_eq!(Unix.boot_id(), Unix.boot_id());
        let limit = raise_open_files().unwrap();
        assert!(limit > 0);
        assert_eq!(raise_open_files().unwrap(), limit);
        Unix.create_directories(&at.join("x/y")).unwrap();
        Unix.create_directories(&at.join("x/y")).unwrap();
    }
}

//! The machine behind one trait, so that the same agent runs on a kernel and in the simulator.
//! Owns every system call of the data path; knows nothing of logs, lines or containers.

pub mod lock;
pub mod places;
pub mod process;
pub mod service;
pub mod signal;
pub mod unix;
pub mod watch;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::Duration;

/// What kind of thing a directory entry is. Links are never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
    /// A symbolic link, FIFO, socket or device: never a log.
    Other,
}

/// Which file it is while somebody holds it open. Proves nothing across a restart (ext4 reuses inodes at once).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// The part of `stat(2)` the agent looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stat {
    pub id: FileId,
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Bytes that occupy the disk; less than `size` for a file with holes.
    pub disk_bytes: u64,
    /// Nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Names that lead to the file; 0 once it is unlinked.
    pub links: u64,
}

/// Whether opening an output may make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Create it when it is missing.
    IfMissing,
    /// Create it, and fail with `AlreadyExists` when it is there.
    New,
    Never,
}

/// What the data path asks of an operating system. Every method may fail with what the kernel says.
pub trait Os: Clone + Send + 'static {
    /// A descriptor. Clones share it; the file is closed when the last clone is dropped.
    type File: Clone + Send + 'static;

    /// Names in a directory, in no order, without `.` and `..`.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;
    /// The same one by one, for directories with thousands.
    fn each_name(&self, directory: &Path, name: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        self.list(directory)?.iter().for_each(|one| name(one));
        Ok(())
    }
    /// `lstat`: a link is `Kind::Other`.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    fn stat_open(&self, file: &Self::File) -> io::Result<Stat>;
    /// Opens a regular file for reading: not through a link, and never blocking on a FIFO. Anything that is no regular
    /// file is `InvalidInput`.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Reads at `offset` until `buffer` is full or the file ends; fewer bytes than asked for mean the end of the file.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// The first offset at or after `offset` that isn't in a hole; the size of the file when only holes follow.
    fn data_at(&self, file: &Self::File, offset: u64) -> io::Result<u64>;
    /// These bytes will not be read again: the page cache may let them go.
    fn forget(&self, file: &Self::File, start: u64, end: u64);

    /// Makes a directory and its parents.
    fn create_directories(&self, directory: &Path) -> io::Result<()>;
    /// Opens an output for reading and writing: not through a link.
    fn open_output(&self, path: &Path, mode: u32, create: Create) -> io::Result<Self::File>;
    /// One write; may be short. At least one byte is written or it is an error.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    fn truncate(&self, file: &Self::File, size: u64) -> io::Result<()>;
    /// The file's bytes and size are on the disk when this returns.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// The directory's entries are on the disk when this returns.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Renames; `AlreadyExists` when `to` is there.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Free bytes of the file system that holds `path`, and its whole size.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Time since some moment in the past; never goes back.
    fn monotonic(&self) -> Duration;
    /// Nanoseconds since the Unix epoch; may jump.
    fn wall_ns(&self) -> i64;
    /// Changes with each boot of the machine: what was not synced under another boot may be lost.
    fn boot_id(&self) -> String;
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

//! What the fuzz targets share: a machine in memory, and a cursor that takes an input apart.
//! The machine is a flat set of files with holes and nothing else: no directories, no faults, no clock.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use longshore::config::limits::{PATH_COMPONENT_BYTES_MAX, PATH_COMPONENTS_MAX};
use longshore::discover::names::PRIVATE_DIRECTORY;
use longshore::sys::{Create, FileId, Kind, Os, Space, Stat};

/// A container id, and the directory that the targets read from.
pub const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub const DIRECTORY: &str = "/containers";

/// Files by path. Clones are the same machine.
#[derive(Clone, Default)]
pub struct Memory {
    files: Arc<Mutex<BTreeMap<PathBuf, MemoryFile>>>,
    n_made: Arc<Mutex<u64>>,
}

/// One inode; lives on without a name while somebody holds it.
#[derive(Clone)]
pub struct MemoryFile(Arc<Mutex<Inode>>);

struct Inode {
    id: FileId,
    /// What isn't a hole, by its offset. Extents don't overlap and none is empty.
    extents: BTreeMap<u64, Vec<u8>>,
    /// No extent reaches beyond it.
    size: u64,
    links: u64,
    n_changes: i64,
}

impl Memory {
    /// Makes an empty file, or gives the one that is there.
    pub fn file(&self, path: &Path) -> MemoryFile {
        let mut files = self.files();
        let n_made = &self.n_made;
        let make = || {
            let mut n_made = n_made.lock().expect("no target panics with it");
            *n_made += 1;
            let id = FileId { device: 1, inode: *n_made };
            MemoryFile(Arc::new(Mutex::new(Inode { id, extents: BTreeMap::new(), size: 0, links: 1, n_changes: 0 })))
        };
        files.entry(path.to_owned()).or_insert_with(make).clone()
    }

    pub fn rename(&self, from: &Path, to: &Path) {
        let mut files = self.files();
        let Some(file) = files.remove(from) else { return };
        if let Some(replaced) = files.insert(to.to_owned(), file) {
            replaced.inode().links = 0;
        }
    }

    pub fn unlink(&self, path: &Path) -> bool {
        let removed = self.files().remove(path);
        if let Some(file) = &removed {
            file.inode().links = 0;
        }
        removed.is_some()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, MemoryFile>> {
        self.files.lock().expect("no target panics with it")
    }
}

impl MemoryFile {
    pub fn id(&self) -> FileId {
        self.inode().id
    }

    pub fn size(&self) -> u64 {
        self.inode().size
    }

    pub fn append(&self, bytes: &[u8]) {
        let mut inode = self.inode();
        let end = inode.size;
        if !bytes.is_empty() {
            inode.extents.insert(end, bytes.to_vec());
            inode.size += bytes.len() as u64;
        }
        inode.n_changes += 1;
    }

    pub fn append_hole(&self, bytes: u64) {
        let mut inode = self.inode();
        inode.size += bytes;
        inode.n_changes += 1;
    }

    pub fn truncate(&self, size: u64) {
        let mut inode = self.inode();
        inode.size = inode.size.min(size);
        let _gone = inode.extents.split_off(&size);
        if let Some((start, last)) = inode.extents.iter_mut().next_back() {
            let keep = usize::try_from(size - start).unwrap_or(usize::MAX);
            last.truncate(keep);
        }
        inode.n_changes += 1;
    }

    /// Fills `buffer` from `offset`; fewer bytes mean the end.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let inode = self.inode();
        let length = inode.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..length];
        buffer.fill(0);
        let end = offset + length as u64;
        for (start, bytes) in inode.extents.range(..end).rev() {
            let bytes_end = start + bytes.len() as u64;
            if bytes_end <= offset {
                break;
            }
            let (from, to) = (offset.max(*start), end.min(bytes_end));
            let source = &bytes[(from - start) as usize..(to - start) as usize];
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
        }
        length
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size() as usize];
        self.read(0, &mut bytes);
        bytes
    }

    fn inode(&self) -> MutexGuard<'_, Inode> {
        self.0.lock().expect("no target panics with it")
    }

    fn stat(&self) -> Stat {
        let inode = self.inode();
        Stat {
            id: inode.id,
            kind: Kind::File,
            size: inode.size,
            disk_bytes: inode.size,
            modified_ns: inode.n_changes,
            links: inode.links,
        }
    }
}

/// The targets write nothing through it.
fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Os for Memory {
    type File = MemoryFile;

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let files = self.files();
        let inside = files.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| path.file_name()).map(OsString::from).collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(self.open(path)?.stat())
    }

    fn stat_open(&self, file: &MemoryFile) -> io::Result<Stat> {
        Ok(file.stat())
    }

    fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        self.files().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, file: &MemoryFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(file.read(offset, buffer))
    }

    fn data_at(&self, file: &MemoryFile, offset: u64) -> io::Result<u64> {
        let inode = file.inode();
        let covers = inode.extents.range(..=offset).next_back();
        if covers.is_some_and(|(start, bytes)| start + bytes.len() as u64 > offset) {
            return Ok(offset);
        }
        Ok(inode.extents.range(offset..).next().map_or(inode.size, |(start, _)| *start))
    }

    fn forget(&self, _: &MemoryFile, _: u64, _: u64) {}

    fn create_directories(&self, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn open_output(&self, _: &Path, _: u32, _: Create) -> io::Result<MemoryFile> {
        Err(read_only())
    }

    fn write_at(&self, _: &MemoryFile, _: u64, _: &[u8]) -> io::Result<usize> {
        Err(read_only())
    }

    fn truncate(&self, _: &MemoryFile, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync(&self, _: &MemoryFile) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn rename_new(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { free: 0, total: 0 })
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_ns(&self) -> i64 {
        0
    }

    fn boot_id(&self) -> String {
        String::new()
    }
}

/// Takes an input apart from its front; gives zeros when it is used up.
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(input: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: input }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    pub fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// At most `length` bytes.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// A route stays below the log-path, out of the agent's own directory, and is no name that rotation gives.
pub fn assert_stays_below(route: &str) {
    let components: Vec<&str> = route.split('/').collect();
    assert!(components.len() <= PATH_COMPONENTS_MAX, "{route:?}");
    for component in &components {
        assert!(!["", ".", ".."].contains(component), "{route:?}");
        assert!(component.len() <= PATH_COMPONENT_BYTES_MAX, "{route:?}");
        assert!(!component.chars().any(char::is_control), "{route:?}");
    }
    assert!(components[0] != PRIVATE_DIRECTORY, "{route:?}");
    let file = components[components.len() - 1];
    let ending = file.rsplit('.').next().unwrap_or_default();
    assert!(file.contains('.') && !["gz", "zst", "tmp"].contains(&ending), "{route:?}");
    assert!(ending.parse::<u64>().is_err(), "{route:?}");
}

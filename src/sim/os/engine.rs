//! The same files for everybody but the agent: never counted, never failed, alive through the agent's crashes.
//! Its descriptors die only with the machine.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Body, NodeKey};
use super::{File, Owner, SimOs, World, lock};
use crate::sim::random::Random;

impl SimOs {
    /// `O_CREAT | O_TRUNC`.
    pub fn engine_create(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let node = self.engine(|world| match world.disk.find(path) {
            Ok(key) => {
                world.disk.content(key)?;
                world.disk.truncate(key, 0, world.wall_ns);
                Ok(key)
            }
            Err(_) => world.disk.create(path, Body::file(), world.wall_ns, &mut world.coverage),
        })?;
        Ok(self.engine_descriptor(node, path))
    }

    /// Opens what is there.
    pub fn engine_open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let node = self.engine(|world| {
            let key = world.disk.find(path)?;
            world.disk.content(key).map(|_| key)
        })?;
        Ok(self.engine_descriptor(node, path))
    }

    pub fn engine_write(&self, file: &File, offset: u64, bytes: &[u8]) {
        self.engine_file(file, |world, key| {
            world.disk.write(key, offset, bytes, world.wall_ns, &mut world.coverage);
        });
    }

    /// Writes at the end; says where that was.
    pub fn engine_append(&self, file: &File, bytes: &[u8]) -> u64 {
        let offset = self.engine_size(file);
        self.engine_write(file, offset, bytes);
        offset
    }

    pub fn engine_truncate(&self, file: &File, size: u64) {
        self.engine_file(file, |world, key| world.disk.truncate(key, size, world.wall_ns));
    }

    pub fn engine_size(&self, file: &File) -> u64 {
        self.engine_file(file, |world, key| world.disk.content(key).expect("only files are opened").size())
    }

    pub fn engine_sync(&self, file: &File) {
        self.engine_file(file, |world, key| world.disk.sync(key));
    }

    /// Creates or overwrites a whole file.
    pub fn engine_write_whole(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.engine_create(path).map(|file| self.engine_write(&file, 0, bytes))
    }

    /// Replaces a file at `to`.
    pub fn engine_rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.engine(|world| world.disk.rename(from.as_ref(), to.as_ref(), world.wall_ns))
    }

    /// Removes a file, or an empty directory, as Go's `os.Remove` does.
    pub fn engine_unlink(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.engine(|world| world.disk.remove(path.as_ref(), world.wall_ns))
    }

    pub fn engine_mkdir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.engine(|world| world.disk.create_directories(path.as_ref(), world.wall_ns, &mut world.coverage))
    }

    /// Removes a directory and what is in it.
    pub fn engine_rmdir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        for name in self.engine_list(path)? {
            let child = path.join(name);
            if self.engine_list(&child).is_ok() {
                self.engine_rmdir(&child)?;
            } else {
                self.engine_unlink(&child)?;
            }
        }
        self.engine_unlink(path)
    }

    /// Something that is neither file nor directory: a link, a FIFO.
    pub fn engine_special(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        self.engine(|world| world.disk.create(path, Body::Special, world.wall_ns, &mut world.coverage).map(|_| ()))
    }

    /// Sorted.
    pub fn engine_list(&self, path: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
        self.engine(|world| {
            let key = world.disk.find(path.as_ref())?;
            Ok(world.disk.names(key)?.keys().map(PathBuf::from).collect())
        })
    }

    /// A whole file, whoever wrote it.
    pub fn engine_read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.engine(|world| {
            let key = world.disk.find(path.as_ref())?;
            world.disk.content(key).map(|content| content.to_vec())
        })
    }

    pub fn engine_exists(&self, path: impl AsRef<Path>) -> bool {
        self.engine_node(path).is_some()
    }

    /// Which file a name leads to: equal as long as it is the same file, through renames and crashes.
    pub fn engine_node(&self, path: impl AsRef<Path>) -> Option<NodeKey> {
        lock(&self.world).disk.find(path.as_ref()).ok()
    }

    /// Makes durable what is at and below `path`, and the way to it, as time does.
    pub fn settle(&self, path: impl AsRef<Path>) {
        self.engine(|world| {
            let path = path.as_ref();
            for parent in path.ancestors().skip(1) {
                let key = world.disk.find(parent)?;
                world.disk.sync_directory(key)?;
            }
            let key = world.disk.find(path)?;
            world.disk.settle(key);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("cannot settle {}: {error}", path.as_ref().display()));
    }

    /// What the kernel's write-back does by itself: each file and directory at or below `path` is synced, or not.
    pub fn write_back(&self, path: impl AsRef<Path>, random: &mut Random) {
        let mut world = lock(&self.world);
        let Ok(key) = world.disk.find(path.as_ref()) else { return };
        for key in world.disk.below(key) {
            if random.coin() {
                world.disk.sync(key);
                // Files have no names in them.
                let _ = world.disk.sync_directory(key);
            }
        }
    }

    fn engine<T>(&self, act: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        act(&mut lock(&self.world))
    }

    fn engine_file<T>(&self, file: &File, act: impl FnOnce(&mut World, NodeKey) -> T) -> T {
        let mut world = lock(&self.world);
        assert!(world.is_valid(file.0.owner), "the engine's descriptor of {} outlived its boot", file.0.path.display());
        act(&mut world, file.0.node)
    }

    fn engine_descriptor(&self, node: NodeKey, path: &Path) -> File {
        let boot = {
            let mut world = lock(&self.world);
            world.disk.node_mut(node).engine_opens += 1;
            world.boot
        };
        self.descriptor(node, path, Owner::Engine { boot })
    }
}

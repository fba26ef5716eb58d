//! The rows of the checkpoint on the disk: sled behind a trait of two verbs.
//! Trusts sled with atomic batches and with nothing else: it opens what is damaged with `Ok`, and is then empty, or
//! serves rows of an hour ago. So each commit also writes its number and a sum of the whole table into the batch, and
//! the number once more beside the store.
//!
//! Layout of the state directory:
//!
//! ```text
//! store.json                     the marker: a store was made here, which one, and how many rows it had
//! store.commits                  the number of the last commit; not synced, so it may be an older one
//! sled/                          the store
//! sled.before-open/              a copy from before a suspicious open; only while that lasts
//! sled.corrupt-<unix seconds>/   damaged stores, the newest two
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "the store lives beside sled's own files, outside of the simulated machine"
)]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use crate::config::limits::{COMMIT_CHANGES_MAX, VALUE_BYTES_MAX};
use crate::sys::Os;
use crate::sys::unix::Unix;
use crate::telemetry::RecoveryReason;

/// sled leaks memory and disk from about 1,000 entries a batch on. Commits are cut at `COMMIT_CHANGES_MAX`, but the
/// changes of one container are never parted.
pub const CHANGES_MAX: usize = 800;
/// A container's id with its number, and room.
pub const KEY_BYTES_MAX: usize = 1024;
/// Names of this format; a store with a higher one is left alone.
pub const SCHEMA: u32 = 1;

const _: () = assert!(COMMIT_CHANGES_MAX <= CHANGES_MAX);

const TREE: &[u8] = b"ckpt.v1";
/// The row in which the store describes itself. The agent's own keys never begin with NUL.
const META_KEY: &[u8] = b"\0meta";
const CACHE_BYTES: u64 = 8 << 20;
/// Below this a failed open is the disk's fault, not the store's.
const FREE_BYTES_MIN: u64 = 1 << 20;
const CORRUPT_KEPT: usize = 2;
/// sled's threads let go of the lock a moment after its handle is dropped.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A key, and its new value; `None` removes the row.
type Change = (Vec<u8>, Option<Vec<u8>>);
type Row = (Vec<u8>, Vec<u8>);

/// Where rows are kept.
pub trait Store: Send + 'static {
    /// All rows, in the order of their keys.
    fn load(&mut self) -> Result<Vec<Row>, StoreError>;
    /// Makes all the changes or none, durable when it returns. After an error either is possible, but what an earlier
    /// commit acknowledged is still there, unless it is [`StoreError::Reset`]. At most [`CHANGES_MAX`] changes, of
    /// `VALUE_BYTES_MAX`; a key isn't empty and doesn't begin with NUL.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// What was found where the store should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    Existing,
    /// There was none.
    Fresh,
    /// There was one, and it can't be trusted; this is a new one.
    Recovered {
        cause: RecoveryReason,
        reason: String,
        /// Where the damaged one is now, if there was anything to keep.
        moved_to: Option<PathBuf>,
        /// Rows that could be read and were taken over. They may be older than what was acknowledged.
        n_rows_saved: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open checkpoint store {}: locked", path.display())]
    Locked { path: PathBuf },
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("checkpoint store {} has format {found}, this version knows {SCHEMA}", path.display())]
    Newer { path: PathBuf, found: u32 },
    /// sled said no, or panicked. The next call opens it again.
    #[error("cannot {doing} checkpoint store: {reason}")]
    Failed { doing: &'static str, reason: String },
    /// Only looked at, so nothing was moved or made.
    #[error("checkpoint store {} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// The store was damaged while it was closed after an error, and is a new one now: write every row again.
    #[error("checkpoint store was made anew: {reason}")]
    Reset { cause: RecoveryReason, reason: String, moved_to: Option<PathBuf> },
}

impl StoreError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StoreError::Locked { .. } => {
                Some("another agent is running on this node; the old pod may still be stopping")
            }
            StoreError::Newer { .. } => Some("a newer version wrote it; run that one, or give another --state-dir"),
            StoreError::Damaged { .. } => {
                Some("start the agent: it moves the damaged store aside and finds its places again in the outputs")
            }
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the file system of --state-dir")
            }
            _ => None,
        }
    }
}

/// The real store. One thread owns it; every call blocks.
pub struct SledStore {
    place: Place,
    marker: Marker,
    /// `None` after an error: sled's handle is dead after its first one.
    db: Option<Db>,
}

impl SledStore {
    /// Opens the store in a state directory, which the caller has locked, or makes one.
    pub fn open(state_directory: &Path, now_unix_seconds: u64) -> Result<(SledStore, Opened), StoreError> {
        let place = Place { state: state_directory.to_owned() };
        let (db, marker, opened) = place.open(now_unix_seconds)?;
        Ok((SledStore { place, marker, db: Some(db) }, opened))
    }

    /// Opens the store that is there for somebody who only looks, or changes a row: a damaged one stays where it is, for
    /// the agent to find. `None`: there is none.
    pub fn open_existing(state_directory: &Path) -> Result<Option<SledStore>, StoreError> {
        let place = Place { state: state_directory.to_owned() };
        let opened = place.open_undamaged()?;
        Ok(opened.map(|(db, marker)| SledStore { place, marker, db: Some(db) }))
    }

    fn reopened(&mut self) -> Result<&mut Db, StoreError> {
        if self.db.as_ref().is_some_and(Db::is_removed) {
            close(self.db.take());
        }
        if self.db.is_none() {
            let now = u64::try_from(Unix.wall_ns() / 1_000_000_000).unwrap_or(0);
            let (db, marker, opened) = self.place.open(now)?;
            self.db = Some(db);
            self.marker = marker;
            match opened {
                Opened::Existing => {}
                Opened::Fresh => {
                    let reason = "its directory and its marker were removed".to_owned();
                    return Err(StoreError::Reset { cause: RecoveryReason::Missing, reason, moved_to: None });
                }
                Opened::Recovered { cause, reason, moved_to, .. } => {
                    return Err(StoreError::Reset { cause, reason, moved_to });
                }
            }
        }
        Ok(self.db.as_mut().expect("it was opened above"))
    }

    /// Runs sled's code; whatever goes wrong costs the handle, and only that.
    fn with_db<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&mut Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        let db = self.reopened()?;
        let reason = match catch_unwind(AssertUnwindSafe(|| work(db))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("sled panicked: {}", panic_text(&*panic)),
        };
        close(self.db.take());
        Err(StoreError::Failed { doing, reason })
    }
}

impl Store for SledStore {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        self.with_db("read", |db| db.rows())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        assert_bounds(changes);
        self.with_db("write", |db| db.apply(changes))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            let n_rows = db.meta.rows;
            close(Some(db));
            if n_rows != self.marker.rows {
                self.marker.rows = n_rows;
                let _only_for_the_message = self.place.write_marker(&self.marker);
            }
        }
    }
}

fn assert_bounds(changes: &[Change]) {
    assert!(changes.len() <= CHANGES_MAX);
    for (key, value) in changes {
        assert!(key.first().is_some_and(|first| *first != 0));
        assert!(key.len() <= KEY_BYTES_MAX);
        assert!(value.as_ref().is_none_or(|value| value.len() <= VALUE_BYTES_MAX));
    }
}

/// An open sled, with what is needed to write to it.
struct Db {
    db: sled::Db,
    tree: sled::Tree,
    /// sled doesn't sync on Linux, it only starts the writing. This descriptor of its file does.
    file: File,
    /// [`Place::commits`]. Without it a store that went back in time isn't noticed.
    commits: Option<File>,
    /// What the meta row says, or will say when the next commit is done.
    meta: Meta,
}

impl Db {
    /// Somebody removed its files. Writes to them still succeed, and nobody could read them again.
    fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|now| now.nlink() == 0)
    }

    fn rows(&self) -> Result<Vec<Row>, sled::Error> {
        let mut rows = Vec::new();
        for row in &self.tree {
            let (key, value) = row?;
            if key != META_KEY {
                rows.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(rows)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), sled::Error> {
        let mut batch = sled::Batch::default();
        // One key may be changed twice: the last change counts.
        let last: BTreeMap<&[u8], Option<&[u8]>> =
            changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        let mut meta = self.meta.clone();
        for (key, value) in last {
            if let Some(before) = self.tree.get(key)? {
                meta.rows -= 1;
                meta.sum = meta.sum.wrapping_sub(row_sum(key, &before));
            }
            match value {
                Some(value) => {
                    meta.rows += 1;
                    meta.sum = meta.sum.wrapping_add(row_sum(key, value));
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        meta.commits += 1;
        batch.insert(META_KEY, meta.to_bytes());
        self.tree.apply_batch(batch)?;
        self.make_durable()?;
        if let Some(file) = &self.commits {
            // An older number there only notices less.
            let _unsynced = file.write_all_at(&meta.commits_note(), 0);
        }
        self.meta = meta;
        Ok(())
    }

    fn make_durable(&self) -> Result<(), sled::Error> {
        self.db.flush()?;
        self.file.sync_data()?;
        Ok(())
    }
}

/// sled's drop writes, and unwraps what that returns.
fn close(db: Option<Db>) {
    let _panicked = catch_unwind(AssertUnwindSafe(|| drop(db)));
}

/// What the store says of itself, within.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    schema: u32,
    id: String,
    /// Without this one.
    rows: u64,
    /// Of all rows, in any order.
    sum: u64,
    /// Since the store was made.
    commits: u64,
}

impl Meta {
    fn new(id: String) -> Meta {
        Meta { schema: SCHEMA, id, rows: 0, sum: 0, commits: 0 }
    }

    /// The number of commits, and a sum that ties it to this store.
    fn commits_note(&self) -> [u8; NOTE_BYTES] {
        let mut note = [0; NOTE_BYTES];
        note[..8].copy_from_slice(&self.commits.to_le_bytes());
        note[8..].copy_from_slice(&row_sum(self.id.as_bytes(), &self.commits.to_le_bytes()).to_le_bytes());
        note
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and a string are JSON")
    }
}

const NOTE_BYTES: usize = 16;

fn row_sum(key: &[u8], value: &[u8]) -> u64 {
    XxHash64::oneshot(XxHash64::oneshot(0, key), value)
}

/// What is said of the store, beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    schema: u32,
    id: String,
    state: MarkerState,
    /// When it was last opened or closed in order.
    rows: u64,
    /// While it is made: why, if it is made in place of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MarkerState {
    /// Not handed out yet: nothing was ever committed to it.
    Making,
    Ready,
}

enum MarkerFound {
    None,
    Read(Marker),
    Unreadable,
}

/// Why a store can't be trusted.
#[derive(Debug)]
struct Damage {
    cause: RecoveryReason,
    reason: String,
    /// Every row there is, where they could all be read.
    rows: Vec<Row>,
}

impl Damage {
    fn new(cause: RecoveryReason, reason: impl Into<String>) -> Damage {
        Damage { cause, reason: reason.into(), rows: Vec::new() }
    }
}

/// How an open can go wrong.
enum Fault {
    Damage(Damage),
    Error(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Error(error)
    }
}

/// The state directory.
#[derive(Clone, Debug)]
struct Place {
    state: PathBuf,
}

impl Place {
    fn store(&self) -> PathBuf {
        self.state.join("sled")
    }

    fn data(&self) -> PathBuf {
        self.store().join("db")
    }

    fn marker(&self) -> PathBuf {
        self.state.join("store.json")
    }

    fn commits(&self) -> PathBuf {
        self.state.join("store.commits")
    }

    fn copy(&self) -> PathBuf {
        self.state.join("sled.before-open")
    }

    fn open(&self, now: u64) -> Result<(Db, Marker, Opened), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.state).map_err(failed("create", &self.state))?;
        self.wait_for_lock()?;
        let found = self.read_marker()?;
        let has_files = has_entries(&self.store()).map_err(failed("list", &self.store()))?;

        let expected = match found {
            MarkerFound::Read(marker) if marker.schema > SCHEMA => {
                return Err(StoreError::Newer { path: self.marker(), found: marker.schema });
            }
            // Killed while the store was made. Nothing can be in it.
            MarkerFound::Read(Marker { state: MarkerState::Making, instead_of, .. }) => {
                remove_tree(&self.store())?;
                let (db, marker) = self.make(now, instead_of.clone(), &[])?;
                return Ok((
                    db,
                    marker,
                    match instead_of {
                        None => Opened::Fresh,
                        Some(reason) => Opened::Recovered {
                            cause: RecoveryReason::Corrupt,
                            reason,
                            moved_to: None,
                            n_rows_saved: 0,
                        },
                    },
                ));
            }
            MarkerFound::None if !has_files => {
                let (db, marker) = self.make(now, None, &[])?;
                return Ok((db, marker, Opened::Fresh));
            }
            MarkerFound::Read(marker) => Some(marker),
            MarkerFound::None | MarkerFound::Unreadable => None,
        };

        match self.open_existing(has_files, expected.is_some()) {
            Ok(db) => {
                let marker = self.undamaged(&db, expected.as_ref())?;
                Ok((db, marker, Opened::Existing))
            }
            Err(Fault::Error(error)) => Err(error),
            Err(Fault::Damage(damage)) => {
                let had = expected.map_or_else(String::new, |marker| format!("; it had {} rows", marker.rows));
                let reason = format!("{}{had}", damage.reason);
                let moved_to = self.move_aside(now)?;
                let (db, marker) = self.make(now, Some(reason.clone()), &damage.rows)?;
                let n_rows_saved = db.meta.rows;
                Ok((db, marker, Opened::Recovered { cause: damage.cause, reason, moved_to, n_rows_saved }))
            }
        }
    }

    /// What is there is whole: no copy is needed, and the marker says so.
    fn undamaged(&self, db: &Db, expected: Option<&Marker>) -> Result<Marker, StoreError> {
        remove_tree(&self.copy())?;
        let marker = Marker {
            schema: SCHEMA,
            id: db.meta.id.clone(),
            state: MarkerState::Ready,
            rows: db.meta.rows,
            instead_of: None,
        };
        if expected.is_none_or(|expected| *expected != marker) {
            self.write_marker(&marker)?;
        }
        Ok(marker)
    }

    fn open_undamaged(&self) -> Result<Option<(Db, Marker)>, StoreError> {
        self.wait_for_lock()?;
        let has_files = has_entries(&self.store()).map_err(failed("list", &self.store()))?;
        let expected = match self.read_marker()? {
            MarkerFound::Read(marker) if marker.schema > SCHEMA => {
                return Err(StoreError::Newer { path: self.marker(), found: marker.schema });
            }
            MarkerFound::Read(Marker { state: MarkerState::Making, .. }) => return Ok(None),
            MarkerFound::None if !has_files => return Ok(None),
            MarkerFound::Read(marker) => Some(marker),
            MarkerFound::None | MarkerFound::Unreadable => None,
        };
        match self.open_existing(has_files, expected.is_some()) {
            Ok(db) => {
                let marker = self.undamaged(&db, expected.as_ref())?;
                Ok(Some((db, marker)))
            }
            Err(Fault::Error(error)) => Err(error),
            Err(Fault::Damage(damage)) => {
                self.put_back_copy()?;
                Err(StoreError::Damaged { path: self.store(), reason: damage.reason })
            }
        }
    }

    /// sled's own lock, asked for without sled: before anything in there is touched, and without reading its messages.
    fn wait_for_lock(&self) -> Result<(), StoreError> {
        let data = self.data();
        for turn in 0..LOCK_TRIES {
            let file = match File::open(&data) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed("open", &data)(error)),
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK) if turn + 1 < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(failed("lock", &data)(error.into())),
            }
        }
        Err(StoreError::Locked { path: self.store() })
    }

    /// Opens what is there and reads all of it.
    fn open_existing(&self, has_files: bool, has_marker: bool) -> Result<Db, Fault> {
        let corrupt = |reason: &str| Fault::Damage(Damage::new(RecoveryReason::Corrupt, reason));
        if !has_files {
            return Err(Fault::Damage(Damage::new(RecoveryReason::Missing, "its directory is gone or empty")));
        }
        let files = self.scan()?;
        if files.data_bytes.is_none() {
            return Err(corrupt("its file db is missing"));
        }
        for path in &files.unfinished {
            fs::remove_file(path).map_err(failed("remove", path))?;
        }
        // Without its snapshot sled may take a store for an empty one, and begin to overwrite it.
        let odd = files.data_bytes == Some(0) || files.n_snapshots == 0 || files.snapshot_empty || !files.has_conf;
        if odd || !has_marker {
            self.copy_before_open()?;
        }
        let (mut db, was_recovered) = self.open_sled()?;
        let examined = match catch_unwind(AssertUnwindSafe(|| examine(&db))) {
            Ok(Ok(examined)) => examined,
            Ok(Err(error)) => {
                close(Some(db));
                return Err(self.classify(error));
            }
            Err(panic) => {
                close(Some(db));
                return Err(panicked(&*panic));
            }
        };
        let Some((meta, found)) = examined.filter(|_| was_recovered) else {
            close(Some(db));
            return Err(Fault::Damage(Damage::new(RecoveryReason::Empty, "it opens without an error and is empty")));
        };
        let reason = match serde_json::from_slice::<Meta>(&meta) {
            Ok(meta) if meta.schema > SCHEMA => {
                close(Some(db));
                return Err(StoreError::Newer { path: self.store(), found: meta.schema }.into());
            }
            Ok(meta) if meta.rows != found.rows => format!("it has {} rows of {}", found.rows, meta.rows),
            Ok(meta) if meta.sum != found.sum => "some of its rows are older than others".to_owned(),
            Ok(meta) => match self.commits_noted(&meta) {
                noted if noted > meta.commits => format!("it lost the last {} commits", noted - meta.commits),
                _ => {
                    db.meta = meta;
                    return Ok(db);
                }
            },
            Err(_) => "its meta row can't be read".to_owned(),
        };
        let rows = catch_unwind(AssertUnwindSafe(|| db.rows())).ok().and_then(Result::ok).unwrap_or_default();
        close(Some(db));
        Err(Fault::Damage(Damage { cause: RecoveryReason::Rows, reason, rows }))
    }

    /// The highest number of a commit to this store that is known from outside.
    fn commits_noted(&self, meta: &Meta) -> u64 {
        let note = fs::read(self.commits()).unwrap_or_default();
        let Some(commits) = note.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return 0 };
        let expected = Meta { commits, ..meta.clone() }.commits_note();
        if note == expected { commits } else { 0 }
    }

    fn scan(&self) -> Result<Files, StoreError> {
        let mut files = Files::default();
        for path in entries(&self.store()).map_err(failed("list", &self.store()))? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let size = || fs::metadata(&path).map(|found| found.len()).map_err(failed("look at", &path));
            match name {
                "db" => files.data_bytes = Some(size()?),
                "conf" => files.has_conf = size()? > 0,
                // Left behind by a kill; it would make sled refuse to open for ever.
                _ if name.starts_with("snap.") && name.ends_with(".generating") => files.unfinished.push(path),
                _ if name.starts_with("snap.") => {
                    files.n_snapshots += 1;
                    files.snapshot_empty |= size()? == 0;
                }
                _ => {}
            }
        }
        Ok(files)
    }

    /// On a thread of its own: sled has been seen to panic on damaged files, and to need much stack.
    fn open_sled(&self) -> Result<(Db, bool), Fault> {
        self.wait_for_lock()?;
        let commits = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.commits()).ok();
        let (store, data) = (self.store(), self.data());
        let opening = move || -> Result<(Db, bool), sled::Error> {
            let db = sled::Config::new()
                .path(&store)
                .mode(sled::Mode::LowSpace)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()?;
            let was_recovered = db.was_recovered();
            let tree = db.open_tree(TREE)?;
            let file = File::open(&data)?;
            Ok((Db { db, tree, file, commits, meta: Meta::new(String::new()) }, was_recovered))
        };
        let thread = std::thread::Builder::new()
            .name("store-open".to_owned())
            .spawn(move || catch_unwind(AssertUnwindSafe(opening)))
            .map_err(failed("start a thread for", &self.store()))?;
        match thread.join() {
            Ok(Ok(Ok(opened))) => Ok(opened),
            Ok(Ok(Err(error))) => Err(self.classify(error)),
            Ok(Err(panic)) | Err(panic) => Err(panicked(&*panic)),
        }
    }

    /// Is it the store that is bad, or the disk?
    fn classify(&self, error: sled::Error) -> Fault {
        let damage = Fault::Damage(Damage::new(RecoveryReason::Corrupt, format!("sled refuses it: {error}")));
        let fault = match error {
            // A code comes from the kernel. sled makes errors without one up, when bytes aren't what they should be.
            sled::Error::Io(source) if source.raw_os_error().is_some() => failed("open", &self.store())(source).into(),
            sled::Error::Io(source) if source.to_string().contains("could not acquire lock") => {
                StoreError::Locked { path: self.store() }.into()
            }
            sled::Error::Io(source) if source.kind() == io::ErrorKind::StorageFull => {
                failed("open", &self.store())(source).into()
            }
            _ => damage,
        };
        match (fault, Unix.space(&self.state)) {
            (Fault::Damage(_), Ok(space)) if space.free < FREE_BYTES_MIN => {
                failed("open", &self.store())(io::ErrorKind::StorageFull.into()).into()
            }
            (fault, _) => fault,
        }
    }

    /// Opening writes, so what looks odd is copied first. An older copy is better evidence than a newer one.
    fn copy_before_open(&self) -> Result<(), StoreError> {
        let copy = self.copy();
        if copy.exists() {
            return Ok(());
        }
        let unfinished = self.state.join("sled.copying");
        remove_tree(&unfinished)?;
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(failed("create", &unfinished))?;
        for path in entries(&self.store()).map_err(failed("list", &self.store()))? {
            let (Some(name), true) = (path.file_name(), path.is_file()) else { continue };
            fs::copy(&path, unfinished.join(name)).map_err(failed("copy", &path))?;
        }
        fs::rename(&unfinished, &copy).map_err(failed("rename", &unfinished))
    }

    /// As it was before it was opened.
    fn put_back_copy(&self) -> Result<(), StoreError> {
        let (store, copy) = (self.store(), self.copy());
        if copy.exists() {
            remove_tree(&store)?;
            fs::rename(&copy, &store).map_err(failed("rename", &copy))?;
        }
        Ok(())
    }

    /// Puts the damaged store where nobody opens it, and removes older ones.
    fn move_aside(&self, now: u64) -> Result<Option<PathBuf>, StoreError> {
        let store = self.store();
        self.put_back_copy()?;
        if !has_entries(&store).map_err(failed("list", &store))? {
            remove_tree(&store)?;
            return Ok(None);
        }
        let mut kept = self.corrupt()?;
        // Two in one second, or a clock that was set back: still newer than the others.
        let number = kept.last().map_or(now, |(newest, _)| now.max(newest + 1));
        let target = self.state.join(format!("{CORRUPT_PREFIX}{number}"));
        fs::rename(&store, &target).map_err(failed("rename", &store))?;
        kept.push((number, target.clone()));
        for (_, path) in kept.iter().rev().skip(CORRUPT_KEPT) {
            remove_tree(path)?;
        }
        sync_directory(&self.state)?;
        Ok(Some(target))
    }

    /// Damaged stores that are kept, oldest first.
    fn corrupt(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let mut found: Vec<(u64, PathBuf)> = entries(&self.state)
            .map_err(failed("list", &self.state))?
            .into_iter()
            .filter_map(|path| {
                let number = path.file_name()?.to_str()?.strip_prefix(CORRUPT_PREFIX)?.parse().ok()?;
                Some((number, path))
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// A new store; what is saved from another goes in before anybody sees it.
    fn make(&self, now: u64, instead_of: Option<String>, saved: &[Row]) -> Result<(Db, Marker), StoreError> {
        let id = format!("{now:x}-{:x}-{:x}", std::process::id(), Unix.monotonic().subsec_nanos());
        let mut marker = Marker { schema: SCHEMA, id, state: MarkerState::Making, rows: 0, instead_of };
        self.write_marker(&marker)?;
        DirBuilder::new().recursive(true).mode(0o700).create(self.store()).map_err(failed("create", &self.store()))?;
        let open = || {
            self.open_sled().map_err(|fault| match fault {
                Fault::Error(error) => error,
                Fault::Damage(damage) => StoreError::Failed { doing: "make", reason: damage.reason },
            })
        };
        let (mut db, _) = open()?;
        let filled = catch_unwind(AssertUnwindSafe(|| -> Result<(), sled::Error> {
            db.meta = Meta::new(marker.id.clone());
            db.apply(&[])?;
            for rows in saved.chunks(COMMIT_CHANGES_MAX) {
                let changes: Vec<Change> = rows.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
                db.apply(&changes)?;
            }
            Ok(())
        }));
        let failure = match filled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic_text(&*panic)),
        };
        if let Some(reason) = failure {
            close(Some(db));
            return Err(StoreError::Failed { doing: "make", reason });
        }
        // sled writes its first snapshot when it is opened a second time; after that, a store without one is odd.
        let meta = db.meta.clone();
        close(Some(db));
        let (mut db, _) = open()?;
        db.meta = meta;
        for path in entries(&self.store()).map_err(failed("list", &self.store()))? {
            if path.is_file() {
                File::open(&path).and_then(|file| file.sync_all()).map_err(failed("sync", &path))?;
            }
        }
        sync_directory(&self.store())?;
        marker.state = MarkerState::Ready;
        marker.instead_of = None;
        marker.rows = db.meta.rows;
        self.write_marker(&marker)?;
        Ok((db, marker))
    }

    fn read_marker(&self) -> Result<MarkerFound, StoreError> {
        match fs::read(self.marker()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_or(MarkerFound::Unreadable, MarkerFound::Read)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(MarkerFound::None),
            Err(error) => Err(failed("read", &self.marker())(error)),
        }
    }

    fn write_marker(&self, marker: &Marker) -> Result<(), StoreError> {
        let unfinished = self.state.join("store.json.tmp");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(&serde_json::to_vec(marker)?)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&unfinished, self.marker())
        };
        write().map_err(failed("write", &self.marker()))?;
        sync_directory(&self.state)
    }
}

const CORRUPT_PREFIX: &str = "sled.corrupt-";

/// What sled's directory looks like from outside.
#[derive(Default)]
struct Files {
    data_bytes: Option<u64>,
    has_conf: bool,
    n_snapshots: u32,
    snapshot_empty: bool,
    unfinished: Vec<PathBuf>,
}

/// The meta row, if there is one, and what it should say. Reads everything.
fn examine(db: &Db) -> Result<Option<(sled::IVec, Meta)>, sled::Error> {
    let (mut meta, mut found) = (None, Meta::new(String::new()));
    for row in &db.tree {
        let (key, value) = row?;
        if key == META_KEY {
            meta = Some(value);
        } else {
            found.rows += 1;
            found.sum = found.sum.wrapping_add(row_sum(&key, &value));
        }
    }
    Ok(meta.map(|meta| (meta, found)))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    Fault::Damage(Damage::new(RecoveryReason::Panic, format!("sled panicked: {}", panic_text(panic))))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    // Some of sled's panics print whole pages.
    text.unwrap_or("no message").chars().take(200).collect()
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn has_entries(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut found) => Ok(found.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove_tree(directory: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", directory)(error)),
        _ => Ok(()),
    }
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    Unix.sync_directory(directory).map_err(failed("sync", directory))
}

/// What a scripted store does with a commit.
#[derive(Debug)]
pub enum Fate {
    Commit,
    Fail(StoreError),
    /// The rows are written, and the caller doesn't hear of it.
    CommitAndFail(StoreError),
}

type Script = Box<dyn FnMut(&[Change]) -> Fate + Send>;

/// Rows in memory, for unit tests and the simulator. Clones share them, so they outlive an agent that crashes.
#[derive(Clone, Default)]
pub struct MemoryStore {
    rows: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    script: Arc<Mutex<Option<Script>>>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Asked for the fate of every commit from now on.
    pub fn script(&self, script: impl FnMut(&[Change]) -> Fate + Send + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(script));
    }

    /// All commits succeed again.
    pub fn heal(&self) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Loses everything, as a damaged store does.
    pub fn clear(&self) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts older rows back: a store that lost its last commits.
    pub fn restore(&self, rows: BTreeMap<Vec<u8>, Vec<u8>>) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        Ok(self.rows().into_iter().collect())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        assert_bounds(changes);
        let fate = match &mut *self.script.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(script) => script(changes),
            None => Fate::Commit,
        };
        let answer = match fate {
            Fate::Fail(error) => return Err(error),
            Fate::Commit => Ok(()),
            Fate::CommitAndFail(error) => Err(error),
        };
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn key(ix: usize) -> Vec<u8> {
        format!("container/{ix:04}").into_bytes()
    }

    fn put(ix: usize, value: &str) -> Change {
        (key(ix), Some(value.as_bytes().to_vec()))
    }

    fn open(state: &Path) -> (SledStore, Opened) {
        SledStore::open(state, NOW).unwrap()
    }

    fn cause(opened: &Opened) -> Option<RecoveryReason> {
        match opened {
            Opened::Recovered { cause, .. } => Some(*cause),
            _ => None,
        }
    }

    /// A store of 100 rows that has lived for a while.
    fn lived_in() -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        for turn in 0..3 {
            let (mut store, _) = open(state.path());
            for round in 0..20 {
                let changes: Vec<Change> =
                    (0..100).map(|ix| put(ix, &format!("{turn}/{round}/{}", "x".repeat(200)))).collect();
                store.commit(&changes).unwrap();
            }
        }
        state
    }

    fn file(state: &Path, prefix: &str) -> PathBuf {
        let mut found = entries(&state.join("sled")).unwrap();
        found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn corrupt_names(state: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(state)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name.starts_with(CORRUPT_PREFIX))
            .collect();
        names.sort();
        names
    }

    /// Damages a lived-in store and opens it. `None`: all rows are there. Else they are gone, and that is told.
    fn check(name: &str, damage: impl FnOnce(&Path), expected: Option<RecoveryReason>) {
        let state = lived_in();
        let state = state.path();
        damage(state);
        let (mut store, opened) = open(state);
        assert_eq!(cause(&opened), expected, "{name}: {opened:?}");
        let rows = store.load().unwrap();
        match expected {
            None => {
                assert_eq!(opened, Opened::Existing, "{name}");
                assert_eq!(rows.len(), 100, "{name}");
                assert!(rows.iter().all(|(_, value)| value.starts_with(b"2/19/")), "{name}");
                assert!(corrupt_names(state).is_empty(), "{name}");
            }
            Some(_) => {
                assert!(rows.is_empty(), "{name}");
                assert_ne!(opened, Opened::Fresh, "{name}");
                if let Opened::Recovered { moved_to: Some(moved_to), .. } = &opened {
                    assert!(has_entries(moved_to).unwrap(), "{name}: the evidence is kept");
                }
            }
        }
        // Either way it works from here on, and is trusted again.
        store.commit(&[put(7, "after")]).unwrap();
        drop(store);
        let (mut store, opened) = open(state);
        assert_eq!(opened, Opened::Existing, "{name}");
        assert!(store.load().unwrap().contains(&(key(7), b"after".to_vec())), "{name}");
        assert!(!state.join("sled.before-open").exists(), "{name}");
    }

    fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
    }

    fn length(path: &Path) -> u64 {
        fs::metadata(path).unwrap().len()
    }

    fn cut(path: &Path, length: u64) {
        OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
    }

    const CORRUPT: Option<RecoveryReason> = Some(RecoveryReason::Corrupt);

    #[test]
    fn damage_unfinished_snapshot() {
        check("empty", |state| fs::write(state.join("sled/snap.00FF.generating"), "").unwrap(), None);
        check("partial", |state| fs::write(state.join("sled/snap.00FF.generating"), [7; 500]).unwrap(), None);
    }

    #[test]
    fn damage_snapshot() {
        check("zero bytes", |state| fs::write(file(state, "snap."), "").unwrap(), CORRUPT);
        check_told("removed", |state| fs::remove_file(file(state, "snap.")).unwrap());
    }

    #[test]
    fn damage_conf() {
        check("zero bytes", |state| fs::write(file(state, "conf"), "").unwrap(), None);
        check("removed", |state| fs::remove_file(file(state, "conf")).unwrap(), None);
        check("garbage", |state| fs::write(file(state, "conf"), [0xA5; 200]).unwrap(), CORRUPT);
    }

    #[test]
    fn damage_data_cut() {
        let half = |state: &Path| cut(&file(state, "db"), length(&file(state, "db")) / 2);
        check_told("half", half);
        let both = |state: &Path| {
            half(state);
            fs::remove_file(file(state, "snap.")).unwrap();
        };
        check_told("half, and no snapshot", both);
        check("to zero", |state| cut(&file(state, "db"), 0), CORRUPT);
        check("removed", |state| fs::remove_file(file(state, "db")).unwrap(), CORRUPT);
    }

    /// Whatever sled makes of it, the rows are the last ones, or it is told that they may not be.
    fn check_told(name: &str, damage: impl FnOnce(&Path)) {
        let state = lived_in();
        damage(state.path());
        let (mut store, opened) = open(state.path());
        println!("{name}: {opened:?}");
        let rows = store.load().unwrap();
        match opened {
            Opened::Existing => {
                assert_eq!(rows.len(), 100, "{name}");
                assert!(rows.iter().all(|(_, value)| value.starts_with(b"2/19/")), "{name}");
            }
            Opened::Recovered { n_rows_saved, .. } => assert_eq!(rows.len() as u64, n_rows_saved, "{name}"),
            Opened::Fresh => panic!("{name}: a damaged store is not new"),
        }
        store.commit(&[put(1, "after")]).unwrap();
        drop(store);
        let (mut store, opened) = open(state.path());
        assert_eq!(opened, Opened::Existing, "{name}");
        assert!(store.load().unwrap().contains(&(key(1), b"after".to_vec())), "{name}");
    }

    #[test]
    fn damage_data_overwritten() {
        let check = |name: &str, damage: fn(&Path)| check_told(name, |state| damage(&file(state, "db")));
        check("zeros at the end", |db| overwrite(db, length(db) - 65_536, &[0; 65_536]));
        check("zeros before the end", |db| overwrite(db, length(db) - 600_000, &[0; 65_536]));
        check("random blocks", |db| {
            for ix in 0..8 {
                overwrite(db, length(db) / 8 * ix + 7_777, &[0xC3; 256]);
            }
        });
    }

    #[test]
    fn damage_data_flipped() {
        for part in 0..16 {
            for with_snapshot in [true, false] {
                check_told(&format!("words in part {part}, snapshot {with_snapshot}"), |state| {
                    let db = file(state, "db");
                    for word in 0..4 {
                        overwrite(&db, length(&db) / 16 * part + word * 4096, &[0x5A; 8]);
                    }
                    if !with_snapshot {
                        fs::remove_file(file(state, "snap.")).unwrap();
                    }
                });
            }
        }
    }

    /// Sled's directory put back from an hour ago: everything in it is whole.
    #[test]
    fn damage_back_in_time() {
        let state = lived_in();
        let at = state.path();
        let place = Place { state: at.to_owned() };
        place.copy_before_open().unwrap();
        fs::rename(place.copy(), at.join("backup")).unwrap();
        let (mut store, _) = open(at);
        store.commit(&[put(1, "newer")]).unwrap();
        store.commit(&[put(2, "newer")]).unwrap();
        drop(store);
        fs::remove_dir_all(place.store()).unwrap();
        fs::rename(at.join("backup"), place.store()).unwrap();
        let (mut store, opened) = open(at);
        let Opened::Recovered { cause, reason, n_rows_saved, .. } = opened else { panic!("{opened:?}") };
        assert_eq!((cause, n_rows_saved), (RecoveryReason::Rows, 100));
        assert!(reason.contains("lost the last 2 commits"), "{reason}");
        assert!(store.load().unwrap().iter().all(|(_, value)| value.starts_with(b"2/19/")));
    }

    #[test]
    fn damage_directory_gone() {
        let missing = Some(RecoveryReason::Missing);
        check("removed", |state| fs::remove_dir_all(state.join("sled")).unwrap(), missing);
        let emptied = |state: &Path| {
            fs::remove_dir_all(state.join("sled")).unwrap();
            fs::create_dir(state.join("sled")).unwrap();
        };
        check("emptied", emptied, missing);
    }

    /// sled as it is, once its threads have let go of an earlier handle.
    fn raw(state: &Path) -> sled::Db {
        Place { state: state.to_owned() }.wait_for_lock().unwrap();
        sled::open(state.join("sled")).unwrap()
    }

    #[test]
    fn damage_replaced_by_an_empty_store() {
        let replace = |state: &Path| {
            fs::remove_dir_all(state.join("sled")).unwrap();
            raw(state).insert("a", "b").unwrap();
        };
        check("a store of somebody else", replace, Some(RecoveryReason::Empty));
        let emptied = |state: &Path| raw(state).open_tree(TREE).unwrap().clear().unwrap();
        check("emptied", emptied, Some(RecoveryReason::Empty));
        check_told("opened by sled without its snapshot", |state| {
            fs::remove_file(file(state, "snap.")).unwrap();
            drop(raw(state));
        });
    }

    #[test]
    fn the_marker_may_be_lost() {
        check("removed", |state| fs::remove_file(state.join("store.json")).unwrap(), None);
        check("garbage", |state| fs::write(state.join("store.json"), "{").unwrap(), None);
        check_told("removed with the snapshot", |state| {
            fs::remove_file(state.join("store.json")).unwrap();
            fs::remove_file(file(state, "snap.")).unwrap();
        });
    }

    #[test]
    fn rows_that_are_left_are_saved() {
        let state = lived_in();
        let db = raw(state.path());
        db.open_tree(TREE).unwrap().remove(key(3)).unwrap();
        db.flush().unwrap();
        drop(db);
        let (mut store, opened) = open(state.path());
        let Opened::Recovered { cause, n_rows_saved, reason, .. } = opened else { panic!("{opened:?}") };
        assert_eq!((cause, n_rows_saved), (RecoveryReason::Rows, 99), "{reason}");
        assert_eq!(store.load().unwrap().len(), 99);
    }

    #[test]
    fn an_error_says_what_to_do_where_something_can_be_done() {
        let io = |kind: io::ErrorKind| StoreError::Io { doing: "open", path: "/s".into(), source: kind.into() };
        let hint_of = |error: StoreError| error.hint().unwrap_or("none");
        assert!(hint_of(StoreError::Locked { path: "/s".into() }).contains("another agent is running"));
        assert!(hint_of(StoreError::Newer { path: "/s".into(), found: 9 }).contains("--state-dir"));
        assert!(hint_of(StoreError::Damaged { path: "/s".into(), reason: "x".into() }).contains("start the agent"));
        assert!(hint_of(io(io::ErrorKind::StorageFull)).contains("make room"));
        assert_eq!(hint_of(io(io::ErrorKind::NotADirectory)), "none");
        assert_eq!(hint_of(StoreError::Failed { doing: "write", reason: "x".into() }), "none");
    }

    #[test]
    fn a_kill_while_the_store_is_made_is_no_damage() {
        for (instead_of, expected) in [("null", None), ("\"it was bad\"", CORRUPT)] {
            let state = tempfile::tempdir().unwrap();
            let marker = format!(r#"{{"schema":1,"id":"x","state":"making","rows":0,"instead_of":{instead_of}}}"#);
            fs::write(state.path().join("store.json"), marker).unwrap();
            fs::create_dir(state.path().join("sled")).unwrap();
            fs::write(state.path().join("sled/db"), "").unwrap();
            let (_store, opened) = open(state.path());
            assert_eq!(cause(&opened), expected);
            assert_eq!(opened == Opened::Fresh, expected.is_none());
        }
    }

    #[test]
    fn two_damaged_stores_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let at = state.path();
        let mut moved = Vec::new();
        for turn in 0..4 {
            let (mut store, _) = open(at);
            store.commit(&[put(0, "x")]).unwrap();
            drop(store);
            cut(&file(at, "db"), 0);
            // Twice within a second, then with a clock that was set back.
            let (_, opened) = SledStore::open(at, if turn < 3 { NOW } else { NOW - 500 }).unwrap();
            let Opened::Recovered { moved_to: Some(path), .. } = opened else { panic!("{opened:?}") };
            moved.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
        assert_eq!(moved[0], format!("sled.corrupt-{NOW}"));
        assert_eq!(corrupt_names(at), moved[2..]);
    }

    #[test]
    fn rows_are_there_after_a_reopen() {
        let state = tempfile::tempdir().unwrap();
        let (mut store, opened) = open(&state.path().join("a/b"));
        assert_eq!(opened, Opened::Fresh);
        store.commit(&[]).unwrap();
        store.commit(&[put(1, "one"), put(2, "two"), put(2, "zwei"), (key(9), None)]).unwrap();
        store.commit(&[(key(1), None), put(3, "three"), put(4, "x"), (key(4), None)]).unwrap();
        let rows = vec![(key(2), b"zwei".to_vec()), (key(3), b"three".to_vec())];
        assert_eq!(store.load().unwrap(), rows);
        drop(store);
        let (mut store, opened) = open(&state.path().join("a/b"));
        assert_eq!(opened, Opened::Existing);
        assert_eq!(store.load().unwrap(), rows);
    }

    #[test]
    fn a_second_store_is_locked_out_and_touches_nothing() {
        let state = tempfile::tempdir().unwrap();
        let (mut store, _) = open(state.path());
        let generating = state.path().join("sled/snap.0.generating");
        fs::write(&generating, "").unwrap();
        let error = SledStore::open(state.path(), NOW).err().unwrap();
        assert!(matches!(error, StoreError::Locked { .. }) && error.hint().is_some(), "{error}");
        assert!(generating.exists());
        store.commit(&[put(1, "one")]).unwrap();
    }

    #[test]
    fn a_newer_store_is_left_alone() {
        let state = lived_in();
        let db = raw(state.path());
        db.open_tree(TREE)
            .unwrap()
            .insert(META_KEY, r#"{"schema":2,"id":"x","rows":100,"sum":0,"commits":9}"#)
            .unwrap();
        drop(db);
        assert!(matches!(SledStore::open(state.path(), NOW), Err(StoreError::Newer { found: 2, .. })));
        assert!(corrupt_names(state.path()).is_empty());
    }

    #[test]
    fn after_an_error_the_next_commit_opens_it_again() {
        let state = tempfile::tempdir().unwrap();
        let (mut store, _) = open(state.path());
        store.commit(&[put(1, "one")]).unwrap();
        for turn in 0..20 {
            let failed = store.with_db("write", |_| Err::<(), _>(sled::Error::Io(io::ErrorKind::StorageFull.into())));
            assert!(matches!(failed, Err(StoreError::Failed { .. })));
            assert!(store.db.is_none());
            store.commit(&[put(2, &turn.to_string())]).unwrap();
        }
        let failed = store.with_db::<()>("write", |_| panic!("part of the test"));
        assert!(failed.unwrap_err().to_string().contains("part of the test"));
        assert_eq!(store.load().unwrap(), [(key(1), b"one".to_vec()), (key(2), b"19".to_vec())]);
    }

    #[test]
    fn a_store_that_is_lost_while_closed_is_reported() {
        let state = tempfile::tempdir().unwrap();
        let (mut store, _) = open(state.path());
        store.commit(&[put(1, "one")]).unwrap();
        let _failed = store.with_db("write", |_| Err::<(), _>(sled::Error::Unsupported("x".into())));
        cut(&file(state.path(), "db"), 0);
        assert!(matches!(store.commit(&[put(2, "two")]), Err(StoreError::Reset { moved_to: Some(_), .. })));
        store.commit(&[put(1, "one"), put(2, "two")]).unwrap();
        assert_eq!(store.load().unwrap().len(), 2);
    }

    #[test]
    fn a_state_directory_that_can_t_be_made_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("file"), "").unwrap();
        assert!(matches!(SledStore::open(&state.path().join("file"), NOW), Err(StoreError::Io { .. })));
    }

    #[test]
    fn the_longest_row_fits() {
        let state = tempfile::tempdir().unwrap();
        let (mut store, _) = open(state.path());
        for _ in 0..3 {
            let changes: Vec<Change> = (0..520).map(|ix| (key(ix), Some(vec![ix as u8; VALUE_BYTES_MAX]))).collect();
            store.commit(&changes).unwrap();
        }
        store.commit(&(1..520).map(|ix| (key(ix), None)).collect::<Vec<_>>()).unwrap();
        drop(store);
        let (mut store, opened) = open(state.path());
        assert_eq!((opened, store.load().unwrap().len()), (Opened::Existing, 1));
    }

    #[test]
    fn a_scripted_store_fails_as_told() {
        let store = MemoryStore::new();
        let mut agent = store.clone();
        agent.commit(&[put(1, "one")]).unwrap();
        let failed = || StoreError::Failed { doing: "write", reason: "told to".into() };
        store.script(move |changes| match changes.len() {
            1 => Fate::Fail(failed()),
            2 => Fate::CommitAndFail(failed()),
            _ => Fate::Commit,
        });
        agent.commit(&[put(1, "two")]).unwrap_err();
        assert_eq!(store.rows()[&key(1)], b"one");
        agent.commit(&[put(1, "three"), put(2, "x")]).unwrap_err();
        assert_eq!(agent.load().unwrap().len(), 2);
        store.heal();
        agent.commit(&[(key(2), None)]).unwrap();
        assert_eq!(store.rows().len(), 1);
    }
}

//! The state directory: what is found in it is opened, distrusted, or made anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::db::{Db, Meta, TREE, close, examine, panic_text};
use super::directory::{entries, failed, has_entries, remove_tree, sync_directory};
use super::marker::{Marker, MarkerFound, MarkerState};
use super::{Change, Opened, Row, SCHEMA, StoreError};
use crate::config::limits::COMMIT_CHANGES_MAX;
use crate::sys::Os;
use crate::sys::unix::Unix;
use crate::telemetry::RecoveryReason;

const CACHE_BYTES: u64 = 8 << 20;
/// Below this a failed open is the disk's fault, not the store's.
pub(super) const FREE_BYTES_MIN: u64 = 1 << 20;
/// sled's threads let go of the lock a moment after its handle is dropped.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The state directory.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) state: PathBuf,
}

impl Place {
    pub(super) fn store(&self) -> PathBuf {
        self.state.join("sled")
    }

    fn data(&self) -> PathBuf {
        self.store().join("db")
    }

    pub(super) fn marker(&self) -> PathBuf {
        self.state.join("store.json")
    }

    fn commits(&self) -> PathBuf {
        self.state.join("store.commits")
    }

    pub(super) fn copy(&self) -> PathBuf {
        self.state.join("sled.before-open")
    }

    pub(super) fn open(&self, now: u64) -> Result<(Db, Marker, Opened), StoreError> {
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

    pub(super) fn open_undamaged(&self) -> Result<Option<(Db, Marker)>, StoreError> {
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
    pub(super) fn wait_for_lock(&self) -> Result<(), StoreError> {
        let data = self.data();
        for _ in 0..LOCK_TRIES {
            let file = match File::open(&data) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed("open", &data)(error)),
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
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
                close(db);
                return Err(self.classify(error));
            }
            Err(panic) => {
                close(db);
                return Err(panicked(&*panic));
            }
        };
        let Some((meta, found)) = examined.filter(|_| was_recovered) else {
            close(db);
            return Err(Fault::Damage(Damage::new(RecoveryReason::Empty, "it opens without an error and is empty")));
        };
        let reason = match serde_json::from_slice::<Meta>(&meta) {
            Ok(meta) if meta.schema > SCHEMA => {
                close(db);
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
        close(db);
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

    fn classify(&self, error: sled::Error) -> Fault {
        self.fault_of(error, Unix.space(&self.state).ok().map(|space| space.free))
    }

    /// Is it the store that is bad, or the disk, which has so many bytes left?
    pub(super) fn fault_of(&self, error: sled::Error, free: Option<u64>) -> Fault {
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
        match (fault, free) {
            (Fault::Damage(_), Some(free)) if free < FREE_BYTES_MIN => {
                failed("open", &self.store())(io::ErrorKind::StorageFull.into()).into()
            }
            (fault, _) => fault,
        }
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
            close(db);
            return Err(StoreError::Failed { doing: "make", reason });
        }
        // sled writes its first snapshot when it is opened a second time; after that, a store without one is odd.
        let meta = db.meta.clone();
        close(db);
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
}

/// Why a store can't be trusted.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) cause: RecoveryReason,
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
pub(super) enum Fault {
    Damage(Damage),
    Error(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Error(error)
    }
}

/// What sled's directory looks like from outside.
#[derive(Default)]
struct Files {
    data_bytes: Option<u64>,
    has_conf: bool,
    n_snapshots: u32,
    snapshot_empty: bool,
    unfinished: Vec<PathBuf>,
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    Fault::Damage(Damage::new(RecoveryReason::Panic, format!("sled panicked: {}", panic_text(panic))))
}

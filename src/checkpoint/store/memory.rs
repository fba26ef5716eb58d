//! Rows in memory, for unit tests and the simulator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Change, Row, Store, StoreError, check_bounds};

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
        check_bounds(changes)?;
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

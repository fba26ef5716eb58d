//! What is said of the store, beside it: that there is one, even where sled finds none.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::directory::{failed, sync_directory};
use super::place::Place;

/// What is said of the store, beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) schema: u32,
    pub(super) id: String,
    pub(super) state: MarkerState,
    /// When it was last opened or closed in order.
    pub(super) rows: u64,
    /// While it is made: why, if it is made in place of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instead_of: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MarkerState {
    /// Not handed out yet: nothing was ever committed to it.
    Making,
    Ready,
}

pub(super) enum MarkerFound {
    None,
    Read(Marker),
    Unreadable,
}

impl Place {
    pub(super) fn read_marker(&self) -> Result<MarkerFound, StoreError> {
        match fs::read(self.marker()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_or(MarkerFound::Unreadable, MarkerFound::Read)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(MarkerFound::None),
            Err(error) => Err(failed("read", &self.marker())(error)),
        }
    }

    pub(super) fn write_marker(&self, marker: &Marker) -> Result<(), StoreError> {
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

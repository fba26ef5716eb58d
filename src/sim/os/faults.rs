//! What is to go wrong, and when.

use std::collections::BTreeMap;
use std::io;

/// How a life of the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: what was written stays, descriptors are closed.
    Process,
    /// The machine stops: what was not synced is lost in part, and the boot id changes.
    Power,
}

/// Whether the call during which the agent dies takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// EIO
    Io,
    /// ENOSPC
    NoSpace,
    /// EMFILE
    TooManyFiles,
    /// EACCES
    Access,
}

impl Errno {
    /// As the kernel reports it, with its number.
    pub fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Errno::Io => 5,
            Errno::NoSpace => 28,
            Errno::TooManyFiles => 24,
            Errno::Access => 13,
        })
    }

    pub(super) fn counter(self) -> &'static str {
        match self {
            Errno::Io => "eio",
            Errno::NoSpace => "enospc",
            Errno::TooManyFiles => "emfile",
            Errno::Access => "eacces",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash(Crash, When),
    /// The call has no effect and fails.
    Errno(Errno),
    /// A read that ends after so many bytes, as if the file had ended there a moment ago. Others go on as usual.
    ShortRead(usize),
    /// A write that takes only so many bytes, at least one. Others go on as usual.
    ShortWrite(usize),
}

/// Faults by the number of the call, counted from 0 when the plan is armed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan(BTreeMap<u64, Fault>);

impl FaultPlan {
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    pub fn at(call: u64, fault: Fault) -> FaultPlan {
        FaultPlan::none().and(call, fault)
    }

    #[must_use]
    pub fn and(mut self, call: u64, fault: Fault) -> FaultPlan {
        self.0.insert(call, fault);
        self
    }

    pub(super) fn get(&self, call: u64) -> Option<Fault> {
        self.0.get(&call).copied()
    }
}

/// What stands at a directory's path when the file system that should be there isn't mounted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// The bare mount point: an empty directory.
    Empty,
    /// Nothing.
    Missing,
}

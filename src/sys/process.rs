//! What this process takes from its host, as /proc/self tells it.

#![allow(clippy::disallowed_methods, reason = "sys is where the system is asked")]

use std::fs;

/// What could not be read stands at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of all cores, in user and system mode.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_files: u64,
    /// The soft limit; 0: none.
    pub open_files_max: u64,
    pub threads: u64,
}

pub fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let open_files = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0);
    let page_bytes = rustix::param::page_size() as u64;
    Usage {
        // The listing itself was one of them.
        open_files: open_files.saturating_sub(1),
        open_files_max: limit,
        ..of_stat(&stat, rustix::param::clock_ticks_per_second(), page_bytes)
    }
}

/// Fields of proc_pid_stat(5), counted from behind the name, which may hold blanks and parentheses.
fn of_stat(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Usage {
    let fields: Vec<u64> = match stat.rsplit_once(") ") {
        Some((_, fields)) => fields.split(' ').map(|field| field.trim().parse().unwrap_or(0)).collect(),
        None => Vec::new(),
    };
    // The first of them is the third of the manual.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    Usage {
        cpu_seconds: (field(14) + field(15)) as f64 / ticks_per_second.max(1) as f64,
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: field(24) * page_bytes,
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_shifts_nothing() {
        let stat =
            "7 (a) (b ) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1234 4096000 512 18446744073709551615 1\n";
        let usage = of_stat(stat, 100, 4096);
        assert_eq!((usage.cpu_seconds, usage.threads), (3.0, 9));
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (4_096_000, 512 * 4096));
        assert_eq!(of_stat("", 100, 4096), Usage::default());
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let usage = usage();
        assert!(usage.resident_bytes > 0 && usage.virtual_bytes > usage.resident_bytes);
        assert!(usage.open_files >= 3 && usage.threads >= 1);
    }
}

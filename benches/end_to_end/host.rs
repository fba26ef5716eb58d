//! A host made up for one measurement: Docker's directory of containers, and where a program puts its outputs.

use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use twox_hash::XxHash3_64;

/// A directory that is removed with it.
pub struct Host {
    place: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Host {
        let above = std::env::var_os("LONGSHORE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let place = tempfile::Builder::new().prefix("longshore-bench").tempdir_in(above).expect("room for a directory");
        let host = Host { place };
        for directory in [host.containers(), host.logs(), host.state()] {
            fs::create_dir(directory).expect("a new directory");
        }
        host
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    pub fn containers(&self) -> PathBuf {
        self.path().join("containers")
    }

    pub fn logs(&self) -> PathBuf {
        self.path().join("logs")
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub fn messages(&self) -> PathBuf {
        self.path().join("messages")
    }

    /// Forgets what a program made, for the next one.
    pub fn clear_outputs(&self) {
        for directory in [self.logs(), self.state()] {
            fs::remove_dir_all(&directory).expect("its own directory");
            fs::create_dir(directory).expect("a new directory");
        }
    }

    /// Gives the path of the log, which is not made yet.
    pub fn add_container(&self, container_ix: usize) -> PathBuf {
        let id = id(container_ix);
        let directory = self.containers().join(&id);
        fs::create_dir(&directory).expect("a new directory");
        let config = format!(
            r#"{{"ID":"{id}","Created":"2026-11-01T00:00:00Z","Name":"/bench-{container_ix}","State":{{"Running":true}},"Config":{{"Image":"bench:1","Labels":{{}},"Env":[]}}}}"#
        );
        let host_config = r#"{"LogConfig":{"Type":"json-file","Config":{}}}"#;
        for (name, text) in [("hostconfig.json", host_config), ("config.v2.json", &config)] {
            // Docker writes them aside and renames, so that nobody sees half of one.
            let aside = directory.join(format!(".tmp-{name}"));
            fs::write(&aside, text).expect("a new file");
            fs::rename(aside, directory.join(name)).expect("a new name");
        }
        directory.join(format!("{id}-json.log"))
    }

    pub fn add_log(&self, container_ix: usize, text: &[u8]) {
        fs::write(self.add_container(container_ix), text).expect("room on the disk");
    }

    /// All output files of all containers, in no order.
    pub fn outputs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.logs()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && entry.file_name() != ".longshore" => directories.push(entry.path()),
                    Ok(kind) if kind.is_file() => found.push(entry.path()),
                    _ => {}
                }
            }
        }
        found
    }

    pub fn output_bytes(&self) -> u64 {
        self.outputs().iter().filter_map(|path| fs::metadata(path).ok()).map(|stat| stat.len()).sum()
    }

    /// Waits until the outputs have so many bytes in all; a rotation on the way hides some for a moment.
    pub fn await_bytes(&self, n_bytes: u64, within: Duration, look_every: Duration) -> bool {
        let started = Instant::now();
        while self.output_bytes() < n_bytes {
            if started.elapsed() > within {
                return false;
            }
            std::thread::sleep(look_every);
        }
        true
    }

    /// Of the one container's output, the oldest segment first: bytes, lines that aren't empty, a hash of all.
    pub fn read_output(&self, container_ix: usize) -> Content {
        let name = format!("bench-{container_ix}");
        let id = id(container_ix);
        let ours = |path: &PathBuf| {
            let below = path.strip_prefix(self.logs()).expect("it lies there").to_string_lossy().into_owned();
            below.starts_with(&format!("{name}/")) || below.contains(&id)
        };
        let mut segments: Vec<PathBuf> = self.outputs().into_iter().filter(ours).collect();
        let number = |path: &PathBuf| path.extension().and_then(|end| end.to_str()?.parse::<u64>().ok());
        segments.sort_by_key(|path| number(path).unwrap_or(u64::MAX));
        let mut content = Content::default();
        let mut hasher = XxHash3_64::new();
        let mut buffer = vec![0; 1 << 20];
        let mut last = b'\n';
        for segment in segments {
            let mut file = File::open(segment).expect("an output");
            loop {
                let n_bytes = file.read(&mut buffer).expect("an output");
                if n_bytes == 0 {
                    break;
                }
                for byte in &buffer[..n_bytes] {
                    content.n_lines += u64::from(*byte == b'\n' && last != b'\n');
                    last = *byte;
                }
                content.n_bytes += n_bytes as u64;
                hasher.write(&buffer[..n_bytes]);
            }
        }
        content.hash = hasher.finish();
        content
    }
}

/// What an output held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub n_bytes: u64,
    pub n_lines: u64,
    pub hash: u64,
}

impl Content {
    pub fn of(text: &[u8]) -> Content {
        let n_lines = memchr::memchr_iter(b'\n', text).count() as u64;
        Content { n_bytes: text.len() as u64, n_lines, hash: XxHash3_64::oneshot(text) }
    }
}

pub fn id(container_ix: usize) -> String {
    format!("{:064x}", container_ix + 0xabc0_0000)
}

/// Appends as Docker does: a write(2) a line, whose time is taken.
pub struct Writer {
    files: Vec<File>,
    next_ix: usize,
    /// Of each write(2).
    pub write_ns: Vec<u32>,
}

impl Writer {
    pub fn new(logs: &[PathBuf]) -> Writer {
        let open = |path: &PathBuf| File::options().create(true).append(true).open(path).expect("a log");
        Writer { files: logs.iter().map(open).collect(), next_ix: 0, write_ns: Vec::new() }
    }

    /// Of the log that the next line goes to, before it is taken modulo their number.
    pub fn next_ix(&self) -> usize {
        self.next_ix
    }

    /// Into one log after the other.
    pub fn write(&mut self, line: &[u8]) {
        let ix = self.next_ix % self.files.len();
        self.next_ix += 1;
        let started = Instant::now();
        self.files[ix].write_all(line).expect("room on the disk");
        self.write_ns.push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }

    /// Mean time of a write in microseconds; the slowest hundredth, which waited for a core, is left out.
    pub fn write_us(&mut self) -> f64 {
        self.write_ns.sort_unstable();
        let kept = &self.write_ns[..self.write_ns.len() - self.write_ns.len() / 100];
        kept.iter().map(|ns| f64::from(*ns)).sum::<f64>() / kept.len().max(1) as f64 / 1000.0
    }
}

//! The programs that are compared, each set up to do the same: follow every container from the beginning and write
//! `{time} {log}` into a file a container.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::host::Host;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Longshore,
    FluentBit,
    Vector,
}

#[derive(Clone, Debug)]
pub struct Tool {
    pub kind: Kind,
    pub name: &'static str,
    binary: PathBuf,
}

impl Tool {
    /// Longshore, and the others whose binaries the environment names.
    pub fn all() -> Vec<Tool> {
        let ours = std::env::var_os("LONGSHORE_BENCH_BINARY").map_or_else(built, PathBuf::from);
        let mut tools = vec![Tool { kind: Kind::Longshore, name: "longshore", binary: ours }];
        for (kind, name, variable) in [
            (Kind::FluentBit, "fluent-bit", "LONGSHORE_BENCH_FLUENT_BIT"),
            (Kind::Vector, "vector", "LONGSHORE_BENCH_VECTOR"),
        ] {
            let binary = std::env::var_os(variable).map(PathBuf::from);
            tools.extend(binary.map(|binary| Tool { kind, name, binary }));
        }
        tools
    }

    pub fn binary(&self) -> &PathBuf {
        &self.binary
    }

    /// Follows the host's containers until it is told to end.
    pub fn follow(&self, host: &Host) -> Command {
        self.command(host, "run", &[])
    }

    pub fn command(&self, host: &Host, verb: &str, more: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        match self.kind {
            Kind::Longshore => {
                command.arg(verb).arg("--containers-dir").arg(host.containers());
                command.arg("--log-path").arg(host.logs()).arg("--state-dir").arg(host.state()).args(more);
            }
            Kind::FluentBit => {
                command.arg("-c").arg(write(host, "fluent-bit.conf", &fluent_bit(host)));
                write(host, "parsers.conf", PARSERS);
            }
            Kind::Vector => {
                command.arg("--quiet").arg("--config").arg(write(host, "vector.yaml", &vector(host)));
            }
        }
        command
    }
}

fn built() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_longshore"))
}

fn write(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.path().join(name);
    fs::write(&path, text).expect("room on the disk");
    path
}

const PARSERS: &str = "\
[PARSER]
    Name        docker
    Format      json
    Time_Key    time
    Time_Format %Y-%m-%dT%H:%M:%S.%LZ
    Time_Keep   On
";

/// The text it writes has its own newline and the file's, so empty lines lie between; they are not counted.
fn fluent_bit(host: &Host) -> String {
    let path = host.path().display();
    format!(
        "\
[SERVICE]
    Flush        0.1
    Log_Level    warn
    Parsers_File {path}/parsers.conf
[INPUT]
    Name             tail
    Tag              docker.*
    Path             {path}/containers/*/*-json.log
    Parser           docker
    DB               {path}/state/tail.db
    Read_from_Head   On
    Refresh_Interval 1
    Mem_Buf_Limit    64MB
[OUTPUT]
    Name     file
    Match    *
    Path     {path}/logs
    Format   template
    Template {{time}} {{log}}
"
    )
}

fn vector(host: &Host) -> String {
    let path = host.path().display();
    format!(
        r#"data_dir: {path}/state
sources:
  docker:
    type: file
    include: ["{path}/containers/*/*-json.log"]
    read_from: beginning
    glob_minimum_cooldown_ms: 1000
    fingerprint: {{strategy: device_and_inode}}
transforms:
  line:
    type: remap
    inputs: [docker]
    source: |
      parsed = object!(parse_json!(.message))
      .message = string!(parsed.time) + " " + replace(string!(parsed.log), r'\n$', "")
sinks:
  out:
    type: file
    inputs: [line]
    path: '{path}/logs/{{{{ file }}}}'
    encoding: {{codec: text}}
"#
    )
}

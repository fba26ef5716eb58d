//! config.v2.json and hostconfig.json, written to a temporary file and renamed: never half there.

use std::path::Path;

use serde_json::json;

use super::{Life, SimDocker, rfc3339};

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

impl SimDocker {
    pub(super) fn write_config(&mut self, id: &str) {
        let log_path = self.log_path(id);
        let container = self.container(id);
        let options = &container.options;
        let is_running = container.life == Life::Running;
        let started = container.started_ns.map_or(ZERO_TIME.to_string(), rfc3339);
        let config = json!({
            "ID": id,
            "Name": format!("/{}", container.name),
            "Created": rfc3339(container.created_ns),
            "Driver": "overlay2",
            "Image": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
            // The daemon's path, known with the first start.
            "LogPath": container.started_ns.map_or(Path::new(""), |_| &log_path),
            "Config": {
                "Hostname": &id[..12],
                "Image": options.image,
                "Tty": options.tty,
                "Env": ["PATH=/bin"],
                "Labels": options.labels,
            },
            "State": {
                "Running": is_running,
                "Paused": false,
                "Restarting": false,
                "Dead": container.life == Life::Removed,
                "RemovalInProgress": container.life == Life::Removed,
                "Pid": if is_running { 4242 } else { 0 },
                "ExitCode": 0,
                "StartedAt": started,
            },
        });
        self.replace(id, "config.v2.json", &config);
    }

    pub(super) fn write_host_config(&mut self, id: &str) {
        let options = &self.container(id).options;
        let mut log_options = serde_json::Map::new();
        if let Some(max_size) = options.max_size {
            log_options.insert("max-size".to_string(), max_size.to_string().into());
        }
        if options.max_file != 1 {
            log_options.insert("max-file".to_string(), options.max_file.to_string().into());
        }
        if options.compress {
            log_options.insert("compress".to_string(), "true".into());
        }
        if options.non_blocking {
            log_options.insert("mode".to_string(), "non-blocking".into());
        }
        let config = json!({ "LogConfig": { "Type": "json-file", "Config": log_options }, "NetworkMode": "default" });
        self.replace(id, "hostconfig.json", &config);
    }

    fn replace(&mut self, id: &str, name: &str, value: &serde_json::Value) {
        let suffix = self.random.below(1_000_000_000);
        let temporary = self.directory(id).join(format!(".tmp-{name}{suffix}"));
        let file = self.os.engine_create(&temporary).expect("the directory is there");
        self.os.engine_write(&file, 0, value.to_string().as_bytes());
        self.os.engine_sync(&file);
        self.os.engine_rename(&temporary, self.directory(id).join(name)).expect("both are in one directory");
    }
}

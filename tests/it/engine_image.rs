//! The image of the Dockerfile under a real engine, confined as k8s/daemonset.yaml confines it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::docker::{Session, engine};
use crate::harness::{PATIENCE, until};
use crate::manifest;
use crate::scripts;

const IMAGE: &str = "longshore:test";
const AGENT: &str = "agent-in-a-container";
const WRITER: &str = "image-writer";
/// What the kubelet would have labelled it with; the manifest's path template asks for these.
const LABELS: [&str; 3] =
    ["io.kubernetes.pod.namespace=shop", "io.kubernetes.pod.name=web-0", "io.kubernetes.container.name=app"];

/// Directories of the node that the manifest mounts.
pub struct Node {
    directory: TempDir,
    containers_dir: PathBuf,
}

impl Node {
    pub fn new(engine: &Session) -> Node {
        let directory = tempfile::Builder::new().prefix("longshore-node-").tempdir().expect("a temporary directory");
        Node { directory, containers_dir: engine.containers_dir() }
    }

    /// Where a path of a node's lies here; Docker's containers are the engine's.
    pub fn path(&self, on_the_node: &str) -> PathBuf {
        if on_the_node == "/var/lib/docker/containers" {
            return self.containers_dir.clone();
        }
        let path = self.directory.path().join(on_the_node.trim_start_matches('/'));
        fs::create_dir_all(&path).expect("create a directory of the node");
        path
    }
}

/// From what `scripts/dist` made, as the Dockerfile says.
pub fn build(engine: &Session) {
    assert!(
        env::var_os("LONGSHORE_TEST_DIST").is_some_and(|dist| Path::new(&dist).join("labels").exists()),
        "LONGSHORE_TEST_DIST must name what scripts/dist made, which is what the image is built from"
    );
    let repository = env!("CARGO_MANIFEST_DIR");
    let labels = fs::read_to_string(format!("{repository}/target/dist/labels")).expect("read the labels");
    let mut command = vec!["build", "--tag", IMAGE];
    labels.lines().for_each(|label| command.extend(["--build-arg", label]));
    command.push(repository);
    engine.must(&command);
}

/// The options of `docker run` that confine a container as the manifest does.
fn options(text: &str, node: &Node) -> Vec<String> {
    let daemonset = manifest::object(text, "DaemonSet");
    let pod = &daemonset["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    let mut options = vec![format!("--user={}:{}", security["runAsUser"], security["runAsGroup"])];
    if security["readOnlyRootFilesystem"] == true {
        options.push("--read-only".to_owned());
    }
    if security["allowPrivilegeEscalation"] == false {
        options.push("--security-opt=no-new-privileges".to_owned());
    }
    for capability in security["capabilities"]["drop"].as_array().expect("dropped capabilities") {
        options.push(format!("--cap-drop={}", capability.as_str().expect("a capability")));
    }
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        let volume = manifest::volume(pod, mount);
        let host = match volume["hostPath"]["path"].as_str() {
            Some(path) => node.path(path),
            None => config(text, node),
        };
        let read_only = if mount["readOnly"] == true { ":ro" } else { "" };
        let inside = mount["mountPath"].as_str().expect("a path");
        options.push(format!("--volume={}:{inside}{read_only}", host.display()));
    }
    options
}

/// The ConfigMap as a directory.
fn config(text: &str, node: &Node) -> PathBuf {
    let directory = node.path("/configmap");
    for (name, value) in manifest::object(text, "ConfigMap")["data"].as_object().expect("files") {
        fs::write(directory.join(name), value.as_str().expect("text")).expect("write the configuration");
    }
    directory
}

fn inspect(engine: &Session, what: &str) -> Value {
    let told = engine.must(&["inspect", what]);
    serde_json::from_slice::<Value>(&told).expect("JSON")[0].clone()
}

#[test]
fn engine_image_collects_as_the_manifest_confines_it() {
    let Some(engine) = engine() else { return };
    let node = Node::new(&engine);
    build(&engine);
    let image = inspect(&engine, IMAGE)["Config"].clone();
    assert_eq!(image["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&image["User"], &image["StopSignal"]), (&"0:0".into(), &"SIGTERM".into()));

    let labels: Vec<&str> = LABELS.iter().flat_map(|label| ["--label", label]).collect();
    engine.run(
        WRITER,
        &labels,
        &(scripts::paced("w", 1, 300, 50, 1000)
            + "; "
            + &scripts::await_word("more")
            + "; "
            + &scripts::paced("w", 301, 600, 300, 0)),
    );

    let options = options(&manifest::plain(), &node);
    let mut command = vec!["run", "--detach", "--name", AGENT, "--network=none", "--health-interval=1s"];
    command.extend(options.iter().map(String::as_str));
    command.extend([IMAGE, "run"]);
    engine.must(&command);

    let output = node.path("/var/log/longshore").join("shop_web-0/app.log");
    let n_lines = || fs::read(&output).map_or(0, |bytes| crate::harness::n_lines(&bytes));
    let own_log = || String::from_utf8_lossy(&engine.logs_with_timestamps(AGENT)).into_owned();
    let running = || inspect(&engine, AGENT)["State"]["Running"] == true;
    until("another container's lines are collected", PATIENCE, || {
        assert!(running(), "the agent ended: {}", own_log());
        n_lines() >= 300
    });
    until("HEALTHCHECK is content", PATIENCE, || inspect(&engine, AGENT)["State"]["Health"]["Status"] == "healthy");
    let alone = fs::read_dir(node.path("/var/log/longshore")).expect("list the outputs");
    let alone = alone.filter(|entry| !entry.as_ref().expect("an entry").file_name().to_string_lossy().starts_with('.'));
    // The writer's and those of tests beside this one; never the agent's own.
    let names: Vec<_> = alone.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains(AGENT)), "{names:?}");

    engine.tell(WRITER, "more");
    engine.wait_well(WRITER);
    // PID 1 has no default actions: without a handler this would end in a kill, with 137.
    engine.must(&["stop", "--time", "60", AGENT]);
    let state = inspect(&engine, AGENT)["State"].clone();
    assert_eq!(state["ExitCode"], 0, "{state}\n{}", own_log());
    let expected = scripts::lines("w", 1, 600);
    let written = || crate::harness::texts(&fs::read(&output).expect("read the output"));
    crate::harness::assert_same("drained on SIGTERM", &written(), &expected);

    // It goes on where it stood.
    engine.must(&["start", AGENT]);
    until("it is well again", PATIENCE, || inspect(&engine, AGENT)["State"]["Health"]["Status"] == "healthy");
    engine.must(&["stop", "--time", "60", AGENT]);
    crate::harness::assert_same("after another start", &written(), &expected);
    engine.rm(AGENT);
}

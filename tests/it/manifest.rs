//! k8s/: the manifest, the overlay of contrib/kustomize and the Helm chart, each as the cluster gets it: against the
//! Kubernetes schema, the lines the promise depends on, and the agent's own word on the configuration in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{PATIENCE, finish};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A tool that `scripts/test` fetches and names; elsewhere the test says that it was skipped.
fn tool(variable: &str) -> Option<PathBuf> {
    let found = env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        println!("skipped: {variable} is not set");
    }
    found
}

fn rendered(command: &mut Command) -> String {
    let done = finish(command, PATIENCE);
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("YAML is text")
}

pub fn plain() -> String {
    fs::read_to_string(repository("k8s/daemonset.yaml")).expect("read the manifest")
}

fn kustomized(directory: &str) -> Option<String> {
    let kubectl = tool("LONGSHORE_TEST_KUBECTL")?;
    Some(rendered(Command::new(kubectl).arg("kustomize").arg(repository(directory))))
}

fn chart(arguments: &[&str]) -> Option<String> {
    let helm = tool("LONGSHORE_TEST_HELM")?;
    let mut command = Command::new(helm);
    command.args(["template", "longshore"]).arg(repository("k8s/helm/longshore"));
    Some(rendered(command.args(["--namespace", "longshore"]).args(arguments)))
}

/// All the ways to install it that can be rendered here, by name.
fn all() -> Vec<(&'static str, String)> {
    let odd = repository("tests/fixtures/helm-values.yaml");
    let odd = odd.to_str().expect("a path");
    let found = [
        ("k8s/daemonset.yaml", Some(plain())),
        ("k8s", kustomized("k8s")),
        ("contrib/kustomize", kustomized("contrib/kustomize")),
        ("the chart", chart(&[])),
        ("the chart with odd values", chart(&["--values", odd])),
    ];
    found.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

pub fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("no YAML: {error}"))
}

pub fn object(text: &str, kind: &str) -> Value {
    let found = objects(text).into_iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("there is no {kind}"))
}

/// The file that the pods see as /etc/longshore/config.toml.
fn config(text: &str) -> String {
    object(text, "ConfigMap")["data"]["config.toml"].as_str().expect("a config.toml").to_owned()
}

#[test]
fn what_is_installed_fits_the_schema() {
    let Some(validator) = tool("LONGSHORE_TEST_KUBERNETES_VALIDATE") else { return };
    for (name, text) in all() {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a temporary file");
        fs::write(file.path(), text).expect("write a manifest");
        let checked = finish(Command::new(&validator).args(["--strict", "--no-warn"]).arg(file.path()), PATIENCE);
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn what_is_installed_says_what_the_promise_needs() {
    for (name, text) in all() {
        let daemonset = object(&text, "DaemonSet");
        let pod = &daemonset["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        let rolling = &daemonset["spec"]["updateStrategy"]["rollingUpdate"];
        // Two pods never share a state.
        assert_eq!((&rolling["maxSurge"], &rolling["maxUnavailable"]), (&0.into(), &"10%".into()), "{name}");
        for (path, value) in
            [("/privileged", false), ("/allowPrivilegeEscalation", false), ("/readOnlyRootFilesystem", true)]
        {
            assert_eq!(security.pointer(path), Some(&value.into()), "{name}: {path}");
        }
        assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(object(&text, "ServiceAccount")["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["priorityClassName"], "system-node-critical", "{name}");
        assert_eq!(pod["tolerations"], serde_json::json!([{ "operator": "Exists" }]), "{name}");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "metrics", "{name}: {probe}");
        }
        for mount in container["volumeMounts"].as_array().expect("mounts") {
            let path = mount["mountPath"].as_str().expect("a path");
            // The engine's files are the engine's own; what outlives the pod is on the node.
            let read_only = !["/var/lib/longshore", "/var/log/longshore"].contains(&path);
            assert_eq!(mount["readOnly"] == true, read_only, "{name}: {path}");
            let volume = volume(pod, mount);
            assert_eq!(volume["hostPath"].is_object(), path.starts_with("/var/"), "{name}: {path}");
        }
    }
}

/// The volume behind a mount.
pub fn volume<'v>(pod: &'v Value, mount: &Value) -> &'v Value {
    let volumes = pod["volumes"].as_array().expect("volumes");
    volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("each mount has its volume")
}

#[test]
fn the_configuration_is_one_and_agrees_with_the_pod() {
    for (name, text) in all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("config.toml");
        fs::write(&file, config(&text)).expect("write the configuration");
        let mut check = Command::new(env!("CARGO_BIN_EXE_longshore"));
        let checked = finish(check.args(["check", "--config"]).arg(&file), PATIENCE);
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));

        let said: toml::Table = config(&text).parse().expect("TOML");
        let of = |key: &str| said[key].as_str().expect("text").to_owned();
        let daemonset = object(&text, "DaemonSet");
        let pod = &daemonset["spec"]["template"]["spec"];
        let port = &pod["containers"][0]["ports"][0]["containerPort"];
        assert_eq!(of("listen"), format!("0.0.0.0:{port}"), "{name}");
        // A drain has to be over before the kubelet kills.
        let drain: u64 = of("shutdown_timeout").trim_end_matches('s').parse().expect("seconds");
        assert!(drain + 10 <= pod["terminationGracePeriodSeconds"].as_u64().expect("seconds"), "{name}");
        // Names of pods tell containers apart.
        assert_eq!(of("path_template"), "{namespace}_{pod}/{container}.log", "{name}");
    }
}

/// Three ways to install the same thing: they must not drift apart.
#[test]
fn the_chart_installs_what_the_manifest_does() {
    let (Some(chart), plain) = (chart(&[]), plain()) else { return };
    let pod = |text: &str| object(text, "DaemonSet")["spec"]["template"]["spec"].clone();
    assert_eq!(pod(&chart), pod(&plain));
    let settings = |text: &str| config(text).parse::<toml::Table>().expect("TOML");
    assert_eq!(settings(&chart), settings(&plain));
    let Some(base) = kustomized("k8s") else { return };
    assert_eq!(objects(&base).len(), objects(&plain).len());
    assert_eq!(object(&base, "DaemonSet"), object(&plain, "DaemonSet"));
}

#[test]
fn a_change_of_the_configuration_rolls_the_pods() {
    let checksum = |arguments: &[&str]| {
        let daemonset = object(&chart(arguments)?, "DaemonSet");
        let annotations = daemonset["spec"]["template"]["metadata"]["annotations"].clone();
        Some(annotations["checksum/config"].as_str().expect("a checksum").to_owned())
    };
    if let (Some(one), Some(other)) = (checksum(&[]), checksum(&["--set", "config.limit=51MB"])) {
        assert_ne!(one, other);
    }
    if let Some(overlay) = kustomized("contrib/kustomize") {
        let name = object(&overlay, "ConfigMap")["metadata"]["name"].clone();
        assert!(name.as_str().is_some_and(|name| name.len() > "longshore-config-".len()), "{name}");
        let pod = &object(&overlay, "DaemonSet")["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][0]["configMap"]["name"], name);
    }
}

#[test]
fn values_that_cannot_be_are_refused() {
    let Some(helm) = tool("LONGSHORE_TEST_HELM") else { return };
    let chart = repository("k8s/helm/longshore");
    let lint = finish(Command::new(&helm).args(["lint", "--strict"]).arg(&chart), PATIENCE);
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    for wrong in ["prot=1", "config.listen=x", "config.log_path=/x", "config.format=yaml", "port=0", "paths.logs=rel"] {
        let mut command = Command::new(&helm);
        command.args(["template", "longshore", "--set", wrong]).arg(&chart);
        let refused = finish(&mut command, PATIENCE);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("schema"), "{wrong}: {said}");
    }
}

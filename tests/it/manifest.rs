//! k8s/daemonset.yaml against the Kubernetes schema, and the few lines the promise depends on.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PATIENCE, finish};

fn manifest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/daemonset.yaml")
}

/// `scripts/test` installs the validator and names it; elsewhere the test says that it was skipped.
#[test]
fn the_manifest_fits_the_schema() {
    let Some(validator) = env::var_os("LONGSHORE_TEST_KUBERNETES_VALIDATE") else {
        println!("skipped: no validator");
        return;
    };
    let checked = finish(Command::new(validator).args(["--strict", "--no-warn"]).arg(manifest()), PATIENCE);
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn the_manifest_says_what_the_promise_needs() {
    let text = fs::read_to_string(manifest()).expect("read the manifest");
    let settings: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    for needed in [
        // The state outlives the pod, and two pods never share it.
        "path: /var/lib/longshore",
        "maxUnavailable: 10%",
        "maxSurge: 0",
        // The engine's files are the engine's own.
        "path: /var/lib/docker/containers",
        "readOnly: true",
        "automountServiceAccountToken: false",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "privileged: false",
        // Names of pods, which tell containers apart.
        "LONGSHORE_PATH_TEMPLATE: \"{namespace}_{pod}/{container}.log\"",
    ] {
        assert!(settings.contains(&needed), "k8s/daemonset.yaml lacks {needed:?}");
    }
    for probe in ["startupProbe:", "livenessProbe:", "readinessProbe:"] {
        assert!(settings.contains(&probe), "k8s/daemonset.yaml lacks {probe}");
    }
}

//! config.v2.json and hostconfig.json from arbitrary bytes: what is taken from them is bounded, is what was asked for,
//! and makes no path that leaves the log-path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore::config::limits::METADATA_VALUE_BYTES_MAX;
use longshore::discover::{ContainerConfig, LogOptions, Needed, PathTemplate};
use longshore::format::Tag;
use longshore_fuzz::{ID, assert_stays_below};
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    container(bytes);
    if let Ok(options) = LogOptions::parse(bytes) {
        assert!(options.driver.len() <= METADATA_VALUE_BYTES_MAX);
    }
});

fn container(bytes: &[u8]) {
    let tags = [Tag::Label("app".into()), Tag::Env("TIER".into())];
    let needed = Needed::new(&tags, ["team"]);
    let Ok(config) = ContainerConfig::parse(ID, "node", &needed, bytes) else { return };
    let metadata = &config.metadata;
    assert!(!metadata.name.is_empty() && metadata.id == ID && metadata.hostname == "node");
    assert!(!metadata.name.contains(char::is_control));
    let known = ["app", "team", "longshore.exclude", "io.kubernetes.sandbox.id", "io.kubernetes.pod.namespace"];
    let known = known.into_iter().chain(["io.kubernetes.pod.name", "io.kubernetes.container.name"]);
    assert!(metadata.labels.keys().all(|key| known.clone().any(|known| known == key)));
    assert!(metadata.env.keys().all(|key| key == "TIER"));
    let named = [&metadata.name, &metadata.image, &metadata.image_id, &config.created];
    for value in named.into_iter().chain(metadata.labels.values()).chain(metadata.env.values()) {
        assert!(value.len() <= METADATA_VALUE_BYTES_MAX);
    }
    let _any_time = config.created_ns();
    for template in ["{name}/{name}.log", "{namespace}_{pod}/{container}.log", "{label.app}/{env.TIER}+{id}.log"] {
        let template = PathTemplate::parse(template).expect("the README has it");
        assert_stays_below(&template.route(metadata));
    }
    // Where serde_json takes the whole of it, it has the same name. (An array of the fields is taken, too.)
    if let Ok(value @ Value::Object(_)) = serde_json::from_slice(bytes) {
        let name = value["Name"].as_str().expect("a name came from it");
        assert!(name.contains(char::is_control) || name.strip_prefix('/').unwrap_or(name).starts_with(&metadata.name));
    }
}

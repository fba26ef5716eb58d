//! The docker commands that the pages show, in their order, on a real engine.

use std::fs;

use crate::docker::engine;
use crate::docs;
use crate::engine_image::{Node, build};
use crate::harness::{PATIENCE, until};

const CONTAINER: &str = "longshore";

/// The paths of the node that a shown command mounts become this test's.
fn on_this_node(command: &str, node: &Node) -> String {
    let words = command.split_whitespace().map(|word| match word.split_once(":/") {
        Some((host, inside)) if host.starts_with('/') => format!("{}:/{inside}", node.path(host).display()),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn engine_docs_commands_work_in_their_order() {
    let Some(engine) = engine() else { return };
    let node = Node::new(&engine);
    build(&engine);
    fs::write(node.path("/etc/longshore").join("config.toml"), "limit = '7MB'\n").expect("write the configuration");
    let mut n_run = 0;
    for page in ["docs/install.md"] {
        for block in docs::blocks().iter().filter(|block| block.file == page && block.kind == "sh") {
            for command in block.commands().iter().filter(|command| command.starts_with("docker ")) {
                // No bridge is there, and nobody needs one.
                let command = on_this_node(command, &node).replace("docker run ", "docker run --network=none ");
                let done = engine.shell(&command);
                let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
                assert!(done.status.success(), "{command}: {said}");
                if command.contains("docker run ") {
                    n_run += 1;
                    until("the agent in it is well", PATIENCE, || {
                        engine.shell(&format!("docker exec {CONTAINER} longshore healthcheck")).status.success()
                    });
                }
            }
        }
    }
    assert_eq!(n_run, 1, "docs/install.md shows how to run it");
    engine.must(&["rm", "--force", CONTAINER]);
}

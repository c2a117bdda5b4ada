//! Which crate may depend on what. Dependencies point one way: command line, adapters, runtime, wire, core.
//!
//! Only what ends up in the product counts: development dependencies may go where they like.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::packages;

/// All that the decisions may depend on: no IO, no clock, no randomness.
const CORE: [&str; 1] = ["libm"];

/// The own crates that a crate may depend on. A crate that is not listed may depend on any.
const LAYERS: [(&str, &[&str]); 11] = [
    ("tidegate-core", &[]),
    ("tidegate-wire", &["tidegate-core"]),
    ("tidegate-runtime", &["tidegate-core", "tidegate-wire"]),
    ("tidegate-kafka", &["tidegate-core", "tidegate-wire", "tidegate-runtime"]),
    ("tidegate-sinks", &["tidegate-core", "tidegate-wire", "tidegate-runtime"]),
    ("tidegate-devbroker", &[]),
    ("tidegate-load", &["tidegate-core", "tidegate-wire", "tidegate-runtime", "tidegate-sinks"]),
    ("tidegate-sim", &["tidegate-core", "tidegate-wire", "tidegate-runtime"]),
    ("tidegate-model", &["tidegate-core"]),
    ("tidegate-kube", &["tidegate-core", "tidegate-wire", "tidegate-runtime"]),
    ("tidegate-process-kubelet", &[]),
];

/// Libraries that only some crates may name, so that replacing one touches one place.
const RESERVED: [(&str, &[&str]); 4] = [
    ("rdkafka", &["tidegate-kafka"]),
    ("kafka-protocol", &["tidegate-kafka", "tidegate-devbroker", "tidegate-chaos"]),
    ("kube", &["tidegate-kube", "tidegate-process-kubelet"]),
    ("anyhow", &["tidegate", "xtask", "tidegate-chaos", "tidegate-process-kubelet"]),
];

/// Dependencies that cross the layers, in what `cargo metadata` knows.
pub(super) fn problems(metadata: &Value) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in packages(metadata)? {
        let name = package["name"].as_str().context("a package without a name")?;
        let dependencies = package["dependencies"].as_array().context("no dependencies")?;
        // The kind is null for normal dependencies, else "dev" or "build".
        for dependency in dependencies.iter().filter(|dependency| dependency["kind"] != "dev") {
            let dependency = dependency["name"].as_str().context("a dependency without a name")?;
            if !is_allowed(name, dependency) {
                problems.push(format!("{name}: must not depend on {dependency}"));
            }
        }
    }
    Ok(problems)
}

fn is_allowed(package: &str, dependency: &str) -> bool {
    let find = |table: &[(&str, &[&str])], key: &str, value: &str| {
        table.iter().find(|(found, _)| *found == key).map(|(_, allowed)| allowed.contains(&value))
    };
    if package == "tidegate-core" {
        return CORE.contains(&dependency);
    }
    if dependency.starts_with("tidegate") {
        return find(&LAYERS, package, dependency).unwrap_or(true);
    }
    find(&RESERVED, dependency, package).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependency: &str, kind: Option<&str>) -> Value {
        json!({"packages": [{"name": name, "dependencies": [{"name": dependency, "kind": kind}]}]})
    }

    fn count(metadata: &Value) -> usize {
        problems(metadata).expect("the metadata is complete").len()
    }

    #[test]
    fn the_core_depends_on_nothing_that_does_io() {
        assert_eq!(count(&package("tidegate-core", "libm", None)), 0);
        assert_eq!(count(&package("tidegate-core", "tokio", None)), 1);
        assert_eq!(count(&package("tidegate-core", "proptest", Some("dev"))), 0);
    }

    #[test]
    fn layers_point_one_way() {
        assert_eq!(count(&package("tidegate-runtime", "tidegate-wire", None)), 0);
        assert_eq!(count(&package("tidegate-wire", "tidegate-runtime", None)), 1);
        assert_eq!(count(&package("tidegate", "tidegate-sim", None)), 0);
    }

    #[test]
    fn a_client_library_is_named_in_one_place() {
        assert_eq!(count(&package("tidegate-kafka", "rdkafka", None)), 0);
        assert_eq!(count(&package("tidegate-load", "rdkafka", None)), 1);
    }
}

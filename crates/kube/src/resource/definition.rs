//! The definition of the resource: what the API server knows of it.

use serde_json::{Value, json};
use tidegate_runtime::spec;

use super::schema::structural;
use super::status::GroupStatus;
use super::{GROUP, KIND, PLURAL, VERSION};

/// The `CustomResourceDefinition`, as JSON.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{PLURAL}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL, "singular": "consumergroup",
                "shortNames": ["cg"], "categories": ["all"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": schema() },
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.consumers.min",
                        "statusReplicasPath": ".status.consumers.ready",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": columns(),
            }],
        },
    })
}

fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str, description: &str| json!({ "name": name, "type": kind, "jsonPath": path, "description": description });
    json!([
        column("Mode", "string", ".spec.mode", "What the controller may do; observe when empty."),
        column("Paused", "boolean", ".spec.paused", "Whether all stays as it is."),
        column("Wanted", "integer", ".status.consumers.wanted", "Consumers that should run."),
        column(
            "Ready",
            "integer",
            ".status.consumers.ready",
            "Consumers that can be given partitions."
        ),
        column("Partitions", "integer", ".status.partitions", "Partitions that are measured."),
        column(
            "Status",
            "string",
            ".status.conditions[?(@.type=='Ready')].reason",
            "Whether all is well."
        ),
        column("Age", "date", ".metadata.creationTimestamp", "Since when it is there."),
    ])
}

fn schema() -> Value {
    let mut spec = structural(spec::schema());
    adapt(&mut spec);
    let status = spec::schema_of::<GroupStatus>();
    json!({
        "type": "object",
        "description": "A group of Kafka consumers that is sized and steered by the load of each partition.",
        "required": ["spec"],
        "properties": { "spec": spec, "status": structural(&status) },
        "x-kubernetes-validations": [rule(
            "size(self.metadata.name) <= 63",
            "the name must have at most 63 characters: it stands in labels",
            None,
        )],
    })
}

/// What differs from a file: the group is called as the resource unless it says otherwise, its consumers run here, and what the
/// processes of a group agree upon cannot be changed.
fn adapt(spec: &mut Value) {
    spec["description"] = json!("The group's specification, as in a file.");
    spec["required"] = json!(["cluster", "workers"]);
    let fields = &mut spec["properties"];
    fields["group"]["description"] =
        json!("Name of the consumer group. The default is the name of this resource.");
    fields["group"]["maxLength"] = json!(249);
    topics(&mut fields["topics"]);
    let workers = &mut fields["workers"];
    workers["required"] = json!(["kubernetes"]);
    workers["properties"]["kind"] = json!({
        "type": "string", "enum": ["kubernetes"], "description": "Which kind of worker: consumers run here.",
    });
    workers["properties"]["kubernetes"]["required"] = json!(["image"]);
    workers["properties"]["kubernetes"]["properties"]["image"]["minLength"] = json!(1);
    if let Some(kubernetes) = workers["properties"]["kubernetes"]["properties"].as_object_mut() {
        // It is the resource's.
        kubernetes.remove("namespace");
    }
    let keeping = |of: &str| {
        format!("(has({of}.storage) && has({of}.storage.keeping) ? {of}.storage.keeping : 'claim')")
    };
    workers["properties"]["kubernetes"]["x-kubernetes-validations"] = json!([rule(
        &format!("{} == {}", keeping("self"), keeping("oldSelf")),
        "how volumes are kept cannot be changed: make another resource",
        Some(".storage.keeping"),
    )]);
    let capacity = &mut fields["capacity"];
    capacity["properties"]["overload"]["minimum"] = json!(0.9);
    capacity["properties"]["overload"]["maximum"] = json!(1);
    capacity["x-kubernetes-validations"] = json!([rule(
        "(has(self.packing) ? self.packing : 0.75) <= (has(self.overload) ? self.overload : 0.95)",
        "packing must be at most overload (0.95 by default)",
        Some(".packing"),
    )]);
    fields["consumers"]["x-kubernetes-validations"] = json!([rule(
        "(has(self.min) ? self.min : 1) <= (has(self.max) ? self.max : 10)",
        "min must be at most max (10 by default)",
        Some(".min"),
    )]);
    fields["ownership"]["x-kubernetes-validations"] = json!([
        rule(
            &format!(
                "{} + {} < {}",
                span("writeTimeout", "5s"),
                span("heartbeat", "2s"),
                span("lease", "15s")
            ),
            "writeTimeout (5s by default) and heartbeat (2s) together must be below lease (15s)",
            Some(".lease"),
        ),
        rule(
            &format!("{} < {}", span("lease", "15s"), span("fence", "20s")),
            "lease (15s by default) must be below fence (20s)",
            Some(".lease"),
        ),
    ]);
    let fixed = [
        ("group", "the name of a group cannot be changed: make another resource"),
        ("controlTopics", "the control topics of a group cannot be changed: make another resource"),
    ];
    let rules = fixed.map(|(field, message)| {
        let same = format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        );
        rule(&same, message, Some(&format!(".{field}")))
    });
    spec["x-kubernetes-validations"] = json!(rules);
}

/// A topic is known by its name, and keeps its sink.
fn topics(topics: &mut Value) {
    topics["x-kubernetes-list-type"] = json!("map");
    topics["x-kubernetes-list-map-keys"] = json!(["name"]);
    topics["maxItems"] = json!(1000);
    let topic = &mut topics["items"];
    topic["properties"]["sink"]["pattern"] = json!("^[a-z][a-z0-9+-]*:");
    topic["properties"]["sink"]["maxLength"] = json!(2048);
    topic["x-kubernetes-validations"] = json!([rule(
        "has(self.sink) == has(oldSelf.sink) && (!has(self.sink) || self.sink == oldSelf.sink)",
        "a topic keeps its sink: what was written is in it, and another one would begin in the middle",
        Some(".sink"),
    )]);
}

/// A duration of the specification, or its default, in a rule.
fn span(field: &str, usual: &str) -> String {
    format!("duration(has(self.{field}) ? self.{field} : '{usual}')")
}

fn rule(rule: &str, message: &str, field: Option<&str>) -> Value {
    let mut made = json!({ "rule": rule, "message": message });
    if let Some(field) = field {
        made["fieldPath"] = json!(field);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_has_every_field_of_a_file_but_the_namespace() {
        let definition = definition();
        let version = &definition["spec"]["versions"][0];
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let file = spec::schema();
        for (key, _) in file["properties"].as_object().unwrap() {
            assert!(spec["properties"][key].is_object(), "{key}");
        }
        let kubernetes = &spec["properties"]["workers"]["properties"]["kubernetes"];
        assert_eq!(kubernetes["properties"].get("namespace"), None);
        assert_eq!(
            kubernetes["properties"]["template"]["x-kubernetes-preserve-unknown-fields"],
            true
        );
        assert_eq!(spec["properties"]["mode"]["enum"], json!(["observe", "own"]));
    }
}

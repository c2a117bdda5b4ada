//! The definition of `ConsumerGroup` on a real API server: what is accepted, and what is refused with the path of the field.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use serde_json::{Value, json};
use tidegate_kube::resource;
use tidegate_testing::{Namespace, RealKube};

fn group() -> Value {
    json!({
        "apiVersion": format!("{}/{}", resource::GROUP, resource::VERSION),
        "kind": resource::KIND,
        "metadata": { "name": "orders" },
        "spec": {
            "mode": "own",
            "cluster": { "bootstrapServers": "kafka:9092",
                         "security": { "tls": {}, "sasl": { "mechanism": "SCRAM-SHA-512", "username": "t",
                                                            "password": { "env": "PASSWORD" } } } },
            "topics": [{ "name": "orders", "sink": "blackhole:", "start": { "timestamp": 1_700_000_000_000_u64 } }],
            "capacity": { "bytesPerSecond": "20MB/s", "packing": 0.8 },
            "consumers": { "min": 2, "pins": { "orders/3": 2 }, "drain": [4] },
            "ownership": { "lease": "20s", "fence": "30s" },
            "workers": { "kubernetes": { "image": "tidegate:1", "template": { "spec": { "nodeSelector": { "disk": "fast" } } } } },
        },
    })
}

/// Sets a field by the path of its keys.
fn with(path: &str, value: Value) -> Value {
    let mut group = group();
    let field = path.split('.').fold(&mut group["spec"], |inner, key| &mut inner[key]);
    *field = value;
    group
}

fn apply(namespace: &Namespace<'_>, kube: &RealKube, object: &Value) -> Result<(), String> {
    let arguments = ["apply", "--namespace", namespace.name(), "--filename", "-"];
    let output = kube.try_kubectl(&arguments, &object.to_string());
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

fn refused(namespace: &Namespace<'_>, kube: &RealKube, object: &Value, path: &str, why: &str) {
    match apply(namespace, kube, object) {
        Ok(()) => panic!("{path} was accepted"),
        Err(said) => assert!(said.contains(path) && said.contains(why), "{path}: {said}"),
    }
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_resource_is_checked_by_the_api_server_field_by_field() {
    let kube = RealKube::start();
    let namespace = kube.namespace("resource");
    let definition = resource::definition().to_string();
    let made = kube.try_kubectl(&["apply", "--filename", "-"], &definition);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let name = format!("crd/{}.{}", resource::PLURAL, resource::GROUP);
    kube.kubectl(&["wait", &name, "--for", "condition=Established", "--timeout=180s"]);

    for (path, value, why) in [
        ("mode", json!("owns"), "Unsupported value"),
        ("consumers.min", json!(0), "greater than or equal to 1"),
        ("consumers.min", json!(11), "min must be at most max"),
        ("consumers.maxx", json!(3), "unknown field"),
        ("capacity.bytesPerSecond", json!("20 lightyears"), "should match"),
        ("capacity.packing", json!(0.97), "packing must be at most overload"),
        ("ownership.lease", json!("40s"), "must be below fence"),
        ("ownership.lease", json!("6s"), "together must be below lease"),
        ("workers.kind", json!("process"), "Unsupported value"),
        ("workers.kubernetes.image", json!(null), "Required value"),
        ("cluster.bootstrapServers", json!(null), "Required value"),
    ] {
        refused(&namespace, &kube, &with(path, value), &format!("spec.{path}"), why);
    }
    let topic = json!({ "name": "orders", "sink": "blackhole:" });
    let twice = with("topics", json!([topic, topic]));
    refused(&namespace, &kube, &twice, "spec.topics[1]", "Duplicate value");
    let no_sink = with("topics", json!([{ "name": "orders" }]));
    refused(&namespace, &kube, &no_sink, "spec.topics[0].sink", "Required value");
    let secrets = json!({ "env": "A", "file": "/b" });
    let secrets = with("cluster.security.sasl.password", secrets);
    refused(&namespace, &kube, &secrets, "spec.cluster.security.sasl.password", "at most 1");

    apply(&namespace, &kube, &group()).unwrap();
    let kept = namespace.get("consumergroup/orders", "{.spec.workers.kubernetes.template.spec}");
    assert_eq!(kept, r#"{"nodeSelector":{"disk":"fast"}}"#);
    assert_eq!(namespace.get("cg/orders", "{.spec.capacity.overload}"), "", "no default is stored");
    apply(&namespace, &kube, &with("consumers.max", json!(20))).unwrap();
    let topics = with("controlTopics", json!({ "monitor": "other" }));
    refused(&namespace, &kube, &topics, "spec.controlTopics", "cannot be changed");
    let sink = with("topics", json!([{ "name": "orders", "sink": "stdout:" }]));
    refused(&namespace, &kube, &sink, "spec.topics[0].sink", "keeps its sink");
    let keeping = with("workers.kubernetes.storage", json!({ "keeping": "statefulSet" }));
    refused(
        &namespace,
        &kube,
        &keeping,
        "spec.workers.kubernetes.storage.keeping",
        "cannot be changed",
    );
    let size = with("workers.kubernetes.storage", json!({ "keeping": "claim", "size": "2Gi" }));
    apply(&namespace, &kube, &size).unwrap();
    namespace.kubectl(&["scale", "cg/orders", "--replicas=5"]);
    assert_eq!(namespace.get("cg/orders", "{.spec.consumers.min}"), "5");
}

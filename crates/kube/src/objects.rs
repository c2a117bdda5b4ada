//! The objects of a consumer as they are applied: complete, so that what somebody changed by hand is put right.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::ports::{Class, Error, WorkerSpec};
use tidegate_runtime::spec::{GroupSpec, Keeping, Kubernetes, Storage, Workers};

use crate::names::{CONSUMER_LABEL, GROUP_LABEL, Names};
use crate::options::KubeOptions;

/// The container that is the consumer.
pub(crate) const CONTAINER: &str = "consumer";

/// Keeps the revision that a workload was applied with.
pub(crate) const REVISION: &str = "tidegate.dev/revision";

/// Keeps what the consumer works by: an annotation, so that a pod and its specification are of one piece.
pub(crate) const GROUP_SPEC: &str = "tidegate.dev/group-spec";

/// Where the claim is mounted.
const STATE: &str = "/var/lib/tidegate";

/// Where the pod's labels are a file, the same as in its environment, and its specification.
const POD: &str = "/etc/podinfo";

/// User and group of the container, and of its volume, unless the template names others.
const USER: u32 = 65_532;

/// The part of a worker's specification that is about Kubernetes.
pub(crate) fn workers_of(spec: &WorkerSpec) -> Result<Workers, Error> {
    let read = GroupSpec::parse(&spec.group, &BTreeMap::new());
    read.map(|read| read.workers).map_err(|faults| {
        Error::new(Class::Permanent, "a worker has a specification that cannot be read")
            .because(faults)
    })
}

/// What runs the consumer's one pod.
pub(crate) fn workload(
    options: &KubeOptions,
    names: &Names,
    consumer: ConsumerNumber,
    spec: &WorkerSpec,
    workers: &Workers,
) -> Value {
    let labels = labels(names, Some(consumer));
    let mut metadata = metadata(options, &names.consumer(consumer), &labels);
    metadata["annotations"] = json!({ REVISION: spec.revision });
    let mut body = json!({
        "replicas": 1,
        "minReadySeconds": 0,
        "revisionHistoryLimit": 1,
        "selector": { "matchLabels": { GROUP_LABEL: names.group(), CONSUMER_LABEL: consumer.to_string() } },
        "template": template(options, names, consumer, spec, workers),
    });
    let kind = match options.keeping {
        Keeping::Claim => {
            body["strategy"] = json!({ "type": "Recreate" });
            // Somebody's `kubectl rollout pause` would hold up ours.
            body["paused"] = json!(false);
            "Deployment"
        }
        Keeping::StatefulSet => {
            body["serviceName"] = json!(names.group());
            // In order, a pod that never becomes ready would not be replaced by a better one.
            body["podManagementPolicy"] = json!("Parallel");
            "StatefulSet"
        }
    };
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": body })
}

/// The consumer's volume. No owner: whether it stays is the retention's to say, not the garbage collector's.
pub(crate) fn claim(
    options: &KubeOptions,
    names: &Names,
    consumer: ConsumerNumber,
    storage: &Storage,
) -> Value {
    let Storage { class, size, .. } = storage;
    let mode = match options.keeping {
        Keeping::Claim => "ReadWriteOncePod",
        Keeping::StatefulSet => "ReadWriteOnce",
    };
    let mut spec =
        json!({ "accessModes": [mode], "resources": { "requests": { "storage": size } } });
    if let Some(class) = class {
        spec["storageClassName"] = json!(class);
    }
    let metadata = json!({
        "name": names.consumer(consumer),
        "namespace": options.namespace,
        "labels": labels(names, Some(consumer)),
    });
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec })
}

/// One consumer at a time may be evicted.
pub(crate) fn budget(options: &KubeOptions, names: &Names) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(options, &names.budget(), &labels(names, None)),
        // One that does not work anyway must not hold up a drain.
        "spec": { "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": { "matchLabels": { GROUP_LABEL: names.group() } } },
    })
}

fn metadata(options: &KubeOptions, name: &str, labels: &Value) -> Value {
    let mut metadata = json!({ "name": name, "namespace": options.namespace, "labels": labels });
    if let Some(owner) = &options.owner {
        metadata["ownerReferences"] = json!([owner]);
    }
    metadata
}

fn labels(names: &Names, consumer: Option<ConsumerNumber>) -> Value {
    let mut labels = json!({
        "app.kubernetes.io/name": "tidegate",
        "app.kubernetes.io/managed-by": "tidegate",
        GROUP_LABEL: names.group(),
    });
    if let Some(consumer) = consumer {
        labels["app.kubernetes.io/component"] = json!(CONTAINER);
        labels[CONSUMER_LABEL] = json!(consumer.to_string());
    }
    labels
}

/// The user's template, completed: what Tidegate relies on wins over it, and what is merely usual does not.
fn template(
    options: &KubeOptions,
    names: &Names,
    consumer: ConsumerNumber,
    spec: &WorkerSpec,
    workers: &Workers,
) -> Value {
    let mut template = Value::Object(object(workers.kubernetes.template.clone()));
    let metadata = entry(&mut template, "metadata");
    extend(metadata, "labels", labels(names, Some(consumer)));
    extend(metadata, "annotations", json!({ REVISION: spec.revision, GROUP_SPEC: &*spec.group }));
    let pod = entry(&mut template, "spec");
    for (name, usual) in [
        ("automountServiceAccountToken", json!(false)),
        (
            "securityContext",
            json!({
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            }),
        ),
        (
            "topologySpreadConstraints",
            json!([{
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": { GROUP_LABEL: names.group() } },
            }]),
        ),
    ] {
        pod.entry(name).or_insert(usual);
    }
    let grace = workers.kubernetes.evacuation + workers.stop_grace;
    pod.insert("terminationGracePeriodSeconds".to_owned(), json!(grace.as_secs() + 1));
    let claim = json!({ "claimName": names.consumer(consumer) });
    let spec_field = format!("metadata.annotations['{GROUP_SPEC}']");
    let files = json!([
        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
        { "path": "group.yaml", "fieldRef": { "fieldPath": spec_field } },
    ]);
    add(pod, "volumes", json!({ "name": "tidegate-state", "persistentVolumeClaim": claim }));
    add(pod, "volumes", json!({ "name": "tidegate-pod", "downwardAPI": { "items": files } }));
    let containers = list(pod, "containers");
    let at = containers.iter().position(|container| container["name"] == CONTAINER);
    let mut container = at.map_or_else(Map::new, |at| object(containers.remove(at)));
    complete(&mut container, options, &workers.kubernetes);
    containers.insert(0, Value::Object(container));
    template
}

fn complete(container: &mut Map<String, Value>, options: &KubeOptions, kubernetes: &Kubernetes) {
    let probe = |path: &str, failures: u32| {
        json!({ "httpGet": { "path": path, "port": options.port }, "periodSeconds": 5, "timeoutSeconds": 3,
                "failureThreshold": failures })
    };
    let Kubernetes { image, evacuation, .. } = kubernetes;
    let evacuated = format!("/evacuated/{}", evacuation.as_secs());
    let evacuated =
        json!({ "preStop": { "httpGet": { "path": evacuated, "port": options.port } } });
    for (name, usual) in [
        ("lifecycle", evacuated),
        ("readinessProbe", probe("/readyz", 2)),
        ("livenessProbe", probe("/livez", 6)),
        (
            "securityContext",
            json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
            }),
        ),
    ] {
        container.entry(name).or_insert(usual);
    }
    container.insert("name".to_owned(), json!(CONTAINER));
    container.insert("image".to_owned(), json!(image));
    container.insert("args".to_owned(), json!(options.arguments));
    add(container, "ports", json!({ "name": "http", "containerPort": options.port }));
    let label = format!("metadata.labels['{CONSUMER_LABEL}']");
    for (name, field) in [
        ("TIDEGATE_CONSUMER_ID", label.as_str()),
        ("TIDEGATE_POD_UID", "metadata.uid"),
        ("TIDEGATE_POD_IP", "status.podIP"),
    ] {
        let from = json!({ "fieldRef": { "fieldPath": field } });
        add(container, "env", json!({ "name": name, "valueFrom": from }));
    }
    for (name, path) in [("tidegate-state", STATE), ("tidegate-pod", POD)] {
        add(container, "volumeMounts", json!({ "name": name, "mountPath": path }));
    }
}

// === JSON ===

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// An object in an object, made if there is none.
fn entry<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    let inner = &mut value[name];
    if !inner.is_object() {
        *inner = json!({});
    }
    match inner {
        Value::Object(object) => object,
        _ => unreachable!("it was made an object"),
    }
}

/// Adds names to an object in an object, over those that are there.
fn extend(of: &mut Map<String, Value>, name: &str, more: Value) {
    let mut all = object(of.remove(name).unwrap_or_default());
    all.extend(object(more));
    of.insert(name.to_owned(), Value::Object(all));
}

/// A list in an object, made if there is none.
fn list<'a>(of: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let inner = of.entry(name).or_insert_with(|| json!([]));
    if !inner.is_array() {
        *inner = json!([]);
    }
    match inner {
        Value::Array(list) => list,
        _ => unreachable!("it was made a list"),
    }
}

/// Adds something with a name to a list, in place of what has the same.
fn add(of: &mut Map<String, Value>, name: &str, item: Value) {
    let list = list(of, name);
    list.retain(|other| other["name"] != item["name"]);
    list.push(item);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_core::ids::GroupName;

    use super::*;

    fn options() -> KubeOptions {
        let group = GroupName("orders".to_owned());
        KubeOptions::new("shop".to_owned(), group, &Workers::default())
    }

    fn workers(template: Value) -> Workers {
        let mut workers = Workers { stop_grace: Duration::from_secs(20), ..Workers::default() };
        workers.kubernetes.image = "tidegate:1".to_owned();
        workers.kubernetes.template = template;
        workers
    }

    fn pod(template: Value) -> Value {
        let (options, spec) = (options(), WorkerSpec::new("group: orders", ""));
        let (names, workers) = (Names::new(&options.group), workers(template));
        let workload = workload(&options, &names, ConsumerNumber::FIRST, &spec, &workers);
        workload["spec"]["template"].clone()
    }

    #[test]
    fn a_template_is_completed_and_keeps_what_is_its_own() {
        let template = json!({
            "metadata": { "labels": { "team": "checkout", CONSUMER_LABEL: "7" } },
            "spec": {
                "nodeSelector": { "disk": "fast" },
                "topologySpreadConstraints": [],
                "securityContext": { "runAsUser": 1 },
                "containers": [
                    { "name": "sidecar", "image": "s" },
                    { "name": CONTAINER, "image": "other", "resources": { "limits": { "memory": "1Gi" } },
                      "env": [{ "name": "RUST_LOG", "value": "debug" }] },
                ],
            },
        });
        let pod = pod(template);
        assert_eq!(pod["metadata"]["labels"]["team"], "checkout");
        assert_eq!(
            pod["metadata"]["labels"][CONSUMER_LABEL], "1",
            "who it is is not the template's to say"
        );
        assert_eq!(pod["spec"]["nodeSelector"]["disk"], "fast");
        assert_eq!(pod["spec"]["topologySpreadConstraints"], json!([]), "it wants none");
        assert_eq!(pod["spec"]["securityContext"], json!({ "runAsUser": 1 }));
        let containers = pod["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 2);
        let consumer = &containers[0];
        assert_eq!(
            (&consumer["name"], &consumer["image"]),
            (&json!(CONTAINER), &json!("tidegate:1"))
        );
        assert_eq!(consumer["resources"]["limits"]["memory"], "1Gi");
        let variables: Vec<_> =
            consumer["env"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(
            variables,
            ["RUST_LOG", "TIDEGATE_CONSUMER_ID", "TIDEGATE_POD_UID", "TIDEGATE_POD_IP"]
        );
        assert_eq!(containers[1]["name"], "sidecar");
    }

    #[test]
    fn a_pod_without_a_template_has_no_right_and_no_root() {
        let pod = pod(Value::Null);
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
        let spread = &pod["spec"]["topologySpreadConstraints"][0];
        assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(spread["labelSelector"]["matchLabels"][GROUP_LABEL], "orders");
        assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 60 + 20 + 1);
        let hook = &pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"];
        assert_eq!(*hook, json!({ "path": "/evacuated/60", "port": 8080 }));
        assert_eq!(pod["metadata"]["annotations"][GROUP_SPEC], "group: orders");
    }

    #[test]
    fn the_claim_or_the_stateful_set_keeps_others_off_the_volume() {
        let mut options = options();
        let names = Names::new(&options.group);
        let (spec, workers) = (WorkerSpec::default(), workers(Value::Null));
        let (one, storage) = (ConsumerNumber::FIRST, &workers.kubernetes.storage);
        let of = |options: &KubeOptions| {
            let kind = workload(options, &names, one, &spec, &workers)["kind"].take();
            (kind, claim(options, &names, one, storage)["spec"]["accessModes"][0].take())
        };
        assert_eq!(of(&options), (json!("Deployment"), json!("ReadWriteOncePod")));
        options.keeping = Keeping::StatefulSet;
        assert_eq!(of(&options), (json!("StatefulSet"), json!("ReadWriteOnce")));
    }
}

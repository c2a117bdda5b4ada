//! From a resource to a specification that the operator may act by: defaults, checks, and what its author may make the operator read.
//!
//! Whoever writes a resource need not be the operator, and the operator reads what a specification names: no variable of its
//! environment, and no file but those that were mounted for that namespace.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};
use tidegate_runtime::live::Check;
use tidegate_runtime::security::{Cluster, Secret};
use tidegate_runtime::spec::{Fault, GroupSpec};

use super::object::Resource;

/// Annotations of an object may have 256 KiB together, and the template may bring some.
const MOST_FOR_CONSUMERS: usize = 200_000;

/// What specifications are held against.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Has a directory for each namespace.
    pub(super) secrets: PathBuf,
    /// Finds what is wrong with a specification beyond itself.
    pub(super) check: Check,
}

/// The specification of a resource, or all that is wrong with it.
pub(super) fn accept(resource: &Resource, rules: &Rules) -> Result<GroupSpec, Vec<Fault>> {
    let mut faults = Vec::new();
    let value = completed(resource, &mut faults);
    let spec = match GroupSpec::from_value(value) {
        Ok(spec) => spec,
        Err(found) => {
            faults.extend(found.iter().cloned());
            return Err(faults);
        }
    };
    if spec.workers.kubernetes.image.is_empty() {
        faults.push(fault("workers.kubernetes.image", "is required"));
    }
    let size = spec.for_consumers().len();
    if size > MOST_FOR_CONSUMERS {
        let text = format!(
            "what consumers are told has {size} bytes, more than the {MOST_FOR_CONSUMERS} that an annotation of their pods holds: use patterns, or shorter sinks"
        );
        faults.push(fault("topics", &text));
    }
    faults.extend((rules.check)(&spec));
    faults.extend(forbidden(&spec.cluster, &rules.secrets.join(&resource.namespace)));
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

/// The name of the group, also where the rest is faulty.
pub(super) fn group_of(resource: &Resource) -> String {
    resource.spec["group"].as_str().unwrap_or(&resource.name).to_owned()
}

/// The specification with what a resource leaves out.
fn completed(resource: &Resource, faults: &mut Vec<Fault>) -> Value {
    let mut spec = match &resource.spec {
        Value::Object(spec) => spec.clone(),
        _ => Map::new(),
    };
    spec.insert("group".to_owned(), json!(group_of(resource)));
    let workers = object(&mut spec, "workers");
    if workers.get("kind").is_some_and(|kind| kind != "kubernetes") {
        faults.push(fault("workers.kind", "must be kubernetes: consumers of a resource run here"));
    }
    workers.insert("kind".to_owned(), json!("kubernetes"));
    let kubernetes = object(workers, "kubernetes");
    let named = kubernetes.insert("namespace".to_owned(), json!(resource.namespace));
    if named.is_some_and(|named| named != resource.namespace.as_str()) {
        let text = "must be left out: consumers run in the namespace of the resource";
        faults.push(fault("workers.kubernetes.namespace", text));
    }
    Value::Object(spec)
}

/// An object in an object, made if there is none. One that is something else is left to the checks.
fn object<'a>(of: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let inner = of.entry(name).or_insert_with(|| json!({}));
    if !inner.is_object() {
        *inner = json!({});
    }
    match inner {
        Value::Object(inner) => inner,
        _ => unreachable!("it was made an object"),
    }
}

/// What the operator would read for a cluster and may not.
fn forbidden(cluster: &Cluster, directory: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut file = |path: &str, named: Option<&String>| {
        let named = named.filter(|named| !is_below(Path::new(named), directory));
        faults.extend(named.map(|_| {
            let text = format!("must be a file below {}, without `..`: mount the secret there, in the operator and in the consumers", directory.display());
            fault(path, &text)
        }));
    };
    let security = &cluster.security;
    let (tls, sasl) = (security.tls.as_ref(), security.sasl.as_ref());
    let secrets = [
        ("cluster.security.tls.keyPassword", tls.and_then(|tls| tls.key_password.as_ref())),
        ("cluster.security.sasl.password", sasl.and_then(|sasl| sasl.password.as_ref())),
        ("cluster.security.sasl.clientSecret", sasl.and_then(|sasl| sasl.client_secret.as_ref())),
    ];
    if let Some(tls) = tls {
        file("cluster.security.tls.caFile", tls.ca_file.as_ref());
        file("cluster.security.tls.certificateFile", tls.certificate_file.as_ref());
        file("cluster.security.tls.keyFile", tls.key_file.as_ref());
    }
    if let Some(sasl) = sasl {
        file("cluster.security.sasl.tokenFile", sasl.token_file.as_ref());
        file("cluster.security.sasl.tokenEndpointCaFile", sasl.token_endpoint_ca_file.as_ref());
    }
    for (path, secret) in &secrets {
        if let Some(Secret::File(named)) = secret {
            file(path, Some(named));
        }
    }
    let variables = secrets.iter().filter(|(_, secret)| matches!(secret, Some(Secret::Env(_))));
    faults.extend(variables.map(|(path, _)| {
        let text = format!(
            "must not be a variable, which would be the operator's: use {{file: {}/NAME}}",
            directory.display()
        );
        fault(path, &text)
    }));
    faults
}

/// True for an absolute path that stays inside the directory, as it is written.
fn is_below(path: &Path, directory: &Path) -> bool {
    let mut inside = match path.strip_prefix(directory) {
        Ok(inside) => inside.components().peekable(),
        Err(_) => return false,
    };
    // `strip_prefix` compares whole components, and drops `.` and doubled slashes.
    inside.peek().is_some() && inside.all(|part| matches!(part, Component::Normal(_)))
}

fn fault(path: &str, message: &str) -> Fault {
    Fault { path: path.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(spec: Value) -> Resource {
        let (namespace, name) = ("shop".to_owned(), "orders".to_owned());
        Resource { namespace, name, spec, ..Resource::default() }
    }

    fn rules() -> Rules {
        Rules { secrets: "/etc/tidegate/secrets".into(), check: |_| Vec::new() }
    }

    fn spec() -> Value {
        json!({
            "cluster": { "bootstrapServers": "kafka:9092" },
            "workers": { "kubernetes": { "image": "tidegate:1" } },
        })
    }

    /// The paths of all faults of a group with this security.
    fn faults(security: Value) -> Vec<String> {
        let mut spec = spec();
        spec["cluster"]["security"] = security;
        let faults = accept(&resource(spec), &rules()).err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.path).collect()
    }

    fn password(secret: &Value) -> Vec<String> {
        faults(json!({ "sasl": {
            "mechanism": "SCRAM-SHA-512", "username": "t", "password": secret,
        } }))
    }

    #[test]
    fn what_a_resource_leaves_out_is_its_own_name_and_namespace() {
        let accepted = accept(&resource(spec()), &rules()).unwrap();
        assert_eq!(accepted.group, "orders");
        assert_eq!(accepted.workers.kubernetes.namespace.as_deref(), Some("shop"));
        assert_eq!(accepted.workers.kind, tidegate_runtime::spec::WorkerKind::Kubernetes);
    }

    #[test]
    fn consumers_run_in_no_other_namespace_and_nowhere_else() {
        let mut other = spec();
        other["workers"]["kubernetes"]["namespace"] = json!("kube-system");
        other["workers"]["kind"] = json!("process");
        let faults = accept(&resource(other), &rules()).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["workers.kind", "workers.kubernetes.namespace"]);
    }

    #[test]
    fn what_no_annotation_holds_is_refused_before_pods_are() {
        let topic = |at| json!({ "name": format!("t{at}"), "sink": format!("file:///{}", "a".repeat(300)) });
        for (topics, is_refused) in [(400, false), (900, true)] {
            let mut spec = spec();
            spec["topics"] = (0..topics).map(topic).collect();
            let told = accept(&resource(spec), &rules()).map_err(|faults| faults[0].to_string());
            assert_eq!(told.is_err(), is_refused);
            assert!(
                told.err()
                    .is_none_or(|told| told.starts_with("topics: what consumers are told has"))
            );
        }
    }

    #[test]
    fn all_faults_are_told_with_their_paths() {
        let mut faulty = spec();
        faulty["consumers"] = json!({ "min": 5, "max": 2 });
        faulty["workers"]["kubernetes"] = json!({});
        let faults = accept(&resource(faulty), &rules()).unwrap_err();
        let told = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(
            told.contains("consumers.m") && told.contains("workers.kubernetes.image"),
            "{told}"
        );
    }

    #[test]
    fn no_variable_of_the_operator_can_be_named() {
        assert_eq!(password(&json!({ "env": "AWS_SECRET" })), ["cluster.security.sasl.password"]);
    }

    #[test]
    fn only_files_of_the_namespace_can_be_named() {
        for file in ["/etc/tidegate/secrets/shop/kafka", "/etc/tidegate/secrets/shop//a/./b"] {
            assert_eq!(password(&json!({ "file": file })), Vec::<String>::new(), "{file}");
        }
        for file in [
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "/etc/tidegate/secrets/shopping/kafka",
            "/etc/tidegate/secrets/other/kafka",
            "/etc/tidegate/secrets/shop/../other/kafka",
            "/etc/tidegate/secrets/shop/..",
            "/etc/tidegate/secrets/shop",
            "/etc/tidegate/secrets/../secrets/shop/kafka",
            "etc/tidegate/secrets/shop/kafka",
            "",
        ] {
            assert_eq!(
                password(&json!({ "file": file })),
                ["cluster.security.sasl.password"],
                "{file}"
            );
        }
    }

    #[test]
    fn every_field_that_is_read_is_checked() {
        let elsewhere = "/root/secret";
        let found = faults(json!({
            "tls": { "caFile": elsewhere, "certificateFile": elsewhere, "keyFile": elsewhere, "keyPassword": { "file": elsewhere } },
            "sasl": { "mechanism": "OAUTHBEARER", "tokenEndpoint": "https://issuer/token", "tokenEndpointCaFile": elsewhere,
                      "clientId": "t", "clientSecret": { "file": elsewhere } },
        }));
        let expected = [
            "tls.caFile",
            "tls.certificateFile",
            "tls.keyFile",
            "sasl.tokenEndpointCaFile",
            "tls.keyPassword",
            "sasl.clientSecret",
        ];
        assert_eq!(found, expected.map(|field| format!("cluster.security.{field}")));
        let token =
            json!({ "tls": {}, "sasl": { "mechanism": "OAUTHBEARER", "tokenFile": elsewhere } });
        assert_eq!(faults(token), ["cluster.security.sasl.tokenFile"]);
    }

    /// A field that is added to the security of a cluster has to be looked at here.
    #[test]
    fn no_field_that_names_a_file_or_a_secret_is_forgotten() {
        let schema = tidegate_runtime::spec::schema().to_string();
        let of = |field: &str| schema.matches(&format!("\"{field}\":")).count();
        let files = ["caFile", "certificateFile", "keyFile", "tokenFile", "tokenEndpointCaFile"];
        assert_eq!(files.map(of), [1; 5]);
        assert_eq!(schema.matches("File\":").count(), files.len());
    }
}

//! What a service account may do on a real Kubernetes: the Roles that are shipped hold what is used and nothing else, what is missing is
//! named, and a token that is replaced in its file is taken up.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::AuthInfo;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tidegate_core::ids::GroupName;
use tidegate_kube::operator::{self, Assigned, Options, Overview, Part, RunGroup};
use tidegate_kube::{KubeOptions, KubeWorkers, resource};
use tidegate_runtime::ports::{Class, Error, Workers as _};
use tidegate_runtime::spec::Keeping;
use tidegate_runtime::telemetry::metrics::OperatorMetrics;
use tidegate_testing::Namespace;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{
    ONE, PATIENCE, Right, WORKER_RIGHTS, allow, client, client_as, config, image_of, kube, number,
    options, revision, until,
};

/// What a controller with these rights says of what it may not do.
async fn says(namespace: &Namespace<'_>, user: &str, keeping: Keeping, rights: &[Right]) -> String {
    allow(namespace, user, rights);
    // A group of its own: what another one has left is no answer to the question.
    let group = GroupName(user.to_owned());
    let options = KubeOptions { group, keeping, ..options(namespace) };
    let image = image_of(&options);
    let mut workers = KubeWorkers::start(&client_as(kube(), Some(user)).await, options);
    workers.lead(true).await;
    let mut said = String::new();
    let mut tell = |done: Result<(), Error>| {
        if let Err(error) = done {
            said.push_str(&error.to_string());
        }
    };
    tell(workers.list().await.map(drop));
    tell(workers.ensure(ONE, &revision(&image, "r1")).await);
    tell(workers.remove(ONE).await);
    // A claim is deleted after its consumer is gone.
    if !rights.contains(&("", "persistentvolumeclaims", "delete")) {
        let told = until(&mut workers, "kept claim", |it| it.detail.contains("claim was not"));
        tell(Err(Error::new(Class::Permanent, told.await.detail)));
    }
    // A watch begins, and fails, after all is listed.
    if rights.iter().filter(|(_, _, verb)| *verb == "watch").count() < 3 {
        let fails = async {
            loop {
                if let Err(error) = workers.list().await {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tell(Err(tokio::time::timeout(PATIENCE, fails).await.unwrap()));
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_right_that_is_missing_is_named() {
    let namespace = kube().namespace("rights");
    for (keeping, kind) in [(Keeping::Claim, "deployments"), (Keeping::StatefulSet, "statefulsets")]
    {
        let of_kind = |(group, resource, verb)| match resource {
            "deployments" => (group, kind, verb),
            other => (group, other, verb),
        };
        let rights = WORKER_RIGHTS.map(of_kind);
        assert_eq!(says(&namespace, &format!("all-{kind}"), keeping, &rights).await, "");
        // The others are the same for both.
        let own = |it: &&Right| kind == "deployments" || it.1 == kind;
        for missing in rights.iter().filter(own) {
            let (_, resource, verb) = missing;
            let rest: Vec<_> = rights.iter().filter(|right| *right != missing).copied().collect();
            let said = says(&namespace, &format!("no-{verb}-{resource}"), keeping, &rest).await;
            assert!(
                said.contains(&format!("the right to {verb} {resource} is missing")),
                "{missing:?}: {said}"
            );
        }
    }
}

/// What an operator does with resources and for itself. It ends what workers have made, too.
const OPERATOR_RIGHTS: [Right; 9] = [
    ("tidegate.dev", "consumergroups", "get"),
    ("tidegate.dev", "consumergroups", "list"),
    ("tidegate.dev", "consumergroups", "watch"),
    ("tidegate.dev", "consumergroups", "patch"),
    ("tidegate.dev", "consumergroups/status", "patch"),
    ("events.k8s.io", "events", "create"),
    ("policy", "poddisruptionbudgets", "delete"),
    ("coordination.k8s.io", "leases", "get"),
    ("coordination.k8s.io", "leases", "update"),
];

/// What it needs of what [`WORKER_RIGHTS`] are for.
const TO_END_A_GROUP: [Right; 3] =
    [("apps", "deployments", "list"), ("", "persistentvolumeclaims", "list"), ("", "pods", "list")];

/// What is logged by one test: each is on a thread of its own.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

// === impl Log ===

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn groups(client: Client, namespace: &Namespace<'_>) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(resource::GROUP, resource::VERSION, resource::KIND);
    let kind = ApiResource::from_gvk_with_plural(&kind, resource::PLURAL);
    Api::namespaced_with(client, namespace.name(), &kind)
}

/// A namespace with a group, a Lease, and a user with these rights.
fn place(user: &str, rights: &[Right]) -> Namespace<'static> {
    let namespace = kube().namespace(user);
    allow(&namespace, user, rights);
    namespace.apply(
        "
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: tidegate-controller}
spec: {}
---
apiVersion: tidegate.dev/v1alpha1
kind: ConsumerGroup
metadata: {name: orders}
spec:
  cluster: {bootstrapServers: 'kafka:9092'}
  workers: {kubernetes: {image: 'tidegate:1'}}
",
    );
    namespace
}

/// Runs a group from its first sight to its end as a user, or until it is logged that this right is missing.
async fn lives(user: &str, rights: &[Right], missing: Option<Right>, log: &Log) {
    let namespace = place(user, rights);
    // A group that has something to tell.
    let run: RunGroup = Arc::new(|assigned: Assigned| {
        Box::pin(async move {
            assigned.drift.send(ONE).await?;
            assigned.stop.cancelled().await;
            Ok(())
        })
    });
    let options = Options {
        part: Part::Controller,
        namespaces: vec![namespace.name().to_owned()],
        lease_namespace: namespace.name().to_owned(),
        identity: user.to_owned(),
        secrets: "/nowhere".into(),
        check: |_| Vec::new(),
        metrics: OperatorMetrics::default(),
    };
    let shown = watch::Sender::new(Overview::default());
    let user = client_as(kube(), Some(user)).await;
    let operator = operator::run(user, options, run, shown, CancellationToken::new());
    let resources = groups(client(kube()).await, &namespace);
    let said = || {
        missing.is_some_and(|(_, resource, verb)| {
            log.text().contains(&format!("the right to {verb} {resource} is missing"))
        })
    };
    let life = tokio::time::timeout(PATIENCE, until_gone(&resources, &said));
    tokio::select! {
        ended = operator => panic!("the operator has ended: {ended:?}"),
        lived = life => lived.unwrap_or_else(|_| panic!("{missing:?}: {}", log.text())),
    }
    assert_eq!(said(), missing.is_some(), "{missing:?}: {}", log.text());
    // Nothing is to keep the namespace.
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let freed = resources.patch("orders", &PatchParams::default(), &free).await;
    assert_eq!(freed.is_err(), missing.is_none(), "a group that has ended is gone");
}

/// Deletes the group once its status is written, and waits for its end or until it is said what keeps it.
async fn until_gone(resources: &Api<DynamicObject>, is_said: &impl Fn() -> bool) {
    let mut is_deleted = false;
    while let Some(group) = resources.get_opt("orders").await.unwrap() {
        if is_said() {
            return;
        }
        let is_told = group.data["status"]["conditions"].is_array();
        if !is_deleted && is_told && !group.finalizers().is_empty() {
            resources.delete("orders", &DeleteParams::default()).await.unwrap();
            is_deleted = true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_right_that_an_operator_lacks_is_named() {
    define();
    let log = Log::default();
    let writer = log.clone();
    let listening =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _listening = tracing::subscriber::set_default(listening);
    let rights: Vec<Right> = [&OPERATOR_RIGHTS[..], &TO_END_A_GROUP].concat();
    lives("operator", &rights, None, &log).await;
    for (at, missing) in rights.iter().enumerate() {
        let rest: Vec<_> = rights.iter().filter(|right| *right != missing).copied().collect();
        lives(&format!("operator-{at}"), &rest, Some(*missing), &log).await;
    }
}

fn define() {
    let made =
        kube().try_kubectl(&["apply", "--filename", "-"], &resource::definition().to_string());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let name = format!("crd/{}.{}", resource::PLURAL, resource::GROUP);
    kube().kubectl(&["wait", &name, "--for", "condition=Established", "--timeout=180s"]);
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn the_roles_that_are_shipped_give_what_is_used_and_nothing_else() {
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/manifests/tidegate.yaml");
    let query = [
        "create",
        "--dry-run=client",
        "--validate=false",
        "--output=json",
        "--filename",
        manifests,
    ];
    let objects = kube().kubectl(&query);
    let objects: Vec<Value> =
        serde_json::Deserializer::from_str(&objects).into_iter().map(Result::unwrap).collect();
    let given = |role: &str| {
        let roles = objects.iter().filter(|it| it["kind"] == "Role");
        let role = roles.filter(|it| it["metadata"]["name"] == role);
        role.flat_map(|role| rules(&role["rules"])).collect::<BTreeSet<_>>()
    };
    let of_sets = WORKER_RIGHTS.iter().filter(|(group, ..)| *group == "apps");
    let of_sets = of_sets.map(|(group, _, verb)| (*group, "statefulsets", *verb));
    // What it can do without.
    let reasons = ("", "events", "list");
    let used = WORKER_RIGHTS.into_iter().chain(OPERATOR_RIGHTS).chain(of_sets).chain([reasons]);
    let used = used.map(|(group, resource, verb)| [group, resource, verb].map(str::to_owned));
    let (leases, used): (BTreeSet<_>, BTreeSet<_>) = used.partition(|right| right[1] == "leases");
    assert_eq!(given("tidegate-controller"), used);
    for role in ["tidegate-controller-lease", "tidegate-monitor-lease"] {
        assert_eq!(given(role), leases);
    }
}

/// Group, resource and verb of each.
fn rules(rules: &Value) -> Vec<[String; 3]> {
    let all = |rule: &Value, key: &str| -> Vec<String> {
        serde_json::from_value(rule[key].clone()).unwrap()
    };
    let mut rights = Vec::new();
    for rule in rules.as_array().unwrap() {
        for group in all(rule, "apiGroups") {
            for resource in all(rule, "resources") {
                let verbs = all(rule, "verbs").into_iter();
                rights.extend(verbs.map(|verb| [group.clone(), resource.clone(), verb]));
            }
        }
    }
    rights
}

/// As a kubelet does before a token ends. Here the first one ends at once: what it is bound to is deleted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_token_that_is_replaced_in_its_file_is_taken_up() {
    let namespace = kube().namespace("token");
    allow(&namespace, "controller", &WORKER_RIGHTS);
    namespace.kubectl(&["create", "serviceaccount", "controller"]);
    let account = format!("--serviceaccount={}:controller", namespace.name());
    namespace.kubectl(&["create", "rolebinding", "account", "--role=controller", &account]);
    let token = |secret: &str| {
        namespace.kubectl(&["create", "secret", "generic", secret]);
        let secret = format!("--bound-object-name={secret}");
        namespace.kubectl(&["create", "token", "controller", "--bound-object-kind=Secret", &secret])
    };
    let [first, second] = ["first", "second"].map(token);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let (administrator, token_file) = (config(kube()).await, file.to_str().unwrap().to_owned());
    let auth_info = AuthInfo { token_file: Some(token_file), ..AuthInfo::default() };
    let account = |auth_info| {
        let mut config = administrator.clone();
        config.auth_info = auth_info;
        Client::try_from(config).unwrap()
    };
    std::fs::write(&file, &first).unwrap();
    let options = options(&namespace);
    let image = image_of(&options);
    let mut workers = KubeWorkers::start(&account(auth_info), options);
    workers.lead(true).await;
    workers.ensure(ONE, &revision(&image, "r1")).await.unwrap();

    std::fs::write(&file, second).unwrap();
    namespace.kubectl(&["delete", "secret", "first"]);
    let ended = async {
        let auth_info = AuthInfo { token: Some(first.into()), ..AuthInfo::default() };
        let pods = Api::<Pod>::namespaced(account(auth_info), namespace.name());
        while pods.list(&ListParams::default()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    // As the controller does: what failed is asked for again.
    let again = async {
        while let Err(error) = workers.ensure(number(2), &revision(&image, "r1")).await {
            assert_eq!(error.class(), Class::Transient, "{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    until(&mut workers, "the second one", |it| it.consumer == number(2)).await;
    workers.shut_down().await;
}

//! A Kubernetes, users of it with some rights and no other, and workers that are asked for.

use std::sync::LazyLock;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tidegate_core::ids::{ConsumerNumber, GroupName};
use tidegate_kube::{KubeOptions, KubeWorkers};
use tidegate_runtime::ports::{WorkerChange, WorkerSpec, Workers as _};
use tidegate_runtime::spec::Workers;
use tidegate_testing::{Namespace, RealKube};

/// Of each wait for a change. Machines that run tests are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// From SIGTERM to SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(4);

pub(crate) const ONE: ConsumerNumber = ConsumerNumber::FIRST;

pub(crate) fn kube() -> &'static RealKube {
    static KUBE: LazyLock<RealKube> = LazyLock::new(RealKube::start);
    &KUBE
}

pub(crate) async fn client(kube: &RealKube) -> Client {
    client_as(kube, None).await
}

/// The administrator's, or that of a user of the cluster.
pub(crate) async fn client_as(kube: &RealKube, user: Option<&str>) -> Client {
    let mut config = config(kube).await;
    config.auth_info.impersonate = user.map(str::to_owned);
    Client::try_from(config).unwrap()
}

/// The administrator's.
pub(crate) async fn config(kube: &RealKube) -> Config {
    let file = Kubeconfig::read_from(kube.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(file, &options).await.unwrap();
    config.default_retry = false;
    config
}

pub(crate) fn options(namespace: &Namespace<'_>) -> KubeOptions {
    let group = GroupName("orders".to_owned());
    KubeOptions {
        stop_grace: GRACE,
        ..KubeOptions::new(namespace.name().to_owned(), group, &Workers::default())
    }
}

pub(crate) fn image_of(options: &KubeOptions) -> String {
    format!("example/{}:1", options.namespace)
}

/// A revision of this name, whose pods run this image.
pub(crate) fn revision(image: &str, name: &str) -> WorkerSpec {
    let group = format!(
        "{{group: orders, cluster: {{bootstrapServers: 'kafka:9092'}}, consumer: {{stopBudget: 1s}}, \
         workers: {{kind: kubernetes, stopGrace: {}s, kubernetes: {{image: '{image}'}}}}}}",
        GRACE.as_secs()
    );
    WorkerSpec { revision: name.to_owned(), group: group.into() }
}

/// Reads changes until one is as wanted.
pub(crate) async fn until(
    workers: &mut KubeWorkers,
    what: &str,
    wanted: impl Fn(&WorkerChange) -> bool,
) -> WorkerChange {
    let mut told = Vec::new();
    let found = async {
        loop {
            let change = workers.changed().await;
            if wanted(&change) {
                return change;
            }
            told.push(change);
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("no {what} after minutes, but {told:#?}"))
}

pub(crate) fn number(number: u32) -> ConsumerNumber {
    ConsumerNumber::new(number).unwrap()
}

/// A rule of a Role: group, resource and verb.
pub(crate) type Right = (&'static str, &'static str, &'static str);

/// What a controller of Deployments does with consumers. It can do without the right to list Events.
pub(crate) const WORKER_RIGHTS: [Right; 14] = [
    ("apps", "deployments", "create"),
    ("apps", "deployments", "patch"),
    ("apps", "deployments", "delete"),
    ("apps", "deployments", "list"),
    ("apps", "deployments", "watch"),
    ("", "persistentvolumeclaims", "create"),
    ("", "persistentvolumeclaims", "patch"),
    ("", "persistentvolumeclaims", "delete"),
    ("", "persistentvolumeclaims", "list"),
    ("", "persistentvolumeclaims", "watch"),
    ("policy", "poddisruptionbudgets", "create"),
    ("policy", "poddisruptionbudgets", "patch"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
];

/// Gives a user these rights in a namespace.
pub(crate) fn allow(namespace: &Namespace<'_>, user: &str, rights: &[Right]) {
    let rule = |(group, resource, verb): &Right| {
        format!("- {{apiGroups: ['{group}'], resources: ['{resource}'], verbs: [{verb}]}}\n")
    };
    let rules: String = rights.iter().map(rule).collect();
    namespace.apply(&format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {user}}}
rules:
{rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {user}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {user}}}
subjects: [{{kind: User, apiGroup: rbac.authorization.k8s.io, name: {user}}}]
"
    ));
}

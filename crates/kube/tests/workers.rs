//! The port on a real Kubernetes: what is made, what is told of it, and what is left when it goes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::time::Duration;

use tidegate_core::ids::ConsumerNumber;
use tidegate_kube::{KubeOptions, KubeWorkers, process_of_pod};
use tidegate_runtime::ports::{Class, Evidence, Phase, WorkerSpec, WorkerState, Workers as _};
use tidegate_runtime::spec::Keeping;
use tidegate_runtime::telemetry::metrics::StageLabels;
use tidegate_testing::RealKube;

use crate::support::{
    ONE, PATIENCE, WORKER_RIGHTS, allow, client, client_as, image_of, kube, number, options,
    revision, until,
};

/// Says who it is, serves what the probes ask for, and ends when it is told to.
const CONSUMER: &str = "
cd /var/lib/tidegate; touch readyz livez; echo run >>runs
echo consumer $TIDEGATE_CONSUMER_ID of pod $TIDEGATE_POD_UID, $(grep tidegate.dev/consumer /etc/podinfo/labels), run $(wc -l <runs)
python3 -m http.server 8080 --bind $TIDEGATE_POD_IP &
trap 'kill $!; exit 0' TERM
while :; do wait $!; done";

/// Workers whose image is [`CONSUMER`], the first of them asked for and running.
async fn begun(kube: &RealKube, options: KubeOptions) -> KubeWorkers {
    let image = image_of(&options);
    kube.script_image(&image, CONSUMER);
    let mut workers = KubeWorkers::start(&client(kube).await, options);
    workers.lead(true).await;
    workers.ensure(ONE, &revision(&image, "r1")).await.unwrap();
    running(&mut workers, ONE).await;
    workers
}

async fn running(workers: &mut KubeWorkers, consumer: ConsumerNumber) {
    until(workers, "running pod", |it| it.consumer == consumer && it.phase == Phase::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_consumer_knows_who_it_is_and_leaves_nothing_behind() {
    let namespace = kube().namespace("life");
    let options = options(&namespace);
    let image = image_of(&options);
    kube().script_image(&image, CONSUMER);
    let mut workers = KubeWorkers::start(&client(kube()).await, options);
    assert!(workers.list().await.unwrap().is_empty());
    workers.lead(true).await;
    for consumer in [ONE, number(2)] {
        workers.ensure(consumer, &revision(&image, "r1")).await.unwrap();
    }
    running(&mut workers, number(2)).await;
    namespace.wait_for("deployment/orders-consumer-2", "condition=Available");
    namespace.wait_for("deployment/orders-consumer-1", "condition=Available");
    namespace.wait_for_log("orders-consumer-2", "tidegate.dev/consumer=\"2\", run 1");
    let pod = namespace
        .get("pods", "{.items[?(@.metadata.labels.tidegate\\.dev/consumer=='2')].metadata.uid}");
    assert!(namespace.logs("orders-consumer-2").contains(&format!("consumer 2 of pod {pod}")));
    let list = workers.list().await.unwrap();
    let state = &list[&number(2)];
    assert_eq!((state.phase, &*state.spec.revision, state.starts), (Phase::Running, "r1", 1));
    let modes = namespace.get("persistentvolumeclaims", "{.items[*].spec.accessModes[*]}");
    assert_eq!(modes, "ReadWriteOncePod ReadWriteOncePod");

    workers.remove(number(2)).await.unwrap();
    let died = until(&mut workers, "end", |it| it.died.is_some()).await;
    assert_eq!(died.consumer, number(2));
    assert_eq!(died.died, Some((process_of_pod(&pod).unwrap(), Evidence::PodEnded)));
    until(&mut workers, "end", |it| it.consumer == number(2) && it.phase == Phase::Gone).await;
    namespace.wait_for("persistentvolumeclaim/orders-consumer-2", "delete");
    assert_eq!(namespace.get("deployments", "{.items[*].metadata.name}"), "orders-consumer-1");
    assert_eq!(
        namespace.get("persistentvolumeclaims", "{.items[*].metadata.name}"),
        "orders-consumer-1"
    );
    assert_eq!(workers.list().await.unwrap().into_keys().collect::<Vec<_>>(), [ONE]);

    workers.shut_down().await;
    namespace.wait_for("persistentvolumeclaim/orders-consumer-1", "delete");
    assert_eq!(namespace.get("deployments,replicasets,pods", "{.items[*].metadata.name}"), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn what_somebody_deletes_or_changes_is_put_right() {
    let namespace = kube().namespace("drift");
    let options = options(&namespace);
    let mut workers = begun(kube(), options.clone()).await;
    namespace.kubectl(&["delete", "deployment", "orders-consumer-1"]);
    running(&mut workers, ONE).await;
    namespace.wait_for_log("orders-consumer-1", "run 2");
    namespace.kubectl(&["scale", "deployment", "orders-consumer-1", "--replicas=0"]);
    namespace.wait("deployment/orders-consumer-1", "{.spec.replicas}", "1");
    running(&mut workers, ONE).await;
    assert!(options.metrics.repairs.get() >= 2);
    namespace.kubectl(&["rollout", "pause", "deployment/orders-consumer-1"]);
    let goes_on = async {
        while namespace.get("deployment/orders-consumer-1", "{.spec.paused}") == "true" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.unwrap();
    // Who looks at the template and at nothing else is not fooled by what stands beside it.
    let annotation = "tidegate.dev/revision=other";
    namespace.kubectl(&["annotate", "--overwrite", "deployment", "orders-consumer-1", annotation]);
    // Also what is changed while nobody leads.
    workers.lead(false).await;
    namespace.kubectl(&[
        "set",
        "image",
        "deployment/orders-consumer-1",
        "consumer=example/other:1",
    ]);
    namespace.kubectl(&["scale", "deployment", "orders-consumer-1", "--replicas=0"]);
    workers.lead(true).await;
    namespace.wait("deployment/orders-consumer-1", "{.spec.replicas}", "1");
    let image = "{.spec.template.spec.containers[0].image}";
    assert_eq!(namespace.get("deployment/orders-consumer-1", image), image_of(&options));
    let state = workers.list().await.unwrap().remove(&ONE).unwrap();
    assert_eq!(state.spec.revision, "r1");
    workers.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_controller_that_starts_finds_what_an_earlier_one_has_made() {
    let namespace = kube().namespace("heir");
    let options = options(&namespace);
    let (client, image) = (client(kube()).await, image_of(&options));
    drop(begun(kube(), options.clone()).await);
    // A claim of nobody, as of a consumer that was removed while no controller ran.
    namespace.kubectl(&["delete", "deployment", "orders-consumer-1"]);
    let mut workers = KubeWorkers::start(&client, options.clone());
    workers.list().await.unwrap();
    workers.lead(true).await;
    namespace.wait_for("persistentvolumeclaim/orders-consumer-1", "delete");
    workers.ensure(ONE, &revision(&image, "r2")).await.unwrap();
    // Not the first news of a running pod: that is of the one that has gone meanwhile. Nor is the new one seen at once.
    let runs = |state: &WorkerState| state.phase == Phase::Running;
    while !workers.list().await.unwrap().get(&ONE).is_some_and(runs) {
        until(&mut workers, "news", |it| it.consumer == ONE).await;
    }
    drop(workers);
    let mut workers = KubeWorkers::start(&client, options);
    let list = workers.list().await.unwrap();
    assert_eq!((list[&ONE].phase, &*list[&ONE].spec.revision), (Phase::Running, "r2"));
    // A volume cannot shrink; its consumer is updated all the same.
    let smaller = revision(&image, "r3");
    let group = smaller.group.replace("kubernetes: {", "kubernetes: {storage: {size: 1Mi}, ");
    let smaller = WorkerSpec { group: group.into(), ..smaller };
    workers.ensure(ONE, &smaller).await.unwrap();
    let revision = "{.metadata.annotations.tidegate\\.dev/revision}";
    namespace.wait("deployment/orders-consumer-1", revision, "r3");
    // What it did not make it puts right all the same.
    workers.lead(true).await;
    namespace.kubectl(&["scale", "deployment", "orders-consumer-1", "--replicas=0"]);
    namespace.wait("deployment/orders-consumer-1", "{.spec.replicas}", "1");
    workers.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_controller_that_does_not_lead_puts_nothing_right_and_deletes_nothing() {
    let namespace = kube().namespace("standby");
    let options = options(&namespace);
    let mut former = begun(kube(), options.clone()).await;
    let mut next = KubeWorkers::start(&client(kube()).await, options);
    next.list().await.unwrap();
    former.lead(false).await;
    namespace.kubectl(&["delete", "deployment", "orders-consumer-1"]);
    for workers in [&mut former, &mut next] {
        until(workers, "end", |it| it.phase == Phase::Gone).await;
    }
    let left = namespace.get("deployments,persistentvolumeclaims", "{.items[*].kind}");
    assert_eq!(left, "PersistentVolumeClaim");
    next.lead(true).await;
    namespace.wait_for("persistentvolumeclaim/orders-consumer-1", "delete");
    next.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn what_keeps_a_pod_from_running_is_told_and_heals() {
    let namespace = kube().namespace("trouble");
    let options = options(&namespace);
    let image = image_of(&options);
    let mut workers = KubeWorkers::start(&client(kube()).await, options.clone());
    workers.ensure(ONE, &revision(&image, "r1")).await.unwrap();
    until(&mut workers, "failed pull", |it| it.detail.contains("ImagePull")).await;
    let state = workers.list().await.unwrap().remove(&ONE).unwrap();
    assert_eq!(state.phase, Phase::Pending);
    assert!(state.trouble.unwrap().contains("ImagePull"));
    kube().script_image(&image, "exit 3");
    until(&mut workers, "crash loop", |it| it.detail.contains("CrashLoopBackOff")).await;
    let state = workers.list().await.unwrap().remove(&ONE).unwrap();
    assert!(state.phase == Phase::BackingOff && state.starts > 0, "{state:?}");
    workers.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_claim_that_is_not_bound_is_told_with_its_reason_and_heals() {
    let namespace = kube().namespace("unbound");
    let fault = kube().fault(&format!("provision {}/orders-consumer-1 fail", namespace.name()));
    let options = options(&namespace);
    let image = image_of(&options);
    kube().script_image(&image, CONSUMER);
    let mut workers = KubeWorkers::start(&client(kube()).await, options.clone());
    workers.lead(true).await;
    workers.ensure(ONE, &revision(&image, "r1")).await.unwrap();
    let claim = "claim orders-consumer-1 is not bound";
    until(&mut workers, "claim", |it| it.detail.starts_with(claim)).await;
    let state = workers.list().await.unwrap().remove(&ONE).unwrap();
    let trouble = state.trouble.unwrap();
    assert!(trouble.starts_with(&format!("{claim}: ProvisioningFailed: ")), "{trouble}");
    assert!(trouble.ends_with("keeping: statefulSet"), "{trouble}");
    // Without the right to list Events the claim is told without its reason.
    allow(&namespace, "no-events", &WORKER_RIGHTS);
    let blind = client_as(kube(), Some("no-events")).await;
    let mut other = KubeWorkers::start(&blind, options.clone());
    until(&mut other, "claim", |it| it.detail.starts_with(claim)).await;
    let trouble = other.list().await.unwrap().remove(&ONE).unwrap().trouble.unwrap();
    assert!(trouble.starts_with(&format!("{claim}; a storage class")), "{trouble}");
    drop((fault, other));
    running(&mut workers, ONE).await;
    let state = workers.list().await.unwrap().remove(&ONE).unwrap();
    assert_eq!((state.phase, state.trouble), (Phase::Running, None));
    let start = async {
        let durations = &options.metrics.pod_start_duration_seconds;
        let is_there = |stage| durations.get(&StageLabels { stage }).is_some();
        while !["scheduled", "pulled", "started", "ready"].into_iter().all(is_there) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, start).await.unwrap();
    workers.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn a_stateful_set_stands_in_where_claims_are_not_exclusive_and_volumes_may_stay() {
    let namespace = kube().namespace("set");
    let mut options = options(&namespace);
    (options.keeping, options.retain) = (Keeping::StatefulSet, true);
    let image = image_of(&options);
    kube().script_image(&image, CONSUMER);
    let mut workers = KubeWorkers::start(&client(kube()).await, options);
    workers.lead(true).await;
    for run in ["run 1", "run 2"] {
        workers.ensure(ONE, &revision(&image, "r1")).await.unwrap();
        running(&mut workers, ONE).await;
        namespace.wait_for_log("orders-consumer-1-0", run);
        workers.remove(ONE).await.unwrap();
        until(&mut workers, "end", |it| it.phase == Phase::Gone).await;
    }
    assert_eq!(
        namespace.get("persistentvolumeclaims", "{.items[*].spec.accessModes[*]}"),
        "ReadWriteOnce"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
async fn an_outage_of_the_api_server_is_survived() {
    let kube = RealKube::start_own(1);
    let namespace = kube.namespace("outage");
    let options = options(&namespace);
    let image = image_of(&options);
    let mut workers = begun(&kube, options).await;
    kube.kill(&["kube-apiserver"]);
    let error = workers.ensure(number(2), &revision(&image, "r1")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert_eq!(workers.list().await.unwrap()[&ONE].phase, Phase::Running, "what was seen last");
    kube.restart();
    // As the controller does: what failed is asked for again.
    let again = async {
        while workers.ensure(number(2), &revision(&image, "r1")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    running(&mut workers, number(2)).await;
    workers.shut_down().await;
}

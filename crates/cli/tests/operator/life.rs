//! The life of a resource under two operators of which one works.

use serde_json::json;
use tidegate_testing::{KafkaVersion, RealKafka, RealKube};

use crate::audited::audited;
use crate::ends::{Running, end, log};
use crate::stage::Stage;

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn resources_are_run_by_one_of_two_operators_until_they_are_deleted() {
    let kafka = RealKafka::start(KafkaVersion::V4, 1);
    let kube = RealKube::start();
    let namespace = kube.namespace("operator");
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&kube, &namespace, folder.path(), kafka.bootstrap());
    let name = namespace.name();

    let one = stage.operator("one", "controller");
    stage.until("holder of the lease", || !stage.holder("controller").is_empty());
    let first = stage.holder("controller");
    let two = stage.operator("two", "controller");
    let monitor = stage.operator("monitor", "monitor");
    for operator in ["one", "two", "monitor"] {
        stage.until("operator that is ready", || stage.page(operator, "/readyz").is_some());
    }
    let file = stage.begin(&stage.spec());
    let ledger = folder.path().join("acknowledged.json");
    let files = ["load", "--spec", file.to_str().unwrap(), "--ledger", ledger.to_str().unwrap()];
    let shape = ["--duration", "120s", "--rate", "400kB/s", "--topics", "1", "--partitions", "8"];
    let mut load = stage.start("load", &[&files[..], &shape[..]].concat());
    stage.until("two consumers", || stage.is_well(2));
    let [consumer_one, consumer_two] = [1, 2].map(|number| format!("{name}-consumer-{number}"));
    for kind in ["deployments", "persistentvolumeclaims"] {
        assert_eq!(stage.names(kind), format!("{consumer_one} {consumer_two}"));
    }
    it_tells_numbers(&stage);

    // The holder is killed: the other one takes over, and the consumers go on.
    assert_eq!(stage.holder("controller"), first);
    drop(one);
    stage.until("other holder", || {
        let now = stage.holder("controller");
        !now.is_empty() && now != first
    });
    stage.until("group that is led by the other", || {
        stage
            .page("two", "/metrics")
            .is_some_and(|told| told.contains(&format!("group=\"{name}\"")))
            && stage.is_well(2)
    });

    what_is_refused_is_told_and_stops_nothing(&stage);
    what_is_deleted_by_hand_comes_back(&stage, &consumer_two);
    namespace.kubectl(&["scale", &format!("cg/{name}"), "--replicas=3"]);
    stage.until("three consumers", || {
        stage.is_well(3) && stage.has_event("Scaled", "2 -> 3 consumers")
    });

    assert!(load.0.wait().unwrap().success(), "{}", log(folder.path(), "load"));
    stage.until("group without lag", || stage.is_drained("two"));
    let told = stage.group_status("two");
    assert_eq!(told["role"], "leader", "{told}");
    let three = it_is_deleted_while_operators_change(&stage, two);
    for kind in ["deployments", "pods", "persistentvolumeclaims", "poddisruptionbudgets"] {
        assert_eq!(stage.names(kind), "", "{kind} are left");
    }
    assert_eq!(end(three), Some(0), "{}", log(folder.path(), "three"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder.path(), "monitor"));
    assert_eq!(stage.holder("controller"), "", "the lease is released");
    let report = audited(folder.path(), ledger.to_str().unwrap());
    assert!(report["delivered"].as_u64().unwrap() > 10_000, "{report}");
    assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()), "{report}");
}

/// A resource that cannot be read is deleted, and the operator is killed at once: the next one, which knows no specification, ends it.
fn it_is_deleted_while_operators_change(stage: &Stage<'_>, two: Running) -> Running {
    let name = stage.namespace.name();
    stage.apply(name, &stage.faulty());
    stage.until("refusal", || stage.condition(name, "Accepted", "reason") == "Invalid");
    stage.namespace.kubectl(&["delete", "cg", name, "--wait=false"]);
    drop(two);
    let three = stage.operator("three", "controller");
    stage.until("resource that is gone", || stage.names("cg").is_empty());
    three
}

fn it_tells_numbers(stage: &Stage<'_>) {
    let name = stage.namespace.name();
    let told = |path: &str| stage.namespace.get(&format!("cg/{name}"), path);
    assert_eq!(told("{.metadata.finalizers[0]}"), "tidegate.dev/drain");
    stage.until("status with eight partitions", || told("{.status.partitions}") == "8");
    stage.until("generation that is observed", || {
        told("{.status.observedGeneration}") == told("{.metadata.generation}")
    });
    assert_eq!(stage.condition(name, "Accepted", "status"), "True");
    stage.until("decision", || !told("{.status.lastDecision.lowerBound}").is_empty());
    stage.until("Event with numbers", || stage.has_event("Scaled", "consumers, lower bound"));
    let deployment = format!("deployment/{name}-consumer-1");
    let owner = stage.namespace.get(&deployment, "{.metadata.ownerReferences[0].kind}");
    assert_eq!(owner, "ConsumerGroup");
    for counted in [
        "tidegate_operator_holder 1",
        "tidegate_operator_resources{state=\"running\"} 1",
        "tidegate_operator_status_writes_total{outcome=\"done\"}",
        "tidegate_operator_events_total{outcome=\"done\"}",
        "stage=\"pulled\"",
        "stage=\"ready\"",
    ] {
        stage.until(counted, || {
            stage.page("one", "/metrics").is_some_and(|told| told.contains(counted))
        });
    }
}

fn what_is_refused_is_told_and_stops_nothing(stage: &Stage<'_>) {
    let name = stage.namespace.name();
    let mut faulty = stage.faulty();
    faulty["cluster"]["security"] = json!({ "sasl": {
        "mechanism": "SCRAM-SHA-512", "username": "t", "password": { "env": "HOME" },
    } });
    stage.apply(name, &faulty);
    stage.until("refusal", || stage.condition(name, "Accepted", "reason") == "Invalid");
    let message = stage.condition(name, "Accepted", "message");
    for path in ["topics[1].sink", "cluster.security.sasl.password"] {
        assert!(message.contains(path), "{path} is not in {message}");
    }
    assert!(stage.is_well(2), "{message}");
    // Another resource of the same group takes nothing from this one.
    stage.apply("other", &stage.spec());
    stage.until("duplicate", || stage.condition("other", "Accepted", "reason") == "Duplicate");
    stage.namespace.kubectl(&["delete", "cg", "other", "--timeout=180s"]);
    assert_eq!(stage.names("deployments").split(' ').count(), 2);
    stage.apply(name, &stage.spec());
    stage.until("acceptance", || stage.condition(name, "Accepted", "status") == "True");
    assert!(stage.is_well(2));
}

fn what_is_deleted_by_hand_comes_back(stage: &Stage<'_>, deployment: &str) {
    let uid = || {
        let arguments = ["get", "deployment", deployment, "--ignore-not-found"];
        stage.namespace.kubectl(&[&arguments[..], &["--output=jsonpath={.metadata.uid}"]].concat())
    };
    let before = uid();
    stage.namespace.kubectl(&["delete", "deployment", deployment, "--wait=false"]);
    stage.until("deployment that is there again", || {
        let now = uid();
        !now.is_empty() && now != before
    });
    stage.until("Event about it", || stage.has_event("Drift", "consumer 2"));
    stage.until("two consumers again", || stage.is_well(2));
}

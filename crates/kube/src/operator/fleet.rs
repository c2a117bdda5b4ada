//! Which resources are run: valid ones, of which no two are the same group, read the same ledger, or have objects of one name.
//!
//! Who runs already stays, then who has run, then the older one; so that a resource that is made or changed takes nothing from another.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidegate_core::ids::GroupName;
use tidegate_runtime::live::moved_sink;
use tidegate_runtime::spec::{ControlTopics, GroupSpec};

use super::accept::{Rules, accept, group_of};
use super::object::{Key, Resource};
use crate::names::Names;

/// What is to be done about a resource.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is run by this.
    Run(Box<GroupSpec>),
    /// It is not taken up; what runs goes on by what was taken up last.
    Refused(Refusal),
    /// Its consumers are to end.
    Drain,
}

/// Why a resource is not taken up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A word for programs.
    pub(super) reason: &'static str,
    /// A sentence for people.
    pub(super) message: String,
}

/// What only one group can have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claims {
    servers: BTreeSet<String>,
    group: String,
    ledgers: BTreeSet<String>,
    namespace: String,
    objects: String,
}

/// Judges all resources; `running` are the specifications that are run now.
pub(super) fn judge(
    resources: &BTreeMap<Key, Resource>,
    running: &BTreeMap<Key, GroupSpec>,
    rules: &Rules,
) -> BTreeMap<Key, Verdict> {
    let accepted: BTreeMap<&Key, _> =
        resources.iter().map(|(key, resource)| (key, accept(resource, rules))).collect();
    let mut taken = BTreeMap::new();
    for (key, resource) in resources {
        let is_faulty = accepted[key].is_err() || resource.is_deleted;
        if let Some(spec) = running.get(key) {
            taken.insert(key, Claims::of(resource, spec));
        } else if resource.is_held() && is_faulty {
            taken.insert(key, Claims::of_faulty(resource));
        }
    }
    let mut order: Vec<&Key> = resources.keys().collect();
    order.sort_by_key(|key| {
        let resource = &resources[*key];
        (!running.contains_key(*key), !resource.is_held(), resource.created, &resource.name)
    });
    let mut verdicts = BTreeMap::new();
    for key in order {
        let resource = &resources[key];
        let verdict = match &accepted[key] {
            _ if resource.is_deleted => Verdict::Drain,
            Err(faults) => Verdict::Refused(Refusal {
                reason: "Invalid",
                message: faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            }),
            Ok(spec) => {
                let claims = Claims::of(resource, spec);
                let mut others = taken.iter().filter(|(other, _)| **other != key);
                let conflict = others.find_map(|(other, held)| claims.conflict(other, held));
                match (running.get(key).and_then(|now| fixed(now, spec)), conflict) {
                    (Some(message), _) => Verdict::Refused(Refusal { reason: "Invalid", message }),
                    (None, Some(message)) => {
                        Verdict::Refused(Refusal { reason: "Duplicate", message })
                    }
                    (None, None) => Verdict::Run(Box::new(spec.clone())),
                }
            }
        };
        if let Verdict::Run(spec) = &verdict {
            taken.insert(key, Claims::of(resource, spec));
        }
        verdicts.insert(key.clone(), verdict);
    }
    verdicts
}

/// What cannot be changed while a group runs.
fn fixed(now: &GroupSpec, spec: &GroupSpec) -> Option<String> {
    let keeping = |spec: &GroupSpec| spec.workers.kubernetes.storage.keeping;
    if keeping(now) != keeping(spec) {
        let text = "workers.kubernetes.storage.keeping: cannot be changed: make another resource";
        return Some(text.to_owned());
    }
    // Both were validated when they were accepted.
    let (before, after) = (now.validate().ok()?, spec.validate().ok()?);
    moved_sink(&before, &after).map(|why| format!("topics: {why}"))
}

// === impl Claims ===

impl Claims {
    fn of(resource: &Resource, spec: &GroupSpec) -> Self {
        let topics = &spec.control_topics;
        let ledgers = [Some(&topics.controller), topics.ledger.as_ref()];
        Self {
            servers: servers(&spec.cluster.bootstrap_servers),
            group: spec.group.clone(),
            ledgers: ledgers.into_iter().flatten().cloned().collect(),
            namespace: resource.namespace.clone(),
            objects: Names::new(&GroupName(spec.group.clone())).group().to_owned(),
        }
    }

    /// Of a resource that was run once, as far as it can be read.
    fn of_faulty(resource: &Resource) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (spec, group) = (&resource.spec, group_of(resource));
        let topics = &spec["controlTopics"];
        let controller = text(&topics["controller"]);
        let controller = controller.unwrap_or_else(|| ControlTopics::default().controller);
        Self {
            servers: servers(spec["cluster"]["bootstrapServers"].as_str().unwrap_or_default()),
            objects: Names::new(&GroupName(group.clone())).group().to_owned(),
            group,
            ledgers: [Some(controller), text(&topics["ledger"])].into_iter().flatten().collect(),
            namespace: resource.namespace.clone(),
        }
    }

    /// Why these cannot be beside those of another.
    fn conflict(&self, (namespace, name): &Key, other: &Self) -> Option<String> {
        if self.namespace == other.namespace && self.objects == other.objects {
            return Some(format!(
                "{namespace}/{name} has the group {} already, in this namespace: give this one another `group`",
                other.group
            ));
        }
        if self.servers.is_disjoint(&other.servers) {
            return None;
        }
        if self.group == other.group {
            return Some(format!(
                "{namespace}/{name} runs the group {} on this cluster already: give this one another `group`",
                other.group
            ));
        }
        let topic = self.ledgers.intersection(&other.ledgers).next()?;
        Some(format!(
            "{namespace}/{name} has the controller topic {topic} on this cluster already: set `controlTopics` to topics of this group's own"
        ))
    }
}

/// One in common makes two clusters the same.
fn servers(bootstrap: &str) -> BTreeSet<String> {
    bootstrap.split(',').map(|server| server.trim().to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::FINALIZER;
    use super::*;

    fn resource(namespace: &str, name: &str, created: i64) -> Resource {
        let spec = json!({
            "cluster": { "bootstrapServers": "kafka:9092" },
            "controlTopics": { "controller": format!("{name}-controller") },
            "workers": { "kubernetes": { "image": "tidegate:1" } },
        });
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Resource { namespace, name, created, spec, ..Resource::default() }
    }

    fn rules() -> Rules {
        Rules { secrets: "/secrets".into(), check: |_| Vec::new() }
    }

    fn judged(
        resources: &[Resource],
        running: &BTreeMap<Key, GroupSpec>,
    ) -> BTreeMap<String, String> {
        let all = resources.iter().map(|resource| (resource.key(), resource.clone())).collect();
        let verdicts = judge(&all, running, &rules());
        let word = |verdict| match verdict {
            Verdict::Run(_) => "run".to_owned(),
            Verdict::Refused(refusal) => format!("{}: {}", refusal.reason, refusal.message),
            Verdict::Drain => "drain".to_owned(),
        };
        verdicts.into_iter().map(|((_, name), verdict)| (name, word(verdict))).collect()
    }

    fn running(resources: &[&Resource]) -> BTreeMap<Key, GroupSpec> {
        let spec = |resource: &Resource| accept(resource, &rules()).unwrap();
        resources.iter().map(|resource| (resource.key(), spec(resource))).collect()
    }

    #[test]
    fn of_two_resources_of_one_group_the_older_one_is_run() {
        let (old, mut new) = (resource("a", "z", 1), resource("b", "y", 2));
        new.spec["group"] = json!("z");
        let judged = judged(&[old, new], &BTreeMap::new());
        assert_eq!(judged["z"], "run");
        assert!(judged["y"].starts_with("Duplicate: a/z runs the group z"), "{judged:?}");
    }

    #[test]
    fn who_runs_already_is_not_put_out_by_an_older_one_that_changes() {
        let (mut old, new) = (resource("a", "x", 1), resource("b", "y", 2));
        let now = running(&[&old, &new]);
        old.spec["controlTopics"]["controller"] = json!("y-controller");
        let judged = judged(&[old, new], &now);
        assert_eq!(judged["y"], "run");
        assert!(judged["x"].contains("set `controlTopics`"), "{judged:?}");
    }

    #[test]
    fn a_topic_of_a_group_that_runs_keeps_its_sink() {
        let mut orders = resource("a", "x", 1);
        orders.spec["topics"] = json!([{ "name": "orders", "sink": "blackhole:" }]);
        let now = running(&[&orders]);
        orders.spec["topics"][0]["sink"] = json!("file:///elsewhere");
        let before = judged(&[orders.clone()], &BTreeMap::new());
        assert_eq!(before["x"], "run");
        let judged = judged(&[orders], &now);
        assert!(judged["x"].starts_with("Invalid: topics: records of orders"), "{judged:?}");
    }

    #[test]
    fn default_control_topics_serve_one_group_of_a_cluster() {
        let (mut old, mut new) = (resource("a", "x", 1), resource("b", "y", 2));
        for resource in [&mut old, &mut new] {
            resource.spec.as_object_mut().unwrap().remove("controlTopics");
        }
        new.spec["cluster"]["bootstrapServers"] = json!("other:9092, KAFKA:9092");
        let before = judged(&[old.clone(), new.clone()], &BTreeMap::new());
        assert!(before["y"].contains("data-engineering-controller"), "{before:?}");
        new.spec["cluster"]["bootstrapServers"] = json!("other:9092");
        assert_eq!(judged(&[old, new], &BTreeMap::new())["y"], "run");
    }

    #[test]
    fn two_groups_whose_objects_have_the_same_name_are_not_run_in_one_namespace() {
        let (old, mut new) = (resource("a", "x", 1), resource("a", "y", 2));
        new.spec["group"] = json!("x");
        new.spec["cluster"]["bootstrapServers"] = json!("other:9092");
        assert!(judged(&[old, new], &BTreeMap::new())["y"].starts_with("Duplicate"));
    }

    #[test]
    fn a_resource_that_drains_or_is_faulty_keeps_its_group_until_it_is_gone() {
        for is_deleted in [true, false] {
            let (mut old, mut new) = (resource("a", "x", 2), resource("a", "y", 1));
            old.finalizers.push(FINALIZER.to_owned());
            old.is_deleted = is_deleted;
            old.spec["consumers"] = json!({ "min": "many" });
            new.spec["group"] = json!("x");
            let judged = judged(&[old, new], &BTreeMap::new());
            assert_eq!(judged["x"] == "drain", is_deleted, "{judged:?}");
            assert!(judged["y"].starts_with("Duplicate"), "{judged:?}");
        }
    }

    #[test]
    fn an_invalid_resource_is_told_its_faults_and_takes_nothing() {
        let (mut old, mut new) = (resource("a", "x", 1), resource("a", "y", 2));
        old.spec["consumers"] = json!({ "min": 9, "max": 2 });
        new.spec["group"] = json!("x");
        let judged = judged(&[old, new], &BTreeMap::new());
        assert!(judged["x"].starts_with("Invalid: consumers."), "{judged:?}");
        assert_eq!(judged["y"], "run");
    }
}

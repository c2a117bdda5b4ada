//! What is known of a group's workers: its workloads, claims and pods as they were seen last, and what follows from each change.
//!
//! No IO: objects go in, changes for the controller come out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use tidegate_core::ids::{ConsumerNumber, ProcessId};
use tidegate_runtime::ports::{Evidence, Phase, WorkerChange, WorkerSpec, WorkerState};
use tokio::time::Instant;

use crate::names::consumer_of;
use crate::objects::CONTAINER;
use crate::unbound::{Claim, Unbound, Why};

/// Processes of a pod: the random digits that tell them apart are left out.
pub fn process_of_pod(uid: &str) -> Option<ProcessId> {
    let uid = uuid::Uuid::try_parse(uid).ok()?;
    Some(ProcessId(uid.as_u128()).family())
}

/// A pod as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    consumer: ConsumerNumber,
    phase: Phase,
    starts: u32,
    trouble: Option<String>,
    /// Its node has said that the container has ended, and there will be no other.
    ended: bool,
    /// Its process, if the pod is being deleted and that still runs.
    ending: Option<ProcessId>,
}

/// A workload, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    /// What it was told to run.
    pub(crate) spec: WorkerSpec,
    pub(crate) generation: i64,
    pub(crate) replicas: i64,
    /// Of the container that is the consumer.
    pub(crate) image: String,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    workloads: BTreeMap<ConsumerNumber, Workload>,
    claims: BTreeSet<ConsumerNumber>,
    unbound: Unbound,
    pods: BTreeMap<String, View>,
}

impl Sight {
    /// All workers: those with a workload, and those whose pods have not ended yet.
    pub(crate) fn list(&self) -> BTreeMap<ConsumerNumber, WorkerState> {
        let mut list: BTreeMap<ConsumerNumber, WorkerState> = BTreeMap::new();
        for (consumer, Workload { spec, .. }) in &self.workloads {
            list.insert(*consumer, WorkerState::new(Phase::Pending, spec.clone()));
        }
        for view in self.pods.values() {
            let state = list
                .entry(view.consumer)
                .or_insert_with(|| WorkerState::new(Phase::Stopping, WorkerSpec::default()));
            state.ending = state.ending.or(view.ending);
            // Of an old pod and its successor, the one that runs is what matters; of two that do not, either.
            if state.phase != Phase::Running {
                state.phase = view.phase;
                state.trouble = view.trouble.clone().or(state.trouble.take());
            }
            state.starts += view.starts;
        }
        for (consumer, state) in &mut list {
            if state.phase == Phase::Pending {
                state.trouble = self.unbound.trouble(*consumer, state.trouble.take());
            }
        }
        list
    }

    /// Consumers that have a claim, and neither a workload nor a pod that may use it.
    pub(crate) fn idle_claims(&self) -> Vec<ConsumerNumber> {
        let is_idle = |consumer: &&ConsumerNumber| {
            !self.workloads.contains_key(consumer)
                && self.pods.values().all(|view| view.consumer != **consumer)
        };
        self.claims.iter().filter(is_idle).copied().collect()
    }

    /// A workload is there as it is told, or not any more.
    pub(crate) fn note_workload(
        &mut self,
        consumer: ConsumerNumber,
        workload: Option<Workload>,
    ) -> Option<WorkerChange> {
        if let Some(workload) = workload {
            let is_new = self.workloads.insert(consumer, workload).is_none();
            return is_new.then(|| change(consumer, Phase::Pending, "its workload is there"));
        }
        self.workloads.remove(&consumer)?;
        let last = self.pods.values().all(|view| view.consumer != consumer);
        let phase = if last { Phase::Gone } else { Phase::Stopping };
        Some(change(consumer, phase, "its workload is gone"))
    }

    /// A claim is there, or not any more.
    pub(crate) fn note_claim(&mut self, consumer: ConsumerNumber, exists: bool) {
        if exists {
            self.claims.insert(consumer);
        } else {
            self.claims.remove(&consumer);
        }
    }

    /// A consumer's claim is not bound; `None` for one that is bound, or gone.
    pub(crate) fn note_unbound(
        &mut self,
        consumer: ConsumerNumber,
        claim: Option<Claim>,
        now: Instant,
    ) {
        self.unbound.note(consumer, claim, now);
    }

    /// Claims for want of which pods do not start, to find out why they are not bound.
    pub(crate) fn unbound_claims(&mut self, now: Instant) -> Vec<Claim> {
        let Self { unbound, pods, .. } = self;
        unbound.due(now, |consumer| {
            pods.values().any(|view| view.consumer == consumer && view.phase == Phase::Pending)
        })
    }

    /// Why a claim is not bound.
    pub(crate) fn note_why(&mut self, claim: &Claim, why: Why) -> Option<WorkerChange> {
        let trouble = |sight: &Self| {
            let state = sight.list().remove(&claim.consumer)?;
            state.trouble.filter(|_| state.phase == Phase::Pending)
        };
        let before = trouble(self);
        self.unbound.tell(claim, why);
        let now = trouble(self).filter(|now| before.as_ref() != Some(now))?;
        Some(change(claim.consumer, Phase::Pending, &now))
    }

    /// A pod is there as it is told.
    pub(crate) fn note_pod(&mut self, pod: &Pod) -> Option<WorkerChange> {
        let consumer = consumer_of(pod)?;
        let uid = pod.uid()?;
        let view = view(consumer, pod);
        let before = self.pods.insert(uid.clone(), view.clone());
        if before.as_ref() == Some(&view) {
            return None;
        }
        let has_ended = view.ended && !before.is_some_and(|before| before.ended);
        let died = if has_ended { process_of_pod(&uid) } else { None };
        let detail =
            view.trouble.unwrap_or_else(|| format!("pod {} is {:?}", pod.name_any(), view.phase));
        let died = died.map(|process| (process, Evidence::PodEnded));
        Some(WorkerChange { consumer, phase: view.phase, died, detail })
    }

    /// A pod is not there any more. Its end was told before, if its node has confirmed it: an object that was deleted by force may leave
    /// a process behind.
    pub(crate) fn forget_pod(&mut self, uid: &str) -> Option<WorkerChange> {
        let view = self.pods.remove(uid)?;
        let consumer = view.consumer;
        let others = self.pods.values().any(|other| other.consumer == consumer);
        let phase = match (self.workloads.contains_key(&consumer), others) {
            (true, false) => Phase::Pending,
            (false, false) => Phase::Gone,
            (_, true) => return None,
        };
        let detail = if view.ended {
            "its pod is gone"
        } else {
            "its pod is gone, and nobody has told that its process has ended"
        };
        Some(change(consumer, phase, detail))
    }

    /// All workloads.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = (ConsumerNumber, &Workload)> {
        self.workloads.iter().map(|(consumer, workload)| (*consumer, workload))
    }

    pub(crate) fn has_workload(&self, consumer: ConsumerNumber) -> bool {
        self.workloads.contains_key(&consumer)
    }

    /// True for a consumer that has a workload and no claim for it.
    pub(crate) fn lacks_claim(&self, consumer: ConsumerNumber) -> bool {
        self.workloads.contains_key(&consumer) && !self.has_claim(consumer)
    }

    pub(crate) fn has_claim(&self, consumer: ConsumerNumber) -> bool {
        self.claims.contains(&consumer)
    }

    /// The consumers of all claims, to find out which of them are gone.
    pub(crate) fn claims(&self) -> BTreeSet<ConsumerNumber> {
        self.claims.clone()
    }

    /// The uids of all pods, for the same purpose.
    pub(crate) fn pods(&self) -> BTreeSet<String> {
        self.pods.keys().cloned().collect()
    }
}

fn change(consumer: ConsumerNumber, phase: Phase, detail: &str) -> WorkerChange {
    WorkerChange { consumer, phase, died: None, detail: detail.to_owned() }
}

fn view(consumer: ConsumerNumber, pod: &Pod) -> View {
    let (status, container) = (pod.status.as_ref(), container_of(pod));
    let state = container.and_then(|container| container.state.as_ref());
    let is_running = state.is_some_and(|state| state.running.is_some());
    let has_ended = state.is_some_and(|state| state.terminated.is_some());
    let is_deleted = pod.metadata.deletion_timestamp.is_some();
    let is_over = status
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| phase == "Failed" || phase == "Succeeded");
    let starts = container.map_or(0, |container| {
        let before = container.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
        let began = is_running || has_ended || before;
        u32::try_from(container.restart_count).unwrap_or_default() + u32::from(began)
    });
    let phase = if is_deleted || is_over {
        Phase::Stopping
    } else if is_running {
        Phase::Running
    } else if starts > 0 {
        Phase::BackingOff
    } else {
        Phase::Pending
    };
    let trouble = trouble(pod, container).filter(|_| phase != Phase::Running);
    // Of a pod that is being deleted, too, the node says by its phase that no container is started again: a container's end may be old.
    let ended = has_ended && is_over && !is_collected(pod);
    let process = || pod.uid().as_deref().and_then(process_of_pod);
    let ending = if is_deleted && is_running { process() } else { None };
    View { consumer, phase, starts, trouble, ended, ending }
}

/// True where Kubernetes has given up a pod whose node is gone, and has written its phase in place of the node: its process may live.
fn is_collected(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions
        .into_iter()
        .flatten()
        .any(|it| it.type_ == "DisruptionTarget" && it.reason.as_deref() == Some("DeletionByPodGC"))
}

/// The container that is the consumer, as the node tells it.
pub(crate) fn container_of(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    statuses.iter().find(|container| container.name == CONTAINER)
}

/// What keeps a pod from running, in the words of the scheduler and the node.
fn trouble(pod: &Pod, container: Option<&ContainerStatus>) -> Option<String> {
    let name = pod.name_any();
    let told = |reason: &str, message: Option<&str>| {
        let message = message.filter(|message| !message.is_empty());
        message.map_or_else(
            || format!("pod {name}: {reason}"),
            |message| format!("pod {name}: {reason}: {message}"),
        )
    };
    let state = container.and_then(|container| container.state.as_ref());
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        // What every pod goes through.
        return (reason != "ContainerCreating" && reason != "PodInitializing")
            .then(|| told(reason, waiting.message.as_deref()));
    }
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        let reason = ended.reason.as_deref().unwrap_or("ended");
        return (ended.exit_code != 0).then(|| {
            told(&format!("{reason} with exit code {}", ended.exit_code), ended.message.as_deref())
        });
    }
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let unscheduled =
        conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
    let message = unscheduled.message.as_deref();
    // What every pod with a new claim goes through. Of one that stays unbound the claim tells more.
    let waits = message.is_some_and(|it| it.contains("unbound immediate PersistentVolumeClaims"));
    (!waits).then(|| told(unscheduled.reason.as_deref().unwrap_or_default(), message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
    const ONE: ConsumerNumber = ConsumerNumber::FIRST;

    fn pod(state: &Value, restarts: u32, deleted: bool, phase: &str) -> Pod {
        let mut pod = json!({
            "metadata": { "name": "orders-consumer-1-abc", "uid": UID, "labels": { "tidegate.dev/consumer": "1" } },
            "status": { "phase": phase, "containerStatuses": [
                { "name": CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state },
            ] },
        });
        if deleted {
            pod["metadata"]["deletionTimestamp"] = json!("2026-11-28T00:00:00Z");
        }
        serde_json::from_value(pod).unwrap()
    }

    fn running() -> Value {
        json!({ "running": {} })
    }

    fn ended(code: i32) -> Value {
        json!({ "terminated": { "exitCode": code, "reason": "Error" } })
    }

    fn sight() -> Sight {
        let mut sight = Sight::default();
        let spec = WorkerSpec { revision: "r1".to_owned(), group: "group: orders".into() };
        assert_eq!(
            sight.note_workload(ONE, Some(Workload { spec, ..Workload::default() })).unwrap().phase,
            Phase::Pending
        );
        sight
    }

    #[test]
    fn a_process_is_dead_when_its_node_says_so_of_a_pod_that_does_not_start_another() {
        let mut sight = sight();
        assert_eq!(
            sight.note_pod(&pod(&running(), 0, false, "Running")).unwrap().phase,
            Phase::Running
        );
        let again = sight.note_pod(&pod(&ended(1), 0, false, "Running")).unwrap();
        assert_eq!(
            (again.phase, again.died),
            (Phase::BackingOff, None),
            "the next one says Hello with the lock"
        );
        assert_eq!(sight.list()[&ONE].ending, None);
        let told = sight.note_pod(&pod(&running(), 1, true, "Running")).unwrap();
        assert_eq!((told.phase, told.died), (Phase::Stopping, None));
        assert_eq!(sight.list()[&ONE].ending, process_of_pod(UID));
        let told = sight.note_pod(&pod(&ended(0), 1, true, "Succeeded")).unwrap();
        assert_eq!(told.died, Some((process_of_pod(UID).unwrap(), Evidence::PodEnded)));
        assert_eq!(sight.list()[&ONE].ending, None);
        assert_eq!(sight.note_pod(&pod(&ended(0), 1, true, "Succeeded")), None, "it is told once");
    }

    #[test]
    fn a_pod_that_was_given_up_with_its_node_proves_nothing() {
        let mut sight = sight();
        let mut failed = pod(&ended(1), 0, false, "Failed");
        let collected =
            json!([{ "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC" }]);
        let status = failed.status.as_mut().unwrap();
        status.conditions = serde_json::from_value(collected).unwrap();
        assert_eq!(sight.note_pod(&failed).unwrap().died, None);
        failed.status.as_mut().unwrap().conditions = None;
        assert!(sight.note_pod(&failed).unwrap().died.is_some(), "its node says so itself");
    }

    #[test]
    fn a_pod_that_was_deleted_by_force_proves_nothing() {
        let mut sight = sight();
        sight.note_pod(&pod(&running(), 0, true, "Running"));
        let gone = sight.forget_pod(UID).unwrap();
        assert_eq!((gone.phase, gone.died), (Phase::Pending, None));
        assert!(gone.detail.contains("nobody has told"), "{}", gone.detail);
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_told() {
        let mut sight = sight();
        let waiting =
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
        sight.note_pod(&pod(&waiting, 0, false, "Pending"));
        let state = &sight.list()[&ONE];
        assert_eq!(state.phase, Phase::Pending);
        assert_eq!(
            state.trouble.as_deref(),
            Some("pod orders-consumer-1-abc: ImagePullBackOff: no such image")
        );
        let mut looping =
            pod(&json!({ "waiting": { "reason": "CrashLoopBackOff" } }), 0, false, "Running");
        let status = looping.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
        status[0].last_state = serde_json::from_value(ended(3)).unwrap();
        sight.note_pod(&looping);
        let state = &sight.list()[&ONE];
        assert_eq!((state.phase, state.starts), (Phase::BackingOff, 1), "it has run once");
        sight.note_pod(&pod(&running(), 3, false, "Running"));
        let state = &sight.list()[&ONE];
        assert_eq!((state.phase, state.starts, &state.trouble), (Phase::Running, 4, &None));
    }

    #[test]
    fn a_claim_that_is_not_bound_is_the_trouble_of_a_pod_that_waits_for_it() {
        let (mut sight, begin) = (sight(), Instant::now());
        let object = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "orders-consumer-1", "uid": "c" }, "status": { "phase": "Pending" },
        }));
        let claim = Claim::unbound(ONE, &object.unwrap());
        sight.note_unbound(ONE, claim, begin);
        let later = begin + std::time::Duration::from_secs(11);
        assert_eq!(sight.unbound_claims(later), [], "there is no pod");
        let creating = json!({ "waiting": { "reason": "ContainerCreating" } });
        sight.note_pod(&pod(&creating, 0, false, "Pending"));
        let due = sight.unbound_claims(later);
        let why = || Why::Warned("ProvisioningFailed: no".to_owned());
        let told = "claim orders-consumer-1 is not bound: ProvisioningFailed: no";
        let change = sight.note_why(&due[0], why()).unwrap();
        assert_eq!((change.phase, change.detail.as_str()), (Phase::Pending, told));
        assert_eq!(sight.list()[&ONE].trouble.as_deref(), Some(told));
        assert_eq!(sight.note_why(&due[0], why()), None, "it is told once");
        sight.note_unbound(ONE, None, later);
        assert_eq!(sight.list()[&ONE].trouble, None);
    }

    #[test]
    fn a_claim_is_idle_once_neither_a_workload_nor_a_pod_is_left() {
        let mut sight = sight();
        sight.note_claim(ONE, true);
        sight.note_pod(&pod(&running(), 0, false, "Running"));
        assert_eq!(sight.idle_claims(), []);
        assert_eq!(sight.note_workload(ONE, None).unwrap().phase, Phase::Stopping);
        assert_eq!(sight.idle_claims(), []);
        assert_eq!(sight.list()[&ONE].phase, Phase::Running, "it still runs");
        assert_eq!(sight.forget_pod(UID).unwrap().phase, Phase::Gone);
        assert_eq!((sight.idle_claims(), sight.list().len()), (vec![ONE], 0));
        sight.note_claim(ONE, false);
        assert_eq!(sight.idle_claims(), []);
    }
}

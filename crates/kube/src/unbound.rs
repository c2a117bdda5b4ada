//! Claims that are not bound, for want of which pods do not start: when to ask why, and what is said of it. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use tidegate_core::ids::ConsumerNumber;
use tokio::time::Instant;

/// Provisioners take seconds, and what has not failed yet has no reason.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reason may become another one while somebody mends the storage; nobody needs that at once.
const AGAIN: Duration = Duration::from_secs(30);

/// The mode that not all storage has.
const EXCLUSIVE: &str = "ReadWriteOncePod";

/// A claim that is not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) consumer: ConsumerNumber,
    pub(crate) uid: String,
    name: String,
    is_exclusive: bool,
}

/// Why it is not bound, by its Events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// This is wrong.
    Warned(String),
    /// Nothing is: it may wait for the scheduler.
    Silent,
    /// They could not be read.
    Unknown,
}

/// All such claims.
#[derive(Debug, Default)]
pub(crate) struct Unbound {
    claims: BTreeMap<ConsumerNumber, Wait>,
}

#[derive(Debug)]
struct Wait {
    claim: Claim,
    /// When it is asked about next.
    due: Instant,
    why: Option<Why>,
}

// === impl Claim ===

impl Claim {
    /// A claim as it is told, unless it is bound.
    pub(crate) fn unbound(consumer: ConsumerNumber, object: &DynamicObject) -> Option<Self> {
        let modes = object.data["spec"]["accessModes"].as_array();
        let is_exclusive = modes.is_some_and(|modes| modes.iter().any(|mode| mode == EXCLUSIVE));
        let (uid, name) = (object.uid()?, object.name_any());
        let is_bound = object.data["status"]["phase"] == "Bound";
        (!is_bound).then_some(Self { consumer, uid, name, is_exclusive })
    }

    fn told(&self, why: Option<&str>) -> String {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let hint = if self.is_exclusive {
            "; a storage class without ReadWriteOncePod needs a group made with workers.kubernetes.storage.keeping: statefulSet"
        } else {
            ""
        };
        format!("claim {} is not bound{why}{hint}", self.name)
    }
}

// === impl Unbound ===

impl Unbound {
    /// A consumer's claim is there as it is told; `None` for one that is bound, or gone.
    pub(crate) fn note(&mut self, consumer: ConsumerNumber, claim: Option<Claim>, now: Instant) {
        let Some(claim) = claim else {
            self.claims.remove(&consumer);
            return;
        };
        // One that was made again has its own time.
        if self.claims.get(&consumer).is_none_or(|wait| wait.claim.uid != claim.uid) {
            self.claims.insert(consumer, Wait { claim, due: now + PATIENCE, why: None });
        }
    }

    /// Claims to ask about now, each of them not again for a while.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        is_pending: impl Fn(ConsumerNumber) -> bool,
    ) -> Vec<Claim> {
        let due = |(consumer, wait): (&ConsumerNumber, &mut Wait)| {
            let is_due = wait.due <= now && is_pending(*consumer);
            is_due.then(|| {
                wait.due = now + AGAIN;
                wait.claim.clone()
            })
        };
        self.claims.iter_mut().filter_map(due).collect()
    }

    /// What was found out about a claim.
    pub(crate) fn tell(&mut self, claim: &Claim, why: Why) {
        let wait = self.claims.get_mut(&claim.consumer);
        if let Some(wait) = wait.filter(|wait| wait.claim == *claim) {
            wait.why = Some(why);
        }
    }

    /// What keeps a consumer from running that has no process yet, where the pod says this.
    pub(crate) fn trouble(&self, consumer: ConsumerNumber, pod: Option<String>) -> Option<String> {
        let wait = self.claims.get(&consumer);
        let Some((claim, why)) = wait.and_then(|wait| Some((&wait.claim, wait.why.as_ref()?)))
        else {
            return pod;
        };
        match (why, pod) {
            (Why::Warned(why), _) => Some(claim.told(Some(why))),
            (Why::Silent, Some(pod)) => Some(pod),
            (Why::Unknown, Some(pod)) => Some(format!("{}; {pod}", claim.told(None))),
            (Why::Unknown, None) => Some(claim.told(None)),
            // A provisioner may be slow.
            (Why::Silent, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ONE: ConsumerNumber = ConsumerNumber::FIRST;

    fn object(uid: &str, mode: &str, status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "orders-consumer-1", "uid": uid },
            "spec": { "accessModes": [mode] }, "status": status,
        }))
        .unwrap()
    }

    fn claim(uid: &str) -> Option<Claim> {
        Claim::unbound(ONE, &object(uid, EXCLUSIVE, &json!({ "phase": "Pending" })))
    }

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_asked_after_a_while_and_then_now_and_then() {
        let (mut unbound, begin) = (Unbound::default(), Instant::now());
        unbound.note(ONE, claim("a"), begin);
        unbound.note(ONE, claim("a"), after(begin, 9));
        assert_eq!(unbound.due(after(begin, 9), |_| true), []);
        assert_eq!(unbound.due(after(begin, 10), |_| false), [], "its pod runs, or there is none");
        assert_eq!(unbound.due(after(begin, 11), |_| true).len(), 1);
        assert_eq!(unbound.due(after(begin, 40), |_| true), []);
        assert_eq!(unbound.due(after(begin, 41), |_| true).len(), 1);
        unbound.note(ONE, claim("b"), after(begin, 80));
        assert_eq!(unbound.due(after(begin, 81), |_| true), [], "it was made again");
        unbound.note(ONE, None, after(begin, 90));
        assert_eq!(unbound.due(after(begin, 99), |_| true), [], "it is bound, or gone");
    }

    #[test]
    fn what_events_say_comes_with_what_to_do_about_it() {
        let (mut unbound, now) = (Unbound::default(), Instant::now());
        let pod = || Some("pod p: Unschedulable".to_owned());
        let hint = "a storage class without ReadWriteOncePod needs a group made with workers.kubernetes.storage.keeping: statefulSet";
        unbound.note(ONE, claim("a"), now);
        assert_eq!(unbound.trouble(ONE, pod()), pod(), "nothing is known yet");
        let claim = claim("a").unwrap();
        unbound.tell(&claim, Why::Warned("ProvisioningFailed: no such mode".to_owned()));
        let told = format!(
            "claim orders-consumer-1 is not bound: ProvisioningFailed: no such mode; {hint}"
        );
        assert_eq!(unbound.trouble(ONE, pod()), Some(told));
        unbound.tell(&claim, Why::Unknown);
        let told = format!("claim orders-consumer-1 is not bound; {hint}");
        assert_eq!(unbound.trouble(ONE, None).as_deref(), Some(&*told));
        assert_eq!(unbound.trouble(ONE, pod()), Some(format!("{told}; pod p: Unschedulable")));
        unbound.tell(&claim, Why::Silent);
        assert_eq!(unbound.trouble(ONE, pod()), pod(), "a claim that waits is not what is wrong");
        unbound.note(ONE, None, now);
        assert_eq!(unbound.trouble(ONE, None), None);
    }

    #[test]
    fn a_claim_is_read_with_its_phase_and_its_mode() {
        assert_eq!(
            Claim::unbound(ONE, &object("a", EXCLUSIVE, &json!({ "phase": "Bound" }))),
            None
        );
        let new = Claim::unbound(ONE, &object("a", "ReadWriteOnce", &Value::Null)).unwrap();
        assert_eq!(new.told(None), "claim orders-consumer-1 is not bound", "there is no hint");
    }
}

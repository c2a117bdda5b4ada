//! One group that is run: begun again when it ends with an error, told of changes, and ended in order.

use std::error::Error as StdError;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::spec::GroupSpec;
use tidegate_runtime::task::{Task, spawn_named};
use tidegate_wire::Status;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::election::Role;
use super::view::{self, Facts};
use super::{Assigned, RunGroup};
use crate::resource::Refused;

/// Pauses before a group is begun again that has ended: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A group that has run for so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(120);

/// A group that is run.
#[derive(Debug)]
pub(super) struct Running {
    specs: watch::Sender<GroupSpec>,
    stop: CancellationToken,
    task: Task<()>,
}

/// Whose group it is, and where it tells what happens.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) owner: OwnerReference,
    pub(super) run: RunGroup,
    pub(super) roles: watch::Receiver<Role>,
    /// What the status that was stored says of a revision that was taken back.
    pub(super) refused: Option<Refused>,
    pub(super) facts: watch::Sender<Facts>,
    pub(super) told: watch::Sender<Status>,
    pub(super) drift: mpsc::Sender<ConsumerNumber>,
}

impl Running {
    /// Runs a group by this, once what ran it before has ended.
    pub(super) fn start(post: Post, spec: GroupSpec, before: Option<Self>) -> Self {
        let (specs, seen) = watch::channel(spec);
        let stop = CancellationToken::new();
        let (name, told_to_stop) = (format!("{}/{}", post.namespace, post.name), stop.clone());
        let task = spawn_named(name, async move {
            if let Some(before) = before {
                before.end().await;
            }
            keep(&post, &seen, &told_to_stop).await;
        });
        Self { specs, stop, task }
    }

    /// The specification that it runs by.
    pub(super) fn spec(&self) -> GroupSpec {
        self.specs.borrow().clone()
    }

    /// True if it can take up the other one without being begun again.
    pub(super) fn can_follow(&self, other: &GroupSpec) -> bool {
        let now = self.specs.borrow();
        let fixed = |spec: &GroupSpec| {
            let storage = spec.workers.kubernetes.storage.clone();
            (spec.cluster.clone(), spec.control_topics.clone(), spec.group.clone(), storage)
        };
        fixed(&now) == fixed(other)
    }

    /// Takes up another specification.
    pub(super) fn follow(&self, spec: GroupSpec) {
        self.specs.send_if_modified(|now| {
            let differs = *now != spec;
            *now = spec;
            differs
        });
    }

    /// Tells it to end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends it, and waits for that. Its consumers go on.
    pub(super) async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(error = &error as &dyn StdError, "a group did not end well");
        }
    }
}

/// Runs a group again and again until it is told to stop.
async fn keep(post: &Post, specs: &watch::Receiver<GroupSpec>, stop: &CancellationToken) {
    let (mut pause, mut refused) = (PAUSES.0, post.refused.clone());
    while !stop.is_cancelled() {
        let began = Instant::now();
        let trouble = once(post, specs, refused.clone(), stop).await;
        // What it told is not so any more.
        refused = view::refused(&post.told.send_replace(Status::default()), refused.as_ref());
        if stop.is_cancelled() {
            return;
        }
        let trouble = trouble.unwrap_or_else(|| "it has ended by itself".to_owned());
        let Post { namespace, name, .. } = post;
        if began.elapsed() >= STEADY {
            pause = PAUSES.0;
        }
        let pause_ms = pause.as_millis();
        tracing::error!(namespace, name, pause_ms, trouble, "a group has ended and is begun again");
        post.facts.send_modify(|facts| facts.trouble = Some(trouble));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Runs a group until it ends, and returns why.
async fn once(
    post: &Post,
    specs: &watch::Receiver<GroupSpec>,
    refused: Option<Refused>,
    stop: &CancellationToken,
) -> Option<String> {
    let mut roles = post.roles.clone();
    let (holds, deposes) = watch::channel(*roles.borrow_and_update() == Role::Holder);
    let follows = async {
        while roles.changed().await.is_ok() {
            holds.send_replace(*roles.borrow_and_update() == Role::Holder);
        }
        std::future::pending().await
    };
    let assigned = Assigned {
        namespace: post.namespace.clone(),
        name: post.name.clone(),
        owner: post.owner.clone(),
        specs: specs.clone(),
        status: post.told.clone(),
        drift: post.drift.clone(),
        deposes,
        refused: refused.map(|Refused { revision, reason }| (revision, reason)),
        stop: stop.clone(),
    };
    let mut running = spawn_named(format!("{} runs", post.name), (post.run)(assigned));
    let mut told = post.told.subscribe();
    let ends = async {
        let speaks = async { drop(told.wait_for(view::speaks).await) };
        tokio::select! {
            ended = &mut running => ended,
            () = speaks => {
                post.facts.send_modify(|facts| facts.trouble = None);
                running.await
            }
        }
    };
    let ended = tokio::select! {
        ended = ends => ended,
        never = follows => never,
    };
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(chain(&*error)),
        Err(error) => Some(chain(&error)),
    }
}

/// An error with its causes in one line.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tidegate_wire::status::Role as ControllerRole;

    use super::*;

    /// A group whose first runs fail, and what is known of it.
    fn post(failures: u32) -> (Post, Arc<AtomicU32>) {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let run: RunGroup = Arc::new(move |assigned: Assigned| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                if number < failures {
                    return Err("no broker".into());
                }
                let leader = Status { role: ControllerRole::Leader, ..Status::default() };
                assigned.status.send_replace(leader);
                assigned.stop.cancelled().await;
                Ok(())
            })
        });
        let post = Post {
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            owner: OwnerReference::default(),
            run,
            roles: watch::channel(Role::Holder).1,
            refused: None,
            facts: watch::Sender::default(),
            told: watch::Sender::default(),
            drift: mpsc::channel(1).0,
        };
        (post, runs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_fails_is_begun_again_after_growing_pauses_and_says_why() {
        let (post, runs) = post(3);
        let (mut facts, mut told) = (post.facts.subscribe(), post.told.subscribe());
        let began = Instant::now();
        let running = Running::start(post, GroupSpec::default(), None);
        facts.wait_for(|facts| facts.trouble.as_deref() == Some("no broker")).await.unwrap();
        told.wait_for(|told| told.role == ControllerRole::Leader).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 1 + 2 + 4);
        facts.wait_for(|facts| facts.trouble.is_none()).await.unwrap();
        running.end().await;
        assert_eq!(runs.load(Ordering::SeqCst), 4);
        assert_eq!(
            told.borrow().role,
            ControllerRole::Follower,
            "nothing is told of what has ended"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_cut_off_from_the_lease_deposes_nobody() {
        let (roles, role) = watch::channel(Role::Holder);
        let (begun, mut seen) = mpsc::channel(1);
        let run: RunGroup = Arc::new(move |assigned: Assigned| {
            begun.try_send(assigned.deposes).unwrap();
            Box::pin(async move {
                assigned.stop.cancelled().await;
                Ok(())
            })
        });
        let post = Post { run, roles: role, ..post(0).0 };
        let running = Running::start(post, GroupSpec::default(), None);
        let mut deposes = seen.recv().await.unwrap();
        assert!(*deposes.borrow());
        for (role, wanted) in [(Role::CutOff, false), (Role::Holder, true)] {
            roles.send_replace(role);
            deposes.wait_for(|deposes| *deposes == wanted).await.unwrap();
        }
        running.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_agreed_upon_at_the_start_needs_another_start() {
        let running = Running::start(post(0).0, GroupSpec::default(), None);
        let mut other = GroupSpec { paused: true, ..GroupSpec::default() };
        assert!(running.can_follow(&other));
        running.follow(other.clone());
        assert_eq!(running.spec(), other);
        other.cluster.bootstrap_servers = "other:9092".to_owned();
        assert!(!running.can_follow(&other));
    }
}

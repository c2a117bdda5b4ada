//! The loop: watches the resources, and while this process holds the Lease sees to it that each is as the [verdicts](super::fleet) say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{BoxStream, SelectAll, select_all};
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::Reporter as Source;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use tidegate_core::ids::GroupName;
use tidegate_runtime::spec::GroupSpec;
use tidegate_runtime::task::{Task, spawn_named};
use tidegate_runtime::telemetry::metrics::{OperatorMetrics, ResourceLabels, StateLabels};
use tidegate_wire::Status;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accept::Rules;
use super::drain::Drain;
use super::election::Role;
use super::fleet::{Refusal, Verdict, judge};
use super::object::{FINALIZER, Key, Resource, kind};
use super::report::Reporter;
use super::running::{Post, Running};
use super::view::{self, Facts};
use super::{GroupRow, Options, Overview, Part, RunGroup};
use crate::errors::{self, Right, in_time};
use crate::names::Names;
use crate::watch::Pauses;

/// Between two looks whether something is to be done.
const TICK: Duration = Duration::from_millis(250);

/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What groups may take to end in order; and when the lease is lost, which another process may have by then.
const END: Duration = Duration::from_secs(15);
const LOST: Duration = Duration::from_secs(3);

/// How long all groups wait for a namespace that may not be looked into: right after its start an API server forbids what it allows later.
const FORBIDDEN: Duration = Duration::from_secs(30);

/// Drift that may wait to be told.
const DRIFT: usize = 16;

/// All groups of an operator.
pub(super) struct Groups {
    client: Client,
    options: Options,
    rules: Rules,
    run: RunGroup,
    source: Source,
    roles: watch::Receiver<Role>,
    shown: watch::Sender<Overview>,
    resources: BTreeMap<Key, Resource>,
    /// What a watch that begins again has not seen yet, by namespace.
    unseen: BTreeMap<usize, BTreeSet<Key>>,
    synced: BTreeSet<usize>,
    held: BTreeMap<Key, Group>,
    is_dirty: bool,
    retry: Option<Instant>,
    began: Instant,
}

/// A resource that this process answers for.
struct Group {
    uid: String,
    post: Post,
    running: Option<Running>,
    drain: Option<Task<()>>,
    _reporter: Option<Task<()>>,
}

type Seen = (usize, Result<Event<DynamicObject>, watcher::Error>);

// === impl Groups ===

impl Groups {
    pub(super) fn new(
        client: Client,
        options: Options,
        run: RunGroup,
        roles: watch::Receiver<Role>,
        shown: watch::Sender<Overview>,
    ) -> Self {
        let controller = options.part.name().to_owned();
        let source = Source { controller, instance: Some(options.identity.clone()) };
        let rules = Rules { secrets: options.secrets.clone(), check: options.check };
        Self {
            source,
            client,
            options,
            rules,
            run,
            roles,
            shown,
            resources: BTreeMap::new(),
            unseen: BTreeMap::new(),
            synced: BTreeSet::new(),
            held: BTreeMap::new(),
            is_dirty: true,
            retry: None,
            began: Instant::now(),
        }
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (mut watches, mut roles) = (self.watches(), self.roles.clone());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an event is taken up in the same poll.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = roles.changed() => match changed {
                    Ok(()) => self.is_dirty = true,
                    // Nobody keeps the lease any more.
                    Err(_) => break,
                },
                Some(seen) = watches.next() => {
                    self.see(seen);
                    continue;
                }
                _ = ticks.tick() => {}
            }
            let role = roles.borrow_and_update().clone();
            if !role.runs() {
                self.end_all(LOST).await;
            } else if self.is_synced()
                && (self.is_dirty || self.retry.is_some_and(|at| at <= Instant::now()))
            {
                (self.is_dirty, self.retry) = (false, None);
                let mut roles = roles.clone();
                let lost = async { drop(roles.wait_for(|role| !role.runs()).await) };
                // What was begun is looked at again by whoever holds the lease next: nothing here waits for the API server longer.
                tokio::select! {
                    () = self.reconcile() => {}
                    () = lost => self.is_dirty = true,
                    () = stop.cancelled() => break,
                }
            }
            self.show(&role);
        }
        self.end_all(END).await;
    }

    // === watches ===

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind())
    }

    fn watches(&self) -> SelectAll<BoxStream<'static, Seen>> {
        let watch = |(index, namespace): (usize, &String)| {
            let watch = watcher(self.api(namespace), watcher::Config::default());
            watch.backoff(Pauses::default()).map(move |seen| (index, seen)).boxed()
        };
        select_all(self.options.namespaces.iter().enumerate().map(watch))
    }

    fn is_synced(&self) -> bool {
        self.synced.len() == self.options.namespaces.len()
    }

    fn see(&mut self, (index, seen): Seen) {
        match seen {
            Ok(Event::Init) => {
                let namespace = &self.options.namespaces[index];
                let known = self.resources.keys().filter(|(of, _)| of == namespace);
                self.unseen.insert(index, known.cloned().collect());
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let resource = Resource::of(&object);
                if let Some(unseen) = self.unseen.get_mut(&index) {
                    unseen.remove(&resource.key());
                }
                self.note(resource);
            }
            Ok(Event::Delete(object)) => self.forget(&Resource::of(&object).key()),
            Ok(Event::InitDone) => {
                for key in self.unseen.remove(&index).unwrap_or_default() {
                    self.forget(&key);
                }
                self.synced.insert(index);
                self.is_dirty = true;
            }
            Err(error) => {
                let resource = "consumergroups";
                let failures = &self.options.metrics.watch_failures;
                failures.get_or_create(&ResourceLabels { resource }).inc();
                let (why, is_forbidden) = errors::of_watch(resource, &error);
                // The groups of other namespaces do not wait for a right that nobody gives.
                if is_forbidden && self.began.elapsed() >= FORBIDDEN {
                    self.is_dirty |= self.synced.insert(index);
                }
                let namespace = &self.options.namespaces[index];
                tracing::warn!(
                    namespace,
                    error = &error as &dyn std::error::Error,
                    "a watch is begun again: {why}"
                );
            }
        }
    }

    fn note(&mut self, resource: Resource) {
        // The status is what this process writes itself.
        let judged = |resource: &Resource| Resource {
            status: crate::resource::GroupStatus::default(),
            version: String::new(),
            ..resource.clone()
        };
        let known = self.resources.get(&resource.key());
        self.is_dirty |= known.map(judged) != Some(judged(&resource));
        self.resources.insert(resource.key(), resource);
    }

    fn forget(&mut self, key: &Key) {
        self.is_dirty |= self.resources.remove(key).is_some();
    }

    // === groups ===

    async fn reconcile(&mut self) {
        let running: BTreeMap<Key, GroupSpec> = self
            .held
            .iter()
            .filter_map(|(key, group)| Some((key.clone(), group.running.as_ref()?.spec())))
            .collect();
        let verdicts = judge(&self.resources, &running, &self.rules);
        let gone: Vec<Key> = self.held.keys().filter(|key| self.is_gone(key)).cloned().collect();
        for key in gone {
            // Also one that was made again under its name.
            if let Some(running) = self.held.remove(&key).and_then(|group| group.running) {
                running.end().await;
            }
        }
        for (key, verdict) in verdicts {
            let Some(resource) = self.resources.get(&key).cloned() else { continue };
            if !self.held.contains_key(&key) {
                let group = self.begin(&resource);
                self.held.insert(key.clone(), group);
            }
            match verdict {
                Verdict::Run(spec) => self.run_group(&key, &resource, *spec).await,
                Verdict::Refused(refusal) => self.refuse(&key, &resource, &refusal),
                Verdict::Drain => self.drain(&key, &resource),
            }
        }
    }

    fn is_gone(&self, key: &Key) -> bool {
        let uid = self.held.get(key).map(|group| &group.uid);
        self.resources.get(key).map(|resource| &resource.uid) != uid
    }

    /// Answers for a resource from now on.
    fn begin(&self, resource: &Resource) -> Group {
        let (facts, facts_seen) = watch::channel(Facts::default());
        let (told, told_seen) = watch::channel(Status::default());
        let (drift, drift_seen) = mpsc::channel(DRIFT);
        let group = GroupName(super::accept::group_of(resource));
        facts.send_modify(|facts| facts.selector = Names::new(&group).selector());
        let reporter = (self.options.part == Part::Controller).then(|| Reporter {
            api: self.api(&resource.namespace),
            client: self.client.clone(),
            source: self.source.clone(),
            about: resource.reference(),
            name: resource.name.clone(),
            stored: resource.status.clone(),
            facts: facts_seen,
            told: told_seen,
            drift: drift_seen,
            roles: self.roles.clone(),
            metrics: self.options.metrics.clone(),
        });
        let post = Post {
            namespace: resource.namespace.clone(),
            name: resource.name.clone(),
            owner: resource.owner(),
            run: RunGroup::clone(&self.run),
            roles: self.roles.clone(),
            refused: resource.status.refused.clone(),
            facts,
            told,
            drift,
        };
        let report = |reporter: Reporter| spawn_named("report", reporter.run());
        Group {
            uid: resource.uid.clone(),
            post,
            running: None,
            drain: None,
            _reporter: reporter.map(report),
        }
    }

    async fn run_group(&mut self, key: &Key, resource: &Resource, spec: GroupSpec) {
        if !resource.is_held() && !self.hold(resource).await {
            return;
        }
        let Some(group) = self.held.get_mut(key) else { return };
        group.running = Some(match group.running.take() {
            Some(running) if running.can_follow(&spec) => {
                running.follow(spec);
                running
            }
            before => {
                let known =
                    view::refused(&group.post.told.borrow(), resource.status.refused.as_ref());
                group.post.refused = known;
                Running::start(group.post.clone(), spec, before)
            }
        });
        group.post.facts.send_modify(|facts| {
            facts.generation = resource.generation;
            facts.refusal = None;
            facts.runs = true;
        });
    }

    /// Adds the finalizer before anything is made. False when that has to be tried again, or is another's to do.
    async fn hold(&mut self, resource: &Resource) -> bool {
        if self.options.part == Part::Monitor {
            return false;
        }
        let finalizers = resource.finalizers.iter().map(String::as_str).chain([FINALIZER]);
        let patch = json!({ "metadata": {
            "finalizers": finalizers.collect::<Vec<_>>(),
            "resourceVersion": resource.version,
        } });
        let api = self.api(&resource.namespace);
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let right = Right { verb: "patch", resource: "consumergroups" };
        match in_time(right, &resource.name, api.patch(&resource.name, &parameters, &patch)).await {
            Ok(object) => {
                let held = Resource::of(&object);
                self.resources.insert(held.key(), held);
                true
            }
            Err(error) => {
                tracing::warn!(
                    name = resource.name,
                    error = &error as &dyn std::error::Error,
                    "a group is not begun yet"
                );
                self.retry = Some(Instant::now() + RETRY);
                false
            }
        }
    }

    fn refuse(&mut self, key: &Key, resource: &Resource, refusal: &Refusal) {
        let Some(group) = self.held.get_mut(key) else { return };
        let Refusal { reason, message } = refusal;
        let (namespace, name) = key;
        let runs = group.running.is_some();
        group.post.facts.send_if_modified(|facts| {
            let is_new = facts.refusal.as_ref() != Some(refusal);
            if is_new {
                tracing::warn!(
                    namespace,
                    name,
                    reason,
                    why = message,
                    "a specification is not taken up"
                );
            }
            let before = std::mem::replace(&mut facts.generation, resource.generation);
            facts.refusal = Some(refusal.clone());
            facts.runs = runs;
            is_new || before != resource.generation
        });
    }

    fn drain(&mut self, key: &Key, resource: &Resource) {
        let is_controller = self.options.part == Part::Controller;
        let Some(group) = self.held.get_mut(key) else { return };
        let running = group.running.take();
        if group.drain.is_some() || (!is_controller && running.is_none()) {
            return;
        }
        let facts = group.post.facts.clone();
        facts.send_modify(|facts| {
            facts.generation = resource.generation;
            facts.runs = false;
        });
        let drain =
            (is_controller && resource.is_held()).then(|| Drain::new(&self.client, resource));
        group.drain = Some(spawn_named("drain", async move {
            let tell =
                |progress: String| facts.send_modify(|facts| facts.draining = Some(progress));
            if let Some(running) = running {
                running.end().await;
            }
            if let Some(drain) = drain {
                tell("its controller has ended".to_owned());
                drain.run(tell).await;
            }
        }));
    }

    /// Ends all groups here; their consumers go on.
    async fn end_all(&mut self, patience: Duration) {
        let groups = std::mem::take(&mut self.held);
        if groups.is_empty() {
            return;
        }
        // Drains stop where they are, and reports with them.
        let running: Vec<Running> =
            groups.into_values().filter_map(|group| group.running).collect();
        running.iter().for_each(Running::stop);
        let ended = join_all(running.into_iter().map(Running::end));
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("some groups did not end in time and are cut off");
        }
        self.is_dirty = true;
    }

    fn show(&self, role: &Role) {
        let row = |(namespace, name): &Key| {
            let group = self.held.get(&(namespace.clone(), name.clone()));
            let facts = group.map(|group| group.post.facts.borrow().clone()).unwrap_or_default();
            GroupRow {
                namespace: namespace.clone(),
                name: name.clone(),
                runs: facts.runs,
                refused: facts.refusal.map(|refusal| refusal.message),
                trouble: facts.trouble,
                draining: facts.draining,
            }
        };
        let (role, holder) = match role {
            Role::Unknown => ("unknown", String::new()),
            Role::Standby { holder } => ("standby", holder.clone()),
            Role::Holder => ("holder", String::new()),
            Role::CutOff => ("cutOff", String::new()),
        };
        let groups: Vec<GroupRow> = self.resources.keys().map(row).collect();
        count(&self.options.metrics, &groups);
        let overview = Overview { role, holder, synced: self.is_synced(), groups };
        self.shown.send_if_modified(|shown| {
            let differs = *shown != overview;
            *shown = overview;
            differs
        });
    }
}

/// How many resources are in each state; one that is refused may run, too.
fn count(metrics: &OperatorMetrics, groups: &[GroupRow]) {
    let set = |state, is_in: fn(&GroupRow) -> bool| {
        let count = groups.iter().filter(|group| is_in(group)).count();
        let gauge = metrics.resources.get_or_create_owned(&StateLabels { state });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    };
    set("running", |group| group.runs);
    set("refused", |group| group.refused.is_some());
    set("troubled", |group| group.trouble.is_some());
    set("draining", |group| group.draining.is_some());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_counted_in_each_state_that_it_is_in() {
        let metrics = OperatorMetrics::default();
        let refused =
            GroupRow { runs: true, refused: Some("no".to_owned()), ..GroupRow::default() };
        let failed = GroupRow { trouble: Some("no broker".to_owned()), ..refused.clone() };
        let in_state = |state| metrics.resources.get_or_create_owned(&StateLabels { state }).get();
        count(&metrics, &[refused, failed, GroupRow::default()]);
        assert_eq!(["running", "refused", "troubled", "draining"].map(in_state), [2, 2, 1, 0]);
        count(&metrics, &[]);
        assert_eq!(["running", "troubled"].map(in_state), [0, 0], "nothing is left of what was");
    }
}

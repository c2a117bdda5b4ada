//! What the workers run: the revisions that are known, and which of them each is to be started with or updated to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_core::controller::{Controller, Steering};
use tidegate_core::ids::{ConsumerNumber, Instant, PartitionId};
use tidegate_core::ledger::Ownership;
use tidegate_core::rollout::{Held, Member, Note, Patience, Revision, Rollout, View, Wishes};
use tidegate_wire::status::RolloutStatus;

use super::catalog::Catalog;
use super::keeper::Wish;
use crate::ports::{Phase, WorkerSpec, WorkerState};
use crate::spec::{Config, GroupSpec, Mode};

/// After the canary has its partitions again. One time constant of the low-pass filter: by then its lag would show.
const CANARY: Duration = Duration::from_secs(10);

/// One revision.
#[derive(Debug)]
struct Known {
    spec: WorkerSpec,
    /// What its consumers work by; `None` where this version cannot read it.
    config: Option<Config>,
}

/// The revisions of a group's workers.
#[derive(Debug)]
pub(super) struct Rolling {
    /// What runs consumers where that is not in their specification.
    program: String,
    known: BTreeMap<Revision, Known>,
    rollout: Rollout,
    /// What the state machine was told last, in this term.
    told: Option<Steering>,
    away: Away,
}

/// Time in which what runs workers was away: nothing that it was to do is late for that.
#[derive(Clone, Copy, Debug, Default)]
struct Away {
    since: Option<Instant>,
    earlier: Duration,
}

// === impl Away ===

impl Away {
    fn note(&mut self, now: Instant, is_away: bool) {
        match self.since {
            None if is_away => self.since = Some(now),
            Some(since) if !is_away => {
                self.earlier += now.since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    /// The time of a clock that stands still meanwhile.
    fn clock(self, now: Instant) -> Instant {
        self.since.unwrap_or(now).before(self.earlier)
    }
}

/// What a look at the group comes to.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// What the state machine is to be told, if it is something else than before.
    pub(super) steering: Option<Steering>,
    pub(super) wish: Option<Wish>,
    pub(super) notes: Vec<Note>,
}

fn patience(config: &Config) -> Patience {
    Patience { step: config.controller.worker_start_deadline, canary: CANARY }
}

impl Rolling {
    /// Nothing is known of any worker, but what a process before this one has refused.
    pub(super) fn new(
        program: String,
        spec: &GroupSpec,
        config: &Config,
        refused: Option<(Revision, String)>,
    ) -> Self {
        let wanted = WorkerSpec::new(&spec.for_consumers(), &program);
        let mut rolling = Self {
            program,
            known: BTreeMap::new(),
            rollout: Rollout::new(patience(config), wanted.revision.clone(), refused),
            told: None,
            away: Away::default(),
        };
        rolling.learn(&wanted);
        rolling
    }

    /// All workers are to run by this specification.
    pub(super) fn want(&mut self, spec: &GroupSpec, config: &Config) {
        let wanted = WorkerSpec::new(&spec.for_consumers(), &self.program);
        self.learn(&wanted);
        self.rollout.want(&wanted.revision, patience(config));
    }

    /// This process decides from now on, and its state machine asks what is asked for.
    pub(super) fn resume(&mut self) {
        self.rollout.resume();
        self.told = None;
    }

    /// What runs workers answers, or does not.
    pub(super) fn reach(&mut self, now: Instant, is_reachable: bool) {
        self.away.note(now, !is_reachable);
    }

    /// Takes up what workers run.
    pub(super) fn see(&mut self, workers: &BTreeMap<ConsumerNumber, WorkerState>) {
        for worker in workers.values() {
            self.learn(&worker.spec);
        }
        let is_used = |revision: &str| {
            revision == self.rollout.wanted()
                || revision == self.rollout.goal()
                || self.rollout.proven() == Some(revision)
                || workers.values().any(|worker| worker.spec.revision == revision)
        };
        self.known.retain(|revision, _| is_used(revision));
    }

    fn learn(&mut self, spec: &WorkerSpec) {
        self.known.entry(spec.revision.clone()).or_insert_with(|| {
            let read = GroupSpec::parse(&spec.group, &BTreeMap::new());
            let config = read.and_then(|read| read.validate()).ok();
            Known { spec: spec.clone(), config }
        });
    }

    /// What a consumer is started with.
    pub(super) fn for_new(&self) -> WorkerSpec {
        let known = self
            .known
            .get(self.rollout.for_new())
            .or_else(|| self.known.get(self.rollout.wanted()));
        known.map(|known| known.spec.clone()).unwrap_or_default()
    }

    /// True when every worker that may be given partitions knows where records of this topic go.
    pub(super) fn is_read_by_all(
        &self,
        topic: &str,
        config: &Config,
        workers: &BTreeMap<ConsumerNumber, WorkerState>,
    ) -> bool {
        let is_run = |revision: &Revision| {
            let mut stay = workers.iter().filter(|(consumer, it)| stays(config, **consumer, it));
            stay.any(|(_, worker)| worker.spec.revision == *revision)
        };
        let mut run = self.known.iter().filter(|(revision, _)| is_run(revision));
        run.all(|(_, known)| known.config.as_ref().is_none_or(|it| it.topic(topic).is_some()))
    }

    /// Looks what is to be done next.
    pub(super) fn look(
        &mut self,
        now: Instant,
        core: &Controller,
        config: &Config,
        catalog: &Catalog,
        workers: &mut BTreeMap<ConsumerNumber, WorkerState>,
    ) -> Next {
        let mut leave = drained(config);
        let wishes = self.wishes(now, core, config, &leave, workers);
        let mut next = Next { notes: wishes.notes, ..Next::default() };
        if let Some((consumer, revision)) = &wishes.update
            && let Some(known) = self.known.get(revision)
        {
            // The next list says the same.
            if let Some(worker) = workers.get_mut(consumer) {
                worker.spec = known.spec.clone();
            }
            next.wish = Some(Wish::Run(*consumer, known.spec.clone()));
        }
        leave.extend(wishes.leave);
        let ending = ending(core, workers);
        leave.extend(&ending);
        // It comes back where nobody deletes its worker too: nobody is started in its place before that is known to be needed.
        let comes_back = |consumer: &ConsumerNumber| {
            workers.get(consumer).is_some_and(|worker| stays(config, *consumer, worker))
        };
        let mut hold: BTreeSet<_> = ending.iter().copied().filter(comes_back).collect();
        hold.extend(wishes.hold);
        let mut pins = catalog.pins(&config.consumers.pins);
        pins.extend(wishes.pins);
        let steering = Steering { leave, hold, pins, frozen: self.away.since.is_some() };
        // Said again while somebody waits for it.
        if self.told.as_ref() != Some(&steering) || !ending.is_empty() {
            self.told = Some(steering.clone());
            next.steering = Some(steering);
        }
        next
    }

    fn wishes(
        &mut self,
        now: Instant,
        core: &Controller,
        config: &Config,
        drained: &BTreeSet<ConsumerNumber>,
        workers: &BTreeMap<ConsumerNumber, WorkerState>,
    ) -> Wishes {
        let members = self.members(now, core, config, workers);
        let held = |consumer| held(core, consumer);
        let is_quiet = self.rollout.progress(&members).is_none();
        let is_behind = !is_quiet && core.demand().weights(now).behind;
        let paused = config.paused || config.mode == Mode::Observe;
        let view = View { members: &members, held: &held, drained, is_behind, paused };
        self.rollout.look(self.away.clock(now), &view)
    }

    /// The workers as the rollout sees them; those that are to end are none of its business.
    fn members(
        &self,
        now: Instant,
        core: &Controller,
        config: &Config,
        workers: &BTreeMap<ConsumerNumber, WorkerState>,
    ) -> BTreeMap<ConsumerNumber, Member> {
        let lives = core.fold().lives();
        let is_known =
            |revision: &str| self.known.get(revision).is_some_and(|it| it.config.is_some());
        let why = |worker: &WorkerState| {
            worker.trouble.clone().unwrap_or_else(|| "it ends again and again".to_owned())
        };
        let member = |(consumer, worker): (&ConsumerNumber, &WorkerState)| {
            let member = Member {
                revision: worker.spec.revision.clone(),
                is_known: is_known(&worker.spec.revision),
                incarnation: lives.current(*consumer),
                ready: worker.phase == Phase::Running && core.is_ready(now, *consumer),
                starts: worker.starts,
                trouble: (worker.phase == Phase::BackingOff).then(|| why(worker)),
            };
            (*consumer, member)
        };
        let members = workers.iter().filter(|(consumer, worker)| stays(config, **consumer, worker));
        members.map(member).collect()
    }

    fn progress(&self, members: &BTreeMap<ConsumerNumber, Member>) -> Option<RolloutStatus> {
        let progress = self.rollout.progress(members)?;
        let (consumer, phase) = progress.step.unzip();
        Some(RolloutStatus {
            revision: self.rollout.wanted().to_owned(),
            updated: u32::try_from(progress.updated).unwrap_or(u32::MAX),
            consumers: u32::try_from(progress.all).unwrap_or(u32::MAX),
            consumer: consumer.map(ConsumerNumber::get),
            phase: phase.map(str::to_owned),
            refused: progress.refused,
        })
    }

    /// Why what is wanted is not run.
    pub(super) fn refused(&self) -> Option<String> {
        self.rollout.refused().map(str::to_owned)
    }

    /// Where a rollout is; `None` when every consumer runs what it should.
    pub(super) fn status(
        &self,
        now: Instant,
        core: &Controller,
        config: &Config,
        workers: &BTreeMap<ConsumerNumber, WorkerState>,
    ) -> Option<RolloutStatus> {
        self.progress(&self.members(now, core, config, workers))
    }
}

/// What a consumer has, as the rollout sees it.
fn held(core: &Controller, consumer: ConsumerNumber) -> BTreeMap<PartitionId, Held> {
    let current = core.fold().lives().current(consumer);
    let held = |partition| {
        let ownership = core.fold().ownership(partition);
        let is_read = matches!(ownership, Ownership::Active { incarnation, .. } if Some(incarnation) == current);
        let lag = core.demand().table().get(partition).and_then(|rate| rate.lag);
        Held { is_read, next: ownership.next(), lag: lag.map(|(told, lag)| (lag.records, told)) }
    };
    let owners = core.fold().owners().filter(|(_, owner)| *owner == consumer);
    owners.map(|(partition, _)| (partition, held(partition))).collect()
}

/// False for a worker that is to end; one that ends to be started anew stays.
fn stays(config: &Config, consumer: ConsumerNumber, worker: &WorkerState) -> bool {
    let is_drained = config.consumers.drain.iter().any(|it| it.get() == consumer.get());
    !is_drained && !worker.spec.revision.is_empty()
}

/// Consumers whose process has been told to end by somebody else: it waits until its partitions have left.
pub(super) fn ending(
    core: &Controller,
    workers: &BTreeMap<ConsumerNumber, WorkerState>,
) -> BTreeSet<ConsumerNumber> {
    let lives = core.fold().lives();
    let family = |consumer| Some(lives.get(lives.current(consumer)?)?.process.family());
    let is_ending = |(consumer, worker): &(&ConsumerNumber, &WorkerState)| {
        worker.ending.is_some() && worker.ending == family(**consumer)
    };
    workers.iter().filter(is_ending).map(|(consumer, _)| *consumer).collect()
}

/// Consumers that are to go.
fn drained(config: &Config) -> BTreeSet<ConsumerNumber> {
    config.consumers.drain.iter().filter_map(|it| ConsumerNumber::new(it.get())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(topics: &str, drain: &str) -> GroupSpec {
        let yaml = format!(
            "{{group: g, cluster: {{bootstrapServers: 'b:1'}}, topics: [{topics}], consumers: {{drain: [{drain}]}}}}"
        );
        GroupSpec::parse(&yaml, &BTreeMap::new()).unwrap()
    }

    fn worker(spec: &GroupSpec, phase: Phase) -> WorkerState {
        let spec = WorkerSpec::new(&spec.for_consumers(), "");
        WorkerState { starts: 1, ..WorkerState::new(phase, spec) }
    }

    #[test]
    fn time_in_which_workers_are_away_does_not_count() {
        let mut away = Away::default();
        let [mut seen, at] = [Vec::new(), vec![0, 10, 30, 50, 60, 90]];
        for second in at {
            let now = Instant::since_boot(Duration::from_secs(second));
            away.note(now, (10..50).contains(&second));
            seen.push(away.clock(now).since(Instant::since_boot(Duration::ZERO)).as_secs());
        }
        assert_eq!(seen, [0, 10, 10, 10, 20, 50]);
    }

    #[test]
    fn a_topic_waits_until_all_know_it_who_are_to_stay() {
        let old = spec("{name: orders, sink: 'blackhole:'}", "");
        let more = "{name: orders, sink: 'blackhole:'}, {name: clicks, sink: 'blackhole:'}";
        let (new, draining) = (spec(more, ""), spec(more, "1"));
        let config = new.validate().unwrap();
        let mut rolling = Rolling::new(String::new(), &new, &config, None);
        let [one, two] = [1, 2].map(|number| ConsumerNumber::new(number).unwrap());
        let mut workers = BTreeMap::from([
            (one, worker(&old, Phase::Running)),
            (two, worker(&new, Phase::Running)),
        ]);
        rolling.see(&workers);
        let mut is_read = |topic, config: &Config, workers: &BTreeMap<_, _>| {
            rolling.see(workers);
            rolling.is_read_by_all(topic, config, workers)
        };
        assert!(is_read("orders", &config, &workers));
        assert!(!is_read("clicks", &config, &workers), "consumer 1 has no sink for it");
        assert!(is_read("clicks", &draining.validate().unwrap(), &workers), "it is to go");
        workers.insert(one, worker(&old, Phase::Stopping));
        assert!(!is_read("clicks", &config, &workers), "its pod may come back");
        let ending = WorkerState { spec: WorkerSpec::default(), ..workers[&one].clone() };
        workers.insert(one, ending);
        assert!(is_read("clicks", &config, &workers), "it ends");
        workers.insert(one, worker(&new, Phase::Running));
        assert!(is_read("clicks", &config, &workers));
    }
}

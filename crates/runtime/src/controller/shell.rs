//! The loop itself: waits for what comes next, hands it to the state machine, and performs the effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidegate_core::controller::{Controller, Effect, Input, Note, Role, WorkerView};
use tidegate_core::ids::{ConsumerNumber, Generation, Instant, Offset, ProcessId, TopicId};
use tidegate_wire::PartitionRates;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::calls::{self, Call, Commands, Outcome};
use super::catalog::Catalog;
use super::keeper::{self, KeeperHandle, News, Wish};
use super::measures;
use super::notes;
use super::rolling::Rolling;
use super::starts::Starts;
use super::status::{self, History};
use crate::codec;
use crate::follow::Followed;
use crate::live;
use crate::ports::{
    Admin, Clock, ControlLog, ControlReader, Offsets, Overrides, Phase, Rates, RawRecord,
    ReadError, WorkerChange, WorkerState, Workers,
};
use crate::settings;
use crate::spec::{Config, Faults, GroupSpec};
use crate::task::{self, TaskError};
use crate::telemetry::metrics::ControllerMetrics;
use crate::topics;

/// Time between two looks at what time alone brings.
const TICK: Duration = Duration::from_millis(100);

/// Rates that are older than this when read say nothing about now: the monitor was away.
const RATES_MAX_AGE_MS: u64 = 60_000;

/// Who this process is.
#[derive(Clone, Debug)]
pub struct Start {
    /// This run.
    pub process: ProcessId,
    /// A random part of a second that this process waits longer than others before it stands for election.
    pub jitter: Duration,
    /// Whether it is chosen to lead, so that it waits for no silence of whoever leads.
    pub deposes: watch::Receiver<bool>,
    /// Names what workers run where their specification does not: the version of the program that is started.
    pub program: String,
    /// The revision that a process before this one has taken back, and why.
    pub refused: Option<(String, String)>,
    /// Finds what is wrong with a specification beyond itself.
    pub check: live::Check,
    /// Whether the workers end with the controller; otherwise they go on without it.
    pub end_workers: bool,
}

/// The world of a controller.
#[derive(Debug)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The topic whose partition 0 is the ledger.
    pub ledger: Arc<dyn ControlLog>,
    /// The topic with the command partitions; the ledger's unless the spec separates them.
    pub commands: Arc<dyn ControlLog>,
    /// What the monitor says.
    pub rates: Box<dyn Rates>,
    /// What an operator says.
    pub overrides: Box<dyn Overrides>,
    /// Topics.
    pub admin: Arc<dyn Admin>,
    /// The group's offsets, and the logs' bounds.
    pub offsets: Arc<dyn Offsets>,
    /// What runs the consumers.
    pub workers: Box<dyn Workers>,
    /// What is counted.
    pub metrics: ControllerMetrics,
}

/// Why a controller ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The specification cannot be used.
    #[error("the specification is faulty")]
    Spec(#[source] Faults),
    /// The ledger is another group's.
    #[error(
        "the ledger in topic {topic} belongs to another group: give this group a controller topic of its own"
    )]
    ForeignLedger {
        /// The topic.
        topic: String,
    },
    /// The ledger cannot be read and will not be by waiting.
    #[error("the ledger in topic {topic} cannot be read on")]
    Ledger {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: crate::ports::Error,
    },
    /// A task died.
    #[error("a task of the controller ended")]
    Task(#[source] TaskError),
    /// The keeper of the workers failed.
    #[error("the keeper of the workers ended")]
    Keeper(#[source] task::Failure),
}

/// Runs a controller until `stop` is cancelled, or until it cannot go on. It begins once it has read what the service topic sets, and
/// follows that and the specification from then on.
pub async fn run(
    specs: watch::Receiver<GroupSpec>,
    start: Start,
    ports: Ports,
    status: watch::Sender<tidegate_wire::Status>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let followed = tokio::select! {
        followed = Followed::begin(specs, ports.overrides, start.check) => followed,
        () = stop.cancelled() => return Ok(()),
    };
    let followed = followed.map_err(Error::Spec)?;
    let config = Arc::clone(followed.live().config());
    let stop_keeper = CancellationToken::new();
    let (keeper, task) = keeper::keeper(ports.workers, start.end_workers, stop_keeper.clone());
    let keeper_task = task::spawn_named("workers", task);
    let now = ports.clock.now();
    let generation = Generation(ports.clock.unix_ms() / 1000);
    let deposes = *start.deposes.borrow();
    let settings = settings::controller(&config, start.jitter, deposes, generation);
    let starts =
        Starts::new(Arc::clone(&config), Arc::clone(&ports.admin), Arc::clone(&ports.offsets));
    let shell = Shell {
        core: Controller::new(settings, config.group.clone(), start.process, now),
        commands: Arc::new(Commands::new(
            ports.commands,
            Arc::clone(&ports.admin),
            config.control_topics.controller.clone(),
        )),
        process: start.process,
        clock: ports.clock,
        ledger: ports.ledger,
        rates: ports.rates,
        starts: Arc::new(starts),
        started: BTreeSet::new(),
        admin: ports.admin,
        offsets: ports.offsets,
        keeper,
        calls: FuturesUnordered::new(),
        ledger_reader: None,
        inputs: VecDeque::new(),
        catalog: Catalog::default(),
        workers: BTreeMap::new(),
        are_workers_known: false,
        postponed: BTreeSet::new(),
        unread: BTreeSet::new(),
        asked: BTreeMap::new(),
        history: History::default(),
        metrics: ports.metrics,
        status,
        refused: None,
        rolling: Rolling::new(start.program, followed.live().spec(), &config, start.refused),
        followed,
        jitter: start.jitter,
        deposes: start.deposes,
        genesis: generation,
    };
    let ran = shell.run(stop).await;
    stop_keeper.cancel();
    keeper_task.await.map_err(Error::Task)?.map_err(Error::Keeper)?;
    ran
}

pub(super) struct Shell {
    pub(super) followed: Followed,
    pub(super) rolling: Rolling,
    pub(super) jitter: Duration,
    pub(super) deposes: watch::Receiver<bool>,
    pub(super) genesis: Generation,
    pub(super) process: ProcessId,
    pub(super) core: Controller,
    pub(super) clock: Arc<dyn Clock>,
    ledger: Arc<dyn ControlLog>,
    commands: Arc<Commands>,
    rates: Box<dyn Rates>,
    admin: Arc<dyn Admin>,
    offsets: Arc<dyn Offsets>,
    pub(super) starts: Arc<Starts>,
    /// The topics of which partitions had been granted when this controller took the office.
    started: BTreeSet<TopicId>,
    keeper: KeeperHandle,
    pub(super) calls: FuturesUnordered<Call>,
    ledger_reader: Option<Box<dyn ControlReader>>,
    pub(super) inputs: VecDeque<Input>,
    pub(super) catalog: Catalog,
    pub(super) workers: BTreeMap<ConsumerNumber, WorkerState>,
    /// They have been listed once.
    pub(super) are_workers_known: bool,
    /// Workers that were asked for before that: most of them will turn out to be there.
    postponed: BTreeSet<ConsumerNumber>,
    /// Topics that were left because not everybody knows where their records go.
    pub(super) unread: BTreeSet<TopicId>,
    /// When a worker was asked for whose consumer has not said Hello since.
    asked: BTreeMap<ConsumerNumber, Instant>,
    pub(super) history: History,
    metrics: ControllerMetrics,
    status: watch::Sender<tidegate_wire::Status>,
    refused: Option<Error>,
}

impl Shell {
    async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        self.calls.push(Arc::clone(&self.starts).look());
        self.calls.push(calls::open_ledger(Arc::clone(&self.ledger), false));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut publish = tokio::time::interval(Duration::from_secs(1));
        loop {
            // Cancel-safe: each branch takes its message and returns it in one poll; an unfinished call stays where it is.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => self.inputs.push_back(Input::Tick),
                Some(outcome) = self.calls.next(), if !self.calls.is_empty() => self.take(outcome),
                Some(news) = self.keeper.news.recv() => self.take_news(news),
                records = next_records(&mut self.ledger_reader) => self.take_ledger(records),
                rates = self.rates.next() => rates.into_iter().for_each(|rates| self.take_rates(&rates)),
                () = self.followed.changed() => self.respecified(),
                Ok(()) = self.deposes.changed() => self.resettle(),
                _ = publish.tick() => {
                    self.roll();
                    self.publish();
                }
            }
            self.step();
            if let Some(error) = self.refused.take() {
                return Err(error);
            }
        }
    }

    // === inputs ===

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Input(input) => self.inputs.push_back(input),
            Outcome::Ledger(Ok((start, reader))) => {
                self.ledger_reader = Some(reader);
                self.inputs.push_back(Input::LedgerOpened(Offset(start)));
            }
            Outcome::Ledger(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to read the ledger; it is tried again"
                );
                self.calls.push(calls::open_ledger(Arc::clone(&self.ledger), true));
            }
            Outcome::Worker(consumer) => {
                // Who leads no more asks for nothing: another one plans.
                if self.is_leading() {
                    self.wish(Wish::Run(consumer, self.rolling.for_new()));
                }
            }
        }
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::List(list) => {
                for consumer in list.keys() {
                    self.inputs.push_back(Input::Worker(WorkerView {
                        consumer: *consumer,
                        exists: true,
                        died: None,
                    }));
                }
                for consumer in std::mem::take(&mut self.postponed) {
                    if !list.contains_key(&consumer) {
                        let view = WorkerView { consumer, exists: false, died: None };
                        self.inputs.push_back(Input::Worker(view));
                    }
                }
                self.rolling.see(&list);
                self.workers = list;
                self.are_workers_known = true;
                self.roll();
            }
            News::Reachable(is_reachable) => {
                self.rolling.reach(self.clock.now(), is_reachable);
                self.roll();
            }
            News::Change(WorkerChange { consumer, phase, died, detail }) => {
                tracing::info!(%consumer, ?phase, detail, "a worker has changed");
                let view = WorkerView {
                    consumer,
                    exists: phase != Phase::Gone,
                    died: died.map(|(process, _)| process),
                };
                self.inputs.push_back(Input::Worker(view));
            }
        }
    }

    fn take_ledger(&mut self, records: Result<Vec<RawRecord>, ReadError>) {
        let error = match records {
            Ok(records) => {
                let decode =
                    |record: &RawRecord| (Offset(record.offset), codec::entry(record).ok());
                self.inputs.push_back(Input::Ledger(records.iter().map(decode).collect()));
                return;
            }
            Err(error) => error,
        };
        match error {
            ReadError::Failed(source) => {
                let topic = self.config().control_topics.ledger().to_owned();
                self.refused = Some(Error::Ledger { topic, source });
                return;
            }
            ReadError::Trimmed(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "this process has fallen behind the ledger and begins at a snapshot"
            ),
            ReadError::Lost(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the ledger has lost records: grants halt, and a new generation begins"
                );
                self.inputs.push_back(Input::LedgerLost);
            }
        }
        self.ledger_reader = None;
        self.calls.push(calls::open_ledger(Arc::clone(&self.ledger), true));
    }

    fn take_rates(&mut self, rates: &PartitionRates) {
        let age = self.clock.unix_ms().saturating_sub(rates.sampled_unix_ms);
        if age > RATES_MAX_AGE_MS || self.config().topic(&rates.topic).is_none() {
            return;
        }
        self.catalog.learn(rates.topic_id, &rates.topic);
        // A topic that was added waits until everybody knows its sink.
        if !self.is_read_by_all(rates.topic_id, &rates.topic) {
            return;
        }
        self.unread.remove(&rates.topic_id);
        self.inputs.push_back(Input::Rates(rates.topic_id, rates.report()));
    }

    fn step(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let began = self.clock.now();
            let effects = self.core.step(began, input);
            if effects.iter().any(measures::is_decision) {
                let took = self.clock.now().since(began);
                self.metrics.plan_duration_seconds.observe(took.as_secs_f64());
            }
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    // === effects ===

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Append(entry) => {
                self.calls.push(calls::append(Arc::clone(&self.ledger), &entry));
            }
            Effect::Command(consumer, command) => {
                self.calls.push(calls::command(Arc::clone(&self.commands), consumer, &command));
            }
            Effect::FetchLedgerEnd(id) => {
                self.calls.push(calls::ledger_end(Arc::clone(&self.ledger), id));
            }
            Effect::LookForTraces => {
                let (admin, offsets) = (Arc::clone(&self.admin), Arc::clone(&self.offsets));
                let workers = self.workers.len();
                let config = self.shared_config();
                self.calls.push(calls::traces(admin, offsets, config, workers));
            }
            Effect::Trim(consumer, below) => {
                let log = if consumer.is_some() { &self.commands.log } else { &self.ledger };
                self.calls.push(calls::trim(Arc::clone(log), consumer, below));
            }
            Effect::CheckTopics(topics) => {
                let named = self.catalog.named(&topics);
                let (admin, config) = (Arc::clone(&self.admin), self.shared_config());
                self.calls.push(calls::check_topics(admin, config, topics, named));
            }
            Effect::ResolveStarts(partitions) => {
                let partitions = self.catalog.known(&partitions);
                let started = self.started.clone();
                self.calls.push(Arc::clone(&self.starts).resolve(partitions, started));
            }
            Effect::AskSteering => {
                self.rolling.resume();
                self.roll();
            }
            Effect::EnsureWorker(consumer) if !self.are_workers_known => {
                self.postponed.insert(consumer);
            }
            Effect::EnsureWorker(consumer) => {
                if self.core.fold().lives().current(consumer).is_none() {
                    self.asked.insert(consumer, self.clock.now());
                }
                let commands = Arc::clone(&self.commands);
                self.calls.push(calls::worker(commands, consumer));
            }
            Effect::RemoveWorker(consumer) => {
                self.asked.remove(&consumer);
                if !self.postponed.remove(&consumer) {
                    self.wish(Wish::End(consumer));
                }
            }
            Effect::RefuseLedger => {
                let topic = self.config().control_topics.ledger().to_owned();
                self.refused = Some(Error::ForeignLedger { topic });
            }
            Effect::Note(note) => self.note(&note),
        }
    }

    pub(super) fn config(&self) -> &Config {
        self.followed.live().config()
    }

    pub(super) fn shared_config(&self) -> Arc<Config> {
        Arc::clone(self.followed.live().config())
    }

    /// Before consumers wait for it.
    pub(super) fn grow_commands(&mut self) {
        let consumers = topics::commands(self.config());
        self.calls.push(calls::grow(Arc::clone(&self.commands), consumers));
    }

    pub(super) fn is_leading(&self) -> bool {
        matches!(self.core.role(), Role::Leading { .. })
    }

    pub(super) fn wish(&self, wish: Wish) {
        if let Err(error) = self.keeper.wishes.try_send(wish) {
            tracing::error!(%error, "the keeper of the workers takes no wishes");
        }
    }

    fn note(&mut self, note: &Note) {
        match note {
            Note::Leading(true) => {
                self.wish(Wish::Lead(true));
                self.grow_commands();
                self.started = self.core.fold().partitions().map(|(id, _)| id.topic).collect();
            }
            Note::Leading(false) => {
                self.asked.clear();
                self.postponed.clear();
                self.wish(Wish::Lead(false));
            }
            Note::Joined(consumer, _) => {
                if let Some(asked) = self.asked.remove(consumer) {
                    let took = self.clock.now().since(asked);
                    self.metrics.worker_start_duration_seconds.observe(took.as_secs_f64());
                }
            }
            _ => {}
        }
        notes::log(note, &self.catalog);
        measures::count(&self.metrics, note);
        let at_unix_ms = self.clock.unix_ms();
        self.history.note(note, at_unix_ms);
    }

    fn publish(&mut self) {
        let status = status::of(self);
        measures::gauges(&self.metrics, &status);
        self.status.send_replace(status);
    }
}

async fn next_records(
    reader: &mut Option<Box<dyn ControlReader>>,
) -> Result<Vec<RawRecord>, ReadError> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

//! The monitor's loop: one round of samples a period, and one record a topic to the monitor topic.
//!
//! A round that fails leaves its partitions missing, which is said; a period that was missed is not made up for.

mod batches;
mod face;
mod shrinking;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tidegate_core::ids::{Instant, Position, TopicId};
use tidegate_core::rates::{self, Sample, TopicReport, TopicRound};
use tidegate_wire::{PartitionRates, RatesOf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::batches::Batches;
use self::face::Face;
pub use self::face::Shown;
use self::shrinking::Shrinking;
use crate::codec;
use crate::follow;
use crate::ports::{
    Admin, AppendError, Clock, ControlLog, LogSizes, MeasuredTopic, PartitionSample, Round,
};
use crate::settings;
use crate::spec::Config;

/// Reports whose acknowledgements are waited for together. One at a time, a thousand topics would be more than a period of
/// round trips; all at once, they would all be in memory in their encoded form.
const REPORTS_AT_ONCE: usize = 32;

/// The world of a monitor.
#[derive(Debug)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is measured.
    pub sizes: Box<dyn LogSizes>,
    /// The monitor topic.
    pub log: Arc<dyn ControlLog>,
    /// The settings of the topics that are measured.
    pub admin: Arc<dyn Admin>,
}

/// Runs a monitor until `stop` is cancelled. Topics that are added to the specification are measured from then on.
pub async fn run(
    mut configs: watch::Receiver<Arc<Config>>,
    ports: Ports,
    shown: Shown,
    stop: CancellationToken,
) {
    let config = Arc::clone(&configs.borrow_and_update());
    let mut monitor = Monitor::new(config, ports, shown);
    let mut periods = tokio::time::interval(monitor.config.monitor.period);
    periods.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        // Cancel-safe: nothing is taken that could be lost.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            config = follow::next(&mut configs) => {
                monitor.config = config;
                continue;
            }
            _ = periods.tick() => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = monitor.round() => {}
        }
    }
}

/// A topic as the last rounds saw it.
#[derive(Clone, Debug)]
struct Seen {
    name: String,
    /// When the topics were last listed without this one.
    absent_at: Option<Instant>,
}

/// Samples, measures and publishes.
#[derive(Debug)]
pub struct Monitor {
    config: Arc<Config>,
    ports: Ports,
    core: rates::Monitor,
    face: Face,
    seen: BTreeMap<TopicId, Seen>,
    last_listing: Option<Instant>,
    shrinking: Shrinking,
    batches: Batches,
}

impl Monitor {
    /// A monitor that has seen nothing.
    pub fn new(config: Arc<Config>, ports: Ports, shown: Shown) -> Self {
        let core = rates::Monitor::new(settings::monitor(&config));
        let face = Face::new(shown, config.group.0.clone());
        Self {
            config,
            ports,
            core,
            face,
            seen: BTreeMap::new(),
            last_listing: None,
            shrinking: Shrinking::default(),
            batches: Batches::default(),
        }
    }

    /// One round, published: what there was to publish.
    pub async fn round(&mut self) -> Vec<PartitionRates> {
        let measured = self.measure().await;
        for reports in measured.chunks(REPORTS_AT_ONCE) {
            // They enter the log's queue in their order, and are acknowledged together.
            let log = &self.ports.log;
            let append = |rates| {
                let records = codec::of_rates(rates).into_iter();
                records.map(move |record| async move { (rates, log.append(0, record).await) })
            };
            for (rates, published) in join_all(reports.iter().flat_map(append)).await {
                self.note_published(rates, published);
            }
        }
        self.warn_of_shrinking(&measured).await;
        measured
    }

    /// Warns of measured topics whose logs shrink, where only the sizes of logs count. Asks the cluster now and then: call it when
    /// nobody waits for the rates any more.
    pub async fn warn_of_shrinking(&mut self, measured: &[PartitionRates]) {
        if self.config.monitor.log_sizes_only {
            let topics = measured.iter().map(|rates| rates.topic.as_str());
            self.shrinking.warn_of(&*self.ports.admin, topics).await;
        }
    }

    fn note_published(&self, rates: &PartitionRates, published: Result<u64, AppendError>) {
        self.face.published(published.is_ok());
        if let Err(error) = published {
            let topic = &rates.topic;
            tracing::warn!(
                topic,
                error = &error as &dyn std::error::Error,
                "failed to publish rates"
            );
        }
    }

    /// One round: what there is to publish.
    pub async fn measure(&mut self) -> Vec<PartitionRates> {
        let began = self.ports.clock.now();
        let round = match self.ports.sizes.sample(&self.config.topic_patterns()).await {
            Ok(round) => round,
            Err(error) => {
                self.face.failed(error.class());
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to sample the topics"
                );
                return Vec::new();
            }
        };
        self.tell(&round);
        let permitted = round.log_sizes_permitted;
        let reports = self.reports(round).await;
        let took = self.ports.clock.now().since(began);
        self.face.round(&reports, took, permitted, self.ports.clock.unix_ms());
        reports
    }

    async fn reports(&mut self, round: Round) -> Vec<PartitionRates> {
        let now = self.ports.clock.now();
        let listed_at = now.before(round.metadata_age);
        let topics: Vec<MeasuredTopic> = round
            .topics
            .into_iter()
            .filter(|topic| self.config.topic(&topic.name).is_some())
            .collect();
        self.note_topics(&topics, listed_at);
        let partitions: BTreeMap<_, _> =
            topics.iter().map(|topic| (topic.id, topic.partitions)).collect();
        let sampled_unix_ms = self.ports.clock.unix_ms();
        let rounds = topics.iter().map(|topic| (topic.id, self.topic_round(listed_at, topic)));
        let rounds = rates::Round { topics: rounds.collect() };
        if !round.log_sizes_permitted && !self.config.monitor.log_sizes_only {
            let name = |topic: TopicId| self.seen.get(&topic).map(|seen| seen.name.clone());
            for (partition, batch) in
                self.batches.look(&mut *self.ports.sizes, name, now, &rounds).await
            {
                self.core.learn(partition, batch);
            }
        }
        let reports = self.core.step(now, &rounds);
        let record = |(topic_id, report): (TopicId, TopicReport)| {
            let topic = self.seen.get(&topic_id)?.name.clone();
            let partitions = *partitions.get(&topic_id)?;
            let of = RatesOf { topic, topic_id, partitions, sampled_unix_ms };
            Some(PartitionRates::of(of, report))
        };
        reports.into_iter().filter_map(record).collect()
    }

    fn tell(&self, round: &Round) {
        for failure in &round.failures {
            self.face.failed(failure.error.class());
            tracing::warn!(
                broker = failure.broker,
                error = &failure.error as &dyn std::error::Error,
                "a broker was not sampled"
            );
        }
    }

    fn note_topics(&mut self, topics: &[MeasuredTopic], listed_at: Instant) {
        // Nothing is forgotten: a topic that a broker failed to list for once must not count as new when it is back.
        for topic in topics {
            let absent_at = self.last_listing;
            self.seen
                .entry(topic.id)
                .or_insert_with(|| Seen { name: topic.name.clone(), absent_at });
        }
        self.last_listing = Some(listed_at);
    }

    fn topic_round(&self, listed_at: Instant, topic: &MeasuredTopic) -> TopicRound {
        // Both in order, so that nothing is looked up.
        let mut samples = topic.samples.range(..topic.partitions).peekable();
        let sample = |number: u32| {
            let found = samples.next_if(|(sampled, _)| **sampled == number);
            (number, found.map(|(_, sample)| to_core(*sample)))
        };
        TopicRound {
            listed_at,
            absent_at: self.seen.get(&topic.id).and_then(|seen| seen.absent_at),
            partitions: (0..topic.partitions).map(sample).collect(),
        }
    }
}

fn to_core(sample: PartitionSample) -> Sample {
    Sample {
        high_watermark: Position(sample.high_watermark),
        log_start: Position(sample.log_start),
        size: sample.size,
        leader: sample.leader,
    }
}

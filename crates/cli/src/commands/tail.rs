//! `tidegate tail`: the messages of the control topics, decoded, as they come.
//!
//! Each partition has a task that reads it; what they read goes to the printer in the order of arrival, which is that
//! of the offsets within each partition. The controller topic grows with the group: new partitions are found and
//! followed from their beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidegate_core::ids::TopicId;
use tidegate_kafka::Kafka;
use tidegate_runtime::ports::{Admin, ControlLog, RawRecord, ReadError};
use tidegate_runtime::spec::Config;
use tidegate_runtime::task::TaskSet;
use tokio::sync::mpsc;

use super::message::Message;
use crate::args::{TailArgs, TailTopics};
use crate::failure::Exit;
use crate::output::Output;
use crate::setup::{self, Patience};
use crate::signals::Signals;
use crate::wiring;

/// Messages that may wait to be printed.
const QUEUE: usize = 1024;

/// Time between two looks for new partitions.
const LOOK: Duration = Duration::from_secs(5);

/// Pause before a partition that could not be read is read again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the readers may take to end.
const END: Duration = Duration::from_secs(1);

/// Names of topics by id, as of the last look; a topic that was made since is shown by its id.
type TopicNames = RwLock<BTreeMap<TopicId, String>>;

pub(super) async fn run(
    args: TailArgs,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let config = setup::load_config(&args.spec)?;
    let kafka = setup::connect(&config.cluster, "tidegate-tail", Patience::Command).await?;
    wiring::check_topics(&*kafka.admin(), &config).await?;
    let (sender, mut messages) = mpsc::channel(QUEUE);
    let mut follower = Follower {
        logs: logs(&kafka, &config, args.topics)?,
        admin: kafka.admin(),
        followed: BTreeSet::new(),
        tasks: TaskSet::new(),
        names: Arc::default(),
        sender: (!args.until_end).then(|| sender.clone()),
    };
    follower.look(&sender, !args.from_beginning, args.until_end).await?;
    drop(sender);
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            () = signals.next() => break,
            message = messages.recv() => match message {
                Some(message) => message.print(output)?,
                None => break,
            },
            _ = looks.tick() => {
                if let Some(sender) = follower.sender.clone() {
                    follower.look(&sender, false, false).await?;
                }
            }
        }
    }
    drop(messages);
    drop(follower.tasks.shut_down(END).await);
    Ok(Exit::Done)
}

fn logs(
    kafka: &Kafka,
    config: &Config,
    which: TailTopics,
) -> anyhow::Result<Vec<(String, Arc<dyn ControlLog>)>> {
    let topics = &config.control_topics;
    let is_wanted = |name: &str| match which {
        TailTopics::All => true,
        TailTopics::Monitor => name == topics.monitor,
        TailTopics::Controller => name == topics.controller || name == topics.ledger(),
        TailTopics::Service => name == topics.service,
    };
    let names = topics.names().filter(|name| is_wanted(name));
    names.map(|name| Ok((name.to_owned(), wiring::control_log(kafka, config, name)?))).collect()
}

// === reading ===

/// Follows all partitions of some topics.
struct Follower {
    logs: Vec<(String, Arc<dyn ControlLog>)>,
    admin: Arc<dyn Admin>,
    followed: BTreeSet<(String, u32)>,
    tasks: TaskSet,
    names: Arc<TopicNames>,
    /// For partitions that are found later; absent when only those of the start are read.
    sender: Option<mpsc::Sender<Message>>,
}

impl Follower {
    /// Begins with the partitions that are not followed yet: at their end, or at their beginning.
    async fn look(
        &mut self,
        sender: &mpsc::Sender<Message>,
        from_end: bool,
        until_end: bool,
    ) -> anyhow::Result<()> {
        let names: Vec<String> = self.logs.iter().map(|(name, _)| name.clone()).collect();
        let topics = self.admin.describe(&names).await?;
        let listed = self.admin.list().await?;
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = listed;
        for (name, log) in &self.logs {
            let topic = topics.iter().find(|topic| topic.name == *name);
            for number in 0..topic.map_or(0, |topic| topic.partitions) {
                if !self.followed.insert((name.clone(), number)) {
                    continue;
                }
                let end = log.end(number).await?;
                let start = if from_end { end } else { log.start(number).await? };
                let (log, names) = (Arc::clone(log), Arc::clone(&self.names));
                let partition = Partition { topic: name.clone(), number, log, names };
                let (sender, end) = (sender.clone(), until_end.then_some(end));
                self.tasks.spawn(format!("tail-{name}-{number}"), async move {
                    partition.follow(start, end, sender).await;
                    Ok(())
                });
            }
        }
        Ok(())
    }
}

/// One partition of a control topic.
struct Partition {
    topic: String,
    number: u32,
    log: Arc<dyn ControlLog>,
    names: Arc<TopicNames>,
}

impl Partition {
    /// Reads up to an end, or for ever, or until nobody listens.
    async fn follow(&self, mut next: u64, end: Option<u64>, sender: mpsc::Sender<Message>) {
        while end.is_none_or(|end| next < end) && !sender.is_closed() {
            if let Err(error) = self.read(&mut next, end, &sender).await {
                if matches!(error, ReadError::Trimmed(_) | ReadError::Lost(_)) {
                    next = self.log.start(self.number).await.unwrap_or(next);
                }
                let (topic, partition) = (&self.topic, self.number);
                tracing::warn!(
                    topic,
                    partition,
                    error = &error as &dyn std::error::Error,
                    "reading failed; it is tried again"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn read(
        &self,
        next: &mut u64,
        end: Option<u64>,
        sender: &mpsc::Sender<Message>,
    ) -> Result<(), ReadError> {
        let mut reader = self.log.read(self.number, *next).await.map_err(ReadError::Failed)?;
        while end.is_none_or(|end| *next < end) {
            for record in reader.next().await? {
                *next = record.offset + 1;
                let is_late = end.is_some_and(|end| record.offset >= end);
                if !is_late && sender.send(self.message(&record)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn message(&self, record: &RawRecord) -> Message {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        Message::of((&self.topic, self.number), record, &names)
    }
}

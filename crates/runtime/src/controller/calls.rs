//! Calls to Kafka, each ending in an input for the state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_core::controller::Input;
use tidegate_core::ids::{ConsumerNumber, Offset, PartitionId, TopicId};
use tidegate_core::ledger::{Command, Entry};
use tokio::sync::Mutex;

use super::starts;
use crate::codec;
use crate::ports::{Admin, AppendError, ControlLog, ControlReader, Error, Offsets, TopicPartition};
use crate::spec::Config;

/// What a call came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Something for the state machine.
    Input(Input),
    /// The ledger is read from this offset on; or it could not be, and is tried again.
    Ledger(Result<(u64, Box<dyn ControlReader>), Error>),
    /// A worker can be started: its command partition exists.
    Worker(ConsumerNumber),
    /// Nothing more to do.
    Nothing,
}

pub(super) type Call = BoxFuture<'static, Outcome>;

/// Longest time for one call to Kafka.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before a log that could not be opened is tried again.
const REOPEN: Duration = Duration::from_secs(1);

/// Command partitions that are made beyond the one that is needed, so that a growing group does not alter the topic at
/// every step.
const HEADROOM: u32 = 8;

fn warn(error: &(dyn std::error::Error + 'static), doing: &str) {
    tracing::warn!(error, "{doing}");
}

/// Appends to the ledger; what was not read back is sent again by the state machine.
pub(super) fn append(ledger: Arc<dyn ControlLog>, entry: &Entry) -> Call {
    let record = codec::of_entry(entry);
    Box::pin(async move {
        if let Err(error) = ledger.append(0, record).await {
            warn(&error, "failed to append to the ledger");
        }
        Outcome::Nothing
    })
}

/// Fetches the ledger's end.
pub(super) fn ledger_end(ledger: Arc<dyn ControlLog>, id: u64) -> Call {
    Box::pin(async move {
        let end = match tokio::time::timeout(CALL_TIMEOUT, ledger.end(0)).await {
            Ok(Ok(end)) => Some(Offset(end)),
            Ok(Err(error)) => {
                warn(&error, "failed to fetch the end of the ledger");
                None
            }
            Err(late) => {
                warn(&late, "failed to fetch the end of the ledger");
                None
            }
        };
        Outcome::Input(Input::LedgerEnd(id, end))
    })
}

/// Reads the ledger from its start.
pub(super) fn open_ledger(ledger: Arc<dyn ControlLog>, again: bool) -> Call {
    Box::pin(async move {
        pause(again).await;
        let opened = async {
            let start = ledger.start(0).await?;
            Ok((start, ledger.read(0, start).await?))
        };
        Outcome::Ledger(opened.await)
    })
}

/// Finds out whether the group has lived before: workers that are there, or offsets that it has committed. What cannot be
/// found out is asked again by the state machine.
pub(super) fn traces(
    admin: Arc<dyn Admin>,
    offsets: Arc<dyn Offsets>,
    config: Arc<Config>,
    workers: usize,
) -> Call {
    Box::pin(async move {
        if workers > 0 {
            return Outcome::Input(Input::Traces(true));
        }
        let committed = async {
            let partition = |topic: &str, id| TopicPartition { topic: topic.to_owned(), id };
            let topics = starts::existing(&*admin, &config).await?;
            let partitions: Vec<_> = topics
                .iter()
                .flat_map(|topic| {
                    let id = |number| PartitionId { topic: topic.id, number };
                    (0..topic.partitions).map(move |number| partition(&topic.name, id(number)))
                })
                .collect();
            offsets.committed(&config.group.0, &partitions).await
        };
        match tokio::time::timeout(CALL_TIMEOUT, committed).await {
            Ok(Ok(committed)) => Outcome::Input(Input::Traces(!committed.is_empty())),
            Ok(Err(error)) => {
                warn(&error, "failed to look for an earlier life of the group");
                Outcome::Nothing
            }
            Err(late) => {
                warn(&late, "failed to look for an earlier life of the group");
                Outcome::Nothing
            }
        }
    })
}

/// Finds out which topics do not exist any more under the id that is known of them, or are of no interest any more. What cannot
/// be found out counts as being there. A topic is asked for by name, so that a missing right is an error; one whose name this process has never
/// heard is looked for among all.
pub(super) fn check_topics(
    admin: Arc<dyn Admin>,
    config: Arc<Config>,
    topics: BTreeSet<TopicId>,
    named: BTreeMap<TopicId, String>,
) -> Call {
    Box::pin(async move {
        let is_read = |name: &str| config.topic(name).is_some();
        let names: Vec<String> = named.values().cloned().collect();
        let existing = async {
            let mut existing: BTreeSet<TopicId> = BTreeSet::new();
            if !names.is_empty() {
                let described = admin.describe(&names).await?.into_iter();
                existing.extend(described.filter(|it| is_read(&it.name)).map(|it| it.id));
            }
            if names.len() < topics.len() {
                let listed = admin.list().await?.into_iter();
                existing.extend(listed.filter(|(_, name)| is_read(name)).map(|(id, _)| id));
            }
            Ok::<_, Error>(existing)
        };
        match tokio::time::timeout(CALL_TIMEOUT, existing).await {
            Ok(Ok(existing)) => {
                let gone = topics.difference(&existing).copied().collect();
                Outcome::Input(Input::TopicsGone(gone))
            }
            Ok(Err(error)) => {
                warn(&error, "failed to look for topics that are not measured any more");
                Outcome::Nothing
            }
            Err(late) => {
                warn(&late, "failed to look for topics that are not measured any more");
                Outcome::Nothing
            }
        }
    })
}

/// Lets the broker delete what nobody needs. What fails is not tried again: the next snapshot cuts further.
pub(super) fn trim(
    log: Arc<dyn ControlLog>,
    consumer: Option<ConsumerNumber>,
    below: Offset,
) -> Call {
    Box::pin(async move {
        let partition = consumer.map_or(0, ConsumerNumber::get);
        if let Err(error) = log.trim(partition, below.0).await {
            warn(&error, "failed to trim a control topic");
        }
        Outcome::Nothing
    })
}

async fn pause(again: bool) {
    if again {
        tokio::time::sleep(REOPEN).await;
    }
}

/// The command partitions: grown before a consumer needs one.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) log: Arc<dyn ControlLog>,
    admin: Arc<dyn Admin>,
    topic: String,
    /// How many partitions are known to exist.
    partitions: Mutex<u32>,
}

impl Commands {
    pub(super) fn new(log: Arc<dyn ControlLog>, admin: Arc<dyn Admin>, topic: String) -> Self {
        Self { log, admin, topic, partitions: Mutex::new(0) }
    }

    /// Makes sure that the consumer's partition exists.
    async fn prepare(&self, consumer: ConsumerNumber) -> Result<(), Error> {
        self.grow(consumer.get()).await
    }

    /// The same for so many consumers.
    async fn grow(&self, consumers: u32) -> Result<(), Error> {
        let mut partitions = self.partitions.lock().await;
        let needed = consumers + 1;
        if *partitions >= needed {
            return Ok(());
        }
        let described = self.admin.describe(std::slice::from_ref(&self.topic)).await?;
        let existing = described.first().map_or(0, |topic| topic.partitions);
        if existing < needed {
            let grown = (needed + HEADROOM).max(existing.saturating_mul(2));
            self.admin.grow(&self.topic, grown).await?;
            tracing::info!(
                topic = self.topic,
                partitions = grown,
                "the controller topic has grown"
            );
            *partitions = grown;
        } else {
            *partitions = existing;
        }
        Ok(())
    }
}

/// Makes command partitions before they are needed. Where that fails, who needs one tries again.
pub(super) fn grow(commands: Arc<Commands>, consumers: u32) -> Call {
    Box::pin(async move {
        if let Err(error) = commands.grow(consumers).await {
            warn(&error, "failed to prepare command partitions");
        }
        Outcome::Nothing
    })
}

/// Sends a command.
pub(super) fn command(
    commands: Arc<Commands>,
    consumer: ConsumerNumber,
    command: &Command,
) -> Call {
    let record = codec::of_command(command);
    Box::pin(async move {
        if let Err(error) = commands.prepare(consumer).await {
            warn(&error, "failed to prepare a command partition");
        } else if let Err(error) = commands.log.append(consumer.get(), record).await {
            warn(&error, "failed to send a command");
            if matches!(error, AppendError::Refused(_)) {
                // The topic may have been made anew, with fewer partitions.
                *commands.partitions.lock().await = 0;
            }
        }
        Outcome::Nothing
    })
}

/// Makes a worker's command partition, and then lets it be started.
pub(super) fn worker(commands: Arc<Commands>, consumer: ConsumerNumber) -> Call {
    Box::pin(async move {
        while let Err(error) = commands.prepare(consumer).await {
            warn(&error, "failed to prepare a command partition; it is tried again");
            tokio::time::sleep(REOPEN).await;
        }
        Outcome::Worker(consumer)
    })
}

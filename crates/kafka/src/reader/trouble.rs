//! What is wrong when a partition cannot be read: librdkafka reports errors without their partition, and knows partitions
//! by name, so this module asks the brokers which is out of range, gone, or another topic's by now.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Bound, Class, Error, ReadEvent, TopicPartition};
use tokio::time::Instant;

use super::{Assigned, Command, KafkaReader};
use crate::errors::{self, Right};
use crate::list_offsets::{self, Isolation};
use crate::metadata::TopicMeta;
use crate::reader_thread::Trouble;

/// For how long a partition that looks out of range must give no record before it is said to be: what librdkafka had
/// fetched of it before the log was cut may still come.
pub(super) const QUIET: Duration = Duration::from_millis(200);

/// The shortest time from one client of librdkafka to the next for the sake of credentials. Each of its connections tells that it
/// was refused, also some that belong to the client before; and it tries again by itself, every ten seconds at least.
const RENEWAL: Duration = Duration::from_secs(10);

/// A partition that looks out of range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    generation: u64,
    next: Position,
    since: Instant,
}

impl KafkaReader {
    /// Asks the brokers which partitions an error is about. Cancel-safe: nothing changes before the last answer.
    pub(super) async fn diagnose(&mut self) {
        let Some(Trouble { error, of }) = self.troubles.front().cloned() else { return };
        let refused = errors::code_of(&error) == Some(Code::Authentication);
        if refused && self.cluster.tokens().is_some() {
            return self.prove_token().await;
        }
        let mut topics: BTreeMap<String, Vec<PartitionId>> = BTreeMap::new();
        for (id, assigned) in &self.assigned {
            topics.entry(assigned.partition.topic.clone()).or_default().push(*id);
        }
        let mut failed = Vec::new();
        for (topic, ids) in &topics {
            let outcome = self.cluster.look_up(topic).await;
            for id in ids {
                if let Some(error) = fault(&outcome, topic, *id) {
                    failed.push((*id, error));
                }
            }
        }
        let mut suspects = BTreeMap::new();
        if errors::code_of(&error) == Some(Code::AutoOffsetReset) {
            let Some(outside) = self.out_of_range().await else {
                // The client has stopped fetching the partition: nobody but this asks again.
                return tokio::time::sleep(QUIET).await;
            };
            suspects = outside;
        }
        self.troubles.pop_front();
        let is_known = |id: &PartitionId| {
            suspects.contains_key(id) || failed.iter().any(|(failed, _)| failed == id)
        };
        let explained = match &of {
            Some((id, _)) => is_known(id),
            None => !failed.is_empty() || !suspects.is_empty(),
        };
        if !explained {
            self.blame(&error, of.as_ref());
        }
        for (id, error) in failed {
            self.fail(id, error);
        }
        self.suspects.extend(suspects);
    }

    /// Where no partition is at fault by the brokers' answers: a missing right, for instance, shows in none of them. Without a
    /// word of librdkafka's on which it is, it may be any.
    fn blame(&mut self, error: &KafkaError, of: Option<&(PartitionId, String)>) {
        if errors::code_of(error) == Some(Code::AutoOffsetReset) {
            // The log has caught up; and the client has stopped fetching the partition.
            if let Some(assigned) = of.and_then(|(id, _)| self.assigned.get(id)) {
                let partition = assigned.partition.clone();
                self.thread.try_send(Command::Restart { partition });
            }
            return;
        }
        let ids: Vec<PartitionId> = match of {
            Some((id, _)) => vec![*id],
            None => self.assigned.keys().copied().collect(),
        };
        for id in ids {
            let Some(assigned) = self.assigned.get(&id) else { continue };
            let partition = assigned.partition.clone();
            let right = Right::topic("Read", &partition.topic);
            let words = of.map(|(_, words)| format!(" ({words})")).unwrap_or_default();
            let next = assigned.next.0;
            let doing = format!("failed to read partition {partition} from offset {next}{words}");
            let error = errors::library(doing, right, error.clone());
            self.ready.push_back(ReadEvent::Failed(partition, error));
        }
    }

    /// What librdkafka says of credentials may be about a bearer token that has ended or was revoked since, and passing failures
    /// of a token endpoint are no reason to stop. So this asks a broker whether it takes the token of now. If so, another
    /// client of librdkafka goes on with it: this one would keep its own for most of that token's time. Cancel-safe: nothing
    /// changes before the command is sent, and that only begins what would be begun again.
    async fn prove_token(&mut self) {
        let mut outcome = self.cluster.authenticate().await;
        let is_due = self.renewed.is_none_or(|renewed| renewed.elapsed() >= RENEWAL);
        if outcome.is_ok() && is_due {
            outcome = self.thread.send(Command::Renew).await;
            self.renewed = Some(Instant::now());
        }
        self.troubles.pop_front();
        let Err(error) = outcome else { return };
        if error.class() == Class::Transient {
            tracing::debug!(%error, "reading goes on by itself");
            return;
        }
        for assigned in self.assigned.values() {
            let error = Error::new(error.class(), error.to_string()).coded(error.code());
            self.ready.push_back(ReadEvent::Failed(assigned.partition.clone(), error));
        }
    }

    /// The partitions whose position is outside of their logs; `None` when the brokers do not tell.
    async fn out_of_range(&self) -> Option<BTreeMap<PartitionId, Suspect>> {
        let keys: Vec<(String, u32)> = self
            .assigned
            .values()
            .map(|assigned| (assigned.partition.topic.clone(), assigned.partition.id.number))
            .collect();
        let isolation = Isolation::ReadUncommitted;
        let bounds = |bound| list_offsets::of_partitions(&self.cluster, &keys, bound, isolation);
        let (starts, ends) = tokio::join!(bounds(Bound::Earliest), bounds(Bound::Latest));
        let (Ok(starts), Ok(ends)) = (starts, ends) else { return None };
        let since = Instant::now();
        let outside = self.assigned.iter().filter_map(|(id, assigned)| {
            let key = (assigned.partition.topic.clone(), assigned.partition.id.number);
            let next = assigned.next;
            let below = starts.get(&key).is_some_and(|start| next.0 < *start);
            let beyond = ends.get(&key).is_some_and(|end| next.0 > *end);
            let suspect = Suspect { generation: assigned.generation, next, since };
            (below || beyond).then_some((*id, suspect))
        });
        Some(outside.collect())
    }

    /// Turns suspects that stayed quiet into events.
    pub(super) fn convict(&mut self) {
        let due: Vec<PartitionId> = self
            .suspects
            .iter()
            .filter(|(_, suspect)| suspect.since.elapsed() >= QUIET)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let suspect = self.suspects.remove(&id);
            let same = |assigned: &Assigned| {
                suspect.is_some_and(|suspect| {
                    assigned.generation == suspect.generation && assigned.next == suspect.next
                })
            };
            if self.assigned.get(&id).is_some_and(same)
                && let Some(partition) = self.give_up(id)
            {
                self.ready.push_back(ReadEvent::OutOfRange(partition));
            }
        }
    }

    /// Ends the reading of a partition whose name belongs to this one now: librdkafka knows names only, and would take
    /// the two for one.
    pub(super) fn displace(&mut self, by: &TopicPartition) {
        let same_name = |other: &Assigned| {
            let other = &other.partition;
            other.topic == by.topic && other.id.number == by.id.number && other.id != by.id
        };
        let displaced = self.assigned.iter().find(|(_, other)| same_name(other)).map(|(id, _)| *id);
        if let Some(id) = displaced {
            self.fail(id, made_again(&by.topic, by.id.topic, id.topic));
        }
    }

    /// Ends the reading of partitions whose names belong to other topics now: their records are not what was asked for.
    pub(super) fn part_with_strangers(&mut self) {
        while let Some((id, other)) = self.ends.strange() {
            let topic = self.assigned.get(&id).map(|assigned| assigned.partition.topic.clone());
            self.fail(id, made_again(&topic.unwrap_or_default(), other, id.topic));
            self.ends.remove(id);
        }
    }
}

/// What is wrong with a partition by the metadata.
pub(super) fn fault(
    outcome: &Result<TopicMeta, Error>,
    topic: &str,
    id: PartitionId,
) -> Option<Error> {
    match outcome {
        Ok(meta) if meta.id != id.topic => Some(made_again(topic, meta.id, id.topic)),
        Ok(meta) if !meta.partitions.contains_key(&id.number) => Some(errors::topic_missing(topic)),
        Ok(_) => None,
        Err(error) if error.class() == Class::Transient => None,
        Err(error) => Some(Error::new(error.class(), error.to_string()).coded(error.code())),
    }
}

fn made_again(topic: &str, is: TopicId, was: TopicId) -> Error {
    let text = format!("topic {topic} has id {is} and not {was}: it was deleted and created again");
    Error::new(Class::Permanent, text)
}

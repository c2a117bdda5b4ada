//! What the loop does about each effect of the state machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::consumer::{Alarm, Effect, Failure, Input};
use tidegate_core::ids::{Epoch, FencingToken, Instant, PartitionId, Position};

use super::calls::{self, Outcome};
use super::face::Face;
use super::gather::{Cut, Held};
use super::mirror::Commit;
use super::reading::Order;
use super::shell::Shell;
use super::write::{self, Writer};
use crate::ports::{Bound, Error, Persisted, TopicPartition};

impl Shell {
    pub(super) fn perform(&mut self, effect: Effect) {
        let consumer = self.start.consumer;
        match effect {
            Effect::Locate => {
                let (ledger, commands) = (Arc::clone(&self.ledger), Arc::clone(&self.commands));
                self.calls.push(calls::locate(ledger, commands, consumer));
            }
            Effect::Listen(from) => {
                self.listening = None;
                self.calls.push(calls::listen(Arc::clone(&self.commands), consumer, from));
            }
            Effect::FetchCommandEnd(ask) => {
                self.calls.push(calls::command_end(Arc::clone(&self.commands), consumer, ask));
            }
            Effect::Append(id, entry) => {
                let (ledger, clock) = (Arc::clone(&self.ledger), Arc::clone(&self.clock));
                self.calls.push(calls::append(ledger, clock, id, &entry, &self.face.metrics));
            }
            Effect::Acquire(id, token) => {
                let limit = self.config.ownership.write_timeout;
                self.calls.push(calls::acquire(Arc::clone(&self.sinks), id, token, limit));
            }
            Effect::Read(id, epoch, from) => self.read(id, epoch, from),
            Effect::Unread(id) => self.unread(id),
            Effect::Write(id, token) => self.write(id, token),
            Effect::Finish(id, token) => self.finish(id, token),
            Effect::Skip(id, token, from, to) => self.skip(id, token, from, to),
            Effect::Abort(id) => self.abort(id),
            Effect::Release(id, token) => self.release(id, token),
            Effect::Save { clean, partitions } => self.save(clean, partitions),
            Effect::Raise(alarm) => self.raise(alarm),
            Effect::Began(incarnation) => {
                self.face.metrics.incarnations.inc();
                tracing::info!(%consumer, %incarnation, "a life has begun");
            }
            Effect::Lapsed(incarnation) => {
                tracing::warn!(%consumer, %incarnation, "the life is over");
            }
            Effect::Ignored(refusal) => {
                self.face.refused(refusal);
                tracing::debug!(?refusal, "a command was not obeyed");
            }
            Effect::Exit(clean) => self.ended = Some(clean),
        }
    }

    fn raise(&mut self, alarm: Alarm) {
        let (Alarm::SinkBehind(id, ..)
        | Alarm::SinkFailing(id, ..)
        | Alarm::ReadFailing(id, ..)
        | Alarm::OutOfRange(id, ..)) = alarm;
        let known = self.targets.get(&id).map(|target| target.partition.clone());
        let partition = known.unwrap_or_else(|| TopicPartition { topic: id.topic.to_string(), id });
        self.face.raise(alarm, &partition, self.clock.unix_ms());
    }

    fn read(&mut self, id: PartitionId, epoch: Epoch, from: Position) {
        let Some(target) = self.targets.get(&id) else { return };
        let partition = target.partition.clone();
        self.face.clear(id);
        let reading = self.gatherer.begin(partition.clone(), epoch, from);
        self.order(Order::Assign(reading, partition, from));
    }

    fn unread(&mut self, id: PartitionId) {
        if let Some(partition) = self.gatherer.drop_gathered(id) {
            self.order(Order::Unassign(partition));
        }
    }

    pub(super) fn pause(&mut self, id: PartitionId, paused: bool) {
        if let Some(gathering) = self.gatherer.get(id) {
            let partition = gathering.partition.clone();
            self.order(Order::Pause(partition, paused));
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        if let Err(error) = self.reader.orders.try_send(order) {
            // It is gone, or stuck for so long that its queue is full.
            self.broken("the partition reader", &error);
        }
    }

    fn write(&mut self, id: PartitionId, token: FencingToken) {
        if let Some(cut) = self.gatherer.cut(self.clock.now(), id) {
            self.spawn_write(id, token, cut);
        }
    }

    fn finish(&mut self, id: PartitionId, token: FencingToken) {
        let cut = self.gatherer.cut(self.clock.now(), id);
        self.unread(id);
        let answer = match cut {
            Some(cut) if !cut.records.is_empty() => return self.spawn_write(id, token, cut),
            Some(nothing) => Input::Written(id, token.epoch, nothing.expected),
            // It is left only by an answer.
            None => Input::WriteFailed(id, token.epoch, Failure::Transient),
        };
        self.inputs.push_back(answer);
    }

    fn skip(&mut self, id: PartitionId, token: FencingToken, from: Position, to: Position) {
        if let Some(target) = self.targets.get(&id) {
            let partition = target.partition.clone();
            let offsets = to.0.saturating_sub(from.0);
            tracing::warn!(%partition, from = from.0, to = to.0, offsets, "a gap is recorded and passed over");
            self.skipping.insert((id, token.epoch), offsets);
            let (records, fetched) = (Vec::new(), Duration::ZERO);
            let cut = Cut {
                partition,
                expected: from,
                records,
                bytes: 0,
                end: to,
                fetched,
                _held: Held::default(),
            };
            self.spawn_write(id, token, cut);
        }
    }

    fn spawn_write(&mut self, id: PartitionId, token: FencingToken, cut: Cut) {
        let Some(target) = self.targets.get(&id) else {
            self.inputs.push_back(Input::WriteFailed(id, token.epoch, Failure::Transient));
            return;
        };
        let writer = Writer {
            clock: Arc::clone(&self.clock),
            sink: Arc::clone(&target.sink),
            sinks: Arc::clone(&self.sinks),
            metrics: self.face.metrics.clone(),
            token,
            limit: self.config.ownership.write_timeout,
        };
        let handle = self.writes.spawn(write::write(writer, cut));
        self.writing.insert(id, (token.epoch, handle));
    }

    fn abort(&mut self, id: PartitionId) {
        if let Some((_, writing)) = self.writing.remove(&id) {
            writing.abort();
        }
        self.skipping.retain(|(of, _), _| *of != id);
        self.unread(id);
        self.face.clear(id);
        self.gatherer.remove(id);
    }

    fn release(&mut self, id: PartitionId, token: FencingToken) {
        self.face.clear(id);
        self.gatherer.remove(id);
        if let Some(target) = self.targets.remove(&id) {
            self.calls.push(calls::release(target.sink, target.partition, token));
        }
    }

    /// The first save of a life and the last one are waited for. Those in between are made beside the loop, the newest
    /// only: a disk that is slow to sync must not cost the lease for a file that is a hint.
    fn save(&mut self, clean: bool, partitions: BTreeMap<PartitionId, Position>) {
        let waits = clean || partitions.is_empty() || self.ended.is_some();
        self.persisted =
            Persisted { clean, partitions, boot: self.start.boot, ..self.persisted.clone() };
        match self.state.take() {
            Some(state) if waits => self.state = Some(calls::save_now(state, &self.persisted)),
            Some(state) => self.calls.push(calls::save(state, self.persisted.clone())),
            None => self.save_again = true,
        }
    }

    /// Commits what is durable under the group's name. Somebody who subscribed with that name makes it fail; that is counted,
    /// told once, and blocks nothing.
    pub(super) fn commit(&mut self, now: Instant) {
        let held = self
            .gatherer
            .iter()
            .map(|gathering| (gathering.partition.clone(), gathering.epoch, gathering.done()));
        let commit = self.mirror.due(now, held);
        if commit.is_empty() {
            return;
        }
        let (offsets, group) = (Arc::clone(&self.offsets), self.config.group.0.clone());
        self.calls.push(Box::pin(async move {
            let position =
                |(at, (_, next)): (&TopicPartition, &(Epoch, Position))| (at.clone(), *next);
            let committed = offsets.commit(&group, &commit.iter().map(position).collect()).await;
            Outcome::Committed(commit, committed)
        }));
    }

    pub(super) fn committed(&mut self, commit: Commit, result: Result<(), Error>) {
        Face::committed(&self.face.metrics, result.is_ok());
        let news = self.mirror.ended(self.clock.now(), commit, result.is_ok());
        match result {
            Err(error) if news => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to mirror positions as group offsets; the work goes on, and it is tried again"
            ),
            Ok(()) if news => tracing::info!("positions are mirrored as group offsets again"),
            _ => {}
        }
    }

    /// Where the held partitions end, also those that are paused or whose sink is away: their backlog is what matters.
    pub(super) fn fetch_ends(&self) {
        let name = |partition: &TopicPartition| (partition.topic.clone(), partition.id.number);
        let partitions: Vec<_> =
            self.gatherer.iter().map(|gathering| name(&gathering.partition)).collect();
        if partitions.is_empty() {
            return;
        }
        let offsets = Arc::clone(&self.offsets);
        self.calls.push(Box::pin(async move {
            match offsets.bounds(&partitions, Bound::Latest).await {
                Ok(ends) => Outcome::Ends(ends),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "failed to fetch the ends of partitions"
                    );
                    Outcome::Nothing
                }
            }
        }));
    }
}

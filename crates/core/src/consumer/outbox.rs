//! What a consumer has to say to the ledger, until it is acknowledged.
//!
//! Ownership events (Started, Stopped) are repeated until acknowledged, in order. Progress is a state, so that only the
//! newest is worth sending: one record in flight, whatever changed meanwhile goes into the next.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::io::{AppendId, Effect};
use crate::ids::{Epoch, Generation, Incarnation, Instant, Offset, PartitionId, Position};
use crate::ledger::{Entry, Record, Refusal};

/// Partitions in one event at most: keeps a record far below any broker's limit.
const EVENT_SIZE: usize = 2_000;

/// Events on their way at most: those that come meanwhile wait, and go together in few records, however many partitions are
/// taken over at once.
const IN_FLIGHT: usize = 8;

/// Ownership events of one life wait here; replies are sent once and forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outbox {
    generation: Generation,
    incarnation: Incarnation,
    events: VecDeque<Event>,
    progress: BTreeMap<PartitionId, (Epoch, Position)>,
    progress_in_flight: Option<ProgressInFlight>,
    progress_due: Instant,
    replies: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ProgressInFlight {
    id: AppendId,
    partitions: Vec<(PartitionId, Epoch, Position)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Event {
    record: Record,
    in_flight: Option<AppendId>,
    /// Not before this moment, after a failure.
    due: Instant,
}

/// Hands out the ids of appends, for the whole process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AppendIds(u64);

impl AppendIds {
    pub(super) fn next(&mut self) -> AppendId {
        self.0 = self.0.saturating_add(1);
        AppendId(self.0)
    }
}

impl Outbox {
    pub(super) fn new(generation: Generation, incarnation: Incarnation) -> Self {
        Self {
            generation,
            incarnation,
            events: VecDeque::new(),
            progress: BTreeMap::new(),
            progress_in_flight: None,
            progress_due: Instant::default(),
            replies: Vec::new(),
        }
    }

    /// Says something that must arrive: in one record with the one before, if that was not sent yet and says the same of
    /// other partitions.
    pub(super) fn event(&mut self, record: Record) {
        let waiting = self.events.back_mut().filter(|event| event.in_flight.is_none());
        if waiting.is_some_and(|event| join(&mut event.record, &record)) {
            return;
        }
        self.events.push_back(Event { record, in_flight: None, due: Instant::default() });
    }

    /// Notes the newest durable position of a partition.
    pub(super) fn progress(&mut self, partition: PartitionId, epoch: Epoch, next: Position) {
        self.progress.insert(partition, (epoch, next));
    }

    /// Forgets positions that a Stopped carries by itself.
    pub(super) fn forget_progress(&mut self, partition: PartitionId) {
        self.progress.remove(&partition);
    }

    /// Says once why a command was not obeyed.
    pub(super) fn refuse(&mut self, command: Offset, refusal: Refusal) {
        self.reply(Record::Reply { incarnation: self.incarnation, command, refusal });
    }

    /// Says something once.
    pub(super) fn reply(&mut self, record: Record) {
        self.replies.push(record);
    }

    /// True when no ownership event waits for its acknowledgement (C3).
    pub(super) fn is_settled(&self) -> bool {
        self.events.is_empty()
    }

    /// Partitions in waiting events, and in waiting positions.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let of_event = |event: &Event| match &event.record {
            Record::Started { partitions, .. } => partitions.len(),
            Record::Stopped { partitions, .. } => partitions.len(),
            _ => 1,
        };
        let in_flight = self.progress_in_flight.as_ref().map_or(0, |at| at.partitions.len());
        let events = self.events.iter().map(of_event).fold(0, usize::saturating_add);
        (events, self.progress.len().max(in_flight))
    }

    /// Sends what is due.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        ids: &mut AppendIds,
        progress_pause: core::time::Duration,
        effects: &mut Vec<Effect>,
    ) {
        let generation = self.generation;
        let mut append = |record: Record| {
            let id = ids.next();
            effects.push(Effect::Append(id, Entry { generation, record }));
            id
        };
        let in_flight = self.events.iter().filter(|event| event.in_flight.is_some()).count();
        let waiting =
            self.events.iter_mut().filter(|event| event.in_flight.is_none() && event.due <= now);
        for event in waiting.take(IN_FLIGHT.saturating_sub(in_flight)) {
            event.in_flight = Some(append(event.record.clone()));
        }
        for record in self.replies.drain(..) {
            append(record);
        }
        if self.progress_in_flight.is_none()
            && self.progress_due <= now
            && !self.progress.is_empty()
        {
            let progress = core::mem::take(&mut self.progress);
            let partitions: Vec<_> = progress
                .into_iter()
                .map(|(partition, (epoch, next))| (partition, epoch, next))
                .collect();
            let id = append(Record::Progress {
                incarnation: self.incarnation,
                partitions: partitions.clone(),
            });
            self.progress_in_flight = Some(ProgressInFlight { id, partitions });
            self.progress_due = now.after(progress_pause);
        }
    }

    /// Notes an acknowledgement.
    pub(super) fn acknowledged(&mut self, id: AppendId) {
        self.events.retain(|event| event.in_flight != Some(id));
        if self.progress_in_flight.as_ref().is_some_and(|in_flight| in_flight.id == id) {
            self.progress_in_flight = None;
        }
    }

    /// Notes a failure: what was to be said is said again after a pause.
    pub(super) fn failed(&mut self, id: AppendId, again: Instant) {
        for event in self.events.iter_mut().filter(|event| event.in_flight == Some(id)) {
            event.in_flight = None;
            event.due = again;
        }
        if let Some(lost) = self.progress_in_flight.take_if(|in_flight| in_flight.id == id) {
            for (partition, epoch, next) in lost.partitions {
                self.progress.entry(partition).or_insert((epoch, next));
            }
            self.progress_due = again;
        }
    }
}

/// Adds what a record says to one of the same kind; false when they are not, or the sum would be too large.
fn join(record: &mut Record, more: &Record) -> bool {
    match (record, more) {
        (Record::Started { partitions, .. }, Record::Started { partitions: more, .. })
            if partitions.len().saturating_add(more.len()) <= EVENT_SIZE =>
        {
            partitions.extend_from_slice(more);
            true
        }
        (
            Record::Stopped { partitions, reason, .. },
            Record::Stopped { partitions: more, reason: same, .. },
        ) if reason == same && partitions.len().saturating_add(more.len()) <= EVENT_SIZE => {
            partitions.extend_from_slice(more);
            true
        }
        _ => false,
    }
}

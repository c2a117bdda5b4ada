//! From a grant to durable records: acquiring the sink, reading, writing.

use alloc::vec;
use alloc::vec::Vec;

use super::holding::{Doing, Holding};
use super::io::{Alarm, Effect, Extent, Failure, Gone, ReadFailure, SinkBehind};
use super::machine::Consumer;
use crate::ids::{Epoch, FencingToken, Generation, Instant, PartitionId, Position};

/// A partition under the epoch that an answer of the shell is about: an answer for another epoch changes nothing.
type Held = (PartitionId, Epoch);

/// How many retry pauses lie between two looks at a sink that will not heal by itself.
const STUCK_RETRIES: u32 = 20;

impl Consumer {
    fn held(&mut self, (partition, epoch): Held) -> Option<&mut Holding> {
        self.holdings.get_mut(&partition).filter(|holding| holding.epoch == epoch)
    }

    /// The owner begins at the higher of what the ledger and the sink know. A sink that stands behind the ledger has
    /// lost what was durable: going on would hide it, unless somebody has decided how.
    pub(super) fn acquired(
        &mut self,
        now: Instant,
        partition: PartitionId,
        epoch: Epoch,
        stands: Option<Position>,
        effects: &mut Vec<Effect>,
    ) {
        let policy = self.settings.sink_behind;
        let allowed = self.generation_to_write(now);
        let retry = now.after(self.settings.retry);
        let Some(holding) = self.held((partition, epoch)) else {
            return;
        };
        if holding.doing != Doing::Acquiring {
            return;
        }
        if let Some(stands) = stands.filter(|stands| *stands < holding.next) {
            let next = holding.next;
            effects.push(Effect::Raise(Alarm::SinkBehind(partition, epoch, Some(stands), next)));
            match policy {
                SinkBehind::Stop => {
                    holding.doing = Doing::Stuck;
                    return;
                }
                SinkBehind::Rewind => holding.next = stands,
                SinkBehind::Continue => {
                    // C4 holds for this write, too: without time for it the sink is asked again.
                    holding.doing = allowed.map_or(Doing::Pausing(retry), |_| Doing::Writing);
                    holding.skipping = allowed.is_some();
                    effects.extend(allowed.map(|generation| {
                        Effect::Skip(partition, FencingToken { generation, epoch }, stands, next)
                    }));
                    return;
                }
            }
        }
        holding.next = stands.map_or(holding.next, |stands| stands.max(holding.next));
        self.begin_reading((partition, epoch), effects);
    }

    fn begin_reading(&mut self, held: Held, effects: &mut Vec<Effect>) {
        let (partition, epoch) = held;
        let Some(holding) = self.held(held) else { return };
        holding.doing = Doing::Reading;
        holding.skipping = false;
        holding.unreadable = None;
        let first = !core::mem::replace(&mut holding.acquired, true);
        let next = holding.next;
        effects.push(Effect::Read(partition, epoch, next));
        if first {
            self.say_started(vec![(partition, epoch)]);
        }
        self.note_progress(partition, epoch, next);
    }

    fn note_progress(&mut self, partition: PartitionId, epoch: Epoch, next: Position) {
        self.touch();
        if let Some(living) = self.living_mut() {
            living.outbox.progress(partition, epoch, next);
        }
    }

    pub(super) fn acquire_failed(
        &mut self,
        now: Instant,
        held: Held,
        failure: Failure,
        effects: &mut Vec<Effect>,
    ) {
        let retry = self.settings.retry;
        let Some(holding) = self.held(held) else {
            return;
        };
        if holding.doing != Doing::Acquiring {
            return;
        }
        match failure {
            Failure::Transient => holding.doing = Doing::Pausing(now.after(retry)),
            Failure::Permanent => {
                holding.doing = Doing::Pausing(now.after(retry.saturating_mul(STUCK_RETRIES)));
                effects.push(Effect::Raise(Alarm::SinkFailing(held.0, held.1, failure)));
            }
            Failure::Fenced | Failure::Damaged => {
                holding.doing = Doing::Stuck;
                effects.push(Effect::Raise(Alarm::SinkFailing(held.0, held.1, failure)));
            }
        }
    }

    pub(super) fn ready(&mut self, now: Instant, held: Held, effects: &mut Vec<Effect>) {
        let allowed = self.generation_to_write(now);
        let Some(holding) = self.held(held) else { return };
        if holding.doing == Doing::Reading {
            holding.doing = Doing::Gathered;
            effects.extend(allowed.and_then(|generation| begin_write(held.0, holding, generation)));
        }
    }

    /// Begins the writes that have waited for the lease.
    pub(super) fn begin_writes(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(generation) = self.generation_to_write(now) else { return };
        for (partition, holding) in &mut self.holdings {
            effects.extend(begin_write(*partition, holding, generation));
        }
    }

    /// C4: a write that could outlast the lease does not begin; its batch waits for the next renewal.
    pub(super) fn generation_to_write(&self, now: Instant) -> Option<Generation> {
        let living = self.living()?;
        let lapses = living.lease.lapses(self.settings.lease);
        (lapses > now.after(self.settings.write_timeout)).then_some(living.generation)
    }

    pub(super) fn written(
        &mut self,
        now: Instant,
        held: Held,
        end: Position,
        effects: &mut Vec<Effect>,
    ) {
        let Some(holding) = self.held(held) else {
            return;
        };
        if !holding.is_writing() {
            return;
        }
        debug_assert!(end >= holding.next, "a write ends at or after its beginning");
        holding.next = holding.next.max(end);
        let next = holding.next;
        if let Doing::Stopping(reason) = holding.doing {
            self.give_back(held.0, reason, effects);
        } else if holding.skipping {
            self.begin_reading(held, effects);
        } else {
            holding.doing = Doing::Reading;
            let unreadable = holding.unreadable.take();
            self.note_progress(held.0, held.1, next);
            if let Some(failure) = unreadable {
                self.read_failed(now, held, failure, effects);
            }
        }
    }

    /// The outcome of the write is unknown: the sink must be acquired again before the next. Being fenced can be the
    /// work of the own write whose acknowledgement was lost, so it is asked again, too.
    pub(super) fn write_failed(
        &mut self,
        now: Instant,
        held: Held,
        failure: Failure,
        effects: &mut Vec<Effect>,
    ) {
        let retry = self.settings.retry;
        let Some(holding) = self.held(held) else {
            return;
        };
        match holding.doing {
            Doing::Stopping(reason) => self.give_back(held.0, reason, effects),
            Doing::Writing => {
                holding.skipping = false;
                let stuck = matches!(failure, Failure::Permanent | Failure::Damaged);
                let pauses = if stuck { STUCK_RETRIES } else { 1 };
                holding.doing = Doing::Pausing(now.after(retry.saturating_mul(pauses)));
                effects.push(Effect::Unread(held.0));
                if stuck {
                    effects.push(Effect::Raise(Alarm::SinkFailing(held.0, held.1, failure)));
                }
            }
            Doing::Acquiring
            | Doing::Pausing(_)
            | Doing::Reading
            | Doing::Gathered
            | Doing::Stuck => {}
        }
    }

    pub(super) fn read_failed(
        &mut self,
        now: Instant,
        held: Held,
        failure: ReadFailure,
        effects: &mut Vec<Effect>,
    ) {
        let retry = self.settings.retry;
        let Some(holding) = self.held(held) else {
            return;
        };
        match holding.doing {
            Doing::Reading | Doing::Gathered => {}
            Doing::Writing => {
                holding.unreadable = Some(failure);
                return;
            }
            Doing::Acquiring | Doing::Pausing(_) | Doing::Stopping(_) | Doing::Stuck => return,
        }
        effects.push(Effect::Unread(held.0));
        match failure {
            ReadFailure::Transient => holding.doing = Doing::Pausing(now.after(retry)),
            ReadFailure::Permanent => {
                holding.doing = Doing::Pausing(now.after(retry.saturating_mul(STUCK_RETRIES)));
                effects.push(Effect::Raise(Alarm::ReadFailing(held.0, held.1)));
            }
            ReadFailure::OutOfRange(extent) => self.out_of_range(now, held, extent, effects),
        }
    }

    /// What is to be read next does not exist: it was deleted, or the log has lost its end. Only the first can be passed over:
    /// a sink does not go back, and what is written at the lost offsets anew would never be read.
    fn out_of_range(
        &mut self,
        now: Instant,
        held: Held,
        Extent { start, end }: Extent,
        effects: &mut Vec<Effect>,
    ) {
        let (policy, retry) = (self.settings.out_of_range, now.after(self.settings.retry));
        let allowed = self.generation_to_write(now);
        let (partition, epoch) = held;
        let Some(holding) = self.held(held) else { return };
        let next = holding.next;
        if (start..=end).contains(&next) {
            // What was read ahead was out of range, or it has changed since.
            holding.doing = Doing::Pausing(retry);
            return;
        }
        effects.push(Effect::Raise(Alarm::OutOfRange(
            partition,
            epoch,
            next,
            Extent { start, end },
        )));
        if policy == Gone::Stop || end < next {
            holding.doing = Doing::Stuck;
            return;
        }
        // C4, as for the gap of a sink that is behind: without time for it the sink is asked again.
        holding.doing = allowed.map_or(Doing::Pausing(retry), |_| Doing::Writing);
        holding.skipping = allowed.is_some();
        effects.extend(allowed.map(|generation| {
            Effect::Skip(partition, FencingToken { generation, epoch }, next, start)
        }));
    }
}

fn begin_write(
    partition: PartitionId,
    holding: &mut Holding,
    generation: Generation,
) -> Option<Effect> {
    if holding.doing != Doing::Gathered {
        return None;
    }
    holding.doing = Doing::Writing;
    Some(Effect::Write(partition, FencingToken { generation, epoch: holding.epoch }))
}

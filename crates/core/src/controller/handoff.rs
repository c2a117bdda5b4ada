//! From what the ledger says and the plan wants to grants and commands, sent until the ledger shows their effect.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::io::Effect;
use super::machine::{Controller, Office};
use super::planning::Targets;
use crate::ids::{ConsumerNumber, Epoch, Incarnation, Instant, PartitionId, Position};
use crate::ledger::{Command, CommandBody, Ownership, Record};
use crate::mutants::{self, Mutant};

/// Partitions in one Grant at most: keeps a record far below any broker's limit.
const GRANT_SIZE: usize = 2_000;

/// What was last sent for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    epoch: Epoch,
    starts: bool,
    at: Instant,
}

/// Where the last plan wants a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Where it is: the plan does not name it.
    Stay,
    /// At this consumer.
    Consumer(ConsumerNumber),
    /// Nowhere in this group.
    Nobody,
}

/// Commands and grants that are due, collected over all partitions.
#[derive(Debug, Default)]
struct Due {
    grants: BTreeMap<(ConsumerNumber, Incarnation), Vec<(PartitionId, Position)>>,
    starts: BTreeMap<(Incarnation, Epoch), Vec<(PartitionId, Position)>>,
    stops: BTreeMap<(Incarnation, Epoch), Vec<PartitionId>>,
    unresolved: Vec<PartitionId>,
}

impl Controller {
    /// Sends whatever moves a partition from where it is to where it should be.
    pub(super) fn reconcile(&mut self, now: Instant, plan: &Targets, effects: &mut Vec<Effect>) {
        let Some(mut office) = self.office.take() else { return };
        let due = self.due_work(now, plan, &mut office);
        self.send_grants(now, &mut office, due.grants, effects);
        self.send_commands(&office, due.starts, due.stops, effects);
        self.ask_starts(now, &mut office, due.unresolved, effects);
        self.office = Some(office);
    }

    /// Asks where partitions begin that nobody ever read: each at once, and again when no answer has come.
    fn ask_starts(
        &self,
        now: Instant,
        office: &mut Office,
        mut unresolved: Vec<PartitionId>,
        effects: &mut Vec<Effect>,
    ) {
        let pause = self.settings.resend.saturating_mul(5);
        unresolved.retain(|partition| {
            office.starts_asked.get(partition).is_none_or(|asked| now.since(*asked) >= pause)
        });
        if !unresolved.is_empty() {
            office.starts_asked.extend(unresolved.iter().map(|partition| (*partition, now)));
            effects.push(Effect::ResolveStarts(unresolved));
        }
    }

    fn due_work(&self, now: Instant, plan: &Targets, office: &mut Office) -> Due {
        let mut due = Due::default();
        let granting = office.outbox.partitions_granted();
        let planned = plan.keys().map(|partition| (*partition, self.fold.ownership(*partition)));
        let unread = planned.filter(|(_, ownership)| ownership.next().is_none());
        for (partition, ownership) in self.fold.partitions().chain(unread) {
            let target = match plan.get(&partition) {
                None => Target::Stay,
                Some(None) => Target::Nobody,
                Some(Some(consumer)) => Target::Consumer(*consumer),
            };
            match ownership {
                Ownership::Free { next } if !granting.contains(&partition) => {
                    self.due_grant(now, (partition, next), target, &mut due);
                }
                Ownership::Free { .. } => {}
                Ownership::Granted { epoch, incarnation, next } => {
                    if self.must_leave(now, incarnation, target) {
                        self.due_stop(now, (partition, epoch, incarnation), office, &mut due);
                    } else if self.is_due(now, office, partition, epoch, true) {
                        due.starts.entry((incarnation, epoch)).or_default().push((partition, next));
                    }
                }
                Ownership::Active { epoch, incarnation, .. } => {
                    if self.must_leave(now, incarnation, target) {
                        self.due_stop(now, (partition, epoch, incarnation), office, &mut due);
                    }
                }
            }
        }
        due
    }

    /// K2, K6: what is Free goes to the consumer that the plan names, once that is ready.
    fn due_grant(
        &self,
        now: Instant,
        (partition, next): (PartitionId, Option<Position>),
        target: Target,
        due: &mut Due,
    ) {
        let Target::Consumer(consumer) = target else { return };
        if !self.is_settled() {
            return;
        }
        let reported = || self.durable.get(&partition).or_else(|| self.starts.get(&partition));
        let Some(from) = next.or_else(|| reported().copied()) else {
            due.unresolved.push(partition);
            return;
        };
        if let Some(incarnation) = self.ready(now, consumer) {
            due.grants.entry((consumer, incarnation)).or_default().push((partition, from));
        }
    }

    fn due_stop(
        &self,
        now: Instant,
        (partition, epoch, incarnation): (PartitionId, Epoch, Incarnation),
        office: &mut Office,
        due: &mut Due,
    ) {
        if self.is_due(now, office, partition, epoch, false) {
            due.stops.entry((incarnation, epoch)).or_default().push(partition);
        }
    }

    /// K3: a partition leaves its owner when the plan wants it elsewhere and the one to have it is ready, or when it is
    /// to have no owner at all.
    fn must_leave(&self, now: Instant, owner: Incarnation, target: Target) -> bool {
        match target {
            Target::Stay => false,
            Target::Nobody => true,
            Target::Consumer(target) => {
                self.fold.lives().consumer_of(owner) != Some(target)
                    && self.ready(now, target).is_some()
            }
        }
    }

    /// The current incarnation of a consumer that was heard within its lease.
    pub(super) fn ready(&self, now: Instant, consumer: ConsumerNumber) -> Option<Incarnation> {
        let current = self.fold.lives().current(consumer)?;
        self.silence.is_fresh(current, now, self.settings.lease).then_some(current)
    }

    /// True when a command was not sent lately; it is taken as sent.
    fn is_due(
        &self,
        now: Instant,
        office: &mut Office,
        partition: PartitionId,
        epoch: Epoch,
        starts: bool,
    ) -> bool {
        let lately = office.sent.get(&partition).is_some_and(|sent| {
            sent.epoch == epoch
                && sent.starts == starts
                && now.since(sent.at) < self.settings.resend
        });
        if !lately {
            office.sent.insert(partition, Sent { epoch, starts, at: now });
        }
        !lately
    }

    fn send_grants(
        &self,
        now: Instant,
        office: &mut Office,
        grants: BTreeMap<(ConsumerNumber, Incarnation), Vec<(PartitionId, Position)>>,
        effects: &mut Vec<Effect>,
    ) {
        for ((consumer, incarnation), partitions) in grants {
            for part in partitions.chunks(GRANT_SIZE) {
                let partitions = part.to_vec();
                if mutants::is_planted(Mutant::StartBeforeReadBack) {
                    let (term, epoch) = (office.term, Epoch(self.fold.position()));
                    let body = CommandBody::Start { term, epoch, partitions: partitions.clone() };
                    effects.extend(self.command(incarnation, body));
                }
                debug_assert!(
                    partitions.iter().all(|(at, _)| self.fold.ownership(*at).owner().is_none()),
                    "K2: only what is Free is granted"
                );
                let grant = |seal| Record::Grant { seal, consumer, incarnation, partitions };
                office.outbox.append(now, grant, effects);
            }
        }
    }

    fn send_commands(
        &self,
        office: &Office,
        starts: BTreeMap<(Incarnation, Epoch), Vec<(PartitionId, Position)>>,
        stops: BTreeMap<(Incarnation, Epoch), Vec<PartitionId>>,
        effects: &mut Vec<Effect>,
    ) {
        let (term, deadline) = (office.term, self.settings.write_timeout);
        let stops = stops.into_iter().map(|((incarnation, epoch), partitions)| {
            (incarnation, CommandBody::Stop { term, epoch, partitions, deadline })
        });
        let starts = starts.into_iter().map(|((incarnation, epoch), partitions)| {
            (incarnation, CommandBody::Start { term, epoch, partitions })
        });
        for (incarnation, body) in stops.chain(starts) {
            effects.extend(self.command(incarnation, body));
        }
    }

    /// A command to an incarnation, living or ended.
    pub(super) fn command(&self, incarnation: Incarnation, body: CommandBody) -> Option<Effect> {
        let consumer = self.fold.lives().consumer_of(incarnation)?;
        self.command_to(consumer, incarnation, body)
    }

    /// A command to an incarnation that the ledger may know nothing of.
    pub(super) fn command_to(
        &self,
        consumer: ConsumerNumber,
        incarnation: Incarnation,
        body: CommandBody,
    ) -> Option<Effect> {
        let generation = self.fold.generation()?;
        Some(Effect::Command(consumer, Command { generation, incarnation, body }))
    }
}

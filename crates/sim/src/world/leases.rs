//! An auditor's own account of each consumer's lease: what it may believe, from what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_core::consumer::{AppendId, Input as ConsumerInput};
use tidegate_core::ids::{Instant, Offset};
use tidegate_core::ledger::Record;

use super::World;
use super::audit::Promise;
use super::process::ProcessKey;
use super::queue::Moment;
use super::scenario::consumer_settings;

/// How long a consumer may live on with a command that it has not read: it may stand still for nearly a lease between the
/// answer where its commands end and the heartbeat, which renews for another; its clock may be slow by 5 %, and requests
/// take their time.
const UNHEARD: Duration = Duration::from_secs(34);

/// What is known of one consumer process.
#[derive(Debug, Default)]
pub(super) struct LeaseAccount {
    /// Hellos and heartbeats without an answer, and when they were handed over by the process's own clock.
    handed: BTreeMap<AppendId, Instant>,
    /// When the last one that was acknowledged had been.
    renewed: Option<Instant>,
    /// Ownership events of this life that are on their way, and how many failed and were not said again.
    unsaid: (BTreeSet<AppendId>, usize),
    /// Everything below was read, whatever is read again.
    read: Offset,
    /// Since when a command waits to be read.
    unheard_since: Option<Moment>,
}

impl LeaseAccount {
    /// A record is handed over.
    pub(super) fn hands(&mut self, id: AppendId, record: &Record, now: Instant) {
        match record {
            Record::Hello(_) => {
                self.handed.insert(id, now);
                self.unsaid = (BTreeSet::new(), 0);
            }
            Record::Heartbeat { .. } => {
                self.handed.insert(id, now);
            }
            Record::Started { .. } | Record::Stopped { .. } => {
                self.unsaid.0.insert(id);
                self.unsaid.1 = self.unsaid.1.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// The command partition is read from here on.
    pub(super) fn listens(&mut self, from: Offset) {
        (self.read, self.unheard_since) = (from, None);
    }

    /// C3: a heartbeat says that everything was said.
    pub(super) fn beats_too_early(&self, record: &Record) -> bool {
        let settled = self.unsaid.0.is_empty() && self.unsaid.1 == 0;
        matches!(record, Record::Heartbeat { .. }) && !settled
    }

    /// An answer is about to be taken in.
    pub(super) fn takes(&mut self, input: &ConsumerInput) {
        match input {
            ConsumerInput::Appended(id, _) => {
                self.renewed = self.renewed.max(self.handed.remove(id));
                self.unsaid.0.remove(id);
            }
            ConsumerInput::AppendFailed(id) if self.unsaid.0.remove(id) => self.unsaid.1 += 1,
            _ => {}
        }
    }
}

impl World {
    /// C2: a lease lasts no longer than from the hand-over of what was acknowledged last. C3: who does not read its
    /// commands cannot renew it.
    pub(super) fn audit_lease(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let (now, cursor) = (process.machine.clock(self.now), process.cursor);
        let Some(shell) = process.consumer_mut() else { return };
        let left = shell.consumer.lease_left(now);
        let lease = consumer_settings().lease;
        let renewed = shell.lease.renewed.unwrap_or_default();
        shell.lease.read = shell.lease.read.max(cursor);
        let end = self.broker.command_end(shell.number);
        let waits = !shell.listening || shell.lease.read < end;
        let unheard_since = waits.then(|| shell.lease.unheard_since.unwrap_or(self.now));
        shell.lease.unheard_since = unheard_since;
        if left > lease.saturating_sub(now.since(renewed)) {
            self.violate(Promise::Lease, format_args!("{key} has {left:?} left since {renewed:?}"));
        }
        let deaf = unheard_since.is_some_and(|since| self.now.since(since) > UNHEARD);
        if deaf && !left.is_zero() {
            self.violate(
                Promise::Lease,
                format_args!("{key} lives and has not heard all since {unheard_since:?}"),
            );
        }
    }

    /// C4.
    pub(super) fn audit_lease_of_write(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(&key) else { return };
        let now = process.machine.clock(self.now);
        let left = process.consumer().map(|shell| shell.consumer.lease_left(now));
        if left.is_some_and(|left| left <= consumer_settings().write_timeout) {
            self.violate(Promise::Lease, format_args!("{key} writes with {left:?} left"));
        }
    }
}

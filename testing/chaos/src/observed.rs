//! What an onlooker knows from the ledger: who owns what, who owned it by which epoch, and who reigned since when.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::ids::{ConsumerNumber, Epoch, GroupName, Offset, PartitionId};
use tidegate_core::ledger::{Entry, Fold, Ownership, Record, StopReason};

/// A grant that was valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Granted {
    to: ConsumerNumber,
    /// The owner gave the partition back on command.
    given_back: bool,
}

/// What is known up to now.
#[derive(Debug)]
pub(crate) struct Observed {
    fold: Fold,
    grants: BTreeMap<PartitionId, BTreeMap<Epoch, Granted>>,
    /// When each reign began, as read: milliseconds since the Unix epoch.
    reigns: Vec<u64>,
    fences: u64,
    plans: u64,
}

impl Observed {
    pub(crate) fn new(group: GroupName) -> Self {
        let (grants, reigns) = (BTreeMap::new(), Vec::new());
        Self { fold: Fold::new(group), grants, reigns, fences: 0, plans: 0 }
    }

    /// Takes in a record of the ledger that was read at a time; `None` is one that cannot be decoded.
    pub(crate) fn ledger(&mut self, at: Offset, entry: Option<&Entry>, at_unix_ms: u64) {
        let Some(entry) = entry else {
            self.fold.skip(at);
            return;
        };
        if self.fold.apply(at, entry).is_err() {
            return;
        }
        match &entry.record {
            Record::Elect { .. } => self.reigns.push(at_unix_ms),
            Record::Plan { .. } => self.plans += 1,
            Record::Fenced { .. } => self.fences += 1,
            Record::Grant { consumer, partitions, .. } => {
                for (partition, _) in partitions {
                    self.granted(*partition, Epoch(at), *consumer);
                }
            }
            Record::Stopped { partitions, reason, .. } => {
                let on_command = matches!(reason, StopReason::Command | StopReason::Barred);
                for (partition, epoch, _) in partitions.iter().filter(|_| on_command) {
                    self.given_back(*partition, *epoch);
                }
            }
            _ => {}
        }
    }

    fn granted(&mut self, partition: PartitionId, epoch: Epoch, to: ConsumerNumber) {
        let ownership = self.fold.ownership(partition);
        if matches!(ownership, Ownership::Granted { epoch: found, .. } if found == epoch) {
            let granted = Granted { to, given_back: false };
            self.grants.entry(partition).or_default().insert(epoch, granted);
        }
    }

    fn given_back(&mut self, partition: PartitionId, epoch: Epoch) {
        let grants = self.grants.get_mut(&partition);
        if let Some(granted) = grants.and_then(|grants| grants.get_mut(&epoch)) {
            granted.given_back = true;
        }
    }

    /// Up to where a partition is durable, as far as its owners have told.
    pub(crate) fn durable(&self, partition: PartitionId) -> u64 {
        self.fold.ownership(partition).next().map_or(0, |next| next.0)
    }

    /// How many partitions somebody reads.
    pub(crate) fn active(&self) -> usize {
        let active =
            |(_, ownership): &(_, Ownership)| matches!(ownership, Ownership::Active { .. });
        self.fold.partitions().filter(active).count()
    }

    /// Consumers that own something.
    pub(crate) fn owners(&self) -> BTreeSet<u32> {
        let owner = |(partition, _)| self.fold.consumer_of(partition).map(ConsumerNumber::get);
        self.fold.partitions().filter_map(owner).collect()
    }

    /// Whether a partition went from one epoch to the other as planned: every owner in between gave it back on command.
    pub(crate) fn was_planned(&self, partition: PartitionId, from: Epoch, to: Epoch) -> bool {
        let grants = self.grants.get(&partition);
        grants.is_some_and(|grants| {
            grants.contains_key(&from) && grants.range(from..to).all(|(_, one)| one.given_back)
        })
    }

    /// Those who lost a partition between two epochs without having been told to give it back.
    pub(crate) fn losers(&self, partition: PartitionId, from: Epoch, to: Epoch) -> BTreeSet<u32> {
        let grants = self.grants.get(&partition);
        let between = grants.into_iter().flat_map(|grants| grants.range(from..to));
        between.filter(|(_, one)| !one.given_back).map(|(_, one)| one.to.get()).collect()
    }

    /// When the first reign after a moment began.
    pub(crate) fn reign_after(&self, at_unix_ms: u64) -> Option<u64> {
        self.reigns.iter().copied().find(|began| *began >= at_unix_ms)
    }

    /// How many there were of what the report tells.
    pub(crate) fn counts(&self) -> Counts {
        let take_overs = (self.reigns.len() as u64).saturating_sub(1);
        Counts { take_overs, fences: self.fences, plans: self.plans }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Reigns after the first.
    pub(crate) take_overs: u64,
    /// Consumers that a controller shut out.
    pub(crate) fences: u64,
    /// Plans made.
    pub(crate) plans: u64,
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::{Generation, Incarnation, Position, ProcessId, Term, TopicId};
    use tidegate_core::ledger::{Hello, Seal};

    use super::*;

    const PARTITION: PartitionId = PartitionId { topic: TopicId([1; 16]), number: 0 };

    fn observed(records: Vec<Record>) -> Observed {
        let mut observed = Observed::new(GroupName("orders".to_owned()));
        for (at, record) in (0..).zip(records) {
            let entry = Entry { generation: Generation(1), record };
            observed.ledger(Offset(at), Some(&entry), 1000 + at);
        }
        observed
    }

    fn hello(process: u128, attempt: u32) -> Record {
        Record::Hello(Hello {
            consumer: ConsumerNumber::FIRST,
            process: ProcessId(process),
            attempt,
            seen: Offset(100),
            boot: None,
            directory: None,
            clean: false,
            persisted: Vec::new(),
        })
    }

    fn grant(seq: u64, incarnation: u64) -> Record {
        Record::Grant {
            seal: Seal { term: Term(Offset(1)), seq },
            consumer: ConsumerNumber::FIRST,
            incarnation: Incarnation(Offset(incarnation)),
            partitions: vec![(PARTITION, Position(0))],
        }
    }

    #[test]
    fn a_change_of_owner_is_planned_when_the_owner_was_told() {
        let group = GroupName("orders".to_owned());
        let stopped = Record::Stopped {
            incarnation: Incarnation(Offset(2)),
            partitions: vec![(PARTITION, Epoch(Offset(3)), None)],
            reason: StopReason::Command,
        };
        let observed = observed(vec![
            Record::Genesis { group, first: true },
            Record::Elect { process: ProcessId(9), attempt: 1 },
            hello(1, 1),
            grant(1, 2),
            stopped,
            grant(2, 2),
            // The same process again: what it owned is free without having been given back.
            hello(1, 2),
            grant(3, 6),
        ]);
        let epoch = |at| Epoch(Offset(at));
        assert!(observed.was_planned(PARTITION, epoch(3), epoch(5)));
        assert!(!observed.was_planned(PARTITION, epoch(5), epoch(7)));
        assert!(!observed.was_planned(PARTITION, epoch(3), epoch(7)), "one of two was not");
        assert_eq!(observed.losers(PARTITION, epoch(3), epoch(7)), [1].into());
        assert_eq!(observed.owners(), [1].into());
        assert_eq!(observed.reign_after(1001), Some(1001));
        assert_eq!(observed.reign_after(1002), None);
        assert_eq!(observed.counts(), Counts::default());
    }
}

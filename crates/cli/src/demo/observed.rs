//! What an onlooker knows: the fold of the ledger, the rates, and from both who bears how much.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::ids::{ConsumerNumber, Epoch, GroupName, Offset, PartitionId};
use tidegate_core::ledger::{Entry, Fold, Ownership, Record, StopReason};
use tidegate_wire::PartitionRates;

/// One moment of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Milliseconds since the load began.
    pub(super) at_ms: u64,
    /// Filtered write rate of each partition, as the monitor has published it.
    pub(super) rates: BTreeMap<PartitionId, u64>,
    /// Those of the consumers that live.
    pub(super) consumers: BTreeMap<ConsumerNumber, Load>,
    /// Partitions without somebody who reads them.
    pub(super) in_flight: usize,
    /// Records written and not yet durable, as time at the present rate.
    pub(super) behind_ms: u64,
    /// Hand-offs that are done.
    pub(super) handoffs: u64,
    /// Plans made.
    pub(super) plans: u64,
    /// Bytes written since the load began.
    pub(super) written_bytes: u64,
}

/// What a consumer bears.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) bytes_per_sec: u64,
    pub(super) partitions: usize,
}

/// What was measured of a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    bytes_per_sec: u64,
    records_per_sec: u64,
    high_watermark: u64,
}

/// What is known up to now.
#[derive(Debug)]
pub(super) struct Observed {
    fold: Fold,
    measured: BTreeMap<PartitionId, Measured>,
    /// Grants of each partition that were valid, by epoch: true once the owner gave it back on command.
    grants: BTreeMap<PartitionId, BTreeMap<Epoch, bool>>,
    plans: u64,
    handoffs: u64,
}

impl Observed {
    pub(super) fn new(group: GroupName) -> Self {
        Self {
            fold: Fold::new(group),
            measured: BTreeMap::new(),
            grants: BTreeMap::new(),
            plans: 0,
            handoffs: 0,
        }
    }

    /// Takes in a record of the ledger; `None` is one that cannot be read.
    pub(super) fn ledger(&mut self, at: Offset, entry: Option<&Entry>) {
        let Some(entry) = entry else {
            self.fold.skip(at);
            return;
        };
        let Ok(change) = self.fold.apply(at, entry) else { return };
        match &entry.record {
            Record::Plan { .. } => self.plans += 1,
            Record::Grant { partitions, .. } => {
                for (partition, _) in partitions {
                    self.granted(*partition, Epoch(at));
                }
            }
            Record::Stopped { partitions, reason, .. } => {
                let in_order = matches!(reason, StopReason::Command | StopReason::Barred);
                for (partition, epoch, _) in partitions.iter().filter(|_| in_order) {
                    self.given_back(*partition, *epoch);
                }
            }
            _ => {}
        }
        let again = |partition: &&PartitionId| {
            self.grants.get(partition).is_some_and(|grants| grants.len() > 1)
        };
        self.handoffs += change.activated.iter().filter(again).count() as u64;
    }

    fn granted(&mut self, partition: PartitionId, epoch: Epoch) {
        if matches!(self.fold.ownership(partition), Ownership::Granted { epoch: found, .. } if found == epoch)
        {
            self.grants.entry(partition).or_default().insert(epoch, false);
        }
    }

    fn given_back(&mut self, partition: PartitionId, epoch: Epoch) {
        let grants = self.grants.get_mut(&partition);
        if let Some(in_order) = grants.and_then(|grants| grants.get_mut(&epoch)) {
            *in_order = true;
        }
    }

    /// Takes in what the monitor has published of a topic.
    pub(super) fn rates(&mut self, rates: &PartitionRates) {
        for (number, measurement) in rates.report().rates {
            let partition = PartitionId { topic: rates.topic_id, number };
            let measured = Measured {
                bytes_per_sec: measurement.filtered_rate,
                records_per_sec: measurement.records_per_sec,
                high_watermark: measurement.sample.high_watermark.0,
            };
            self.measured.insert(partition, measured);
        }
    }

    /// Up to where a partition is durable, as far as its owners have told.
    pub(super) fn durable(&self, partition: PartitionId) -> u64 {
        self.fold.ownership(partition).next().map_or(0, |next| next.0)
    }

    /// How many partitions somebody reads.
    pub(super) fn active(&self) -> usize {
        let active =
            |(_, ownership): &(_, Ownership)| matches!(ownership, Ownership::Active { .. });
        self.fold.partitions().filter(active).count()
    }

    /// Consumers that own something.
    pub(super) fn owners(&self) -> BTreeSet<ConsumerNumber> {
        self.fold
            .partitions()
            .filter_map(|(partition, _)| self.fold.consumer_of(partition))
            .collect()
    }

    /// Whether a partition went from one epoch to the other as planned: every owner in between gave it back on command.
    pub(super) fn was_planned(&self, partition: PartitionId, from: Epoch, to: Epoch) -> bool {
        let grants = self.grants.get(&partition);
        grants.is_some_and(|grants| {
            grants.contains_key(&from) && grants.range(from..to).all(|(_, in_order)| *in_order)
        })
    }

    /// This moment.
    pub(super) fn sample(&self, at_ms: u64, written_bytes: u64) -> Sample {
        let mut consumers: BTreeMap<ConsumerNumber, Load> =
            self.fold.lives().iter().map(|(_, life)| (life.consumer, Load::default())).collect();
        let (mut known, mut backlog, mut records_per_sec) = (0, 0, 0);
        for (partition, _) in self.fold.partitions() {
            known += 1;
            let measured = self.measured.get(&partition).copied().unwrap_or_default();
            backlog += measured.high_watermark.saturating_sub(self.durable(partition));
            records_per_sec += measured.records_per_sec;
            let owner = self.fold.consumer_of(partition);
            if let Some(load) = owner.and_then(|owner| consumers.get_mut(&owner)) {
                load.bytes_per_sec += measured.bytes_per_sec;
                load.partitions += 1;
            }
        }
        let rates = self.measured.iter();
        Sample {
            at_ms,
            rates: rates
                .map(|(partition, measured)| (*partition, measured.bytes_per_sec))
                .collect(),
            consumers,
            in_flight: known - self.active(),
            behind_ms: backlog.saturating_mul(1000).checked_div(records_per_sec).unwrap_or(0),
            handoffs: self.handoffs,
            plans: self.plans,
            written_bytes,
        }
    }
}

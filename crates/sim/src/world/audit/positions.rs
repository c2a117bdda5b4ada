//! Known positions, and whose they are: they never go back, never run ahead of the sink, and pass from owner to owner.

use tidegate_core::ids::{Offset, PartitionId, Position};
use tidegate_core::ledger::Ownership;

use super::super::World;
use super::Promise;

impl World {
    pub(super) fn audit_positions(&mut self, at: Offset, before: &[(PartitionId, Ownership)]) {
        for (partition, ownership) in before {
            let now = self.audit.reference.ownership(*partition).next();
            if goes_back(ownership.next(), now) {
                let what = format_args!("{at:?} {partition}: {ownership:?} -> {now:?}");
                self.violate(Promise::NeverBack, what);
            }
        }
        let known: Vec<_> = self.audit.reference.partitions().collect();
        for (partition, ownership) in known {
            let Some(next) = ownership.next() else { continue };
            // Where a partition begins that nobody ever read was decided once: what is before is nobody's.
            let durable = *self.audit.durable.entry(partition).or_insert(next.0);
            if next.0 > durable && !self.audit.behind.contains_key(&partition) {
                let what =
                    format_args!("{at:?} {partition}: {ownership:?}, but durable to {durable}");
                self.violate(Promise::NothingLost, what);
            }
        }
    }

    /// P1 over time.
    pub(super) fn audit_tenures(&mut self, at: Offset, before: &[(PartitionId, Ownership)]) {
        let owners = self.audit.reference.partitions();
        let mut owners: Vec<_> =
            owners.map(|(partition, ownership)| (partition, ownership.owner())).collect();
        // A life of the ledger that ends leaves nobody anything.
        if owners.is_empty() {
            owners = before.iter().map(|(partition, _)| (*partition, None)).collect();
        }
        for (partition, owner) in owners {
            if let Some(fault) = self.audit.tenures.observe(at, partition, owner) {
                self.violate(Promise::Disjoint, format_args!("{at:?} {partition}: {fault}"));
            }
        }
    }
}

/// L3.
fn goes_back(before: Option<Position>, now: Option<Position>) -> bool {
    now < before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_that_falls_or_is_forgotten_goes_back() {
        let position = |at| Some(Position(at));
        assert!(goes_back(position(5), position(4)));
        assert!(goes_back(position(0), None));
        assert!(!goes_back(None, position(0)));
        assert!(!goes_back(position(5), position(5)));
    }
}

//! The time of each owner in the ledger: disjoint from the next one's, and under a higher epoch.

use std::collections::BTreeMap;

use tidegate_core::ids::{Epoch, Incarnation, Offset, PartitionId};

type Owner = (Epoch, Incarnation);

/// The last owner of each partition, and where its time ended.
#[derive(Debug, Default)]
pub(super) struct Tenures(BTreeMap<PartitionId, Tenure>);

#[derive(Clone, Copy, Debug)]
struct Tenure {
    owner: Owner,
    ended: Option<Offset>,
}

impl Tenures {
    /// Takes in who owns a partition after the record at an offset; says what is wrong with that.
    pub(super) fn observe(
        &mut self,
        at: Offset,
        partition: PartitionId,
        owner: Option<Owner>,
    ) -> Option<String> {
        let last = self.0.get(&partition).copied();
        let fault = match (last, owner) {
            (Some(Tenure { owner: last, ended: None }), Some(owner)) if last != owner => {
                Some(format!("{owner:?} begins while {last:?} owns it"))
            }
            (Some(Tenure { owner: last, ended: Some(ended) }), Some(owner)) => (owner.0 <= last.0
                || owner.0.0 < ended)
                .then(|| format!("{owner:?} begins before {last:?}, which ended at {ended:?}")),
            _ => None,
        };
        let tenure = match (last, owner) {
            (_, Some(owner)) => Some(Tenure { owner, ended: None }),
            (Some(Tenure { owner, ended: None }), None) => Some(Tenure { owner, ended: Some(at) }),
            (last, None) => last,
        };
        if let Some(tenure) = tenure {
            self.0.insert(partition, tenure);
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::TopicId;

    use super::*;

    const PARTITION: PartitionId = PartitionId { topic: TopicId([7; 16]), number: 0 };

    fn owner(epoch: u64, incarnation: u64) -> Owner {
        (Epoch(Offset(epoch)), Incarnation(Offset(incarnation)))
    }

    #[test]
    fn an_owner_may_follow_once_the_one_before_has_ended() {
        let mut tenures = Tenures::default();
        for (at, owner) in
            [(3, Some(owner(3, 1))), (4, Some(owner(3, 1))), (5, None), (6, Some(owner(6, 2)))]
        {
            assert_eq!(tenures.observe(Offset(at), PARTITION, owner), None);
        }
    }

    #[test]
    fn an_owner_that_follows_without_an_end_between_is_found() {
        let mut tenures = Tenures::default();
        assert_eq!(tenures.observe(Offset(3), PARTITION, Some(owner(3, 1))), None);
        assert!(tenures.observe(Offset(4), PARTITION, Some(owner(4, 2))).is_some());
    }

    #[test]
    fn an_owner_of_an_epoch_that_is_over_is_found() {
        let mut tenures = Tenures::default();
        assert_eq!(tenures.observe(Offset(3), PARTITION, Some(owner(3, 1))), None);
        assert_eq!(tenures.observe(Offset(5), PARTITION, None), None);
        assert!(tenures.observe(Offset(6), PARTITION, Some(owner(3, 1))).is_some());
    }
}

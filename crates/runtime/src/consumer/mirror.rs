//! What is committed under the group's name, for tools that read offsets there. It is a mirror of what is durable: nothing here
//! decides anything, and a commit that fails holds nothing up.
//!
//! Committed is what has changed, so that idle partitions cost nothing; and everything once in a while, so that no broker takes a
//! commit for abandoned. One commit is under way at a time: a later one never overtakes an earlier one. So positions under one epoch
//! only rise. Another owner may still have a commit under way, of some seconds ago; the next change or the next full commit
//! puts that right.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ids::{Epoch, Instant, PartitionId, Position};

use crate::ports::TopicPartition;

/// Time between two commits of everything. Brokers keep a commit for a week by default (`offsets.retention.minutes`), and some are
/// set to a day: an hour leaves room for many that fail.
const ALL: Duration = Duration::from_secs(3600);

/// What is to be committed, or was.
pub(super) type Commit = BTreeMap<TopicPartition, (Epoch, Position)>;

/// What was committed, as far as it is known.
#[derive(Debug)]
pub(super) struct Mirror {
    committed: BTreeMap<PartitionId, (Epoch, Position)>,
    under_way: bool,
    /// The one under way is of everything.
    of_all: bool,
    all_due: Instant,
    failing: bool,
}

// === impl Mirror ===

impl Mirror {
    pub(super) fn new(now: Instant) -> Self {
        let all_due = now.after(ALL);
        let committed = BTreeMap::new();
        Self { committed, under_way: false, of_all: false, all_due, failing: false }
    }

    /// What is to be committed of what is held now; nothing while a commit is under way. The answer goes to [`Self::ended`].
    pub(super) fn due(
        &mut self,
        now: Instant,
        held: impl Iterator<Item = (TopicPartition, Epoch, Position)>,
    ) -> Commit {
        if self.under_way {
            return Commit::new();
        }
        self.of_all = self.all_due <= now;
        let mut before = std::mem::take(&mut self.committed);
        let mut commit = Commit::new();
        for (partition, epoch, position) in held {
            let known = before.remove(&partition.id).filter(|(of, _)| *of == epoch);
            let position = known.map_or(position, |(_, known)| known.max(position));
            if self.of_all || known.is_none_or(|(_, known)| known < position) {
                commit.insert(partition.clone(), (epoch, position));
            }
            self.committed.extend(known.map(|known| (partition.id, known)));
        }
        self.under_way = !commit.is_empty();
        commit
    }

    /// Notes how a commit ended. Returns true when that is news: the first that fails, or the first that is done again.
    pub(super) fn ended(&mut self, now: Instant, commit: Commit, done: bool) -> bool {
        self.under_way = false;
        if done {
            if self.of_all {
                self.all_due = now.after(ALL);
            }
            self.committed
                .extend(commit.into_iter().map(|(partition, known)| (partition.id, known)));
        }
        std::mem::replace(&mut self.failing, !done) == done
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::{Offset, TopicId};

    use super::*;

    fn held(rows: &[(u32, u64, u64)]) -> impl Iterator<Item = (TopicPartition, Epoch, Position)> {
        rows.iter().map(|(number, epoch, position)| {
            let id = PartitionId { topic: TopicId([1; 16]), number: *number };
            let partition = TopicPartition { topic: "orders".to_owned(), id };
            (partition, Epoch(Offset(*epoch)), Position(*position))
        })
    }

    fn rows(commit: &Commit) -> Vec<(u32, u64, u64)> {
        let row = |(partition, (epoch, position)): (&TopicPartition, &(Epoch, Position))| {
            (partition.id.number, epoch.0.0, position.0)
        };
        commit.iter().map(row).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn only_what_has_changed_is_committed_and_everything_once_an_hour() {
        let mut mirror = Mirror::new(at(0));
        let commit = mirror.due(at(0), held(&[(0, 1, 5), (1, 1, 7)]));
        assert_eq!(rows(&commit), [(0, 1, 5), (1, 1, 7)]);
        mirror.ended(at(1), commit, true);
        assert!(mirror.due(at(5), held(&[(0, 1, 5), (1, 1, 7)])).is_empty());
        let commit = mirror.due(at(10), held(&[(0, 1, 6), (1, 1, 7)]));
        assert_eq!(rows(&commit), [(0, 1, 6)]);
        mirror.ended(at(11), commit, true);
        let commit = mirror.due(at(3600), held(&[(0, 1, 6), (1, 1, 7)]));
        assert_eq!(rows(&commit), [(0, 1, 6), (1, 1, 7)]);
        mirror.ended(at(3601), commit, true);
        assert!(mirror.due(at(3605), held(&[(0, 1, 6), (1, 1, 7)])).is_empty());
    }

    #[test]
    fn positions_rise_under_one_epoch_and_begin_anew_under_the_next() {
        let mut mirror = Mirror::new(at(0));
        let commit = mirror.due(at(0), held(&[(0, 1, 9)]));
        mirror.ended(at(1), commit, true);
        assert!(mirror.due(at(5), held(&[(0, 1, 8)])).is_empty());
        assert_eq!(rows(&mirror.due(at(10), held(&[(0, 2, 8)]))), [(0, 2, 8)]);
    }

    #[test]
    fn one_commit_is_under_way_at_a_time_and_what_failed_is_committed_again() {
        let mut mirror = Mirror::new(at(0));
        let commit = mirror.due(at(0), held(&[(0, 1, 9)]));
        assert!(mirror.due(at(5), held(&[(0, 1, 10)])).is_empty());
        assert!(mirror.ended(at(6), commit, false), "the first failure is news");
        let commit = mirror.due(at(10), held(&[(0, 1, 10)]));
        assert_eq!(rows(&commit), [(0, 1, 10)]);
        assert!(!mirror.ended(at(11), commit, false), "the next is not");
        let commit = mirror.due(at(15), held(&[(0, 1, 10)]));
        assert!(mirror.ended(at(16), commit, true), "that it is done again is");
    }
}

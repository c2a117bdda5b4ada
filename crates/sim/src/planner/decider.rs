//! A policy in a closed loop: each decision starts from the assignment that the last one left. It keeps that assignment and, for the
//! algorithms that want one, the random order in which they look at partitions.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::ids::{ConsumerNumber, PartitionId};
use tidegate_core::pack::reference::{Algorithm, Load};
use tidegate_core::pack::{self, Item};

use super::policy::Policy;
use super::sizing::{Sizing, Tuning};
use super::stream::{PartitionName, ids};
use crate::rng::Rng;

/// A policy and what it has decided so far.
#[derive(Clone, Debug)]
pub struct Decider {
    policy: Policy,
    sizing: Sizing,
    partitions: Vec<PartitionName>,
    ids: Vec<PartitionId>,
    current: Vec<Option<u32>>,
    order: Rng,
}

/// What a policy has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Each partition's consumer.
    pub next: Vec<u32>,
    /// How many consumers run.
    pub consumers: usize,
    /// The sum of the rates of partitions that had another consumer before.
    pub moved_load: u64,
    /// How many those are.
    pub moved: usize,
}

// === impl Decider ===

impl Decider {
    /// A policy that has decided nothing yet. The seed is for the random orders.
    pub fn new(policy: Policy, sizing: Sizing, partitions: &[PartitionName], seed: u64) -> Self {
        Self {
            policy,
            sizing,
            partitions: partitions.to_vec(),
            ids: ids(partitions.iter()),
            current: vec![None; partitions.len()],
            order: Rng::new(seed),
        }
    }

    /// Who decides.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Decides for these rates, one for each partition.
    pub fn decide(&mut self, rates: &[u64]) -> Result<Decision, pack::Error> {
        let next = match self.policy {
            Policy::Reference(algorithm) => self.refer(algorithm, rates),
            Policy::Packer(tuning) => self.pack(tuning, rates)?,
            Policy::Kafka(assignor, consumers) => {
                assignor.assign(&self.partitions, consumers.get())
            }
        };
        let consumers = match self.policy {
            Policy::Kafka(_, consumers) => usize::try_from(consumers.get()).unwrap_or(usize::MAX),
            Policy::Reference(_) | Policy::Packer(_) => next.iter().collect::<BTreeSet<_>>().len(),
        };
        let mut decision = Decision { next, consumers, moved_load: 0, moved: 0 };
        for ((before, after), rate) in self.current.iter().zip(&decision.next).zip(rates) {
            if before.is_some_and(|before| before != *after) {
                decision.moved_load = decision.moved_load.saturating_add(*rate);
                decision.moved += 1;
            }
        }
        self.current = decision.next.iter().copied().map(Some).collect();
        Ok(decision)
    }

    /// A published algorithm. The order is drawn anew for each decision, as published.
    fn refer(&mut self, algorithm: Algorithm, rates: &[u64]) -> Vec<u32> {
        let mut order: Vec<usize> = (0..rates.len()).collect();
        self.order.shuffle(&mut order);
        let load = |(size, current): (&u64, &Option<u32>)| Load { size: *size, current: *current };
        let loads: Vec<Load> = rates.iter().zip(&self.current).map(load).collect();
        let next = algorithm.run(self.sizing.packing, &loads, &order);
        next.into_iter().map(|at| at.expect("the order names every partition")).collect()
    }

    /// The production packer, whose consumers are numbered from 1.
    fn pack(&self, tuning: Tuning, rates: &[u64]) -> Result<Vec<u32>, pack::Error> {
        let mut items = BTreeMap::new();
        for ((id, weight), home) in self.ids.iter().zip(rates).zip(&self.current) {
            let home = home.and_then(|home| ConsumerNumber::new(home.saturating_add(1)));
            items.insert(*id, Item { weight: *weight, home, pinned: None });
        }
        let solution = pack::solve(&self.sizing.problem(items, tuning))?;
        let number = |id: &PartitionId| solution.assignment.get(id).map(|at| at.get() - 1);
        let next =
            self.ids.iter().map(number).map(|at| at.expect("nothing waits without a maximum"));
        Ok(next.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Walk;
    use super::*;

    fn decisions(policy: &str, seed: u64) -> Vec<Decision> {
        let stream = Walk { partitions: 20, delta: 10, iterations: 20 }.stream(1);
        let policy = Policy::parse(policy).unwrap();
        let mut decider = Decider::new(policy, Sizing::full(100), stream.partitions(), seed);
        stream.rows().iter().map(|row| decider.decide(row).unwrap()).collect()
    }

    #[test]
    fn the_first_assignment_is_free_and_later_ones_cost_what_they_move() {
        for policy in Policy::usual() {
            let decisions = decisions(&policy.to_string(), 1);
            assert_eq!((decisions[0].moved, decisions[0].moved_load), (0, 0), "{policy}");
            assert!(decisions[1..].iter().any(|decision| decision.moved > 0), "{policy}");
        }
    }

    #[test]
    fn no_consumer_gets_more_than_its_packing_limit() {
        let stream = Walk { partitions: 20, delta: 10, iterations: 20 }.stream(1);
        for policy in Policy::usual() {
            let decisions = decisions(&policy.to_string(), 1);
            for (row, decision) in stream.rows().iter().zip(decisions) {
                let mut loads: BTreeMap<u32, u64> = BTreeMap::new();
                for (rate, at) in row.iter().zip(decision.next) {
                    *loads.entry(at).or_default() += rate;
                }
                assert!(loads.values().all(|load| *load <= 100), "{policy}: {loads:?}");
            }
        }
    }

    #[test]
    fn only_the_four_that_do_not_sort_depend_on_the_seed() {
        for policy in Policy::usual().iter().map(ToString::to_string) {
            let is_shuffled = ["nf", "ff", "wf", "bf"].contains(&policy.as_str());
            let is_different = decisions(&policy, 1) != decisions(&policy, 2);
            assert_eq!(is_different, is_shuffled, "{policy}");
        }
    }

    #[test]
    fn kafka_never_moves_anything_and_runs_all_its_consumers() {
        for decision in decisions("kafka-range-30", 1) {
            assert_eq!((decision.consumers, decision.moved), (30, 0));
        }
    }

    #[test]
    fn a_total_that_does_not_fit_is_an_error_and_no_wrong_figure() {
        let names = ["a:0", "a:1"].map(|name| PartitionName::parse(name).unwrap());
        let tight = Policy::parse("tight").unwrap();
        let mut decider = Decider::new(tight, Sizing::full(100), &names, 1);
        assert_eq!(decider.decide(&[u64::MAX, 1]), Err(pack::Error::TotalTooLarge));
    }
}

//! Finds the end of a chain in a bucket, where names can be listed in rising order only, and a chain may have millions.
//!
//! A list can begin behind any name, though, and the names are numbers. So the search leaps forward, twice as far each
//! time, until nothing is behind; then it halves the distance until one page holds the rest. That is some two requests
//! for each doubling of the chain: twenty for a million objects. It only decides where to look next; who asks fetches the
//! pages.

use tidegate_core::ids::Position;

/// What was listed behind a position.
#[derive(Debug)]
pub(super) struct Page {
    /// The first positions behind it, in rising order. When there is more, at least as many as are searched.
    pub(super) positions: Vec<Position>,
    /// Others follow.
    pub(super) more: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// List behind this position; from the beginning when there is none.
    List(Option<Position>),
    /// The search is over: these are the highest.
    Found(Vec<Position>),
}

/// A search for the highest `count` positions.
#[derive(Debug)]
pub(super) struct Search {
    count: usize,
    /// Behind it are `count` positions at least; absent until a page is known.
    low: Option<Position>,
    /// Behind it are fewer; absent while leaping.
    high: Option<Position>,
    /// How far the next leap goes.
    leap: u64,
    found: Option<Vec<Position>>,
}

impl Search {
    /// A search among the positions up to one, or all of them.
    pub(super) fn new(count: usize, up_to: Option<Position>) -> Self {
        Self { count, low: None, high: up_to, leap: 1, found: None }
    }

    /// What to do next.
    pub(super) fn step(&mut self) -> Step {
        if let Some(found) = self.found.take() {
            return Step::Found(found);
        }
        Step::List(self.target())
    }

    fn target(&self) -> Option<Position> {
        let low = self.low?;
        Some(match self.high {
            None => Position(low.0.saturating_add(self.leap)),
            Some(high) => Position(low.0 + high.0.saturating_sub(low.0) / 2),
        })
    }

    /// Learns what was listed where the last step said.
    pub(super) fn learn(&mut self, page: Page) {
        let listed = self.target();
        let Page { mut positions, more } = page;
        let kept = positions.len().saturating_sub(self.count);
        if !more {
            // At the lowest place there is no lower one to find more behind: what is there is all.
            if positions.len() >= self.count || listed == self.low {
                self.found = Some(positions.split_off(kept));
            } else {
                self.high = listed;
            }
            return;
        }
        let before = self.low.or(positions.first().copied()).unwrap_or(Position(0));
        // Behind it are the others of this page, and one of the next at least.
        let low = positions.get(kept).copied().unwrap_or(before);
        self.leap = self.leap.max(low.0.saturating_sub(before.0)).saturating_mul(2);
        self.low = Some(low);
        // Somebody has written on meanwhile.
        self.high = self.high.filter(|high| *high > low);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = 1000;

    /// The highest positions, and how many requests they took.
    fn search(
        chain: &BTreeSet<u64>,
        count: usize,
        up_to: Option<u64>,
        page: usize,
    ) -> (Vec<u64>, usize) {
        let mut search = Search::new(count, up_to.map(Position));
        for requests in 0.. {
            let after = match search.step() {
                Step::Found(found) => return (found.iter().map(|at| at.0).collect(), requests),
                Step::List(after) => after,
            };
            assert!(requests < 300, "the search does not end");
            let begin = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0));
            let end = up_to.map_or(Bound::Unbounded, Bound::Included);
            let is_empty =
                matches!((begin, end), (Bound::Excluded(a), Bound::Included(b)) if a >= b);
            let behind: Vec<_> =
                if is_empty { vec![] } else { chain.range((begin, end)).copied().collect() };
            let more = behind.len() > page;
            let positions = behind.into_iter().take(page).map(Position).collect();
            search.learn(Page { positions, more });
        }
        unreachable!("the loop returns")
    }

    #[test]
    fn a_million_objects_take_some_twenty_requests() {
        let chain: BTreeSet<u64> = (0..1_000_000).map(|at| at * 4321).collect();
        let (found, requests) = search(&chain, 2, None, PAGE);
        assert_eq!(found, [999_998 * 4321, 999_999 * 4321]);
        assert!(requests <= 24, "{requests} requests");
    }

    #[test]
    fn a_short_chain_takes_one_request_and_none_too() {
        assert_eq!(search(&BTreeSet::new(), 2, None, PAGE), (vec![], 1));
        assert_eq!(search(&BTreeSet::from([7]), 2, None, PAGE), (vec![7], 1));
        assert_eq!(search(&(0..PAGE as u64).collect(), 2, None, PAGE), (vec![998, 999], 1));
    }

    #[test]
    fn positions_at_the_end_of_what_there_is_are_found() {
        let mut chain: BTreeSet<u64> = (0..5000).collect();
        chain.extend([u64::MAX - 1, u64::MAX]);
        let (found, requests) = search(&chain, 2, None, PAGE);
        assert_eq!(found, [u64::MAX - 1, u64::MAX]);
        assert!(requests <= 130, "{requests} requests");
    }

    proptest! {
        #[test]
        fn the_highest_are_found_in_any_chain(
            steps in proptest::collection::vec((0_u32..40, 1_u64..1000), 0..300),
            count in 1_usize..4,
            up_to in proptest::option::of(any::<prop::sample::Index>()),
            page in 4_usize..40,
        ) {
            let mut at = 0_u64;
            let chain: BTreeSet<u64> = steps.into_iter().map(|(scale, step)| {
                at = at.saturating_add(step << scale);
                at
            }).collect();
            let up_to = up_to.map(|index| index.index(1 << 50) as u64);
            let (found, _) = search(&chain, count, up_to, page);
            let mut wanted: Vec<u64> =
                chain.iter().rev().filter(|at| up_to.is_none_or(|up_to| **at <= up_to)).take(count).copied().collect();
            wanted.reverse();
            prop_assert_eq!(found, wanted);
        }
    }
}

//! The search: ruin, recreate, accept or undo.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "indices come from the workbench; costs are bounded there so that no sum of a step's overflows"
)]

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::bench::{Bench, Bin, Piece};
use super::random::Random;

/// Consumers that one step takes partitions from, at most.
const BINS: usize = 8;

/// Partitions that one step takes off, at most about.
const PIECES: usize = 24;

/// How often the temperature falls, and to how much of 1024 each time: to a thirtieth in all.
const STAGES: u64 = 32;
const COOLING: u64 = 921;

/// The first temperature, in permille of a consumer's price, and at most in permille of moving its load, or one partition of the mean
/// weight: a step that costs so much more is taken once in three times. Small partitions are put in place at small costs.
const HOT_PERMILLE: i64 = 175;
const HOTTEST_PERMILLE: i64 = 350;

/// The search's memory besides the workbench.
#[derive(Debug)]
struct Search<'a> {
    bench: &'a mut Bench,
    random: Random,
    temperature: u64,
    /// Cost now, against the cost at the start; and the least that it was.
    cost: i64,
    least: i64,
    best: Vec<Bin>,
    /// Partitions that are elsewhere than in the best.
    changed: Vec<Piece>,
    is_changed: Vec<bool>,
    bins: Vec<Bin>,
    taken: Vec<(u64, Piece, Bin)>,
}

/// Looks for something that costs less, and leaves the best on the workbench. One step of the budget is one look at one
/// place for one partition.
pub(super) fn anneal(bench: &mut Bench, steps: u64, seed: u64) {
    if bench.len() < 2 {
        return;
    }
    let count = bench.at.len();
    let mut search = Search {
        random: Random::new(seed),
        temperature: hot(bench),
        cost: 0,
        least: 0,
        best: bench.at.clone(),
        changed: Vec::new(),
        is_changed: vec![false; count],
        bins: Vec::new(),
        taken: Vec::new(),
        bench,
    };
    let stage = steps / STAGES;
    for _ in 0..STAGES {
        let mut left = stage;
        while left > 0 {
            left = left.saturating_sub(search.step());
        }
        search.temperature = search.temperature * COOLING / 1024 + 1;
    }
    search.restore();
}

fn hot(bench: &Bench) -> u64 {
    let by_price = bench.lowest_price() * HOT_PERMILLE / 1000;
    let by_load = bench.whole_load() * HOTTEST_PERMILLE / 1000;
    u64::try_from(by_price.min(by_load).min(bench.mean_move())).unwrap_or(0) + 1
}

impl Search<'_> {
    /// One step; gives the looks that it took.
    fn step(&mut self) -> u64 {
        let open = self.bench.len();
        self.choose();
        let freed = self.ruin();
        let tolerated = self.temperature.saturating_mul(self.random.exponential()) >> 10;
        let tolerated = i64::try_from(tolerated).unwrap_or(i64::MAX);
        let looks = 1 + self.bins.len() * (1 + self.taken.len());
        match self.recreate(freed, tolerated, open) {
            Some(delta) => self.accept(delta),
            None => self.undo(),
        }
        debug_assert!(
            self.bench.allows(self.bench.len()) || self.bench.len() == open,
            "the limits are kept"
        );
        u64::try_from(looks).unwrap_or(u64::MAX)
    }

    /// Chooses consumers that have to do with each other: by the homes of what they have, and some at random.
    fn choose(&mut self) {
        let Self { bench, random, bins, .. } = self;
        let wanted = 2 + random.index(BINS - 1);
        bins.clear();
        bins.push(bench.open()[random.index(bench.len())]);
        for _ in 0..4 * wanted {
            if bins.len() >= wanted {
                break;
            }
            let from = bins[random.index(bins.len())];
            let pieces = &bench.pieces[from];
            let next = match random.index(3) {
                0 if !pieces.is_empty() => bench.home[pieces[random.index(pieces.len())]],
                1 => {
                    let piece = random.index(bench.at.len());
                    Some(piece)
                        .filter(|piece| bench.home[*piece] == Some(from))
                        .map(|piece| bench.at[piece])
                }
                _ => None,
            };
            let next = next.unwrap_or_else(|| bench.open()[random.index(bench.len())]);
            if !bins.contains(&next) {
                bins.push(next);
            }
        }
    }

    /// Takes the partitions of the chosen consumers off, of very many only some; gives what all that had cost.
    fn ruin(&mut self) -> i64 {
        let Self { bench, random, bins, taken, .. } = self;
        taken.clear();
        let all: usize = bins.iter().map(|bin| bench.pieces[*bin].len()).sum();
        for bin in &*bins {
            for piece in &bench.pieces[*bin] {
                let stays = bench.fixed[*piece] || all > PIECES && random.index(all) >= PIECES;
                if !stays {
                    taken.push((0, *piece, *bin));
                }
            }
        }
        let mut freed = 0;
        for (key, piece, from) in &mut *taken {
            bench.take(*piece);
            freed += bench.move_cost(*piece, *from);
            freed += if bench.is_open(*from) { 0 } else { bench.price(*from) };
            // Heaviest first, give or take a quarter.
            let noise = 768 + (random.next() >> 55);
            *key = bench.weight[*piece].saturating_mul(noise);
        }
        freed
    }

    /// Puts them back where each costs least; gives what all together cost more than before, or `None` when that is not tolerated.
    fn recreate(&mut self, freed: i64, tolerated: i64, open: usize) -> Option<i64> {
        let mut delta = -freed;
        let mut order = core::mem::take(&mut self.taken);
        order.sort_unstable_by_key(|(key, piece, _)| (Reverse(*key), *piece));
        let mut placed = 0;
        for (_, piece, _) in &order {
            let Some((cost, to)) = self.cheapest(*piece) else { break };
            delta = delta.saturating_add(cost);
            if delta > tolerated {
                break;
            }
            self.bench.put(*piece, to);
            placed += 1;
        }
        let complete = placed == order.len();
        let gone = |bin: &Bin| self.bench.is_needed(*bin) && !self.bench.is_open(*bin);
        let len = self.bench.len();
        let allowed = (len == open || self.bench.allows(len))
            && self.bench.moves_no_more()
            && !self.bins.iter().any(gone);
        if !(complete && allowed) {
            for (_, piece, _) in &order[..placed] {
                self.bench.take(*piece);
            }
        }
        self.taken = order;
        (complete && allowed).then_some(delta)
    }

    /// Where a partition costs least, then where it fits best; now and then a place is overlooked.
    fn cheapest(&mut self, piece: Piece) -> Option<(i64, Bin)> {
        let mut best: Option<(i64, u64, Bin)> = None;
        for bin in &self.bins {
            if !self.bench.fits(piece, *bin) || self.random.seldom() {
                continue;
            }
            let first = if self.bench.is_open(*bin) { 0 } else { self.bench.price(*bin) };
            let cost = self.bench.move_cost(piece, *bin) + first;
            let found = (cost, self.bench.room(*bin), *bin);
            if best.is_none_or(|best| found < best) {
                best = Some(found);
            }
        }
        if let Some((cost, _, bin)) = best {
            return Some((cost, bin));
        }
        let bench = &self.bench;
        let spare = bench.closed().iter().copied().find(|bin| bench.fits(piece, *bin))?;
        Some((bench.move_cost(piece, spare) + bench.price(spare), spare))
    }

    fn accept(&mut self, delta: i64) {
        self.cost += delta;
        for (_, piece, from) in &self.taken {
            if self.bench.at[*piece] != *from && !self.is_changed[*piece] {
                self.is_changed[*piece] = true;
                self.changed.push(*piece);
            }
        }
        if self.cost < self.least {
            self.least = self.cost;
            for piece in self.changed.drain(..) {
                self.best[piece] = self.bench.at[piece];
                self.is_changed[piece] = false;
            }
        }
    }

    fn undo(&mut self) {
        for (_, piece, from) in &self.taken {
            self.bench.put(*piece, *from);
        }
    }

    /// Brings the best back.
    fn restore(&mut self) {
        for piece in &self.changed {
            self.bench.take(*piece);
        }
        for piece in &self.changed {
            self.bench.put(*piece, self.best[*piece]);
        }
    }
}

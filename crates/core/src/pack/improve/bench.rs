//! A second workbench, of dense tables: each step of the search costs well below a microsecond.
//!
//! Invariants: a consumer that somebody has come to is at most at its packing limit, one that nobody has come to at most at its
//! overload limit, unless it has one partition alone; a partition that is fixed stays where it is.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the tables are indexed by numbers that this module handed out, and loads are sums of weights that were \
              found to fit"
)]

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::super::problem::{permille_in, permille_of};
use super::super::table::{Consumer, Placement, Slot, Table};

pub(super) use super::super::table::Piece;

/// Index of a consumer among those that the search knows.
pub(super) type Bin = usize;

/// Costs are in 1/16 of a byte/s, so that of two ways of one weight the one with fewer moves costs less.
const FINE: u64 = 16;

/// So many consumers that have nothing are at hand.
const SPARE: usize = 2;

/// Weights are scaled so that all together stay below this power of two: then no sum of costs overflows.
const COST_BITS: u32 = 44;

/// Partitions on consumers.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub(super) weight: Vec<u64>,
    pub(super) home: Vec<Option<Bin>>,
    pub(super) fixed: Vec<bool>,
    pub(super) at: Vec<Bin>,
    /// What it costs to be away from home.
    away: Vec<i64>,
    slots: Vec<Slot>,
    packing: Vec<u64>,
    overload: Vec<u64>,
    price: Vec<i64>,
    /// What it costs to move as much as fits.
    whole: Vec<i64>,
    load: Vec<u64>,
    /// Partitions with weight that have come.
    guests: Vec<u32>,
    pub(super) pieces: Vec<Vec<Piece>>,
    /// It must not be given up.
    needed: Vec<bool>,
    /// All consumers, first those with partitions.
    order: Vec<Bin>,
    rank: Vec<usize>,
    open: usize,
    least: usize,
    most: usize,
    largest_packing: u64,
    /// The load that is not at home though nothing drives it out, and how much that may be.
    moved: u64,
    may_move: u64,
    /// Consumers that are overloaded with all that is at home there.
    drives_out: Vec<bool>,
}

/// Consumers by their room, while everything is packed anew.
#[derive(Debug)]
struct Rooms {
    open: BTreeSet<(u64, Bin)>,
    closed: BTreeSet<Bin>,
}

// === impl Rooms ===

impl Rooms {
    fn new(bench: &Bench) -> Self {
        let open = bench.open().iter().map(|bin| (bench.room(*bin), *bin));
        Self { open: open.collect(), closed: bench.closed().iter().copied().collect() }
    }

    /// The open consumer that a partition fills best; that it fits at home above the packing limit is not seen here.
    fn best_fit(&self, bench: &Bench, piece: Piece) -> Option<Bin> {
        let mut roomy = self.open.range((bench.weight[piece], 0)..).map(|(_, bin)| *bin);
        roomy.find(|bin| bench.fits(piece, *bin))
    }

    /// A consumer changes after this, and is entered again.
    fn leave(&mut self, bench: &Bench, bin: Bin) {
        self.open.remove(&(bench.room(bin), bin));
        self.closed.remove(&bin);
    }

    fn enter(&mut self, bench: &Bench, bin: Bin) {
        self.open.insert((bench.room(bin), bin));
    }
}

// === impl Bench ===

impl Bench {
    /// Sets it up; `None` when a partition waits, or a consumer is above its limit with several.
    pub(super) fn new(table: &Table<'_>, found: &Placement) -> Option<Self> {
        let problem = table.problem;
        let mut is_there = vec![false; table.consumers.len()];
        for slot in table.homes.iter().chain(found).flatten() {
            is_there[*slot] = table.consumers[*slot].is_usable;
        }
        let slots = (0..is_there.len()).filter(|slot| table.consumers[*slot].is_usable);
        let (there, others): (Vec<_>, Vec<_>) = slots.partition(|slot| is_there[*slot]);
        let (running, new): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|slot| table.consumers[*slot].runs);
        let mut slots: Vec<Slot> =
            running.into_iter().chain(new).take(SPARE).chain(there).collect();
        slots.sort_unstable();
        let mut index = vec![None; table.consumers.len()];
        for (bin, slot) in slots.iter().enumerate() {
            index[*slot] = Some(bin);
        }
        let total = table.weights.iter().sum::<u64>();
        let shift = (u64::BITS - total.leading_zeros()).saturating_sub(COST_BITS - 4);
        let cost = |amount: u64| {
            let fine = (amount >> shift).min(1 << COST_BITS) * FINE;
            i64::try_from(fine).unwrap_or(i64::MAX)
        };
        let consumers: Vec<_> = slots.iter().map(|slot| table.consumers[*slot]).collect();
        let price = |at: &Consumer| cost(permille_of(at.capacity, problem.alpha_permille));
        let count = slots.len();
        let bin = |slot: &Option<Slot>| slot.and_then(|slot| index[slot]);
        let mut bench = Self {
            weight: table.weights.clone(),
            home: table.homes.iter().map(bin).collect(),
            fixed: table.pins.iter().map(Option::is_some).collect(),
            at: found.iter().map(bin).collect::<Option<_>>()?,
            away: table.weights.iter().map(|weight| cost(*weight) + 1).collect(),
            packing: consumers.iter().map(|at| at.packing).collect(),
            overload: consumers.iter().map(|at| at.overload).collect(),
            price: consumers.iter().map(price).collect(),
            whole: consumers.iter().map(|at| cost(at.packing)).collect(),
            load: vec![0; count],
            guests: vec![0; count],
            pieces: vec![Vec::new(); count],
            needed: vec![false; count],
            order: (0..count).collect(),
            rank: (0..count).collect(),
            open: 0,
            least: usize::try_from(problem.min_consumers).unwrap_or(usize::MAX).max(1),
            most: usize::try_from(problem.most_open()).unwrap_or(usize::MAX),
            largest_packing: consumers.iter().map(|at| at.packing).max()?,
            moved: 0,
            drives_out: Vec::new(),
            may_move: table.max_moved_load,
            slots,
        };
        let mut at_home = vec![0; count];
        for (weight, home) in bench.weight.iter().zip(&bench.home) {
            if let Some(home) = home {
                at_home[*home] += weight;
            }
        }
        let overloads = at_home.iter().zip(&bench.overload);
        bench.drives_out = overloads.map(|(load, overload)| load > overload).collect();
        for piece in 0..bench.at.len() {
            bench.put(piece, bench.at[piece]);
            if let Some(home) = bench.home[piece].filter(|_| !problem.scale_in) {
                bench.needed[home] = true;
            }
        }
        let driven_out = table.moved_load(found) - bench.moved;
        bench.may_move = bench.may_move.saturating_sub(driven_out).max(bench.moved);
        bench.is_sound().then_some(bench)
    }

    fn is_sound(&self) -> bool {
        let mut bins = self.open().iter();
        bins.all(|bin| self.pieces[*bin].len() < 2 || self.load[*bin] <= self.overload[*bin])
    }

    /// The same partitions packed anew: heaviest first, at home unless another consumer is filled much better; one without weight
    /// fills none and stays, if its consumer is still needed. `None` when it is not allowed, or has no room.
    pub(super) fn packed_anew(&self, homesick_permille: u32) -> Option<Self> {
        let mut bench = self.clone();
        let mut loose = bench.take_all();
        loose.sort_by_key(|piece| (core::cmp::Reverse(bench.weight[*piece]), *piece));
        let mut rooms = Rooms::new(&bench);
        for piece in loose {
            let to = bench.fitting_place(piece, &rooms, homesick_permille)?;
            rooms.leave(&bench, to);
            bench.put(piece, to);
            rooms.enter(&bench, to);
        }
        bench.is_allowed().then_some(bench)
    }

    fn fitting_place(&self, piece: Piece, rooms: &Rooms, homesick_permille: u32) -> Option<Bin> {
        if self.weight[piece] == 0
            && let Some(bin) = self.place_of_idle(piece)
        {
            return Some(bin);
        }
        let best = rooms.best_fit(self, piece);
        let home = self.home[piece].filter(|home| self.fits(piece, *home));
        match (best, home) {
            (Some(best), Some(home)) if self.is_open(home) => {
                let tolerated = permille_of(self.packing[home], homesick_permille);
                let is_near = self.room(home) <= self.room(best).saturating_add(tolerated);
                Some(if is_near { home } else { best })
            }
            (Some(best), _) => Some(best),
            (None, Some(home)) => Some(home),
            (None, None) => rooms.closed.iter().copied().find(|bin| self.fits(piece, *bin)),
        }
    }

    /// Where a partition goes that has no weight and fills nothing: home, or where it was found; when those are given up, idle ones
    /// spread over the others.
    fn place_of_idle(&self, piece: Piece) -> Option<Bin> {
        let spread = self.open().get(piece % self.len().max(1)).copied();
        let places = [self.home[piece], Some(self.at[piece]), spread];
        places.into_iter().flatten().find(|bin| self.is_open(*bin) && self.fits(piece, *bin))
    }

    // === what it costs ===

    /// The price of all consumers with partitions, and what it costs that partitions are not at home.
    pub(super) fn cost(&self) -> i128 {
        let consumers: i128 = self.open().iter().map(|bin| i128::from(self.price[*bin])).sum();
        let away = self.at.iter().enumerate().map(|(piece, at)| self.move_cost(piece, *at));
        consumers + away.map(i128::from).sum::<i128>()
    }

    /// What it costs that a partition is on a consumer.
    pub(super) fn move_cost(&self, piece: Piece, bin: Bin) -> i64 {
        match self.home[piece] {
            Some(home) if home != bin => self.away[piece],
            _ => 0,
        }
    }

    /// What a consumer costs that gets its first partition.
    pub(super) fn price(&self, bin: Bin) -> i64 {
        self.price[bin]
    }

    /// The share of the load that is not at home, in permille.
    pub(super) fn moved_permille(&self) -> u64 {
        let weights = self.weight.iter().zip(&self.home).zip(&self.at);
        let away = weights.filter(|((_, home), at)| home.is_some_and(|home| home != **at));
        permille_in(away.map(|((weight, _), _)| weight).sum(), self.weight.iter().sum())
    }

    /// Sets the price of every consumer to so much of 1024 of what it is.
    pub(super) fn scale_prices(&mut self, of_1024: u64) {
        for price in &mut self.price {
            let scaled = i128::from(*price) * i128::from(of_1024) / 1024;
            *price = i64::try_from(scaled).unwrap_or(i64::MAX);
        }
    }

    /// The lowest price of a consumer with partitions.
    pub(super) fn lowest_price(&self) -> i64 {
        self.open().iter().map(|bin| self.price[*bin]).min().unwrap_or(0)
    }

    /// What moving one partition costs, in the mean of those that have a weight.
    pub(super) fn mean_move(&self) -> i64 {
        let moves = self.away.iter().zip(&self.weight).filter(|(_, weight)| **weight > 0);
        let (sum, count) = moves.fold((0, 0), |(sum, count), (away, _)| (sum + *away, count + 1));
        sum / count.max(1)
    }

    /// What moving a whole consumer's load once costs.
    pub(super) fn whole_load(&self) -> i64 {
        self.open().iter().map(|bin| self.whole[*bin]).min().unwrap_or(0)
    }

    // === who is where ===

    /// Consumers with partitions.
    pub(super) fn open(&self) -> &[Bin] {
        &self.order[..self.open]
    }

    /// Consumers without.
    pub(super) fn closed(&self) -> &[Bin] {
        &self.order[self.open..]
    }

    pub(super) fn is_open(&self, bin: Bin) -> bool {
        self.rank[bin] < self.open
    }

    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Whether as many consumers have partitions as may, and all that must, and no more load was moved than may be.
    pub(super) fn is_allowed(&self) -> bool {
        let has_all = self.closed().iter().all(|bin| !self.needed[*bin]);
        has_all && self.allows(self.open) && self.moves_no_more()
    }

    pub(super) fn is_needed(&self, bin: Bin) -> bool {
        self.needed[bin]
    }

    /// Whether so many consumers may have partitions.
    pub(super) fn allows(&self, open: usize) -> bool {
        open <= self.most && open >= self.least.min(self.at.len())
    }

    /// Whether no more load was moved than may be.
    pub(super) fn moves_no_more(&self) -> bool {
        self.moved <= self.may_move
    }

    /// Room below the packing limit.
    pub(super) fn room(&self, bin: Bin) -> u64 {
        self.packing[bin].saturating_sub(self.load[bin])
    }

    /// Whether a consumer may get a partition.
    pub(super) fn fits(&self, piece: Piece, bin: Bin) -> bool {
        let weight = self.weight[piece];
        let is_home = self.home[piece] == Some(bin);
        if !self.is_open(bin) {
            return weight <= self.packing[bin] || is_home || weight > self.largest_packing;
        }
        let at_home = is_home && self.guests[bin] == 0;
        let limit = if at_home || weight == 0 { self.overload[bin] } else { self.packing[bin] };
        self.load[bin] + weight <= limit
    }

    pub(super) fn put(&mut self, piece: Piece, bin: Bin) {
        if !self.is_open(bin) {
            self.swap(bin, self.open);
            self.open += 1;
        }
        self.pieces[bin].push(piece);
        self.load[bin] += self.weight[piece];
        self.guests[bin] += u32::from(self.is_guest(piece, bin));
        self.moved += self.moved_by(piece, bin);
        self.at[piece] = bin;
    }

    pub(super) fn take(&mut self, piece: Piece) {
        let bin = self.at[piece];
        if let Some(place) = self.pieces[bin].iter().position(|other| *other == piece) {
            self.pieces[bin].swap_remove(place);
            self.load[bin] -= self.weight[piece];
            self.guests[bin] -= u32::from(self.is_guest(piece, bin));
            self.moved -= self.moved_by(piece, bin);
        }
        if self.pieces[bin].is_empty() {
            self.open -= 1;
            self.swap(bin, self.open);
        }
    }

    /// Takes all that are not fixed; each is said to be still where it was last.
    fn take_all(&mut self) -> Vec<Piece> {
        let mut loose = Vec::new();
        for bin in self.open().to_vec() {
            let (fixed, taken): (Vec<_>, Vec<_>) = core::mem::take(&mut self.pieces[bin])
                .into_iter()
                .partition(|piece| self.fixed[*piece]);
            for piece in &taken {
                self.load[bin] -= self.weight[*piece];
                self.guests[bin] -= u32::from(self.is_guest(*piece, bin));
                self.moved -= self.moved_by(*piece, bin);
            }
            if fixed.is_empty() {
                self.open -= 1;
                self.swap(bin, self.open);
            }
            self.pieces[bin] = fixed;
            loose.extend(taken);
        }
        loose
    }

    fn moved_by(&self, piece: Piece, bin: Bin) -> u64 {
        let is_moved = |home: usize| home != bin && !self.drives_out[home];
        if self.home[piece].is_some_and(is_moved) { self.weight[piece] } else { 0 }
    }

    fn is_guest(&self, piece: Piece, bin: Bin) -> bool {
        self.weight[piece] > 0 && !self.fixed[piece] && self.home[piece] != Some(bin)
    }

    fn swap(&mut self, bin: Bin, to: usize) {
        let (from, other) = (self.rank[bin], self.order[to]);
        self.order.swap(from, to);
        (self.rank[bin], self.rank[other]) = (to, from);
    }

    pub(super) fn placement(&self) -> Placement {
        self.at.iter().map(|bin| Some(self.slots[*bin])).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::Limits;
    use super::super::super::tests::world;
    use super::*;

    /// The same choice as [`Bench::fitting_place`] by a look at every consumer.
    fn by_scanning(bench: &Bench, piece: Piece, homesick_permille: u32) -> Option<Bin> {
        let fitting = |bin: &&Bin| bench.fits(piece, **bin);
        if let Some(bin) = bench.place_of_idle(piece).filter(|_| bench.weight[piece] == 0) {
            return Some(bin);
        }
        let open = bench.open().iter().filter(fitting);
        let best = open.min_by_key(|bin| (bench.room(**bin), **bin)).copied();
        let home = bench.home[piece].filter(|home| bench.fits(piece, *home));
        match (best, home) {
            (Some(best), Some(home)) if bench.is_open(home) => {
                let tolerated = permille_of(bench.packing[home], homesick_permille);
                let is_near = bench.room(home) <= bench.room(best) + tolerated;
                Some(if is_near { home } else { best })
            }
            (Some(best), _) => Some(best),
            (None, Some(home)) => Some(home),
            (None, None) => bench.closed().iter().filter(fitting).min().copied(),
        }
    }

    #[test]
    fn idle_partitions_stay_and_those_of_a_consumer_that_is_given_up_spread() {
        // 1 and 2 can be one; of 50 idle partitions each, those of the one that stays do not move.
        let idle = (0..100).map(|piece| (0, 1 + piece % 2));
        let items: Vec<(u64, u32)> =
            [(30, 1), (20, 2), (60, 3), (61, 4)].into_iter().chain(idle).collect();
        let problem = world(&items);
        let table = Table::new(&problem);
        let found: Placement = table.homes.clone();
        let bench = Bench::new(&table, &found).expect("it is sound");
        let packed = bench.packed_anew(150).expect("there is room");
        assert_eq!(packed.len(), 3);
        let mut counts: Vec<usize> =
            packed.open().iter().map(|bin| packed.pieces[*bin].len()).collect();
        counts.sort_unstable();
        assert_eq!(counts.iter().sum::<usize>(), 104);
        assert!(counts[0] >= 17, "{counts:?}");
        let stayed =
            (0..packed.at.len()).filter(|piece| packed.home[*piece] == Some(packed.at[*piece]));
        assert!(stayed.count() >= 50 + 3);
    }

    proptest! {
        #[test]
        fn packing_anew_chooses_as_a_look_at_every_consumer_would(
            items in prop::collection::vec((0_u64..60, 1_u32..8), 1..40),
            limits in (400_u32..=800, 400_u32..=1000),
            homesick_permille in prop::sample::select(&[0_u32, 150]),
        ) {
            let mut problem = world(&items);
            let (packing_permille, overload_permille) = (limits.0.min(limits.1), limits.0.max(limits.1));
            problem.limits = Limits { packing_permille, overload_permille };
            let table = Table::new(&problem);
            let found: Placement = (0..table.len()).map(Some).collect();
            prop_assume!(table.consumers.len() >= table.len());
            let Some(bench) = Bench::new(&table, &found) else { return Ok(()) };
            let mut scanned = bench.clone();
            let mut loose: Vec<Piece> = (0..table.len()).collect();
            for piece in &loose {
                scanned.take(*piece);
            }
            loose.sort_by_key(|piece| (core::cmp::Reverse(scanned.weight[*piece]), *piece));
            for piece in loose {
                let Some(to) = by_scanning(&scanned, piece, homesick_permille) else { return Ok(()) };
                scanned.put(piece, to);
            }
            let packed = bench.packed_anew(homesick_permille).map(|packed| packed.at);
            prop_assert_eq!(packed, scanned.is_allowed().then_some(scanned.at));
        }
    }
}

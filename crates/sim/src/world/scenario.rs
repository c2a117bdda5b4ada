//! What a world is like: how large, how long, how bad.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use tidegate_core::ids::Generation;
use tidegate_core::pack::Effort;
use tidegate_core::{consumer, controller, demand};

use super::loss::LedgerLoss;
use super::mutants::Mutant;

/// What to simulate. How bad it gets is drawn from the seed, up to `storm`.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Data partitions at the beginning; more may come.
    pub partitions: u32,
    /// Controller processes, all of which want to lead.
    pub controllers: usize,
    /// What the sink compares.
    pub sink: SinkKind,
    /// How long nothing goes wrong at the beginning.
    pub calm: Duration,
    /// How long things go wrong then.
    pub storm: Duration,
    /// How long everything may take to be well again once nothing goes wrong any more.
    pub recovery: Duration,
    /// The worst that can be: 0 is a world without faults, 1000 the worst that is bearable.
    pub intensity_permille: u32,
    /// How the ledger may lose records.
    pub losses: Vec<LedgerLoss>,
    /// A defect planted on purpose.
    pub mutant: Option<Mutant>,
}

/// What a sink compares before it takes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SinkKind {
    /// Nothing: records come at least once.
    Plain,
    /// Positions, as a chain of objects does: a stale owner may append the next range, and nobody can append it twice.
    Chain,
    /// Positions and epochs, as a database does: nothing of an epoch is taken once a higher one has acquired it.
    Epochs,
}

impl SinkKind {
    /// Whether every record comes exactly once.
    pub const fn is_fenced(self) -> bool {
        matches!(self, Self::Chain | Self::Epochs)
    }
}

impl Scenario {
    /// The usual: a few partitions, two controllers, a sink that compares, everything can go wrong.
    pub fn stormy() -> Self {
        Self {
            partitions: 8,
            controllers: 2,
            sink: SinkKind::Chain,
            calm: Duration::from_secs(20),
            storm: Duration::from_secs(100),
            recovery: RECOVERY,
            intensity_permille: 1000,
            losses: LedgerLoss::ALL.into(),
            mutant: None,
        }
    }

    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self { intensity_permille: 0, ..Self::stormy() }
    }

    /// The usual one for this seed: every fourth world has a sink that compares epochs, and every fourth one that compares
    /// nothing.
    pub fn for_seed(seed: u64) -> Self {
        let sink = match seed % 4 {
            2 => SinkKind::Epochs,
            3 => SinkKind::Plain,
            _ => SinkKind::Chain,
        };
        Self { sink, ..Self::stormy() }
    }
}

/// The longest chain after the last fault: a request that was under way arrives late (20 s), a consumer is fenced after
/// it (20 s), a new leader is elected (14 s) and reads, a worker that was planned does not come (20 s) and another one
/// is started, which takes its time (10 s); rounded up.
const RECOVERY: Duration = Duration::from_secs(120);

pub(super) fn consumer_settings() -> consumer::Settings {
    consumer::Settings::default()
}

pub(super) fn controller_settings(jitter: Duration, genesis: Generation) -> controller::Settings {
    let usual = controller::Settings::usual(genesis);
    controller::Settings {
        elect_after: usual.elect_after + jitter,
        // Often enough for several snapshots in a short world, far enough apart that one is read back before the next mark.
        mark_every: 400,
        snapshot_pause: Duration::from_secs(5),
        start_deadline: Duration::from_secs(20),
        late_penalty: Duration::from_secs(20),
        demand: demand_settings(),
        ..usual
    }
}

/// Generation of a ledger that is begun when the world is: unix seconds.
pub(super) const GENESIS: Generation = Generation(1_700_000_000);

/// What a simulated consumer does in a second: four of the partitions' usual rates.
pub(super) const CAPACITY: NonZeroU64 = NonZeroU64::new(1_000_000).expect("a million is not zero");

/// Quicker than the defaults, so that a short world sees several decisions.
fn demand_settings() -> demand::Settings {
    demand::Settings {
        capacity_bytes_per_sec: CAPACITY,
        capacity_overrides: BTreeMap::new(),
        effort: Effort { steps: 2_000, seed: 0, fewest: true },
        min_consumers: 1,
        max_consumers: 8,
        drain_target: Duration::from_secs(60),
        first_measurement: Duration::from_secs(5),
        cooldown: Duration::from_secs(4),
        retry: Duration::from_secs(4),
        hold: Duration::from_secs(15),
        ..demand::Settings::default()
    }
}

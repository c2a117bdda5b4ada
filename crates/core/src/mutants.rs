//! Planted defects: one-line switches at the places of the rules, which a model checker has to find.
//!
//! Without the feature `mutants`, which is for tests only, none can be planted and the switches compile to nothing. With
//! it, at most one is in force at a time, in the whole process.

#[cfg(feature = "mutants")]
use core::sync::atomic::{AtomicU8, Ordering};

/// A planted defect. Each line names the layer that it is in, what it breaks, and the property of `tidegate-model` by
/// which it dies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mutant {
    /// Controller: it sends Start together with its Grant, for the offset at which it expects it. Breaks R1; dies by K1.
    StartBeforeReadBack = 1,
    /// Consumer: it obeys commands for other incarnations of its number. Breaks R9; dies by P3.
    NoIncarnationCheck,
    /// Consumer: a Start renews the lease, so that it is tied to the assignment. Breaks R5; dies by P3.
    LeaseOfAssignment,
    /// Consumer: it beats without having obeyed its commands. Breaks R5; dies by P5.
    BeatWithoutHearing,
    /// Consumer: the lease counts from a Hello's acknowledgement. Breaks R5; dies by P3.
    LeaseWithoutHello,
    /// Consumer: a Stop for an epoch that it does not hold is not answered. Breaks R9; dies by P5.
    NoAnswerForBarred,
    /// Fold: a Hello ends older incarnations of its number without evidence. Breaks P1, the table's line; dies by P3.
    HelloWithoutEvidence,
    /// Fold: a Hello ends older incarnations whoever said Hello since it looked. Breaks the `seen` rule; dies by P1.
    LateHello,
    /// Fold: records of a controller count as often as they stand in the ledger. Breaks L2; dies by P4.
    NoSeq,
    /// Fold: a Grant takes partitions from their owners. Breaks L1; dies by P1.
    GrantWhatIsOwned,
    /// Fold: a fence for silence counts although the incarnation has beaten since. Breaks R6; dies by P1.
    FenceWithoutBeat,
    /// Controller: it grants at once in a new generation. Breaks K6; dies by P3.
    GrantAtOnce,
    /// Controller: a heartbeat of an older generation does not begin the pause in a new one anew. Breaks K6; dies by P3.
    PauseOnce,
    /// Consumer: it goes on in its generation when it is told of a higher one. Breaks R9; dies by P5.
    GoOnInOlderGeneration,
    /// Fold: a snapshot leaves out who has tried how often. Breaks that all readers know the same; dies by P1.
    SnapshotWithoutAttempts,
    /// The controller's shell, in the model: the epoch of a Start is the acknowledged offset of the Grant. Breaks R1;
    /// dies by K1.
    EpochOfAcknowledgement,
    /// The sink, in the model: it takes writes wherever they begin. Breaks P2; dies by P2.
    SinkWithoutCompare,
}

#[cfg(feature = "mutants")]
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Puts a defect in force, or none.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    #[expect(clippy::as_conversions, reason = "the discriminant of an enum of one byte")]
    let planted = mutant.map_or(0, |mutant| mutant as u8);
    PLANTED.store(planted, Ordering::SeqCst);
}

/// True while this defect is in force.
#[cfg(feature = "mutants")]
#[expect(clippy::as_conversions, reason = "the discriminant of an enum of one byte")]
pub fn is_planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as u8
}

/// True while this defect is in force: never.
#[cfg(not(feature = "mutants"))]
pub const fn is_planted(_: Mutant) -> bool {
    false
}

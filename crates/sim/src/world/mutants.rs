//! Defects that can be planted to see that they are found.
//!
//! What a defective fold makes of a record is the record that a correct fold would treat so.

use tidegate_core::ids::Offset;
use tidegate_core::ledger::{Entry, Evidence, Fold, Record};

use super::LedgerLoss;

/// A planted defect. Each is named after what is wrong, and is found by the auditor that its line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// C5: the shell writes once more when it has said that it stopped.
    WriteAfterStop,
    /// P2: the sink takes writes wherever they begin.
    BlindSink,
    /// P3: the workers say that a process is dead which is only out of reach.
    FalseDeath,
    /// P3: consumers' clocks run at half the speed.
    SlowClock,
    /// P3: heartbeats are acknowledged that never arrive.
    FalseAcknowledgement,
    /// P1: the fold takes a Hello's word that an older life is over.
    CredulousHello,
    /// P1: the fold does not mind that others have said Hello since the sender looked.
    LateHello,
    /// P1: the fold fences whoever is named, whether it has beaten since or not.
    FenceWithoutBeat,
    /// P4: the fold takes a controller's record up as often as it stands in the ledger.
    NoSeq,
    /// P2: a consumer hears that a write is durable which was only handed over.
    EagerProgress,
    /// P5: consumers are deaf to Stop.
    NoStop,
    /// C3: a consumer is told that it has heard everything.
    DeafLease,
    /// R9: a consumer reads a Stop and does nothing.
    LostStop,
    /// K5: a worker is removed whose consumer still owns something.
    HastyRemoval,
    /// K1: a Start is sent with the offset of an acknowledgement as its epoch, before the Grant was read back.
    EpochFromAcknowledgement,
    /// Consumers are told that they have ended who live.
    FalseEnded,
    /// C6: a consumer says that it left in order, and has not given anything back.
    LyingExit,
    /// A reader goes on at the oldest record that is left, without a word about those that are gone.
    SilentSkip,
    /// P2: a sink that should compare epochs compares positions only.
    EpochBlindSink,
    /// A reader begins one record too early when it begins again.
    StepBack,
    /// A command comes again and again, faster than it can be answered.
    Flood,
    /// Logs are said to be half as large as they are.
    HalfSizes,
    /// R14: a consumer does not hear that an acknowledgement went back.
    RisingAcknowledgement,
    /// C3: a consumer does not hear that its command partition was cut. Only a truncation cuts that alone.
    UnheardLoss,
    /// K6: who begins a generation says that there was nothing before. Only a ledger that is made again shows it.
    FirstAgain,
    /// R14: a reader does not see that the log was restored from a backup. Only that shows it.
    RestoreBlindReader,
    /// P1: a reader that finds its place deleted reads on where the log begins. Only who is overtaken shows it.
    GapBlindReader,
    /// R7: a controller stands for election after four seconds of silence.
    HastyElection,
    /// A sink that was restored says that it stands where it stood before.
    BoastfulSink,
    /// A consumer reads a Drain and does nothing.
    LostDrain,
    /// A consumer reads a `StateQuery` and says nothing.
    LostStateQuery,
}

impl Mutant {
    /// The loss of records that alone shows this defect, for those that have one.
    pub(super) const fn shown_by(self) -> Option<LedgerLoss> {
        match self {
            Self::UnheardLoss => Some(LedgerLoss::Truncation),
            Self::FirstAgain => Some(LedgerLoss::Remake),
            Self::RestoreBlindReader => Some(LedgerLoss::Restore),
            Self::GapBlindReader => Some(LedgerLoss::Overtaking),
            _ => None,
        }
    }
}

/// The record that stands for `entry` before a fold with this defect.
pub(super) fn twist(mutant: Option<Mutant>, fold: &Fold, at: Offset, entry: &Entry) -> Entry {
    let mut twisted = entry.clone();
    match (mutant, &mut twisted.record) {
        (Some(Mutant::CredulousHello), Record::Hello(hello)) => {
            let incumbent =
                fold.lives().current(hello.consumer).and_then(|at| fold.lives().get(at));
            if let Some(life) = incumbent {
                (hello.boot, hello.directory) = (life.boot, life.directory);
            }
        }
        (Some(Mutant::LateHello), Record::Hello(hello)) => hello.seen = at,
        (Some(Mutant::FenceWithoutBeat), Record::Fenced { evidence, .. }) => {
            *evidence = Evidence::Death;
        }
        (
            Some(Mutant::NoSeq),
            Record::Tick { seal }
            | Record::Plan { seal, .. }
            | Record::Grant { seal, .. }
            | Record::Fenced { seal, .. },
        ) => {
            if let Some(reign) = fold.reign().filter(|reign| reign.term == seal.term) {
                seal.seq = reign.seq + 1;
            }
        }
        _ => {}
    }
    twisted
}

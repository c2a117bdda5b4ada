//! What goes into the consumer's step function and what comes out of it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::{Epoch, FencingToken, Generation, Incarnation, Offset, PartitionId, Position};
use crate::ledger::{Command, Entry, PartitionFigures, Refusal};

/// Times of the ownership protocol, as the consumer needs them. The spec checks that
/// `write_timeout + heartbeat < lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How long a consumer may act after its last acknowledged heartbeat.
    pub lease: Duration,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Longest time that a sink write may take; then it is given up with unknown outcome.
    pub write_timeout: Duration,
    /// Pause before something that failed is tried again.
    pub retry: Duration,
    /// Shortest time between two Progress records: a crash of a consumer whose sink keeps no positions repeats at
    /// most this much.
    pub progress: Duration,
    /// What to do when a sink has lost what was durable.
    pub sink_behind: SinkBehind,
    /// What to do when records were deleted before they were read.
    pub out_of_range: Gone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Long enough for a broker's restart (4-12 s seen), short enough that a death is noticed within half a
            // minute together with the fence.
            lease: Duration::from_secs(15),
            // Seven of them fit into a lease: one lost acknowledgement means nothing.
            heartbeat: Duration::from_secs(2),
            write_timeout: Duration::from_secs(5),
            retry: Duration::from_millis(500),
            progress: Duration::from_millis(200),
            sink_behind: SinkBehind::Stop,
            out_of_range: Gone::Stop,
        }
    }
}

/// What to do with a partition whose sink stands behind the ledger: what was durable is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SinkBehind {
    /// Hold it until a person decides.
    #[default]
    Stop,
    /// Read again from where the sink stands.
    Rewind,
    /// Record the gap in the sink and go on from where the ledger stands.
    Continue,
}

/// What to do with a partition whose log begins above what is to be read next: records were deleted before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gone {
    /// Hold it until a person decides.
    #[default]
    Stop,
    /// Record the gap in the sink and go on where the log begins.
    Skip,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// The first offset that is still there.
    pub start: Position,
    /// The next offset to be written.
    pub end: Position,
}

/// Names one append of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// Why a call to the sink or the reader failed, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It may work later.
    Transient,
    /// It will not work until a person changes something.
    Permanent,
    /// A later owner has been there.
    Fenced,
    /// The sink is behind its own past.
    Damaged,
}

/// Why reading has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadFailure {
    /// It may work later.
    Transient,
    /// It will not work until a person changes something.
    Permanent,
    /// The position does not exist in the log, which is from here to there.
    OutOfRange(Extent),
}

/// What happens to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Answer to [`Effect::Locate`]; `None` when it failed.
    Located(Option<Located>),
    /// Answer to [`Effect::FetchCommandEnd`] with its id; `None` when it failed.
    CommandEnd(u64, Option<Offset>),
    /// The next record of the command partition; `None` when it could not be decoded.
    Command(Offset, Option<Command>),
    /// The command partition was read up to here, whatever was in it.
    Heard(Offset),
    /// The command partition cannot be read on: what was read of it, or was to be read, is gone.
    CommandsLost,
    /// An append was acknowledged with this offset.
    Appended(AppendId, Offset),
    /// An append failed or its outcome is unknown.
    AppendFailed(AppendId),
    /// The sink was acquired; it stands at this position.
    Acquired(PartitionId, Epoch, Option<Position>),
    /// The sink could not be acquired.
    AcquireFailed(PartitionId, Epoch, Failure),
    /// Records were gathered and wait to be written.
    Ready(PartitionId, Epoch),
    /// A write is durable up to this position.
    Written(PartitionId, Epoch, Position),
    /// A write failed, was given up, or was aborted: its outcome is unknown.
    WriteFailed(PartitionId, Epoch, Failure),
    /// Reading has stopped.
    ReadFailed(PartitionId, Epoch, ReadFailure),
    /// What was done so far, for the next heartbeat.
    Figures(Vec<PartitionFigures>),
    /// The process was told to end; it may take this long.
    Shutdown(Duration),
}

/// Where the logs end, fetched before a Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Located {
    /// Generation of the ledger.
    pub generation: Generation,
    /// End of the ledger, fetched after the state directory's lock was taken.
    pub ledger_end: Offset,
    /// End of the own command partition.
    pub command_end: Offset,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fetch the generation and both ends, and answer with [`Input::Located`].
    Locate,
    /// Read the command partition from here on, instead of from where it is read now.
    Listen(Offset),
    /// Fetch the end of the command partition and answer with [`Input::CommandEnd`] and this id.
    FetchCommandEnd(u64),
    /// Append to the ledger, in the order of the effects, and answer.
    Append(AppendId, Entry),
    /// Acquire the sink and answer.
    Acquire(PartitionId, FencingToken),
    /// Read a partition from here on and say [`Input::Ready`] when a batch is gathered.
    Read(PartitionId, Epoch, Position),
    /// Stop reading a partition and drop what was gathered. A write in flight goes on.
    Unread(PartitionId),
    /// Write the gathered batch and answer within the write time-out.
    Write(PartitionId, FencingToken),
    /// Stop reading a partition, write what was gathered and answer as to [`Effect::Write`]; at once when there is nothing.
    Finish(PartitionId, FencingToken),
    /// Write that there is nothing between these two positions, and answer as to [`Effect::Write`].
    Skip(PartitionId, FencingToken, Position, Position),
    /// Abandon everything in flight for this partition; no answer is expected.
    Abort(PartitionId),
    /// Give the sink back.
    Release(PartitionId, FencingToken),
    /// Save what the next life may want to know.
    Save {
        /// True only when everything was given back.
        clean: bool,
        /// What is owned and up to where it is durable.
        partitions: BTreeMap<PartitionId, Position>,
    },
    /// Tell a person.
    Raise(Alarm),
    /// A new life has begun.
    Began(Incarnation),
    /// This life is over; a new one is asked for.
    Lapsed(Incarnation),
    /// A command was not obeyed, for the counter.
    Ignored(Refusal),
    /// End the process; true after a controlled stop.
    Exit(bool),
}

/// What a person should know about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The sink stands behind the ledger: data that was durable is gone.
    SinkBehind(PartitionId, Epoch, Option<Position>, Position),
    /// The sink refuses or is damaged.
    SinkFailing(PartitionId, Epoch, Failure),
    /// The partition cannot be read.
    ReadFailing(PartitionId, Epoch),
    /// The position to read does not exist in the log, which is from here to there.
    OutOfRange(PartitionId, Epoch, Position, Extent),
}

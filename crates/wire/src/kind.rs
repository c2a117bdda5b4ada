//! The closed list of messages, with the names that stand in the header `tidegate-type`.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// What a message is. Its name is the variant's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The name in the header.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                }
            }

            /// The kind of this name, if this version knows it.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($kind) => Some(Self::$kind),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Ledger: its first record.
    Genesis,
    /// Ledger: a process wants to be the controller.
    Elect,
    /// Ledger: the controller lives.
    Tick,
    /// Ledger: what the controller decided.
    Plan,
    /// Ledger: a consumer process asks for a life.
    Hello,
    /// Ledger: a consumer lives.
    Heartbeat,
    /// Ledger: the controller gives partitions to a consumer.
    Grant,
    /// Ledger: a consumer reads.
    StartConsumingEvent,
    /// Ledger: what is durable.
    Progress,
    /// Ledger: a consumer reads no longer.
    StopConsumingEvent,
    /// Ledger: the controller ends an incarnation.
    Fenced,
    /// Ledger: a consumer ends its own life.
    Goodbye,
    /// Ledger: a consumer says why it did not obey.
    Reply,
    /// Ledger: a consumer says what it holds.
    State,
    /// Ledger: a cache of the fold.
    Snapshot,
    /// Command: read these partitions.
    StartConsumingCommand,
    /// Command: give these partitions back.
    StopConsumingCommand,
    /// Command: say what you hold.
    StateQuery,
    /// Command: give everything back.
    Drain,
    /// Command: say Hello again.
    Ended,
    /// Monitor topic: how fast the partitions of a topic are written.
    PartitionRates,
    /// Service topic: a field of the spec is another than in the file.
    Override,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

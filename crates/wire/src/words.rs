//! Words of fixed lists, with an escape for those of later versions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::ledger::{Evidence, Refusal, StopReason, Trigger};
use tidegate_core::rates::Source;

/// Declares a list of words as the wire form of an enum in `core`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident of $core:ident {
        $($(#[$word_doc:meta])* $word:ident $text:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub(crate) enum $name {
            $($(#[$word_doc])* #[serde(rename = $text)] $word,)*
            /// A word of a later version.
            #[serde(other, skip_serializing)]
            #[schemars(skip)]
            Other,
        }

        impl $name {
            pub(crate) const fn of(value: $core) -> Self {
                match value {
                    $($core::$word => Self::$word,)*
                }
            }

            /// What the word means, if it is known.
            pub(crate) const fn meaning(self) -> Option<$core> {
                match self {
                    $(Self::$word => Some($core::$word),)*
                    Self::Other => None,
                }
            }

            pub(crate) const fn text(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                    Self::Other => "unknown",
                }
            }
        }
    };
}

words! {
    /// What set a decision off.
    TriggerWord of Trigger {
        /// A consumer's load is above its overload limit.
        Overload "overload",
        /// A partition has no owner.
        Unassigned "unassigned",
        /// An incarnation ended.
        ConsumerLost "consumer-lost",
        /// A worker that a plan counts on did not come up in time.
        WorkerLate "worker-late",
        /// The spec changed.
        Spec "spec",
        /// A topic does not exist any more.
        TopicGone "topic-gone",
        /// It is time to look whether fewer consumers would do.
        Sentinel "sentinel",
    }
}
words! {
    /// Why the controller believes that an incarnation is over.
    EvidenceWord of Evidence {
        /// No heartbeat for the fencing time.
        Silence "silence",
        /// Its end was seen.
        Death "death",
    }
}
words! {
    /// Why a consumer stopped.
    ReasonWord of StopReason {
        /// It was told to.
        Command "command",
        /// It does not hold the epoch of a command, and now never will.
        Barred "barred",
        /// It is shutting down.
        Shutdown "shutdown",
    }
}
words! {
    /// Why a consumer did not obey.
    RefusalWord of Refusal {
        /// A controller of a later term has spoken.
        StaleTerm "stale-term",
        /// Its lease has lapsed.
        LeaseLapsed "lease-lapsed",
        /// It is shutting down.
        ShuttingDown "shutting-down",
        /// It does not know the kind of command.
        UnknownCommand "unknown-command",
    }
}
words! {
    /// Where the bytes of a measurement come from.
    SourceWord of Source {
        /// The growth of the leader's log.
        LogSize "log-size",
        /// New offsets times bytes per record.
        HighWatermark "high-watermark",
    }
}

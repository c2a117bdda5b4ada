//! What an operator says to a group that runs.

use clap::Subcommand;
use tidegate_core::ids::ConsumerNumber;

use super::SpecArgs;
use super::values::consumer_number;

/// `tidegate ledger`.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Print all records that are kept, and the state that follows from them.
    Dump {
        #[command(flatten)]
        spec: SpecArgs,
        /// Prints the state only.
        #[arg(long)]
        state: bool,
    },
    /// End the life of a consumer whose process is known to be dead, without waiting for its lease.
    Fence {
        #[command(flatten)]
        spec: SpecArgs,
        /// Number of the consumer.
        #[arg(long, value_name = "N", value_parser = consumer_number)]
        consumer: ConsumerNumber,
        /// Confirms that the process is dead: one that lives may write once more to a sink that does not fence.
        #[arg(long)]
        dead: bool,
    },
    /// Delete the ledger's topic and make it anew. The group begins another generation; positions come from consumers,
    /// sinks and the group's committed offsets.
    Reset {
        #[command(flatten)]
        spec: SpecArgs,
        /// Confirms that the ledger is to be deleted.
        #[arg(long)]
        yes: bool,
    },
}

/// `tidegate service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Set a field of the specification; controller and monitor follow at once. What cannot be used is refused.
    Set {
        #[command(flatten)]
        spec: SpecArgs,
        /// Path of the field, such as `consumers.max`; `topics.NAME` is the whole entry of a topic.
        field: String,
        /// The value as YAML, such as `5`, `20MB/s` or `{sink: "blackhole:"}`; `null` removes a topic.
        value: String,
    },
    /// Take a field back to what the specification says.
    Unset {
        #[command(flatten)]
        spec: SpecArgs,
        /// Path of the field.
        field: String,
    },
    /// List the fields that are set, and why any of them is not in effect.
    List {
        #[command(flatten)]
        spec: SpecArgs,
    },
}

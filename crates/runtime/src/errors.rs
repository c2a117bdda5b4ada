//! The errors that users meet, each with a code and a page: what it means, how to see it, what to do.
//!
//! A code is never given to another error. Messages end in it, such as `... (TG002)`, so that it can be looked up.

use std::fmt::{self, Write as _};

macro_rules! codes {
    ($($(#[doc = $title:literal])* $name:ident = $id:literal {
        cause: $cause:literal, see: $see:literal, cure: $cure:literal,
    })*) => {
        /// The code of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $title])* $name,)*
        }

        impl Code {
            /// All codes in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            fn page(self) -> Page {
                match self {
                    $(Self::$name => Page {
                        id: $id,
                        title: concat!($($title),*).trim_ascii(),
                        cause: $cause,
                        see: $see,
                        cure: $cure,
                    },)*
                }
            }
        }
    };
}

struct Page {
    id: &'static str,
    title: &'static str,
    cause: &'static str,
    see: &'static str,
    cure: &'static str,
}

codes! {
    /// The configuration is invalid.
    ConfigInvalid = "TG001" {
        cause: "A key is unknown or missing, a value has the wrong form, or two values contradict each other.",
        see: "The command ends with exit code 3 and prints each fault with the path of its key; `tidegate config check FILE` does only that.",
        cure: "Correct the keys that are named; `docs/config.md` lists all of them. A variable of the environment that begins with `TIDEGATE_` may be the culprit, too.",
    }
    /// No broker can be reached.
    BrokerUnreachable = "TG002" {
        cause: "`cluster.bootstrapServers` names no running broker, a network or firewall is in between, or the broker's advertised listeners cannot be reached from here.",
        see: "`kcat -L -b HOST:PORT` fails as well; `/readyz` says what the process waits for.",
        cure: "Correct the address, or start the broker. The process tries again by itself, with growing pauses.",
    }
    /// The broker refuses the authentication.
    AuthenticationRefused = "TG003" {
        cause: "User, password, token, key or certificate is wrong or expired, a token endpoint gives no token, the mechanism is not enabled, or TLS or SASL is spoken on one side only.",
        see: "The broker's log names the client and the reason, and the log of the token endpoint where the message names one.",
        cure: "Correct `cluster.security`. Secrets are read anew for each connection, so a corrected file is enough; a corrected variable needs a restart.",
    }
    /// A topic is missing.
    TopicMissing = "TG004" {
        cause: "A control topic was not created yet, or was deleted.",
        see: "`tidegate topics describe` lists the control topics and what is wrong with each.",
        cure: "Run `tidegate topics create`; it leaves alone what exists.",
    }
    /// A right is missing.
    RightMissing = "TG005" {
        cause: "The user has no access-control entry for what was tried.",
        see: "The message names the operation and the topic, group or cluster.",
        cure: "Grant the right; `docs/security.md` lists those of each process. Without the right to describe log directories (Describe on the cluster) the monitor goes on with offsets and with bytes per record, which it learns from batches if it may read the topic (Read on the data topics).",
    }
    /// The ledger belongs to another group.
    ForeignLedger = "TG006" {
        cause: "Two groups are configured with the same controller topic, or the group was renamed.",
        see: "`tidegate ledger dump` shows the group in the first record.",
        cure: "Give each group control topics of its own (`controlTopics`). After a rename, give the group its old name back or a new topic.",
    }
    /// The ledger's topic could lose acknowledged records.
    WeakLedger = "TG007" {
        cause: "Its replication factor is below 3, `min.insync.replicas` is below 2, or `unclean.leader.election.enable` is true, on a cluster that has brokers enough for better.",
        see: "`tidegate topics describe` shows the settings that are wanted and found.",
        cure: "Run `tidegate topics create --fix`, or move the topic to more replicas. `controlTopics.allowWeakLedger: true` goes on as it is: a lost record can then give one partition two owners.",
    }
    /// The state directory is in use.
    StateDirectoryInUse = "TG008" {
        cause: "Another process on this machine uses the same directory: two consumers with one number, or two controllers with one `workers.dataDirectory`.",
        see: "`fuser DIRECTORY/lock` names the process.",
        cure: "End the other process, or give each its own directory. The lock goes with its process, so there is nothing to clean up after a crash.",
    }
    /// A sink cannot be reached.
    SinkUnreachable = "TG009" {
        cause: "The disk is full, or the store or database is down or refuses the credentials.",
        see: "`tidegate_consumer_sink_failures_total` grows; the consumer's log has the cause.",
        cure: "Bring the sink back. The consumer tries again by itself and nothing is lost: its position stands still meanwhile.",
    }
    /// A sink has lost records that it had acknowledged.
    SinkDamaged = "TG010" {
        cause: "The sink was restored from a backup, or objects of it were deleted.",
        see: "`/status` of the controller names the partition, where the sink stands and where the ledger stands.",
        cure: "Restore the sink, or decide with `consumer.onSinkBehind`: `rewind` reads again from where the sink stands, `continue` leaves the gap.",
    }
    /// The offset to read from does not exist any more.
    OffsetOutOfRange = "TG011" {
        cause: "Retention has deleted records before they were read, or the topic was created anew.",
        see: "The alarm names the partition and the gap; `/status` shows it until somebody decides.",
        cure: "Lengthen the retention of the topic or raise the capacity. Then let the partition go on with `consumer.onOutOfRange: skip`: it goes on where the log begins, and the gap is recorded in the sink and counted by `tidegate_consumer_skipped_offsets_total`. A log that has lost its end must be restored.",
    }
    /// No plan fits.
    PlanInfeasible = "TG012" {
        cause: "The demand is larger than `consumers.max` consumers of `capacity.bytesPerSecond` can bear, or one partition alone is larger than a consumer.",
        see: "`/status` names the bound and the partitions; offline commands end with exit code 4.",
        cure: "Raise `consumers.max` or the capacity; split the load of a partition that is too large over more partitions. Until then all consumers are filled evenly and lag grows.",
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.page().id)
    }
}

/// `docs/errors.md`: every code with its cause and cure.
pub fn docs() -> String {
    let mut page = String::from(INTRODUCTION);
    let written = Code::ALL.iter().map(|code| code.page()).try_for_each(|entry| {
        let Page { id, title, cause, see, cure } = entry;
        write!(page, "\n## {id}\n\n**{title}**\n\n- Cause: {cause}\n- How to see it: {see}\n- What to do: {cure}\n")
    });
    written.map(|()| page).unwrap_or_default()
}

const INTRODUCTION: &str = "<!-- Generated by `cargo xtask docs`: edit the text in the source instead. -->

# Errors

Messages that a person has to act on end in a code. Exit codes of commands: 0 done, 1 failed, 2 wrong usage, 3 invalid
configuration, 4 no feasible plan.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_in_order_without_gaps() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.to_string(), format!("TG{:03}", index + 1));
        }
    }

    #[test]
    fn the_page_of_the_errors_is_up_to_date() {
        crate::generated::assert_up_to_date("docs/errors.md", &docs());
    }
}

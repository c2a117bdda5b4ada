//! Groups whose processes are started one by one. One program runs all of these tests side by side: they wait more than they compute.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "../support/audited.rs"]
mod audited;
#[path = "../support/group.rs"]
mod group;
#[path = "../support/quick.rs"]
mod quick;
#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod dead_letters;
mod ledger;
mod mirror;
mod out_of_range;
mod rates;
mod remade_topic;
mod respecified;
mod starts;
mod topics;

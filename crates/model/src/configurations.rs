//! The list of configurations, by what they are about.
//!
//! Budgets are judgements: as large as lets all of them together be explored in less than two minutes on two cores.

use std::collections::BTreeSet;

use crate::action::Fate;
use crate::scenario::Matter::{Beats, Commands, Events, Grants, Hellos, Lag, Stalls, Writes};
use crate::scenario::{Begin, Budget, Failing, Loss, Scenario};
use crate::sink::SinkKind;

const NOTHING: Budget = Budget {
    faults: 0,
    command_faults: 0,
    passes: 0,
    lapses: 0,
    crashes: 0,
    restarts: 0,
    twins: 0,
    respecs: 0,
    cuts: 0,
    forgeries: 0,
    shutdowns: 0,
    losses: 0,
    arrivals: 0,
};

const BASE: Scenario = Scenario {
    name: "",
    about: "",
    partitions: 2,
    records: 1,
    controllers: 1,
    consumers: 2,
    begins: Begin::Settled,
    budget: NOTHING,
    spans: &[10],
    fates: Fate::FAULTS,
    command_fates: &[Fate::ArrivesTwice, Fate::Late],
    failing: Failing::Everybody,
    explores: BTreeSet::new(),
    losses: &[],
    marks: None,
    sink: SinkKind::Epochs,
    recovery_every: 16,
};

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    [moves(), writes(), silences(), deaths(), controllers(), losses(), snapshots()].concat()
}

/// A partition moves, and records fare badly on the way.
fn moves() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "hand-off",
            about: "a partition moves while appends fail",
            budget: Budget { respecs: 1, faults: 2, passes: 1, ..NOTHING },
            explores: [Events, Grants, Lag].into(),
            ..BASE
        },
        Scenario {
            name: "commands",
            about: "a partition moves while commands fail",
            budget: Budget { respecs: 1, faults: 1, command_faults: 1, passes: 1, ..NOTHING },
            explores: [Commands, Events, Grants].into(),
            spans: &[2],
            ..BASE
        },
        Scenario {
            name: "first grant",
            about: "a plan changes before its first grants have been heard of",
            begins: Begin::Elected,
            budget: Budget { respecs: 1, command_faults: 1, passes: 1, ..NOTHING },
            explores: [Commands, Events, Grants].into(),
            spans: &[2],
            ..BASE
        },
        Scenario {
            name: "barred",
            about: "a plan changes while every Start of a grant gets lost",
            begins: Begin::Elected,
            budget: Budget { respecs: 1, command_faults: 3, passes: 2, ..NOTHING },
            explores: [Commands].into(),
            spans: &[11],
            command_fates: &[Fate::Lost],
            ..BASE
        },
        Scenario {
            name: "grants",
            about: "the outcomes of two grants are unknown",
            begins: Begin::Elected,
            budget: Budget { respecs: 1, faults: 2, passes: 1, ..NOTHING },
            failing: Failing::Controllers,
            spans: &[2],
            explores: [Grants, Lag].into(),
            ..BASE
        },
        Scenario {
            name: "leaving",
            about: "a consumer is told to end during a hand-off",
            budget: Budget { respecs: 1, shutdowns: 1, faults: 1, ..NOTHING },
            explores: [Events, Grants, Hellos].into(),
            ..BASE
        },
    ]
}

/// A partition moves, and writes fare badly on the way.
fn writes() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "writes",
            about: "a partition moves while its writes are late",
            budget: Budget { respecs: 1, faults: 2, passes: 2, crashes: 1, ..NOTHING },
            explores: [Writes].into(),
            fates: &[],
            spans: &[1],
            ..BASE
        },
        Scenario {
            name: "chain",
            about: "the same, and the sink compares positions only",
            budget: Budget { respecs: 1, faults: 2, passes: 2, crashes: 1, ..NOTHING },
            explores: [Writes].into(),
            fates: &[],
            sink: SinkKind::Chain,
            spans: &[1],
            ..BASE
        },
    ]
}

/// Somebody is not heard, or hears late, or by another clock.
fn silences() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "fence",
            about: "an owner falls silent",
            budget: Budget { faults: 1, passes: 2, ..NOTHING },
            explores: [Events, Hellos, Stalls].into(),
            spans: &[11],
            ..BASE
        },
        Scenario {
            name: "late Start",
            about: "a command is read when the life that it is for could be over",
            begins: Begin::Elected,
            budget: Budget { cuts: 1, passes: 2, ..NOTHING },
            spans: &[11],
            ..BASE
        },
        Scenario {
            name: "late answer",
            about: "a Hello is acknowledged when its life could be over",
            begins: Begin::Elected,
            budget: Budget { faults: 1, passes: 1, ..NOTHING },
            fates: &[Fate::AnswerLate],
            explores: [Hellos, Stalls].into(),
            spans: &[22],
            ..BASE
        },
        Scenario {
            name: "clocks",
            about: "clocks run apart",
            budget: Budget { lapses: 2, ..NOTHING },
            explores: [Beats, Grants, Stalls].into(),
            spans: &[21],
            ..BASE
        },
        Scenario {
            name: "one-way link",
            about: "a process hears nothing any more, or is not heard",
            recovery_every: 1,
            budget: Budget { respecs: 1, cuts: 1, passes: 2, ..NOTHING },
            explores: [Events, Hellos].into(),
            ..BASE
        },
    ]
}

/// Processes die and come back, or there are two.
fn deaths() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "death",
            about: "an owner dies and comes back",
            budget: Budget { crashes: 1, restarts: 1, faults: 1, passes: 1, ..NOTHING },
            spans: &[21],
            explores: [Events, Hellos].into(),
            ..BASE
        },
        Scenario {
            name: "two of one number",
            about: "a second process of a consumer's number appears, and either dies",
            budget: Budget { twins: 1, crashes: 1, restarts: 1, passes: 1, ..NOTHING },
            spans: &[5],
            explores: [Hellos].into(),
            ..BASE
        },
        Scenario {
            name: "late Hello",
            about: "a Hello arrives when its sender is dead and another lives in its directory",
            begins: Begin::Elected,
            consumers: 1,
            budget: Budget { crashes: 1, restarts: 1, faults: 1, passes: 1, ..NOTHING },
            failing: Failing::Consumers,
            explores: [Hellos].into(),
            ..BASE
        },
    ]
}

/// Controllers contend, or are wrong.
fn controllers() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "two controllers",
            about: "two controllers begin at once, and their grants fare badly",
            begins: Begin::Empty,
            controllers: 2,
            consumers: 1,
            budget: Budget { faults: 2, ..NOTHING },
            failing: Failing::Controllers,
            spans: &[2],
            explores: [Grants, Lag].into(),
            ..BASE
        },
        Scenario {
            name: "take-over",
            about: "a standby takes over during a hand-off",
            controllers: 2,
            budget: Budget { respecs: 1, cuts: 1, passes: 1, ..NOTHING },
            spans: &[13],
            explores: [Grants, Lag].into(),
            ..BASE
        },
        Scenario {
            name: "forgery",
            about: "somebody appends what a controller should not",
            budget: Budget { forgeries: 1, passes: 1, respecs: 1, ..NOTHING },
            explores: [Lag].into(),
            ..BASE
        },
    ]
}

/// The ledger loses records, and a new generation begins.
fn losses() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "lost tail",
            about: "the ledger loses its end while a partition moves",
            budget: Budget { losses: 1, respecs: 1, passes: 3, ..NOTHING },
            losses: &[Loss::Tail(1), Loss::Tail(3)],
            explores: [Grants].into(),
            spans: &[11],
            ..BASE
        },
        Scenario {
            name: "topic made again",
            about: "the controller topic is deleted and made again while a partition moves",
            budget: Budget { losses: 1, respecs: 1, passes: 3, ..NOTHING },
            losses: &[Loss::Topic],
            explores: [Events].into(),
            spans: &[11],
            ..BASE
        },
        Scenario {
            name: "stalled at a loss",
            about: "a process stands still while the ledger loses its end",
            budget: Budget { losses: 1, respecs: 1, passes: 2, ..NOTHING },
            losses: &[Loss::Tail(3)],
            explores: [Stalls].into(),
            spans: &[3],
            ..BASE
        },
        Scenario {
            name: "loss unseen",
            about: "the ledger loses its end, who had read it dies, and another controller begins with what is left",
            budget: Budget { losses: 1, respecs: 1, crashes: 1, arrivals: 1, passes: 1, ..NOTHING },
            losses: &[Loss::Tail(2), Loss::Tail(5)],
            explores: [Events].into(),
            spans: &[13],
            ..BASE
        },
    ]
}

/// The beginning of the ledger is deleted below a snapshot.
fn snapshots() -> Vec<Scenario> {
    vec![Scenario {
        name: "snapshot",
        about: "a controller begins at a snapshot, takes over, and goes on with a hand-off",
        budget: Budget { arrivals: 1, crashes: 1, respecs: 1, passes: 1, ..NOTHING },
        marks: Some(8),
        explores: [Events, Grants, Hellos].into(),
        spans: &[13],
        ..BASE
    }]
}

//! A consumer that is told to end, told twice, or killed, in each state that a partition of it can be in: nothing is lost or
//! doubled, and ledger, state file and exit code say the same of how it ended. On Apache Kafka.
//!
//! The states last because the sink is slow (`delay:`) or batches are (`waitTime`). A signal is sent only once the consumer's
//! status shows the state. The groups of all states run side by side on one cluster.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod group;
mod life;

use std::sync::{Mutex, PoisonError};

use tidegate_testing::{KafkaVersion, RealKafka};

use group::Group;
use life::{Ended, Life};

/// What a group of its own is made for.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// The state in which the signal comes.
    state: State,
    /// What stands before `file:`.
    sink: &'static str,
    consumer: &'static str,
    /// The next life has another state directory, as on another machine: nothing proves that the last one is dead.
    moves: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// All partitions are read, and nothing is there.
    Idle,
    /// A partition is in the state of this name.
    Held(&'static str),
    /// The controller has said Stop, and the last write is under way.
    Stopping,
    /// The first signal has come, and the last write is under way.
    Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Term,
    TermTwice,
    Kill,
}

static FOUNDING: Mutex<()> = Mutex::new(());

/// Clusters are not tried at the same time: with more processes nothing is quick enough to meet a state.
static CLUSTER: Mutex<()> = Mutex::new(());

/// Lives in which a signal may come too late, before that is a fault of the test.
const TRIES: usize = 5;

const SLOW_WRITES: &str = "delay:1GB/s?write=4s,";

const CASES: [Case; 7] = [
    Case { name: "idle", state: State::Idle, sink: "", consumer: "", moves: false },
    Case {
        name: "gathering",
        state: State::Held("gathering"),
        sink: "",
        consumer: "waitTime: 6s, firstBatch: 6s",
        moves: false,
    },
    Case {
        name: "acquiring",
        state: State::Held("acquiring"),
        sink: "delay:1GB/s?acquire=4s,",
        consumer: "",
        moves: false,
    },
    Case {
        name: "writing",
        state: State::Held("writing"),
        sink: SLOW_WRITES,
        consumer: "",
        moves: false,
    },
    Case {
        name: "stopping",
        state: State::Stopping,
        sink: SLOW_WRITES,
        consumer: "",
        moves: false,
    },
    Case { name: "leaving", state: State::Leaving, sink: SLOW_WRITES, consumer: "", moves: false },
    Case {
        name: "moved",
        state: State::Held("writing"),
        sink: SLOW_WRITES,
        consumer: "",
        moves: true,
    },
];

impl Case {
    /// The blows that one life after the other gets.
    fn blows(&self) -> &'static [Blow] {
        match (self.state, self.moves) {
            (_, true) => &[Blow::Kill],
            // The first signal is part of the state.
            (State::Leaving, _) => &[Blow::Term, Blow::Kill],
            _ => &[Blow::Term, Blow::TermTwice, Blow::Kill],
        }
    }

    /// How it must end; `None` where the second signal may come too late.
    fn ends(&self, blow: Blow) -> Option<Ended> {
        let writes = matches!(self.state, State::Held("writing") | State::Stopping);
        match blow {
            Blow::Kill => Some(Ended::Killed),
            Blow::Term if self.state == State::Leaving => Some(Ended::CutShort),
            Blow::Term => Some(Ended::Clean),
            Blow::TermTwice => writes.then_some(Ended::CutShort),
        }
    }

    fn plays(self, bootstrap: &str) {
        let (group, load) = {
            // One after the other: a broker is slow to make topics.
            let _turn = FOUNDING.lock().unwrap_or_else(PoisonError::into_inner);
            let group = Group::found(&self, bootstrap);
            let load = group.load();
            (group, load)
        };
        if self.state == State::Idle {
            group.end_load(load);
            self.lives(&group);
        } else {
            self.lives(&group);
            group.end_load(load);
        }
        let directory = if self.moves { "elsewhere" } else { "data" };
        let last = Life::begin(&group, &group.quick, directory);
        last.delivers_all(&group);
        last.strike(&group, Blow::Term);
        assert_eq!(last.ended(&group, Some(Ended::Clean)), Ended::Clean, "{}", self.name);
        group.audit();
        let fenced = group.dump().iter().any(|message| message["type"] == "Fenced");
        assert_eq!(
            fenced, self.moves,
            "{}: who proves that it is dead is not waited for",
            self.name
        );
    }

    fn lives(self, group: &Group) {
        let mut last = Ended::Killed;
        for blow in self.blows() {
            // The machine may have stood still between the look at the status and the signal.
            let in_time = (0..TRIES).any(|_| {
                let life = Life::begin(group, &group.slow, "data");
                life.tells_how_the_last_one_ended(group, last == Ended::Clean);
                life.reaches(group, self.state);
                life.strike(group, *blow);
                let in_time = *blow == Blow::Kill || life.was_struck_in(group, self.state, *blow);
                last = life.ended(group, self.ends(*blow).filter(|_| in_time));
                in_time
            });
            assert!(in_time, "{}: {blow:?} never came in time", self.name);
        }
    }
}

#[test]
fn a_consumer_loses_and_doubles_nothing_whatever_it_does_when_it_ends() {
    plays(KafkaVersion::V4, &CASES);
}

#[test]
fn it_loses_and_doubles_nothing_on_the_oldest_kafka_either() {
    let lasting = CASES.iter().filter(|case| matches!(case.name, "writing" | "leaving"));
    plays(KafkaVersion::V3, &lasting.copied().collect::<Vec<_>>());
}

fn plays(version: KafkaVersion, cases: &[Case]) {
    let _turn = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let kafka = RealKafka::start(version, 1);
    let bootstrap = kafka.bootstrap();
    std::thread::scope(|scope| {
        let play = |case: &Case| {
            let case = *case;
            (case.name, scope.spawn(move || case.plays(bootstrap)))
        };
        let groups: Vec<_> = cases.iter().map(play).collect();
        let failed =
            groups.into_iter().filter_map(|(name, group)| group.join().err().map(|_| name));
        let failed: Vec<_> = failed.collect();
        assert!(failed.is_empty(), "these have failed, as told above: {failed:?}");
    });
}

//! The consumer's rules, each driven through the step function as a shell would.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]

use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::consumer::io::Located;
use crate::ids::{
    BootId, ConsumerNumber, DirectoryId, Epoch, FencingToken, Generation, Incarnation, Instant,
    Offset, PartitionId, Position, ProcessId, Term, TopicId,
};
use crate::ledger::{Command, CommandBody, Entry, Record, Refusal, StopReason};

/// Offset of the Hello that [`Desk::living`] has acknowledged.
const LIFE: Incarnation = Incarnation(Offset(10));
const TERM: u64 = 3;

fn partition(number: u32) -> PartitionId {
    PartitionId { topic: TopicId::default(), number }
}

fn epoch(at: u64) -> Epoch {
    Epoch(Offset(at))
}

fn identity() -> Identity {
    Identity {
        consumer: ConsumerNumber::FIRST,
        process: ProcessId(1),
        boot: Some(BootId(1)),
        directory: Some(DirectoryId(1)),
        clean: true,
        persisted: vec![(partition(9), Position(9))],
    }
}

fn start(term: u64, at: u64, numbers: &[u32]) -> CommandBody {
    let partitions = numbers.iter().map(|number| (partition(*number), Position(100))).collect();
    CommandBody::Start { term: Term(Offset(term)), epoch: epoch(at), partitions }
}

fn stop(at: u64, numbers: &[u32]) -> CommandBody {
    let partitions = numbers.iter().map(|number| partition(*number)).collect();
    let deadline = Duration::from_secs(5);
    CommandBody::Stop { term: Term(Offset(TERM)), epoch: epoch(at), partitions, deadline }
}

fn appends(effects: &[Effect]) -> Vec<(AppendId, &Record)> {
    let append = |effect| match effect {
        &Effect::Append(id, Entry { ref record, .. }) => Some((id, record)),
        _ => None,
    };
    effects.iter().filter_map(append).collect()
}

fn says(effects: &[Effect], what: &Record) -> bool {
    appends(effects).iter().any(|(_, record)| *record == what)
}

fn started(at: u64, numbers: &[u32]) -> Record {
    let partitions = numbers.iter().map(|number| (partition(*number), epoch(at))).collect();
    Record::Started { incarnation: LIFE, partitions }
}

fn stopped(at: u64, number: u32, next: Option<u64>, reason: StopReason) -> Record {
    let partitions = vec![(partition(number), epoch(at), next.map(Position))];
    Record::Stopped { incarnation: LIFE, partitions, reason }
}

fn heartbeat(effects: &[Effect]) -> Option<AppendId> {
    let beats = |record: &Record| matches!(record, Record::Heartbeat { .. });
    appends(effects).iter().find(|(_, record)| beats(record)).map(|(id, _)| *id)
}

fn asked(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::FetchCommandEnd(ask) => Some(*ask),
        _ => None,
    })
}

fn lapsed(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Lapsed(_)))
}

fn writes(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Write(..)))
}

fn exit(effects: &[Effect]) -> Option<bool> {
    effects.iter().find_map(|effect| match effect {
        Effect::Exit(clean) => Some(*clean),
        _ => None,
    })
}

/// A consumer, and the world as far as a test needs one.
struct Desk {
    consumer: Consumer,
    now_ms: u64,
    commands: u64,
    ledger: u64,
}

impl Desk {
    fn new() -> Self {
        let now = Instant::since_boot(Duration::ZERO);
        let consumer = Consumer::new(Settings::default(), identity(), now);
        Self { consumer, now_ms: 0, commands: 5, ledger: 10 }
    }

    /// One whose Hello was handed over and not yet acknowledged.
    fn greeting() -> (Self, AppendId) {
        let mut desk = Self::new();
        assert_eq!(desk.step(Input::Tick), [Effect::Locate]);
        let effects = desk.locate(1);
        let hello = appends(&effects)[0].0;
        (desk, hello)
    }

    /// One that lives as [`LIFE`] since moment 0, its first question for the command end answered.
    fn living() -> Self {
        let (mut desk, hello) = Self::greeting();
        let effects = desk.acknowledge(hello);
        assert!(effects.contains(&Effect::Began(LIFE)));
        desk.renew(&effects);
        desk
    }

    /// One that reads partition 0 from 100 on under epoch 20, with a batch gathered and being written if told so.
    fn reading(writes: bool) -> Self {
        let mut desk = Self::living();
        desk.command(start(TERM, 20, &[0]));
        let effects = desk.step(Input::Acquired(partition(0), epoch(20), None));
        assert!(effects.contains(&Effect::Read(partition(0), epoch(20), Position(100))));
        desk.acknowledge_all(&effects);
        if writes {
            assert!(self::writes(&desk.step(Input::Ready(partition(0), epoch(20)))));
        }
        desk
    }

    /// A command, and that nothing was gathered of what it stops.
    fn command_when_idle(&mut self, body: CommandBody) -> Vec<Effect> {
        let mut effects = self.command(body);
        for effect in effects.clone() {
            if let Effect::Finish(partition, token) = effect {
                let written = Input::Written(partition, token.epoch, Position(100));
                effects.extend(self.step(written));
            }
        }
        effects
    }

    fn now(&self) -> Instant {
        Instant::since_boot(Duration::from_millis(self.now_ms))
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.consumer.step(self.now(), input)
    }

    fn wait(&mut self, milliseconds: u64) -> Vec<Effect> {
        self.now_ms += milliseconds;
        self.step(Input::Tick)
    }

    fn locate(&mut self, generation: u64) -> Vec<Effect> {
        let located = Located {
            generation: Generation(generation),
            ledger_end: Offset(self.ledger),
            command_end: Offset(self.commands),
        };
        self.step(Input::Located(Some(located)))
    }

    fn acknowledge(&mut self, id: AppendId) -> Vec<Effect> {
        let at = Offset(self.ledger);
        self.ledger += 1;
        self.step(Input::Appended(id, at))
    }

    /// Acknowledges everything that these effects append; what follows from that.
    fn acknowledge_all(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let ids: Vec<_> = appends(effects).iter().map(|(id, _)| *id).collect();
        ids.into_iter().flat_map(|id| self.acknowledge(id)).collect()
    }

    /// Answers the question in these effects with the end of what was heard, and acknowledges the heartbeat.
    fn renew(&mut self, effects: &[Effect]) {
        let ask = asked(effects).expect("the consumer asks for the end of its commands");
        let effects = self.step(Input::CommandEnd(ask, Some(Offset(self.commands))));
        let beat = heartbeat(&effects).expect("everything was heard");
        self.acknowledge(beat);
    }

    fn command_of(
        &mut self,
        generation: u64,
        incarnation: Incarnation,
        body: CommandBody,
    ) -> Vec<Effect> {
        let at = Offset(self.commands);
        self.commands += 1;
        let command = Command { generation: Generation(generation), incarnation, body };
        self.step(Input::Command(at, Some(command)))
    }

    fn command(&mut self, body: CommandBody) -> Vec<Effect> {
        self.command_of(1, LIFE, body)
    }

    fn holds(&self, number: u32) -> Option<Epoch> {
        let holding = self.consumer.holdings().find(|(at, ..)| *at == partition(number));
        holding.map(|(_, epoch, _)| epoch)
    }
}

// === Hello ===

#[test]
fn a_process_finds_the_ends_and_listens_before_it_says_hello() {
    let mut desk = Desk::new();
    assert_eq!(desk.step(Input::Tick), [Effect::Locate]);
    assert_eq!(desk.step(Input::Tick), [], "it waits for the answer");
    let effects = desk.locate(1);
    assert_eq!(effects[0], Effect::Listen(Offset(5)));
    let Record::Hello(hello) = appends(&effects)[0].1 else { panic!("{effects:?}") };
    assert_eq!((hello.attempt, hello.seen, hello.clean), (1, Offset(10), true));
    assert_eq!(hello.persisted, identity().persisted);
}

#[test]
fn a_failed_question_for_the_ends_is_asked_again_after_a_pause() {
    let mut desk = Desk::new();
    desk.step(Input::Tick);
    assert_eq!(desk.step(Input::Located(None)), []);
    assert_eq!(desk.wait(499), []);
    assert_eq!(desk.wait(1), [Effect::Locate]);
}

#[test]
fn a_hello_that_failed_is_said_again_as_another_attempt_and_its_late_acknowledgement_is_nothing() {
    let (mut desk, first) = Desk::greeting();
    desk.step(Input::AppendFailed(first));
    assert_eq!(desk.wait(500), [Effect::Locate]);
    let effects = desk.locate(1);
    let (second, record) = appends(&effects)[0];
    assert!(matches!(record, Record::Hello(hello) if hello.attempt == 2));
    assert_eq!(desk.step(Input::Appended(first, Offset(10))), []);
    let effects = desk.step(Input::Appended(second, Offset(11)));
    assert!(effects.contains(&Effect::Began(Incarnation(Offset(11)))));
}

#[test]
fn c2_a_hello_that_is_acknowledged_after_a_lease_is_void() {
    let (mut desk, hello) = Desk::greeting();
    desk.now_ms += 15_000;
    let effects = desk.acknowledge(hello);
    assert_eq!(effects, [Effect::Locate]);
    assert_eq!(desk.consumer.incarnation(desk.now()), None);
}

#[test]
fn a_command_that_arrives_before_the_acknowledgement_of_its_hello_is_obeyed_with_it() {
    let (mut desk, hello) = Desk::greeting();
    assert_eq!(desk.command(start(TERM, 20, &[0])), []);
    desk.command_of(1, Incarnation(Offset(9)), start(TERM, 19, &[1])); // below the ledger's end of then
    desk.command_of(1, Incarnation(Offset(11)), start(TERM, 21, &[2])); // of another process
    assert_eq!(desk.holds(0), None);
    let effects = desk.acknowledge(hello);
    let token = FencingToken { generation: Generation(1), epoch: epoch(20) };
    let begun = effects.iter().position(|effect| *effect == Effect::Began(LIFE));
    let taken = effects.iter().position(|effect| *effect == Effect::Acquire(partition(0), token));
    assert!(begun.is_some() && begun < taken, "{effects:?}");
    assert_eq!([0, 1, 2].map(|number| desk.holds(number)), [Some(epoch(20)), None, None]);
}

#[test]
fn commands_that_came_early_are_forgotten_with_the_attempt() {
    let (mut desk, first) = Desk::greeting();
    desk.command(start(TERM, 20, &[0]));
    desk.step(Input::AppendFailed(first));
    desk.wait(500);
    let effects = desk.locate(1);
    desk.acknowledge(appends(&effects)[0].0);
    assert_eq!(desk.holds(0), None, "the controller says Start again");
}

// === the lease ===

#[test]
fn c3_no_heartbeat_is_sent_before_everything_up_to_an_end_fetched_since_the_last_was_obeyed() {
    let mut desk = Desk::living();
    let ask = asked(&desk.wait(2_000)).expect("the next heartbeat is due");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(7))));
    assert_eq!(heartbeat(&effects), None, "two commands were not read yet");
    assert_eq!(heartbeat(&desk.step(Input::Command(Offset(5), None))), None);
    let effects = desk.step(Input::Heard(Offset(7)));
    let (_, beat) = appends(&effects)[0];
    assert!(matches!(beat, Record::Heartbeat { seq: 2, heard: Offset(7), .. }), "{beat:?}");
}

#[test]
fn c3_an_answer_to_an_earlier_question_does_not_count() {
    let mut desk = Desk::living();
    let ask = asked(&desk.wait(2_000)).expect("the next heartbeat is due");
    assert_eq!(desk.step(Input::CommandEnd(ask - 1, Some(Offset(5)))), []);
    desk.step(Input::CommandEnd(ask, None));
    let again = asked(&desk.wait(500)).expect("a failed question is asked again");
    assert_eq!(desk.step(Input::CommandEnd(ask, Some(Offset(5)))), []);
    assert!(heartbeat(&desk.step(Input::CommandEnd(again, Some(Offset(5))))).is_some());
}

#[test]
fn c3_no_heartbeat_is_sent_while_an_ownership_event_waits() {
    let mut desk = Desk::living();
    let effects = desk.command(stop(20, &[0]));
    let (event, _) = appends(&effects)[0];
    let ask = asked(&desk.wait(2_000)).expect("the next heartbeat is due");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(6))));
    assert_eq!(heartbeat(&effects), None);
    assert_eq!(heartbeat(&desk.step(Input::AppendFailed(event))), None);
    let effects = desk.wait(500);
    let (again, record) = appends(&effects)[0];
    assert_eq!(*record, stopped(20, 0, None, StopReason::Barred), "it is said again");
    assert!(heartbeat(&desk.acknowledge(again)).is_some());
}

#[test]
fn c2_the_lease_counts_from_before_the_heartbeat_was_handed_over() {
    let mut desk = Desk::living();
    let ask = asked(&desk.wait(2_000)).expect("the next heartbeat is due");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(5))));
    let beat = heartbeat(&effects).expect("everything was heard");
    desk.wait(10_000);
    desk.acknowledge(beat);
    assert_eq!(desk.consumer.lease_left(desk.now()), Duration::from_secs(5));
    desk.now_ms += 4_999;
    assert!(desk.consumer.incarnation(desk.now()).is_some());
    desk.now_ms += 1;
    assert!(desk.consumer.incarnation(desk.now()).is_none());
}

#[test]
fn c2_an_acknowledgement_after_the_lapse_revives_nothing() {
    let mut desk = Desk::reading(true);
    let ask = asked(&desk.wait(2_000)).expect("the next heartbeat is due");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(desk.commands))));
    let beat = heartbeat(&effects).expect("everything was heard");
    desk.now_ms += 13_000;
    let effects = desk.acknowledge(beat);
    assert_eq!(
        effects,
        [Effect::Lapsed(LIFE), Effect::Abort(partition(0)), Effect::Locate],
        "what is in flight is abandoned, and a new life asked for"
    );
    assert_eq!(desk.holds(0), None);
}

#[test]
fn an_acknowledgement_that_goes_back_means_that_the_ledger_was_cut() {
    let mut desk = Desk::living();
    let ask = asked(&desk.wait(2_000)).expect("the next heartbeat is due");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(5))));
    let beat = heartbeat(&effects).expect("everything was heard");
    assert!(lapsed(&desk.step(Input::Appended(beat, Offset(4)))));
}

#[test]
fn a_grant_of_an_earlier_term_above_a_later_one_means_that_the_ledger_was_cut() {
    // Whoever reads a grant at 21 as valid in term 2 has read no Elect at 3: it was there, and is there no more.
    let mut desk = Desk::reading(false);
    assert!(lapsed(&desk.command(start(TERM - 1, 21, &[1]))));
    assert_eq!(desk.holds(0), None);
    let said = |effects: &[Effect]| {
        let hello = |effect: &Effect| match effect {
            Effect::Append(_, Entry { generation, record: Record::Hello(hello) }) => {
                Some((*generation, hello.persisted.clone()))
            }
            _ => None,
        };
        effects.iter().find_map(hello)
    };
    let effects = desk.locate(1);
    assert_eq!(said(&effects), Some((Generation(2), vec![(partition(0), Position(100))])));
}

#[test]
fn c3_a_command_partition_that_lost_what_was_read_ends_the_life() {
    // Everything below its new end was obeyed long ago: beats would go on, and nothing would ever be heard.
    let mut desk = Desk::reading(false);
    assert!(lapsed(&desk.step(Input::CommandsLost)));
    assert_eq!(desk.holds(0), None);
    let (mut desk, _) = Desk::greeting();
    desk.step(Input::CommandsLost);
    assert_eq!(desk.wait(500), [Effect::Locate], "it listens from an end that is not there");
}

#[test]
fn a_heartbeat_that_failed_is_repeated_under_the_next_seq_after_another_question() {
    let mut desk = Desk::living();
    let ask = asked(&desk.wait(2_000)).expect("the next heartbeat is due");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(5))));
    let beat = heartbeat(&effects).expect("everything was heard");
    assert_eq!(desk.step(Input::AppendFailed(beat)), []);
    let ask = asked(&desk.wait(500)).expect("the end is asked for anew");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(5))));
    assert!(matches!(appends(&effects)[0].1, Record::Heartbeat { seq: 3, .. }));
}

// === Start ===

#[test]
fn c1_a_start_is_obeyed_in_the_highest_term_for_the_own_life_and_above_any_epoch_seen() {
    let other = Incarnation(Offset(9));
    let cases = [
        ("as it should be", 1, LIFE, start(TERM, 21, &[0]), true),
        ("a higher term", 1, LIFE, start(TERM + 1, 21, &[0]), true),
        ("an earlier term", 1, LIFE, start(TERM - 1, 21, &[0]), false),
        ("another life", 1, other, start(TERM, 21, &[0]), false),
        ("an earlier generation", 0, LIFE, start(TERM, 21, &[0]), false),
        ("an epoch that is over", 1, LIFE, start(TERM, 20, &[0]), false),
        ("an epoch before one that is over", 1, LIFE, start(TERM, 19, &[0]), false),
    ];
    for (case, generation, life, body, obeyed) in cases {
        let mut desk = Desk::reading(false);
        let effects = desk.command_when_idle(stop(20, &[0]));
        desk.acknowledge_all(&effects);
        desk.command_of(generation, life, body);
        assert_eq!(desk.holds(0).is_some(), obeyed, "{case}");
    }
}

#[test]
fn a_refused_start_is_answered_with_the_reason() {
    let mut desk = Desk::reading(false);
    let effects = desk.command(start(TERM - 1, TERM - 1, &[1]));
    assert!(effects.contains(&Effect::Ignored(Refusal::StaleTerm)));
    let command = Offset(desk.commands - 1);
    let reply = Record::Reply { incarnation: LIFE, command, refusal: Refusal::StaleTerm };
    assert!(says(&effects, &reply));
    let effects = desk.command(CommandBody::Unknown { kind: "later".to_string() });
    assert!(effects.contains(&Effect::Ignored(Refusal::UnknownCommand)));
}

#[test]
fn r10_an_owner_acquires_the_sink_first_and_begins_where_the_higher_of_sink_and_ledger_stands() {
    for (stands, begins) in [(None, 100), (Some(100), 100), (Some(130), 130)] {
        let mut desk = Desk::living();
        let effects = desk.command(start(TERM, 20, &[0]));
        assert!(matches!(effects[..], [Effect::Acquire(at, _), ..] if at == partition(0)));
        assert_eq!(appends(&effects), [], "nothing is said before the sink has answered");
        let stands = stands.map(Position);
        let effects = desk.step(Input::Acquired(partition(0), epoch(20), stands));
        assert!(effects.contains(&Effect::Read(partition(0), epoch(20), Position(begins))));
        assert!(says(&effects, &started(20, &[0])));
    }
}

#[test]
fn r10_a_sink_behind_the_ledger_stops_the_partition() {
    let mut desk = Desk::living();
    desk.command(start(TERM, 20, &[0]));
    let effects = desk.step(Input::Acquired(partition(0), epoch(20), Some(Position(99))));
    let alarm = Alarm::SinkBehind(partition(0), epoch(20), Some(Position(99)), Position(100));
    assert_eq!(effects, [Effect::Raise(alarm)]);
    let effects = desk.command(stop(20, &[0]));
    assert!(says(&effects, &stopped(20, 0, None, StopReason::Command)), "it can still be taken");
}

#[test]
fn r10_a_sink_behind_the_ledger_is_read_to_again_if_that_was_decided() {
    let mut desk = Desk::living();
    desk.consumer.settings.sink_behind = SinkBehind::Rewind;
    desk.command(start(TERM, 20, &[0]));
    let effects = desk.step(Input::Acquired(partition(0), epoch(20), Some(Position(99))));
    let alarm = Alarm::SinkBehind(partition(0), epoch(20), Some(Position(99)), Position(100));
    assert_eq!(effects[0], Effect::Raise(alarm));
    assert!(effects.contains(&Effect::Read(partition(0), epoch(20), Position(99))));
    assert!(says(&effects, &started(20, &[0])));
}

#[test]
fn r10_the_gap_of_a_sink_behind_the_ledger_is_recorded_before_anything_else_if_that_was_decided() {
    let mut desk = Desk::living();
    desk.consumer.settings.sink_behind = SinkBehind::Continue;
    desk.command(start(TERM, 20, &[0]));
    let held = (partition(0), epoch(20));
    let acquired = Input::Acquired(held.0, held.1, Some(Position(90)));
    let effects = desk.step(acquired.clone());
    let token = FencingToken { generation: Generation(1), epoch: held.1 };
    let skip = Effect::Skip(held.0, token, Position(90), Position(100));
    assert_eq!(
        effects[1..],
        core::slice::from_ref(&skip)[..],
        "records are not read before it is durable"
    );
    // What has become of it is not known: the sink is asked again.
    desk.step(Input::WriteFailed(held.0, held.1, Failure::Transient));
    assert!(desk.wait(500).contains(&Effect::Acquire(held.0, token)));
    assert!(desk.step(acquired).contains(&skip));
    let effects = desk.step(Input::Written(held.0, held.1, Position(100)));
    assert!(effects.contains(&Effect::Read(held.0, held.1, Position(100))));
    assert!(says(&effects, &started(20, &[0])));
}

#[test]
fn a_start_for_the_epoch_held_is_answered_with_started_once_the_sink_is_acquired() {
    let mut desk = Desk::living();
    desk.command(start(TERM, 20, &[0]));
    assert_eq!(desk.command(start(TERM, 20, &[0])), []);
    let effects = desk.step(Input::Acquired(partition(0), epoch(20), None));
    assert!(says(&effects, &started(20, &[0])));
    let effects = desk.command(start(TERM, 20, &[0]));
    assert!(says(&effects, &started(20, &[0])));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Acquire(..))));
}

#[test]
fn a_start_with_a_higher_epoch_abandons_what_is_left_of_the_lower() {
    let mut desk = Desk::reading(true);
    let effects = desk.command(start(TERM, 30, &[0]));
    assert!(effects.contains(&Effect::Abort(partition(0))));
    assert_eq!(desk.holds(0), Some(epoch(30)));
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(150)));
    assert_eq!(appends(&effects), [], "an answer for the lower epoch changes nothing");
}

#[test]
fn partitions_that_start_at_once_are_told_of_in_few_records() {
    let mut desk = Desk::living();
    let numbers: Vec<u32> = (0..1_000).collect();
    desk.command(start(TERM, 20, &numbers));
    let mut said: Vec<Effect> = numbers
        .iter()
        .flat_map(|number| desk.step(Input::Acquired(partition(*number), epoch(20), None)))
        .collect();
    let (mut told, mut records) = (Vec::new(), 0);
    loop {
        let mut any = false;
        for (_, record) in appends(&said) {
            if let Record::Started { partitions, .. } = record {
                told.extend(partitions.iter().map(|(at, _)| at.number));
                (records, any) = (records + 1, true);
            }
        }
        if !any {
            break;
        }
        said = desk.acknowledge_all(&said);
    }
    assert_eq!(told, numbers);
    assert_eq!(records, 9, "eight are on their way, and the rest wait for one of them");
}

// === writing ===

#[test]
fn c4_a_write_that_could_outlast_the_lease_waits_for_its_renewal() {
    let mut desk = Desk::reading(false);
    let question = desk.wait(10_000);
    assert!(!writes(&desk.step(Input::Ready(partition(0), epoch(20)))));
    let ask = asked(&question).expect("the next heartbeat is due");
    let effects = desk.step(Input::CommandEnd(ask, Some(Offset(desk.commands))));
    let beat = heartbeat(&effects).expect("everything was heard");
    assert!(writes(&desk.acknowledge(beat)));
}

#[test]
fn a_durable_write_is_told_and_the_next_one_begins() {
    let mut desk = Desk::reading(true);
    desk.now_ms += 200;
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(150)));
    let partitions = vec![(partition(0), epoch(20), Position(150))];
    assert!(says(&effects, &Record::Progress { incarnation: LIFE, partitions }));
    assert!(writes(&desk.step(Input::Ready(partition(0), epoch(20)))));
}

#[test]
fn progress_is_one_record_in_flight_and_the_newest_position_after_a_failure() {
    let mut desk = Desk::reading(true);
    desk.now_ms += 200;
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(150)));
    let (first, _) = appends(&effects)[0];
    desk.step(Input::Ready(partition(0), epoch(20)));
    desk.now_ms += 200;
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(170)));
    assert_eq!(appends(&effects), []);
    desk.step(Input::AppendFailed(first));
    let effects = desk.wait(500);
    let partitions = vec![(partition(0), epoch(20), Position(170))];
    assert!(says(&effects, &Record::Progress { incarnation: LIFE, partitions }));
}

#[test]
fn progress_that_failed_is_told_again_even_when_nothing_new_is_durable() {
    let mut desk = Desk::reading(true);
    desk.now_ms += 200;
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(150)));
    let (id, progress) = appends(&effects)[0];
    desk.step(Input::AppendFailed(id));
    assert!(says(&desk.wait(500), progress));
}

#[test]
fn after_a_write_of_unknown_outcome_the_sink_is_acquired_again() {
    for failure in [Failure::Transient, Failure::Fenced] {
        let mut desk = Desk::reading(true);
        let effects = desk.step(Input::WriteFailed(partition(0), epoch(20), failure));
        assert!(effects.contains(&Effect::Unread(partition(0))), "{failure:?}");
        assert!(!writes(&desk.step(Input::Ready(partition(0), epoch(20)))), "{failure:?}");
        let effects = desk.wait(500);
        assert!(matches!(effects[0], Effect::Acquire(at, _) if at == partition(0)), "{failure:?}");
        let effects = desk.step(Input::Acquired(partition(0), epoch(20), Some(Position(150))));
        assert!(effects.contains(&Effect::Read(partition(0), epoch(20), Position(150))));
        assert!(!says(&effects, &started(20, &[0])), "that it reads is known");
    }
}

#[test]
fn reading_that_fails_begins_again_and_from_where_nothing_is_left_it_waits_for_a_person() {
    let mut desk = Desk::reading(false);
    let effects = desk.step(Input::ReadFailed(partition(0), epoch(20), ReadFailure::Transient));
    assert_eq!(effects, [Effect::Unread(partition(0))]);
    assert!(matches!(desk.wait(500)[0], Effect::Acquire(..)));

    let mut desk = Desk::reading(false);
    let extent = Extent { start: Position(110), end: Position(120) };
    let (gone, alarm) = out_of_range(extent);
    let effects = desk.step(gone);
    assert!(effects.contains(&Effect::Raise(alarm)));
    assert_eq!(
        desk.wait(20_000).iter().filter(|effect| matches!(effect, Effect::Acquire(..))).count(),
        0
    );
}

/// What the shell tells of partition 0 at 100, and the alarm of it.
fn out_of_range(extent: Extent) -> (Input, Alarm) {
    let failure = ReadFailure::OutOfRange(extent);
    let alarm = Alarm::OutOfRange(partition(0), epoch(20), Position(100), extent);
    (Input::ReadFailed(partition(0), epoch(20), failure), alarm)
}

#[test]
fn deleted_records_are_recorded_as_a_gap_and_passed_over_if_that_was_decided() {
    let mut desk = Desk::reading(false);
    desk.consumer.settings.out_of_range = Gone::Skip;
    let (gone, alarm) = out_of_range(Extent { start: Position(110), end: Position(120) });
    let effects = desk.step(gone.clone());
    let token = FencingToken { generation: Generation(1), epoch: epoch(20) };
    let skip = Effect::Skip(partition(0), token, Position(100), Position(110));
    assert_eq!(effects, [Effect::Unread(partition(0)), Effect::Raise(alarm), skip.clone()]);
    // What has become of the gap is not known: the sink is asked, and says where it stands.
    desk.step(Input::WriteFailed(partition(0), epoch(20), Failure::Transient));
    assert!(desk.wait(500).contains(&Effect::Acquire(partition(0), token)));
    desk.step(Input::Acquired(partition(0), epoch(20), Some(Position(100))));
    assert!(desk.step(gone).contains(&skip));
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(110)));
    assert!(effects.contains(&Effect::Read(partition(0), epoch(20), Position(110))));
}

#[test]
fn a_log_that_has_lost_its_end_stops_the_partition_whatever_was_decided() {
    let mut desk = Desk::reading(false);
    desk.consumer.settings.out_of_range = Gone::Skip;
    let (gone, alarm) = out_of_range(Extent { start: Position(0), end: Position(99) });
    assert_eq!(desk.step(gone), [Effect::Unread(partition(0)), Effect::Raise(alarm)]);
}

#[test]
fn a_position_that_is_in_range_when_it_is_looked_at_is_read_again() {
    let mut desk = Desk::reading(false);
    let (gone, _) = out_of_range(Extent { start: Position(90), end: Position(100) });
    assert_eq!(desk.step(gone), [Effect::Unread(partition(0))]);
    assert!(matches!(desk.wait(500)[0], Effect::Acquire(..)));
}

#[test]
fn reading_that_fails_during_a_write_is_looked_at_when_the_write_has_ended() {
    // The shell reads ahead while it writes, and tells once that it cannot: forgotten, nothing would be read again.
    let mut desk = Desk::reading(true);
    assert_eq!(desk.step(Input::ReadFailed(partition(0), epoch(20), ReadFailure::Transient)), []);
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(150)));
    assert!(effects.contains(&Effect::Unread(partition(0))));
    assert!(matches!(desk.wait(500)[0], Effect::Acquire(..)));
}

#[test]
fn a_sink_that_fails_is_asked_again_and_one_that_refuses_raises_an_alarm() {
    let mut desk = Desk::living();
    desk.command(start(TERM, 20, &[0]));
    let failed = |failure| Input::AcquireFailed(partition(0), epoch(20), failure);
    assert_eq!(desk.step(failed(Failure::Transient)), []);
    assert!(matches!(desk.wait(500)[0], Effect::Acquire(..)));
    let alarm = Alarm::SinkFailing(partition(0), epoch(20), Failure::Damaged);
    assert_eq!(desk.step(failed(Failure::Damaged)), [Effect::Raise(alarm)]);
    let effects = desk.wait(500);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Acquire(..))));
}

// === Stop ===

#[test]
fn r11_a_stop_waits_for_the_write_in_flight_and_says_where_that_ended() {
    let mut desk = Desk::reading(true);
    let effects = desk.command(stop(20, &[0]));
    assert_eq!(effects, [Effect::Unread(partition(0))]);
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(150)));
    assert!(says(&effects, &stopped(20, 0, Some(150), StopReason::Command)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Release(..))));
    assert_eq!(desk.holds(0), None);
    assert!(!writes(&desk.step(Input::Ready(partition(0), epoch(20)))), "C5");
}

#[test]
fn r11_a_stop_writes_what_was_gathered_first() {
    let mut desk = Desk::reading(false);
    let token = FencingToken { generation: Generation(1), epoch: epoch(20) };
    assert_eq!(desk.command(stop(20, &[0])), [Effect::Finish(partition(0), token)]);
    assert!(!writes(&desk.step(Input::Ready(partition(0), epoch(20)))), "C5");
    let effects = desk.step(Input::Written(partition(0), epoch(20), Position(120)));
    assert!(says(&effects, &stopped(20, 0, Some(120), StopReason::Command)));
    assert!(!writes(&desk.step(Input::Ready(partition(0), epoch(20)))), "C5");
}

#[test]
fn r11_a_stop_drops_what_was_gathered_when_the_lease_is_short_and_what_is_of_unknown_outcome() {
    let mut desk = Desk::reading(false);
    desk.now_ms += 10_500;
    let effects = desk.command(stop(20, &[0]));
    assert_eq!(effects[0], Effect::Unread(partition(0)), "C4");
    assert!(says(&effects, &stopped(20, 0, Some(100), StopReason::Command)));

    let mut desk = Desk::reading(true);
    desk.command(stop(20, &[0]));
    let failed = Input::WriteFailed(partition(0), epoch(20), Failure::Transient);
    assert!(says(&desk.step(failed), &stopped(20, 0, Some(100), StopReason::Command)));
}

#[test]
fn r9_a_stop_for_an_epoch_that_is_not_held_bars_it_for_ever() {
    let mut desk = Desk::living();
    let barred = stopped(20, 0, None, StopReason::Barred);
    assert!(says(&desk.command(stop(20, &[0])), &barred));
    let effects = desk.command(start(TERM, 20, &[0]));
    assert!(says(&effects, &barred), "its late Start is answered with the end");
    assert_eq!(desk.holds(0), None);
    desk.command(stop(30, &[0]));
    desk.command(start(TERM, 30, &[0]));
    assert_eq!(desk.holds(0), None, "a later one is barred as well");
    desk.command(start(TERM, 31, &[0]));
    assert_eq!(desk.holds(0), Some(epoch(31)));
}

#[test]
fn r9_a_stop_for_an_earlier_epoch_leaves_the_held_one_alone() {
    let mut desk = Desk::reading(false);
    assert!(says(&desk.command(stop(15, &[0])), &stopped(15, 0, None, StopReason::Barred)));
    assert_eq!(desk.holds(0), Some(epoch(20)));
}

#[test]
fn partitions_that_are_stopped_together_are_told_of_in_one_record() {
    let mut desk = Desk::living();
    desk.command(start(TERM, 20, &[0, 1, 2]));
    let effects = desk.command(stop(20, &[0, 1, 2]));
    let events = appends(&effects);
    let all = |record: &Record| matches!(record, Record::Stopped { partitions, .. } if partitions.len() == 3);
    assert!(events.len() == 1 && all(events[0].1), "{events:?}");
}

#[test]
fn a_drain_gives_everything_back_and_a_query_tells_what_is_held() {
    let mut desk = Desk::reading(false);
    let effects = desk.command(CommandBody::StateQuery { term: Term(Offset(TERM)) });
    let partitions = vec![(partition(0), epoch(20), Position(100))];
    assert!(says(&effects, &Record::State { incarnation: LIFE, partitions }));
    let effects = desk.command_when_idle(CommandBody::Drain { term: Term(Offset(TERM)) });
    assert!(says(&effects, &stopped(20, 0, Some(100), StopReason::Command)));
}

// === the end of a life ===

#[test]
fn ended_ends_the_life_it_names_and_no_other() {
    let mut desk = Desk::reading(true);
    assert_eq!(desk.command_of(1, Incarnation(Offset(9)), CommandBody::Ended), []);
    let effects = desk.command(CommandBody::Ended);
    assert_eq!(effects, [Effect::Lapsed(LIFE), Effect::Abort(partition(0)), Effect::Locate]);
}

#[test]
fn in_a_higher_generation_terms_and_epochs_begin_anew() {
    // Its offsets are lower: compared with those of the generation before, every Start would be stale.
    let mut desk = Desk::reading(false);
    assert!(lapsed(&desk.command_of(2, LIFE, CommandBody::Ended)));
    let effects = desk.locate(2);
    let (hello, _) = appends(&effects)[0];
    desk.step(Input::Appended(hello, Offset(2)));
    desk.command_of(2, Incarnation(Offset(2)), start(1, 4, &[0]));
    assert_eq!(desk.holds(0), Some(epoch(4)));
}

#[test]
fn in_the_same_generation_a_new_life_remembers_what_is_barred() {
    let mut desk = Desk::reading(false);
    desk.command(CommandBody::Ended);
    let effects = desk.locate(1);
    let (hello, _) = appends(&effects)[0];
    desk.step(Input::Appended(hello, Offset(40)));
    desk.command_of(1, Incarnation(Offset(40)), start(TERM, 20, &[0]));
    assert_eq!(desk.holds(0), None);
}

// === the end of the process ===

const BUDGET: Duration = Duration::from_secs(10);

/// One that reads, was told to end, and has handed its Goodbye over.
fn leaving() -> (Desk, AppendId) {
    let mut desk = Desk::reading(false);
    let effects = desk.step(Input::Shutdown(BUDGET));
    assert!(says(&effects, &stopped(20, 0, Some(100), StopReason::Shutdown)));
    assert!(!says(&effects, &Record::Goodbye { incarnation: LIFE, clean: true }));
    let effects = desk.acknowledge_all(&effects);
    let goodbye = Record::Goodbye { incarnation: LIFE, clean: true };
    let said = appends(&effects).iter().find(|(_, record)| **record == goodbye).map(|(id, _)| *id);
    (desk, said.expect("everything was given back"))
}

#[test]
fn a_controlled_stop_gives_everything_back_says_goodbye_and_then_leaves_clean() {
    let (mut desk, goodbye) = leaving();
    let effects = desk.acknowledge(goodbye);
    assert_eq!(exit(&effects), Some(true));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Save { clean: true, .. })));
    assert_eq!(desk.wait(1_000), [], "nothing more happens");
}

#[test]
fn no_heartbeat_follows_the_goodbye_and_its_answer_is_no_lapse() {
    // A heartbeat behind the Goodbye would be answered with Ended, which could overtake the acknowledgement.
    let (mut desk, _) = leaving();
    assert_eq!(asked(&desk.wait(3_000)), None);
    assert_eq!(exit(&desk.command(CommandBody::Ended)), Some(true));
}

#[test]
fn a_goodbye_that_failed_is_said_again_after_a_pause() {
    let (mut desk, goodbye) = leaving();
    assert_eq!(desk.step(Input::AppendFailed(goodbye)), []);
    let effects = desk.wait(500);
    assert!(says(&effects, &Record::Goodbye { incarnation: LIFE, clean: true }));
}

#[test]
fn who_is_leaving_takes_nothing_up() {
    let mut desk = Desk::reading(true);
    desk.step(Input::Shutdown(BUDGET));
    let effects = desk.command(start(TERM, 21, &[1]));
    assert!(effects.contains(&Effect::Ignored(Refusal::ShuttingDown)));
    assert_eq!(desk.holds(1), None);
}

#[test]
fn a_stop_that_takes_too_long_or_is_repeated_leaves_unclean() {
    let mut desk = Desk::reading(true);
    desk.step(Input::Shutdown(BUDGET));
    assert_eq!(exit(&desk.wait(10_000)), Some(false));

    let mut desk = Desk::reading(true);
    desk.step(Input::Shutdown(BUDGET));
    assert_eq!(exit(&desk.step(Input::Shutdown(BUDGET))), Some(false));
}

#[test]
fn who_never_lived_leaves_its_state_file_as_it_is_and_who_lapsed_is_not_clean() {
    let (mut desk, _) = Desk::greeting();
    assert_eq!(desk.step(Input::Shutdown(BUDGET)), [Effect::Exit(true)]);

    let mut desk = Desk::reading(false);
    desk.command(CommandBody::Ended);
    assert_eq!(exit(&desk.step(Input::Shutdown(BUDGET))), Some(false));
}

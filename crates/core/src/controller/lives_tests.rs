//! Snapshots and lives of the ledger, each driven through the step function.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::tests::{Desk, FIRST, hello, settings};
use super::*;
use crate::ids::{
    ConsumerNumber, Epoch, Generation, GroupName, Incarnation, Offset, Position, ProcessId, Term,
};
use crate::ledger::{CommandBody, Entry, Facts, Hello, Record, Seal};
use crate::samples::{GENERATION, consumer, group, partition};

/// The snapshots' `upto`s among what is appended.
fn snapshots(effects: &[Effect]) -> Vec<Offset> {
    let upto = |effect: &Effect| match effect {
        Effect::Append(Entry { record: Record::Snapshot { upto, part: 0, .. }, .. }) => Some(*upto),
        _ => None,
    };
    effects.iter().filter_map(upto).collect()
}

fn trims(effects: &[Effect]) -> Vec<(Option<u32>, u64)> {
    let trim = |effect: &Effect| match effect {
        Effect::Trim(of, below) => Some((of.map(ConsumerNumber::get), below.0)),
        _ => None,
    };
    effects.iter().filter_map(trim).collect()
}

/// A leader that marks every hundredth offset and writes a snapshot a minute at most.
fn marking() -> Desk {
    let fence = Duration::from_secs(600);
    Desk::leader(Settings { mark_every: 100, fence, ..settings() })
}

/// Passes a mark, and half a minute.
fn next_mark(desk: &mut Desk) -> Vec<Effect> {
    for _ in 0..100 {
        desk.put(Record::Unknown { kind: "filler".into() });
    }
    let mut effects = desk.read();
    desk.perform(&effects);
    effects.extend(desk.pass(30, &[]));
    effects
}

/// What follows once questions that are under way have been asked again.
fn later(desk: &mut Desk) -> Vec<Effect> {
    desk.now_ms += 1_000;
    desk.calm()
}

#[test]
fn a_leader_writes_a_snapshot_of_the_last_mark_and_reads_it_back() {
    let mut desk = marking();
    let mut effects = next_mark(&mut desk);
    effects.extend(next_mark(&mut desk));
    let written = snapshots(&effects);
    assert_eq!(written.len(), 1, "a minute has not passed");
    assert!((100..105).contains(&written[0].0), "{written:?}");
    assert!(effects.contains(&Effect::Note(Note::Snapshot(written[0]))));
    assert_eq!(trims(&effects), [], "one snapshot is too few to delete anything");
}

fn heartbeat(life: u64, seq: u64, heard: u64) -> Record {
    let (consumer, incarnation) = (consumer(1), Incarnation(Offset(life)));
    Record::Heartbeat { consumer, incarnation, seq, heard: Offset(heard), figures: Vec::new() }
}

#[test]
fn what_is_below_the_last_snapshot_but_one_is_deleted_and_commands_up_to_where_they_were_obeyed() {
    let mut desk = marking();
    desk.say(hello(1, 1));
    let life = desk.end().0 - 1;
    let mut effects = Vec::new();
    for seq in 1..6 {
        desk.say(heartbeat(life, seq, 33));
        effects.extend(next_mark(&mut desk));
    }
    let (written, trims) = (snapshots(&effects), trims(&effects));
    assert_eq!(written.len(), 3, "{written:?}");
    let cut = |snapshot: Offset| [(None, snapshot.0), (Some(1), 33)];
    assert_eq!(trims, [cut(written[0]), cut(written[1])].concat());
}

#[test]
fn commands_are_kept_while_one_of_that_number_has_not_obeyed_any() {
    let mut desk = marking();
    desk.say(hello(1, 1));
    let life = desk.end().0 - 1;
    desk.say(hello(1, 2));
    let mut effects = Vec::new();
    for seq in 1..4 {
        desk.say(heartbeat(life, seq, 33));
        desk.say(heartbeat(life + 1, seq, 0));
        effects.extend(next_mark(&mut desk));
    }
    let trims = trims(&effects);
    assert_eq!(trims.len(), 1, "{trims:?}");
    assert!(trims.iter().all(|(of, _)| of.is_none()));
}

#[test]
fn a_snapshot_that_says_something_else_is_told_and_counts_for_nothing() {
    let mut desk = marking();
    let effects = next_mark(&mut desk);
    let upto = snapshots(&effects)[0];
    let part = |part| Record::Snapshot {
        group: group(),
        upto,
        part,
        of: 9,
        facts: Box::new(Facts::default()),
    };
    let effects: Vec<_> = (0..9).flat_map(|number| desk.say(part(number))).collect();
    assert!(effects.contains(&Effect::Note(Note::SnapshotDiffers(upto))));
    assert_eq!(trims(&effects), []);
}

#[test]
fn a_process_that_finds_the_beginning_deleted_begins_at_a_snapshot_and_takes_over() {
    let mut desk = marking();
    next_mark(&mut desk);
    let start = desk
        .ledger
        .iter()
        .find_map(|entry| match entry.record {
            Record::Snapshot { upto, .. } => Some(upto),
            _ => None,
        })
        .expect("a snapshot was written");
    let mut heir = Desk::successor_of(&desk, settings(), ProcessId(7), start);
    heir.read();
    assert_eq!(heir.controller.fold(), desk.controller.fold());
    heir.now_ms += 12_000;
    heir.calm();
    assert!(matches!(heir.controller.role(), Role::Leading { .. }));
}

#[test]
fn k6_a_ledger_that_has_lost_records_gets_a_higher_generation_and_nothing_is_granted_until_leases_lapsed()
 {
    let mut desk = Desk::heir_of_plan(1);
    let effects = desk.step(Input::LedgerLost);
    assert!(effects.contains(&Effect::Note(Note::Leading(false))));
    assert!(desk.controller.has_lost_records());
    let kept = 4;
    desk.reopen(kept);
    let effects = later(&mut desk);
    let renewed = Generation(GENERATION.0 + 1);
    let genesis = Record::Genesis { group: group(), first: false };
    assert!(effects.contains(&Effect::Append(Entry { generation: renewed, record: genesis })));
    assert_eq!(desk.controller.fold().generation(), Some(renewed));
    desk.generation = renewed;
    desk.calm();
    assert!(matches!(desk.controller.role(), Role::Leading { .. }));
    // The consumer comes back, and waits for what it held.
    desk.say(hello(1, 3));
    let life = Incarnation(Offset(desk.end().0 - 1));
    desk.report(&[10]);
    let early = desk.pass(18, &[life]);
    assert_eq!(grants(&early), 0);
    let late = desk.pass(6, &[life]);
    assert!(grants(&late) > 0);
    assert!(!desk.controller.has_lost_records());
}

fn grants(effects: &[Effect]) -> usize {
    let is_grant = |effect: &&Effect| {
        matches!(effect, Effect::Append(Entry { record: Record::Grant { .. }, .. }))
    };
    effects.iter().filter(is_grant).count()
}

/// A leader in a new generation, in which a consumer waits for what it held.
fn renewed() -> (Desk, Incarnation) {
    let mut desk = Desk::heir_of_plan(1);
    desk.step(Input::LedgerLost);
    desk.reopen(4);
    later(&mut desk);
    desk.generation = Generation(GENERATION.0 + 1);
    desk.calm();
    desk.say(hello(1, 3));
    let life = Incarnation(Offset(desk.end().0 - 1));
    desk.report(&[10]);
    (desk, life)
}

/// A heartbeat of the generation before is appended.
fn beat_of_an_older_generation(desk: &mut Desk) {
    desk.ledger.push(Entry { generation: GENERATION, record: heartbeat(2, 9, 0) });
}

// Found by the model checker, in its configuration "lost tail": where as many records have been appended since the loss, the
// acknowledgement of a heartbeat does not go back, and renews a lease of the older generation.
#[test]
fn k6_a_heartbeat_of_an_older_generation_begins_the_pause_anew() {
    let (mut desk, life) = renewed();
    desk.pass(10, &[life]);
    beat_of_an_older_generation(&mut desk);
    assert_eq!(grants(&desk.pass(17, &[life])), 0);
    assert!(grants(&desk.pass(7, &[life])) > 0);
    beat_of_an_older_generation(&mut desk);
    desk.pass(1, &[life]);
    assert!(!desk.controller.has_lost_records(), "whoever is told late holds nothing any more");
}

#[test]
fn k6_the_pause_ends_only_when_the_ledger_was_read_to_an_end_fetched_after_it() {
    let (mut desk, life) = renewed();
    desk.pass(18, &[life]);
    beat_of_an_older_generation(&mut desk);
    let effects = desk.wait(4_000);
    let asked = |effect: &Effect| match effect {
        Effect::FetchLedgerEnd(id) => Some(*id),
        _ => None,
    };
    let id = effects.iter().find_map(asked).expect("the pause is over, by the clock");
    let answered = desk.step(Input::LedgerEnd(id, Some(desk.end())));
    assert_eq!((grants(&effects), grants(&answered)), (0, 0), "a heartbeat is not read yet");
    assert_eq!(grants(&desk.read()), 0);
    assert!(desk.controller.has_lost_records());
}

#[test]
fn k6_the_first_ledger_of_a_group_with_traces_waits_as_well_and_one_without_does_not() {
    for traces in [true, false] {
        let mut desk = Desk::new(settings());
        let effects = desk.wait(200);
        let [Effect::FetchLedgerEnd(id)] = effects[..] else { panic!("{effects:?}") };
        let effects = desk.step(Input::LedgerEnd(id, Some(Offset(0))));
        assert_eq!(effects, [Effect::LookForTraces]);
        let effects = desk.step(Input::Traces(traces));
        desk.perform(&effects);
        desk.read();
        let first = Record::Genesis { group: group(), first: !traces };
        assert_eq!(desk.ledger[0].record, first);
        desk.calm();
        desk.say(hello(1, 1));
        desk.report(&[10]);
        let life = Incarnation(Offset(desk.end().0 - 1));
        let granted = grants(&desk.pass(5, &[life])) > 0;
        assert_eq!(granted, !traces);
    }
}

#[test]
fn who_speaks_in_an_older_generation_is_told_even_when_its_hello_is_lost() {
    let mut desk = marking();
    let old = |record| Entry { generation: Generation(0), record };
    let (of, unknown) = (consumer(5), Incarnation(Offset(900)));
    let (heard, figures) = (Offset(0), Vec::new());
    desk.ledger.push(old(Record::Heartbeat {
        consumer: of,
        incarnation: unknown,
        seq: 9,
        heard,
        figures,
    }));
    let effects = desk.read();
    let told = |effects: &[Effect], of, incarnation| {
        effects.iter().any(|effect| {
            matches!(effect, Effect::Command(to, command) if *to == of
                && command.generation == GENERATION
                && command.incarnation == incarnation
                && command.body == CommandBody::Ended)
        })
    };
    // The number of its incarnation may be another one's here.
    let beat_at = Incarnation(Offset(desk.end().0 - 1));
    assert!(told(&effects, of, beat_at));
    assert!(!told(&effects, of, unknown));
    desk.ledger.push(old(hello(6, 6)));
    let effects = desk.read();
    let at = Incarnation(Offset(desk.end().0 - 1));
    assert!(told(&effects, consumer(6), at));
}

#[test]
fn who_speaks_in_a_higher_generation_has_seen_what_this_ledger_lost() {
    let mut desk = marking();
    let record = hello(1, 1);
    desk.ledger.push(Entry { generation: Generation(40), record });
    let effects = desk.read();
    assert!(effects.contains(&Effect::Note(Note::Leading(false))));
    let effects = later(&mut desk);
    let begun = |effect: &Effect| {
        matches!(
            effect,
            Effect::Append(Entry {
                generation: Generation(41),
                record: Record::Genesis { first: false, .. }
            })
        )
    };
    assert!(effects.iter().any(begun), "{effects:?}");
    let noise = Record::Unknown { kind: "noise".into() };
    let mut calm = marking();
    calm.ledger.push(Entry { generation: Generation(40), record: noise });
    calm.read();
    assert!(matches!(calm.controller.role(), Role::Leading { .. }), "noise proves nothing");
}

#[test]
fn an_own_election_that_is_read_again_gives_no_office() {
    // Its seals are used up, and in a ledger that has lost records nothing may be granted.
    for lost in [true, false] {
        let mut desk = Desk::heir_of_plan(1);
        if lost {
            desk.step(Input::LedgerLost);
        }
        desk.reopen(desk.ledger.len());
        assert_eq!(desk.controller.role(), Role::Following, "lost: {lost}");
    }
}

#[test]
fn a_ledger_that_was_lost_is_begun_anew_only_after_it_was_opened_again() {
    // Somebody may have begun it already, and a Genesis of a lower generation would mislead who begins to read at it.
    let mut desk = Desk::heir_of_plan(1);
    desk.ledger.clear();
    desk.read = 0;
    desk.step(Input::LedgerLost);
    later(&mut desk);
    assert_eq!(desk.ledger, []);
    desk.reopen(0);
    later(&mut desk);
    assert!(matches!(desk.ledger[0].record, Record::Genesis { first: false, .. }));
}

#[test]
fn k6_who_beats_in_an_older_generation_holds_a_lease_of_it() {
    let mut desk = Desk::leader(settings());
    let genesis = Record::Genesis { group: group(), first: false };
    let renewed = Generation(GENERATION.0 + 1);
    desk.ledger.push(Entry { generation: renewed, record: genesis });
    desk.generation = renewed;
    desk.calm();
    desk.say(hello(1, 1));
    let life = Incarnation(Offset(desk.end().0 - 1));
    desk.report(&[10]);
    assert_eq!(grants(&desk.pass(15, &[life])), 0);
    desk.ledger.push(Entry { generation: GENERATION, record: heartbeat(2, 30, 0) });
    assert_eq!(grants(&desk.pass(18, &[life])), 0);
    assert!(grants(&desk.pass(6, &[life])) > 0);
}

#[test]
fn who_is_not_in_the_ledger_that_is_read_anew_has_no_timer() {
    let mut desk = Desk::heir_of_plan(1);
    assert!(desk.controller.sizes().timers > 0);
    desk.step(Input::LedgerLost);
    desk.reopen(1);
    assert_eq!(desk.controller.sizes().timers, 0);
}

#[test]
fn a_ledger_whose_beginning_is_gone_and_that_has_no_snapshot_is_begun_anew() {
    let mut desk = Desk::new(settings());
    desk.step(Input::LedgerOpened(Offset(5)));
    for _ in 0..5 {
        desk.ledger.push(Entry { generation: GENERATION, record: hello(9, 9) });
    }
    desk.read = 5;
    for seq in 1..4 {
        desk.put(Record::Tick { seal: Seal { term: Term(Offset(1)), seq } });
    }
    desk.read();
    assert_eq!(desk.calm(), [], "somebody may be in office, whose next snapshot will do");
    desk.now_ms += 12_000;
    let effects = later(&mut desk);
    let above = Generation(GENERATION.0 + 1);
    let genesis = Record::Genesis { group: group(), first: false };
    assert!(effects.contains(&Effect::Append(Entry { generation: above, record: genesis })));
    desk.generation = above;
    desk.calm();
    assert!(matches!(desk.controller.role(), Role::Leading { .. }));
}

#[test]
fn a_trimmed_ledger_of_another_group_is_refused() {
    let mut desk = Desk::new(settings());
    desk.step(Input::LedgerOpened(Offset(50)));
    let group = GroupName("payments".into());
    let facts = Box::new(Facts::default());
    let record = Record::Snapshot { group, upto: Offset(50), part: 0, of: 1, facts };
    let entry = Entry { generation: GENERATION, record };
    let effects = desk.step(Input::Ledger(vec![(Offset(51), Some(entry))]));
    assert!(effects.contains(&Effect::RefuseLedger));
}

#[test]
fn where_the_ledger_knows_no_position_the_furthest_that_a_consumer_remembers_counts() {
    let mut desk = Desk::new(settings());
    desk.calm();
    let Record::Hello(said) = hello(1, 1) else { unreachable!("it is a Hello") };
    let persisted = vec![(partition(0), Position(500))];
    desk.say(Record::Hello(Hello { persisted, ..said }));
    let life = Incarnation(Offset(desk.end().0 - 1));
    desk.report(&[10]);
    let effects = desk.pass(3, &[life]);
    let from = effects.iter().find_map(|effect| match effect {
        Effect::Append(Entry { record: Record::Grant { partitions, .. }, .. }) => {
            Some(partitions[0].1)
        }
        _ => None,
    });
    assert_eq!(from, Some(Position(500)), "the start policy says 7");
}

#[test]
fn a_new_controller_asks_what_everybody_holds_and_stops_what_the_ledger_does_not_give() {
    let mut desk = Desk::heir_of_plan(1);
    let asked = Desk::queries(&desk.takeover());
    assert!(asked.contains(&FIRST), "{asked:?}");
    let held = vec![(partition(0), Epoch(Offset(2)), Position(9))];
    let effects = desk.say(Record::State { incarnation: FIRST, partitions: held });
    let stop = effects.iter().any(|effect| {
        matches!(effect, Effect::Command(_, command) if command.incarnation == FIRST
            && matches!(command.body, CommandBody::Stop { epoch: Epoch(Offset(2)), .. }))
    });
    assert!(stop, "{effects:?}");
}

#[test]
fn a_ledger_that_another_version_can_read_is_left_alone() {
    let mut desk = Desk::new(settings());
    desk.step(Input::LedgerOpened(Offset(5)));
    for _ in 0..5 {
        desk.ledger.push(Entry { generation: GENERATION, record: hello(9, 9) });
    }
    desk.read = 5;
    desk.put(Record::Unknown { kind: "Snapshot".into() });
    desk.read();
    desk.now_ms += 60_000;
    let begins = |effect: &Effect| matches!(effect, Effect::Append(_));
    assert!(!later(&mut desk).iter().any(begins));
}

#[test]
fn k6_the_word_that_nothing_was_before_counts_only_where_nothing_was() {
    let mut desk = Desk::leader(settings());
    desk.say(hello(1, 1));
    let late = Entry {
        generation: Generation(GENERATION.0 + 1),
        record: Record::Genesis { group: group(), first: true },
    };
    desk.ledger.push(late);
    desk.generation = Generation(GENERATION.0 + 1);
    desk.read();
    desk.calm();
    desk.say(hello(1, 2));
    let life = Incarnation(Offset(desk.end().0 - 1));
    desk.report(&[10]);
    assert_eq!(grants(&desk.pass(15, &[life])), 0);
    assert!(grants(&desk.pass(8, &[life])) > 0);
}

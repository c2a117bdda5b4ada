//! The fold's table, row by row: what a record does where it is valid, and that it does nothing where it is not.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]

use alloc::boxed::Box;
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ids::{
    BootId, DirectoryId, Epoch, Generation, GroupName, Incarnation, Offset, Position, ProcessId,
    Term,
};
use crate::samples::{GENERATION, consumer, group, partition};

/// The Hello of a process on a machine and with a directory of its own.
fn hello(of: u32, process: u128, attempt: u32, seen: u64) -> Hello {
    Hello {
        consumer: consumer(of),
        process: ProcessId(process),
        attempt,
        seen: Offset(seen),
        boot: Some(BootId(process)),
        directory: Some(DirectoryId(process)),
        clean: false,
        persisted: Vec::new(),
    }
}

fn entry(record: Record) -> Entry {
    Entry { generation: GENERATION, record }
}

/// A ledger that begins with a Genesis, and its fold.
struct Ledger {
    fold: Fold,
    seq: u64,
}

type Said = Result<Change, Ignored>;

impl Ledger {
    fn new() -> Self {
        let mut ledger = Self { fold: Fold::new(group()), seq: 0 };
        ledger
            .say(Record::Genesis { group: group(), first: true })
            .expect("a ledger begins with Genesis");
        ledger
    }

    /// One with a controller in office.
    fn led() -> Self {
        let mut ledger = Self::new();
        ledger.elect(100, 1).expect("the first Elect is valid");
        ledger
    }

    /// One in which consumer 1 (its incarnation is the second answer) owns partition 0 under the third.
    fn owned() -> (Self, Incarnation, Epoch) {
        let mut ledger = Self::led();
        let life = ledger.join(hello(1, 1, 1, 2));
        ledger.grant(1, life, &[(0, 50)]).expect("partition 0 is Free");
        let epoch = ledger.epoch(0).expect("partition 0 was granted");
        (ledger, life, epoch)
    }

    fn end(&self) -> Offset {
        self.fold.position()
    }

    fn say(&mut self, record: Record) -> Said {
        let at = self.end();
        self.fold.apply(at, &entry(record))
    }

    fn elect(&mut self, process: u128, attempt: u32) -> Said {
        self.seq = 0;
        self.say(Record::Elect { process: ProcessId(process), attempt })
    }

    fn seal(&mut self) -> Seal {
        self.seq += 1;
        Seal { term: self.fold.reign().expect("a controller is in office").term, seq: self.seq }
    }

    /// A valid Hello: its incarnation.
    fn join(&mut self, hello: Hello) -> Incarnation {
        let at = self.end();
        self.say(Record::Hello(hello)).expect("this Hello is valid");
        Incarnation(at)
    }

    fn grant(&mut self, of: u32, incarnation: Incarnation, what: &[(u32, u64)]) -> Said {
        let seal = self.seal();
        let partitions = what.iter().map(|(at, from)| (partition(*at), Position(*from))).collect();
        self.say(Record::Grant { seal, consumer: consumer(of), incarnation, partitions })
    }

    fn started(&mut self, incarnation: Incarnation, number: u32, epoch: Epoch) -> Said {
        let partitions = vec![(partition(number), epoch)];
        self.say(Record::Started { incarnation, partitions })
    }

    fn progress(&mut self, incarnation: Incarnation, epoch: Epoch, next: u64) -> Said {
        let partitions = vec![(partition(0), epoch, Position(next))];
        self.say(Record::Progress { incarnation, partitions })
    }

    fn stopped(&mut self, incarnation: Incarnation, epoch: Epoch, next: Option<u64>) -> Said {
        let partitions = vec![(partition(0), epoch, next.map(Position))];
        self.say(Record::Stopped { incarnation, partitions, reason: StopReason::Command })
    }

    fn heartbeat(&mut self, incarnation: Incarnation, seq: u64) -> Said {
        self.say(Record::Heartbeat {
            consumer: consumer(1),
            incarnation,
            seq,
            heard: Offset(0),
            figures: Vec::new(),
        })
    }

    fn fenced(&mut self, incarnation: Incarnation, beat: u64, evidence: Evidence) -> Said {
        let seal = self.seal();
        self.say(Record::Fenced { seal, incarnation, beat, evidence })
    }

    fn epoch(&self, number: u32) -> Option<Epoch> {
        self.fold.ownership(partition(number)).owner().map(|(epoch, _)| epoch)
    }

    fn current(&self, of: u32) -> Option<Incarnation> {
        self.fold.lives().current(consumer(of))
    }

    fn free(&self, number: u32) -> Option<u64> {
        match self.fold.ownership(partition(number)) {
            Ownership::Free { next } => next.map(|next| next.0),
            owned => panic!("partition {number} is {owned:?}"),
        }
    }
}

// === Genesis, and what stands in the ledger at all ===

#[test]
fn nothing_counts_before_genesis() {
    let mut fold = Fold::new(group());
    let elect = entry(Record::Elect { process: ProcessId(1), attempt: 1 });
    assert_eq!(fold.apply(Offset(0), &elect), Err(Ignored::NoGenesis));
    let genesis = entry(Record::Genesis { group: group(), first: true });
    assert!(fold.apply(Offset(1), &genesis).is_ok());
    assert_eq!(fold.generation(), Some(GENERATION));
}

#[test]
fn a_foreign_genesis_is_refused() {
    let mut fold = Fold::new(group());
    let foreign = entry(Record::Genesis { group: GroupName("payments".into()), first: true });
    assert_eq!(fold.apply(Offset(0), &foreign), Err(Ignored::ForeignGroup));
    assert_eq!(fold.generation(), None);
}

#[test]
fn a_second_genesis_and_records_of_another_generation_change_nothing() {
    let mut ledger = Ledger::led();
    assert_eq!(
        ledger.say(Record::Genesis { group: group(), first: true }),
        Err(Ignored::AlreadyBegun)
    );
    let other = Entry {
        generation: Generation(2),
        record: Record::Elect { process: ProcessId(9), attempt: 1 },
    };
    let reign = ledger.fold.reign();
    assert_eq!(ledger.fold.apply(ledger.end(), &other), Err(Ignored::OtherGeneration));
    assert_eq!(ledger.fold.reign(), reign);
}

#[test]
fn an_offset_is_applied_once_and_gaps_are_legal() {
    let mut ledger = Ledger::new();
    let elect = entry(Record::Elect { process: ProcessId(1), attempt: 1 });
    assert!(ledger.fold.apply(Offset(7), &elect).is_ok());
    assert_eq!(ledger.fold.apply(Offset(7), &elect), Err(Ignored::Replayed));
    ledger.fold.skip(Offset(8));
    assert_eq!(ledger.end(), Offset(9));
    ledger.fold.skip(Offset(3));
    assert_eq!(ledger.end(), Offset(9), "what was skipped before stays behind");
}

#[test]
fn caches_replies_and_unknown_kinds_have_no_effect() {
    let (mut ledger, life, _) = Ledger::owned();
    let before = ledger.fold.clone();
    let state = Record::State { incarnation: life, partitions: Vec::new() };
    assert_eq!(ledger.say(state), Err(Ignored::NoEffect));
    let facts = Box::new(before.facts());
    let snapshot = Record::Snapshot { group: group(), upto: Offset(0), part: 0, of: 1, facts };
    assert_eq!(ledger.say(snapshot), Err(Ignored::NoEffect));
    let unknown = Record::Unknown { kind: "later".to_string() };
    assert_eq!(ledger.say(unknown), Err(Ignored::UnknownKind));
    assert!(ledger.fold.partitions().eq(before.partitions()));
}

// === Elect, and seals ===

#[test]
fn the_term_is_the_offset_of_the_last_valid_elect() {
    let mut ledger = Ledger::led();
    let first = ledger.fold.reign().expect("a controller is in office");
    assert_eq!((first.term, first.seq), (Term(Offset(1)), 0));
    assert_eq!(ledger.elect(100, 1), Err(Ignored::StaleAttempt), "the same try twice");
    assert!(ledger.elect(200, 1).is_ok());
    let second = ledger.fold.reign().expect("a controller is in office");
    assert_eq!((second.term, second.process), (Term(Offset(3)), ProcessId(200)));
    assert!(ledger.elect(100, 3).is_ok());
    assert_eq!(ledger.elect(100, 2), Err(Ignored::StaleAttempt), "a try that was overtaken");
}

#[test]
fn a_controllers_record_counts_in_its_term_and_above_its_last_seq() {
    let mut ledger = Ledger::led();
    let seal = ledger.seal();
    assert!(ledger.say(Record::Tick { seal }).is_ok());
    assert_eq!(ledger.say(Record::Tick { seal }), Err(Ignored::StaleSeq), "a resend");
    let skipped = Seal { seq: seal.seq + 5, ..seal };
    assert!(ledger.say(Record::Tick { seal: skipped }).is_ok(), "gaps are legal");
    let overtaken = Seal { seq: seal.seq + 1, ..seal };
    assert_eq!(ledger.say(Record::Tick { seal: overtaken }), Err(Ignored::StaleSeq));
    ledger.elect(200, 1).expect("another controller");
    let late = Seal { seq: seal.seq + 9, ..seal };
    assert_eq!(ledger.say(Record::Tick { seal: late }), Err(Ignored::StaleTerm));
}

#[test]
fn a_plan_is_the_last_valid_one() {
    let mut ledger = Ledger::led();
    let seal = ledger.seal();
    let plan = |consumers| PlanBody { consumers, ..PlanBody::default() };
    ledger.say(Record::Plan { seal, plan: plan(1) }).expect("the first plan is valid");
    let again = ledger.say(Record::Plan { seal, plan: plan(2) });
    assert_eq!(again, Err(Ignored::StaleSeq));
    let adopted = ledger.fold.plan().expect("a plan was adopted");
    assert_eq!((adopted.at, adopted.body.consumers), (Offset(2), 1));
}

// === Hello ===

#[test]
fn of_two_processes_the_incumbent_is_current_and_the_other_waits() {
    let mut ledger = Ledger::led();
    let first = ledger.join(hello(1, 1, 1, 2));
    let second = ledger.join(hello(1, 2, 1, 3));
    assert_eq!(ledger.current(1), Some(first));
    assert!(ledger.fold.lives().waiting(consumer(1)).eq([second]));
    ledger.say(Record::Goodbye { incarnation: first, clean: true }).expect("it lives");
    assert_eq!(ledger.current(1), Some(second), "who waited is current now");
}

#[test]
fn a_hello_ends_the_older_lives_that_its_evidence_covers_and_no_others() {
    let older = hello(1, 1, 1, 2);
    let same_lock = Hello { process: ProcessId(2), seen: Offset(3), ..older.clone() };
    let cases = [
        ("the same process", Hello { attempt: 2, ..older.clone() }, true),
        ("the same directory in the same boot", same_lock.clone(), true),
        ("another boot", Hello { boot: Some(BootId(7)), ..same_lock.clone() }, false),
        (
            "another directory",
            Hello { directory: Some(DirectoryId(7)), ..same_lock.clone() },
            false,
        ),
        ("an unknown boot", Hello { boot: None, ..same_lock.clone() }, false),
        ("no directory", Hello { directory: None, ..same_lock.clone() }, false),
        ("another consumer", Hello { consumer: consumer(2), ..same_lock }, false),
    ];
    for (case, newer, ends) in cases {
        let mut ledger = Ledger::led();
        let first = ledger.join(older.clone());
        ledger.grant(1, first, &[(0, 50)]).expect("partition 0 is Free");
        let newer = Hello { seen: ledger.end(), ..newer };
        let change = ledger.say(Record::Hello(newer)).expect("this Hello is valid");
        assert_eq!(change.ended == [first], ends, "{case}");
        assert_eq!(ledger.epoch(0).is_none(), ends, "{case}");
    }
}

#[test]
fn two_unknown_boots_or_directories_are_not_the_same() {
    let unknown = Hello { boot: None, directory: None, ..hello(1, 1, 1, 2) };
    let mut ledger = Ledger::led();
    let first = ledger.join(unknown.clone());
    ledger.join(Hello { process: ProcessId(2), seen: Offset(3), ..unknown });
    assert_eq!(ledger.current(1), Some(first));
}

#[test]
fn a_hello_after_which_another_process_came_is_late_and_proves_nothing() {
    // The lock changed hands while the first process's Hello was under way: the second holds it now.
    let mut ledger = Ledger::led();
    let seen = ledger.end().0;
    let late = hello(1, 1, 1, seen);
    let holder = Hello { process: ProcessId(2), ..late.clone() };
    let current = ledger.join(holder);
    let at = ledger.end();
    assert_eq!(ledger.say(Record::Hello(late.clone())), Err(Ignored::LateHello));
    assert_eq!(ledger.current(1), Some(current));
    let told = ledger.fold.lives().consumer_of(Incarnation(at));
    assert_eq!(told, Some(consumer(1)), "it can be told to say Hello again");
    let again = Hello { seen: ledger.end(), ..late };
    assert!(ledger.say(Record::Hello(again)).is_ok(), "the attempt was not used up");
}

#[test]
fn the_own_earlier_hello_makes_none_late() {
    let mut ledger = Ledger::led();
    let seen = ledger.end().0;
    ledger.join(hello(1, 1, 1, seen));
    assert!(ledger.say(Record::Hello(hello(1, 1, 2, seen))).is_ok());
    assert!(ledger.say(Record::Hello(hello(2, 2, 1, seen))).is_ok(), "nor does another consumer's");
}

#[test]
fn a_late_hello_is_seen_through_the_own_ones_between() {
    let mut ledger = Ledger::led();
    let seen = ledger.end().0;
    ledger.join(hello(1, 2, 1, seen));
    ledger.join(hello(1, 1, 1, seen + 1));
    let late = ledger.say(Record::Hello(hello(1, 1, 2, seen)));
    assert_eq!(late, Err(Ignored::LateHello));
}

#[test]
fn a_repeated_or_overtaken_hello_changes_nothing() {
    let mut ledger = Ledger::led();
    let life = ledger.join(hello(1, 1, 2, 2));
    assert_eq!(ledger.say(Record::Hello(hello(1, 1, 2, 2))), Err(Ignored::StaleAttempt));
    assert_eq!(ledger.say(Record::Hello(hello(1, 1, 1, 2))), Err(Ignored::StaleAttempt));
    assert_eq!(ledger.current(1), Some(life));
}

// === Heartbeat, Goodbye, Fenced ===

#[test]
fn a_heartbeat_counts_above_the_last_one_of_a_living_incarnation() {
    let (mut ledger, life, _) = Ledger::owned();
    assert!(ledger.heartbeat(life, 1).is_ok());
    assert_eq!(ledger.heartbeat(life, 1), Err(Ignored::StaleSeq));
    assert!(ledger.heartbeat(life, 3).is_ok());
    assert_eq!(ledger.heartbeat(life, 2), Err(Ignored::StaleSeq));
    assert_eq!(ledger.heartbeat(Incarnation(Offset(0)), 1), Err(Ignored::NotLiving));
}

#[test]
fn silence_fences_only_who_has_not_beaten_since() {
    let (mut ledger, life, _) = Ledger::owned();
    ledger.heartbeat(life, 4).expect("it lives");
    assert_eq!(ledger.fenced(life, 3, Evidence::Silence), Err(Ignored::HasBeaten));
    assert_eq!(ledger.fenced(life, 5, Evidence::Silence), Err(Ignored::HasBeaten));
    let change = ledger.fenced(life, 4, Evidence::Silence).expect("it was silent");
    assert_eq!((change.ended, change.freed), (vec![life], vec![(partition(0), life)]));
    assert_eq!(ledger.free(0), Some(50));
    assert_eq!(ledger.fenced(life, 4, Evidence::Silence), Err(Ignored::NotLiving));
}

#[test]
fn proof_of_death_needs_no_beat() {
    let (mut ledger, life, _) = Ledger::owned();
    ledger.heartbeat(life, 4).expect("it lives");
    assert!(ledger.fenced(life, 0, Evidence::Death).is_ok());
    assert_eq!(ledger.current(1), None);
}

#[test]
fn an_ignored_fence_or_grant_uses_its_seq_up() {
    let (mut ledger, life, _) = Ledger::owned();
    ledger.heartbeat(life, 1).expect("it lives");
    assert_eq!(ledger.fenced(life, 0, Evidence::Silence), Err(Ignored::HasBeaten));
    let seal = Seal { term: Term(Offset(1)), seq: ledger.seq };
    assert_eq!(ledger.say(Record::Tick { seal }), Err(Ignored::StaleSeq));
}

#[test]
fn who_has_ended_says_nothing_any_more() {
    let (mut ledger, life, epoch) = Ledger::owned();
    let change = ledger.say(Record::Goodbye { incarnation: life, clean: true }).expect("it lives");
    assert_eq!(change.ended, [life]);
    assert_eq!(ledger.free(0), Some(50));
    let ignored = Err(Ignored::NotLiving);
    assert_eq!(ledger.started(life, 0, epoch), ignored);
    assert_eq!(ledger.progress(life, epoch, 60), ignored);
    assert_eq!(ledger.stopped(life, epoch, Some(60)), ignored);
    assert_eq!(ledger.heartbeat(life, 1), ignored);
    assert_eq!(ledger.say(Record::Goodbye { incarnation: life, clean: true }), ignored);
    assert_eq!(ledger.free(0), Some(50), "nothing it said has moved the position");
}

// === Grant and ownership events ===

#[test]
fn only_what_is_free_is_granted_and_the_rest_is_passed_over() {
    let (mut ledger, life, epoch) = Ledger::owned();
    let other = ledger.join(hello(2, 2, 1, 4));
    assert!(ledger.grant(2, other, &[(0, 0), (1, 7)]).is_ok());
    assert_eq!(ledger.fold.ownership(partition(0)).owner(), Some((epoch, life)));
    assert_eq!(ledger.fold.consumer_of(partition(1)), Some(consumer(2)));
    assert_eq!(ledger.grant(2, other, &[(0, 0)]), Err(Ignored::NothingApplied));
}

#[test]
fn only_the_current_incarnation_of_the_named_consumer_is_granted_anything() {
    let mut ledger = Ledger::led();
    let first = ledger.join(hello(1, 1, 1, 2));
    let waiting = ledger.join(hello(1, 2, 1, 3));
    let other = ledger.join(hello(2, 3, 1, 4));
    let never = Incarnation(Offset(1));
    for (of, incarnation) in [(1, waiting), (1, other), (2, first), (1, never), (3, first)] {
        assert_eq!(ledger.grant(of, incarnation, &[(0, 0)]), Err(Ignored::NotCurrent));
    }
    ledger.say(Record::Goodbye { incarnation: first, clean: true }).expect("it lives");
    assert_eq!(ledger.grant(1, first, &[(0, 0)]), Err(Ignored::NotCurrent));
    assert!(ledger.grant(1, waiting, &[(0, 0)]).is_ok());
}

#[test]
fn a_grants_position_counts_only_while_none_is_known() {
    let (mut ledger, life, epoch) = Ledger::owned();
    ledger.stopped(life, epoch, Some(80)).expect("it owns the partition");
    ledger.grant(1, life, &[(0, 0)]).expect("the partition is Free");
    assert_eq!(ledger.fold.ownership(partition(0)).next(), Some(Position(80)));
}

#[test]
fn an_epoch_is_the_offset_at_which_the_grant_stands() {
    let (mut ledger, life, epoch) = Ledger::owned();
    ledger.stopped(life, epoch, None).expect("it owns the partition");
    let at = ledger.end();
    ledger.grant(1, life, &[(0, 0)]).expect("the partition is Free");
    assert_eq!(ledger.epoch(0), Some(Epoch(at)));
    assert_eq!(ledger.started(life, 0, epoch), Err(Ignored::NothingApplied), "the old epoch");
}

#[test]
fn events_count_for_the_owner_under_its_epoch_only() {
    let (mut ledger, life, epoch) = Ledger::owned();
    let other = ledger.join(hello(2, 2, 1, 4));
    let wrong = Epoch(epoch.0.next());
    let ignored = Err(Ignored::NothingApplied);
    assert_eq!(ledger.started(other, 0, epoch), ignored);
    assert_eq!(ledger.started(life, 0, wrong), ignored);
    assert_eq!(ledger.started(life, 1, epoch), ignored);
    assert_eq!(ledger.progress(life, wrong, 60), ignored);
    assert_eq!(ledger.progress(other, epoch, 60), ignored);
    assert_eq!(ledger.stopped(life, wrong, None), ignored);
    assert_eq!(ledger.stopped(other, epoch, None), ignored);
    assert_eq!(ledger.epoch(0), Some(epoch));
}

#[test]
fn started_makes_active_once() {
    let (mut ledger, life, epoch) = Ledger::owned();
    let change = ledger.started(life, 0, epoch).expect("it owns the partition");
    assert_eq!(change.activated, [partition(0)]);
    let active = Ownership::Active { epoch, incarnation: life, next: Position(50) };
    assert_eq!(ledger.fold.ownership(partition(0)), active);
    let again = ledger.started(life, 0, epoch).expect("saying it twice is legal");
    assert_eq!(again.activated, []);
}

#[test]
fn progress_goes_forward_before_and_after_started() {
    let (mut ledger, life, epoch) = Ledger::owned();
    assert!(ledger.progress(life, epoch, 60).is_ok());
    ledger.started(life, 0, epoch).expect("it owns the partition");
    assert!(ledger.progress(life, epoch, 60).is_ok(), "the same again");
    assert_eq!(ledger.progress(life, epoch, 59), Err(Ignored::NothingApplied));
    assert!(ledger.progress(life, epoch, 61).is_ok());
    assert_eq!(ledger.fold.ownership(partition(0)).next(), Some(Position(61)));
}

#[test]
fn a_stop_frees_at_the_higher_of_what_is_said_and_known() {
    for (said, next) in [(Some(70), 70), (Some(40), 60), (None, 60)] {
        let (mut ledger, life, epoch) = Ledger::owned();
        ledger.progress(life, epoch, 60).expect("it owns the partition");
        let change = ledger.stopped(life, epoch, said).expect("it owns the partition");
        assert_eq!(change.freed, [(partition(0), life)]);
        assert_eq!(ledger.free(0), Some(next), "{said:?}");
    }
}

// === whatever is said ===

/// Anything that four processes of two consumers and two controllers may say about two partitions, mostly nonsense.
fn anything() -> impl Strategy<Value = Record> {
    let offset = || (0_u64..40).prop_map(Offset);
    let number = || (1_u32..3).prop_map(consumer);
    let life = move || offset().prop_map(Incarnation);
    let at = || (0_u32..2).prop_map(partition);
    let seal = (1_u64..4, 1_u64..12).prop_map(|(term, seq)| Seal { term: Term(Offset(term)), seq });
    let evidence = prop_oneof![Just(Evidence::Silence), Just(Evidence::Death)];
    let hello = (1_u32..3, 0_u128..4, 1_u32..5, 0_u64..40, 0_u128..2).prop_map(
        |(of, process, attempt, seen, place)| Hello {
            boot: Some(BootId(place)),
            directory: Some(DirectoryId(place)),
            ..hello(of, process, attempt, seen)
        },
    );
    let epoch = move || offset().prop_map(Epoch);
    let next = || (0_u64..100).prop_map(Position);
    prop_oneof![
        (0_u128..2, 1_u32..4)
            .prop_map(|(process, attempt)| Record::Elect { process: ProcessId(process), attempt }),
        hello.prop_map(Record::Hello),
        (life(), 1_u64..4).prop_map(|(incarnation, seq)| {
            Record::Heartbeat {
                consumer: consumer(1),
                incarnation,
                seq,
                heard: Offset(0),
                figures: Vec::new(),
            }
        }),
        (seal.clone(), number(), life(), at(), next()).prop_map(
            |(seal, consumer, incarnation, at, from)| {
                Record::Grant { seal, consumer, incarnation, partitions: vec![(at, from)] }
            }
        ),
        (life(), at(), epoch()).prop_map(|(incarnation, at, epoch)| Record::Started {
            incarnation,
            partitions: vec![(at, epoch)]
        }),
        (life(), at(), epoch(), next()).prop_map(|(incarnation, at, epoch, next)| {
            Record::Progress { incarnation, partitions: vec![(at, epoch, next)] }
        }),
        (life(), at(), epoch(), next()).prop_map(|(incarnation, at, epoch, next)| {
            let partitions = vec![(at, epoch, Some(next))];
            Record::Stopped { incarnation, partitions, reason: StopReason::Command }
        }),
        (seal, life(), 0_u64..4, evidence).prop_map(|(seal, incarnation, beat, evidence)| {
            Record::Fenced { seal, incarnation, beat, evidence }
        }),
        life().prop_map(|incarnation| Record::Goodbye { incarnation, clean: true }),
    ]
}

proptest! {
    #[test]
    fn whatever_is_said_owners_live_and_positions_and_seqs_rise(
        records in proptest::collection::vec(anything(), 1..40),
    ) {
        let mut ledger = Ledger::new();
        for record in records {
            let before = ledger.fold.clone();
            let applied = ledger.say(record);
            for number in 0..2 {
                let (was, is) = (before.ownership(partition(number)), ledger.fold.ownership(partition(number)));
                prop_assert!(is.next() >= was.next(), "L3: {was:?} -> {is:?}");
                if let Some((epoch, owner)) = is.owner() {
                    prop_assert!(ledger.fold.lives().is_current(owner), "L4: {is:?}");
                    let kept = was.owner() == Some((epoch, owner));
                    prop_assert!(kept || was.owner().is_none(), "L1: {was:?} -> {is:?}");
                }
            }
            if let (Some(was), Some(is)) = (before.reign(), ledger.fold.reign()) {
                prop_assert!((is.term, is.seq) >= (was.term, was.seq), "L2");
            }
            if applied.is_err() {
                prop_assert!(ledger.fold.partitions().eq(before.partitions()));
            }
        }
    }
}

// === snapshots, and lives of the ledger ===

/// A ledger with an owner, its records kept.
fn recorded() -> (Vec<(Offset, Entry)>, Fold) {
    let mut fold = Fold::new(group());
    let seal = |seq| Seal { term: Term(Offset(1)), seq };
    let life = Incarnation(Offset(2));
    let records = [
        Record::Genesis { group: group(), first: true },
        Record::Elect { process: ProcessId(9), attempt: 1 },
        Record::Hello(hello(1, 1, 1, 2)),
        Record::Grant {
            seal: seal(1),
            consumer: consumer(1),
            incarnation: life,
            partitions: vec![(partition(0), Position(5)), (partition(1), Position(0))],
        },
        Record::Started { incarnation: life, partitions: vec![(partition(0), Epoch(Offset(3)))] },
        Record::Plan { seal: seal(2), plan: PlanBody::default() },
        Record::Hello(hello(2, 2, 1, 6)),
        Record::Goodbye { incarnation: Incarnation(Offset(6)), clean: true },
    ];
    let entries: Vec<_> = (0..).map(Offset).zip(records.map(entry)).collect();
    for (at, entry) in &entries {
        fold.apply(*at, entry).expect("each of them is valid");
    }
    (entries, fold)
}

fn snapshot_of(fold: &Fold) -> Vec<Entry> {
    let parts = fold.facts().to_parts();
    let of = u32::try_from(parts.len()).expect("few parts");
    let upto = fold.position();
    let part = |(part, facts): (u32, Facts)| {
        entry(Record::Snapshot { group: group(), upto, part, of, facts: Box::new(facts) })
    };
    (0..).zip(parts).map(part).collect()
}

#[test]
fn a_fold_made_of_its_facts_is_the_same_fold() {
    let (_, fold) = recorded();
    let made = Fold::of_facts(group(), GENERATION, fold.position(), fold.facts());
    assert_eq!(made, Some(fold));
}

#[test]
fn facts_that_give_a_partition_to_nobody_who_lives_are_no_fold() {
    let (_, fold) = recorded();
    let facts = Facts { lives: Vec::new(), ..fold.facts() };
    assert_eq!(Fold::of_facts(group(), GENERATION, fold.position(), facts), None);
}

/// Reads entries from an offset on, and returns the fold at the end of them, if it was found.
fn replay(start: u64, entries: &[Entry]) -> Result<Option<Fold>, ForeignGroup> {
    let mut replay = Replay::new(group(), Offset(start));
    let mut fold: Option<Fold> = None;
    for (at, entry) in (start..).map(Offset).zip(entries) {
        let records = match &mut fold {
            Some(fold) => {
                let _ignored = fold.apply(at, entry).is_err();
                continue;
            }
            None => replay.take(at, Some(entry))?,
        };
        if let Some(beginning) = records {
            let mut begun = beginning.fold;
            for (at, entry) in beginning.records {
                let _ignored = begun.apply(at, &entry.expect("decoded")).is_err();
            }
            fold = Some(begun);
        }
    }
    Ok(fold)
}

#[test]
fn a_reader_who_begins_at_a_snapshot_gets_to_the_same_fold_as_one_who_read_everything() {
    let (entries, fold) = recorded();
    let mut all: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
    // A record between the snapshot's `upto` and its first part, and one between its parts.
    let parts = snapshot_of(&fold);
    assert!(parts.len() > 2);
    let beat = |seq| {
        let (incarnation, heard) = (Incarnation(Offset(2)), Offset(0));
        let consumer = consumer(1);
        entry(Record::Heartbeat { consumer, incarnation, seq, heard, figures: Vec::new() })
    };
    all.push(beat(1));
    all.extend(parts[..1].iter().cloned());
    all.push(beat(2));
    all.extend(parts[1..].iter().cloned());
    all.push(beat(3));
    let whole = replay(0, &all).unwrap();
    let cut = replay(8, &all[8..]).unwrap();
    assert!(whole.is_some());
    assert_eq!(cut, whole);
}

#[test]
fn a_snapshot_of_less_than_was_deleted_is_no_beginning_and_half_of_one_is_none() {
    let (_, fold) = recorded();
    let parts = snapshot_of(&fold);
    assert_eq!(replay(9, &parts), Ok(None), "record 8 was deleted and is not in it");
    assert_eq!(replay(8, &parts[1..]), Ok(None), "a part is missing");
    assert!(replay(8, &parts).unwrap().is_some());
}

#[test]
fn a_snapshot_of_more_than_is_before_it_is_no_beginning() {
    // It was under way when the ledger was cut: another record stands at each offset that it tells of.
    let (_, fold) = recorded();
    assert_eq!(replay(5, &snapshot_of(&fold)[..1]), Ok(None));
    let mut parts = snapshot_of(&fold);
    parts.truncate(3);
    for part in &mut parts {
        if let Record::Snapshot { of, .. } = &mut part.record {
            *of = 3;
        }
    }
    assert_eq!(replay(5, &parts), Ok(None), "it ends at 7 and tells of 8");
    assert!(replay(8, &parts).unwrap().is_some());
}

#[test]
fn a_genesis_is_a_beginning_only_after_records_of_a_lower_generation() {
    let genesis = |generation| Entry {
        generation: Generation(generation),
        record: Record::Genesis { group: group(), first: false },
    };
    let noise = |generation| Entry {
        generation: Generation(generation),
        record: Record::Unknown { kind: "noise".into() },
    };
    let begins = |entries: &[Entry]| replay(5, entries).unwrap().is_some();
    assert!(begins(&[noise(1), genesis(2)]));
    assert!(!begins(&[genesis(2)]), "it may have been ignored: what was before is not known");
    assert!(!begins(&[noise(2), genesis(2)]));
    assert!(begins(&[genesis(2), genesis(3)]));
}

#[test]
fn parts_of_two_writers_make_one_snapshot_and_an_older_one_gives_way() {
    let (entries, fold) = recorded();
    let mut older = Fold::new(group());
    for (at, entry) in &entries[..5] {
        older.apply(*at, entry).unwrap();
    }
    let mut assembly = Assembly::default();
    let (old, new) = (snapshot_of(&older), snapshot_of(&fold));
    assert_eq!(assembly.take(&old[0]), None);
    for part in &new[1..] {
        assert_eq!(assembly.take(part), None);
        assert_eq!(assembly.take(part), None, "once more by another writer");
    }
    assert_eq!(assembly.take(&old[1]), None, "it does not come back");
    assert_eq!(assembly.take(&new[0]), Some((fold.position(), fold.facts())));
}

#[test]
fn a_trimmed_ledger_of_another_group_is_refused() {
    let (_, fold) = recorded();
    let mut foreign = snapshot_of(&fold);
    for entry in &mut foreign {
        if let Record::Snapshot { group, .. } = &mut entry.record {
            *group = GroupName("payments".into());
        }
    }
    assert_eq!(replay(8, &foreign), Err(ForeignGroup));
}

#[test]
fn a_genesis_of_a_higher_generation_ends_everything_that_was() {
    let (mut ledger, life, _) = Ledger::owned();
    let genesis = |generation| Entry {
        generation: Generation(generation),
        record: Record::Genesis { group: group(), first: false },
    };
    let at = ledger.fold.position();
    assert_eq!(ledger.fold.apply(at, &genesis(GENERATION.0)), Err(Ignored::AlreadyBegun));
    let change = ledger.fold.apply(at.next(), &genesis(GENERATION.0 + 1)).unwrap();
    assert_eq!(change.ended, [life]);
    assert_eq!(ledger.fold.generation(), Some(Generation(GENERATION.0 + 1)));
    assert_eq!(ledger.fold.reign(), None);
    let mut begun = Fold::new(group());
    begun.apply(at.next(), &genesis(GENERATION.0 + 1)).unwrap();
    assert_eq!(ledger.fold, begun, "who begins to read here knows the same");
    let stale = ledger.say(Record::Elect { process: ProcessId(77), attempt: 1 });
    assert_eq!(stale, Err(Ignored::OtherGeneration));
}

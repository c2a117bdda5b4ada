//! What holds for any message: it is read as it was written.

use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_core::ids::{
    BootId, ConsumerNumber, DirectoryId, Epoch, Generation, GroupName, Incarnation, Offset,
    PartitionId, Position, ProcessId, Term, TopicId,
};
use tidegate_core::ledger::{
    AdoptedPlan, Attempt, Command, CommandBody, Entry, Evidence, Facts, Hello, LatestHellos, Life,
    Move, Ownership, PartitionFigures, PlanBody, Record, Refusal, Reign, Seal, StopReason, Trigger,
};
use tidegate_core::rates::{Measurement, Sample, Source, TopicReport};
use tidegate_wire::{
    Decoded, Kind, Override, PartitionRates, RatesOf, decode_rates, encode_rates_in_parts,
};

use crate::samples::{decode, encode};

fn offset() -> impl Strategy<Value = Offset> {
    any::<u64>().prop_map(Offset)
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    offset().prop_map(Incarnation)
}

fn term() -> impl Strategy<Value = Term> {
    offset().prop_map(Term)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    offset().prop_map(Epoch)
}

fn position() -> impl Strategy<Value = Position> {
    any::<u64>().prop_map(Position)
}

fn seal() -> impl Strategy<Value = Seal> {
    (term(), any::<u64>()).prop_map(|(term, seq)| Seal { term, seq })
}

fn process() -> impl Strategy<Value = ProcessId> {
    any::<u128>().prop_map(ProcessId)
}

fn consumer() -> impl Strategy<Value = ConsumerNumber> {
    (1..=u32::MAX).prop_map(|number| ConsumerNumber::new(number).unwrap())
}

/// Few topics, so that neighbours often share one.
fn partition() -> impl Strategy<Value = PartitionId> {
    (0..3_u8, any::<u32>())
        .prop_map(|(topic, number)| PartitionId { topic: TopicId([topic; 16]), number })
}

fn unknown_kind() -> impl Strategy<Value = String> {
    "[A-Z][a-zA-Z0-9]{0,63}".prop_filter("known", |name| Kind::parse(name).is_none())
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop::sample::select(vec![
        Trigger::Overload,
        Trigger::Unassigned,
        Trigger::ConsumerLost,
        Trigger::WorkerLate,
        Trigger::Spec,
        Trigger::Sentinel,
    ])
}

fn planned_move() -> impl Strategy<Value = Move> {
    (partition(), option::of(consumer()), option::of(consumer()), ".*")
        .prop_map(|(partition, from, to, reason)| Move { partition, from, to, reason })
}

fn plan() -> impl Strategy<Value = PlanBody> {
    let figures = (any::<u64>(), any::<u32>(), any::<u32>());
    (option::of(offset()), option::of(trigger()), vec(planned_move(), 0..8), figures).prop_map(
        |(parent, trigger, moves, (cost_permille, consumers, lower_bound))| PlanBody {
            parent,
            trigger,
            moves,
            cost_permille,
            consumers,
            lower_bound,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let machine = (option::of(any::<u128>()), option::of(any::<u128>()));
    let persisted = vec((partition(), position()), 0..8);
    (consumer(), process(), any::<u32>(), offset(), machine, any::<bool>(), persisted).prop_map(
        |(consumer, process, attempt, seen, (boot, directory), clean, persisted)| Hello {
            consumer,
            process,
            attempt,
            seen,
            boot: boot.map(BootId),
            directory: directory.map(DirectoryId),
            clean,
            persisted,
        },
    )
}

fn figures() -> impl Strategy<Value = PartitionFigures> {
    let counts = (any::<u64>(), any::<u64>(), any::<u64>());
    (partition(), counts, option::of(any::<u64>())).prop_map(
        |(partition, (records, bytes, busy_us), lag)| PartitionFigures {
            partition,
            records,
            bytes,
            busy_us,
            lag,
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let reign = (term(), process(), any::<u32>(), any::<u64>())
        .prop_map(|(term, process, attempt, seq)| Reign { term, process, attempt, seq });
    let adopted = (offset(), plan()).prop_map(|(at, body)| AdoptedPlan { at, body });
    let attempt = (process(), any::<u32>(), offset())
        .prop_map(|(process, number, at)| (process, Attempt { number, at }));
    let life = (incarnation(), hello(), any::<u64>()).prop_map(|(incarnation, hello, beat)| {
        let Hello { consumer, process, boot, directory, .. } = hello;
        (incarnation, Life { consumer, process, boot, directory, beat })
    });
    let latest = (consumer(), offset(), process(), option::of(offset())).prop_map(
        |(consumer, at, process, other)| (consumer, LatestHellos { last: (at, process), other }),
    );
    let lists = (
        vec(attempt, 0..4),
        vec(life, 0..4),
        vec((incarnation(), consumer()), 0..4),
        vec(latest, 0..4),
        vec((partition(), ownership()), 0..8),
    );
    (option::of(reign), option::of(adopted), lists).prop_map(
        |(reign, plan, (attempts, lives, ended, hellos, partitions))| Facts {
            reign,
            plan,
            attempts,
            lives,
            ended,
            hellos,
            partitions,
        },
    )
}

fn ownership() -> impl Strategy<Value = Ownership> {
    let owned = || (epoch(), incarnation(), position());
    prop_oneof![
        option::of(position()).prop_map(|next| Ownership::Free { next }),
        owned().prop_map(|(epoch, incarnation, next)| Ownership::Granted {
            epoch,
            incarnation,
            next
        }),
        owned().prop_map(|(epoch, incarnation, next)| Ownership::Active {
            epoch,
            incarnation,
            next
        }),
    ]
}

fn of_controller() -> impl Strategy<Value = Record> {
    let evidence = prop::sample::select(vec![Evidence::Silence, Evidence::Death]);
    prop_oneof![
        (".*", any::<bool>())
            .prop_map(|(group, first)| Record::Genesis { group: GroupName(group), first }),
        (process(), any::<u32>()).prop_map(|(process, attempt)| Record::Elect { process, attempt }),
        seal().prop_map(|seal| Record::Tick { seal }),
        (seal(), plan()).prop_map(|(seal, plan)| Record::Plan { seal, plan }),
        (seal(), consumer(), incarnation(), vec((partition(), position()), 0..8)).prop_map(
            |(seal, consumer, incarnation, partitions)| Record::Grant {
                seal,
                consumer,
                incarnation,
                partitions
            }
        ),
        (seal(), incarnation(), any::<u64>(), evidence).prop_map(
            |(seal, incarnation, beat, evidence)| Record::Fenced {
                seal,
                incarnation,
                beat,
                evidence
            }
        ),
        (".*", offset(), any::<[u32; 2]>(), facts()).prop_map(
            |(group, upto, [part, of], facts)| {
                let group = GroupName(group);
                Record::Snapshot { group, upto, part, of, facts: Box::new(facts) }
            }
        ),
        unknown_kind().prop_map(|kind| Record::Unknown { kind }),
    ]
}

fn of_consumer() -> impl Strategy<Value = Record> {
    let reasons = vec![StopReason::Command, StopReason::Barred, StopReason::Shutdown];
    let refusals = vec![
        Refusal::StaleTerm,
        Refusal::LeaseLapsed,
        Refusal::ShuttingDown,
        Refusal::UnknownCommand,
    ];
    let owned = || vec((partition(), epoch(), position()), 0..8);
    let stopped = vec((partition(), epoch(), option::of(position())), 0..8);
    prop_oneof![
        hello().prop_map(Record::Hello),
        (consumer(), incarnation(), any::<u64>(), offset(), vec(figures(), 0..8)).prop_map(
            |(consumer, incarnation, seq, heard, figures)| Record::Heartbeat {
                consumer,
                incarnation,
                seq,
                heard,
                figures
            }
        ),
        (incarnation(), vec((partition(), epoch()), 0..8))
            .prop_map(|(incarnation, partitions)| Record::Started { incarnation, partitions }),
        (incarnation(), owned())
            .prop_map(|(incarnation, partitions)| Record::Progress { incarnation, partitions }),
        (incarnation(), stopped, prop::sample::select(reasons)).prop_map(
            |(incarnation, partitions, reason)| Record::Stopped { incarnation, partitions, reason }
        ),
        (incarnation(), any::<bool>())
            .prop_map(|(incarnation, clean)| Record::Goodbye { incarnation, clean }),
        (incarnation(), offset(), prop::sample::select(refusals)).prop_map(
            |(incarnation, command, refusal)| Record::Reply { incarnation, command, refusal }
        ),
        (incarnation(), owned())
            .prop_map(|(incarnation, partitions)| Record::State { incarnation, partitions }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (any::<u64>(), prop_oneof![of_controller(), of_consumer()])
        .prop_map(|(generation, record)| Entry { generation: Generation(generation), record })
}

fn command() -> impl Strategy<Value = Command> {
    let body = prop_oneof![
        (term(), epoch(), vec((partition(), position()), 0..8))
            .prop_map(|(term, epoch, partitions)| CommandBody::Start { term, epoch, partitions }),
        (term(), epoch(), vec(partition(), 0..8), any::<u64>()).prop_map(
            |(term, epoch, partitions, ms)| CommandBody::Stop {
                term,
                epoch,
                partitions,
                deadline: Duration::from_millis(ms)
            }
        ),
        term().prop_map(|term| CommandBody::StateQuery { term }),
        term().prop_map(|term| CommandBody::Drain { term }),
        Just(CommandBody::Ended),
        unknown_kind().prop_map(|kind| CommandBody::Unknown { kind }),
    ];
    (any::<u64>(), incarnation(), body).prop_map(|(generation, incarnation, body)| Command {
        generation: Generation(generation),
        incarnation,
        body,
    })
}

fn measurement() -> impl Strategy<Value = Measurement> {
    let sample = (position(), position(), option::of(any::<u64>()), any::<i32>());
    let rates = (any::<[u64; 3]>(), option::of(any::<u64>()));
    let source = prop::sample::select(vec![Source::LogSize, Source::HighWatermark]);
    (sample, rates, any::<[u32; 2]>(), source).prop_map(
        |((high_watermark, log_start, size, leader), (rates, bytes_per_record), ms, source)| {
            let [write_rate, filtered_rate, records_per_sec] = rates;
            let [window, staleness] = ms.map(|ms| Duration::from_millis(u64::from(ms)));
            Measurement {
                sample: Sample { high_watermark, log_start, size, leader },
                window,
                write_rate,
                filtered_rate,
                records_per_sec,
                bytes_per_record,
                staleness,
                source,
            }
        },
    )
}

fn rates() -> impl Strategy<Value = PartitionRates> {
    let lists = (btree_map(any::<u32>(), measurement(), 0..12), btree_set(any::<u32>(), 0..12));
    ("[a-z._-]{1,20}", any::<[u8; 16]>(), any::<u32>(), any::<u64>(), any::<bool>(), lists)
        .prop_map(|(topic, id, partitions, sampled_unix_ms, full, (rates, missing))| {
            let of = RatesOf { topic, topic_id: TopicId(id), partitions, sampled_unix_ms };
            PartitionRates::of(of, TopicReport { full, rates, missing })
        })
}

pub(crate) fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".*", inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
}

fn change() -> impl Strategy<Value = Override> {
    ("[a-zA-Z0-9._-]{1,40}", "[a-zA-Z0-9./_-]{1,40}", option::of(json_value()))
        .prop_map(|(group, field, value)| Override { group: GroupName(group), field, value })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entry()) {
        let encoded = tidegate_wire::encode_entry(&entry);
        let decoded =
            tidegate_wire::decode_entry(&encoded.header_refs(), encoded.value.as_deref());
        prop_assert_eq!(decoded.unwrap(), entry);
    }

    #[test]
    fn a_command_is_read_as_it_was_written(command in command()) {
        let encoded = tidegate_wire::encode_command(&command);
        let decoded =
            tidegate_wire::decode_command(&encoded.header_refs(), encoded.value.as_deref());
        prop_assert_eq!(decoded.unwrap(), command);
    }

    #[test]
    fn rates_are_read_as_they_were_written(rates in rates()) {
        let encoded = encode(&Decoded::Rates(rates.clone()));
        prop_assert_eq!(encoded.key.as_deref(), Some(rates.topic.as_bytes()));
        prop_assert_eq!(decode(&encoded).unwrap(), Decoded::Rates(rates));
    }

    #[test]
    fn an_override_is_read_as_it_was_written(change in change()) {
        let message = Decoded::Override(change);
        prop_assert_eq!(decode(&encode(&message)).unwrap(), message);
    }

    #[test]
    fn parts_of_rates_are_small_and_together_the_whole(rates in rates(), limit in 0..4000_usize) {
        let encoded = encode_rates_in_parts(&rates, limit);
        let mut together = PartitionRates { rates: [].into(), missing: [].into(), ..rates.clone() };
        for (number, part) in encoded.iter().enumerate() {
            let value = part.value.as_deref();
            let decoded = decode_rates(&part.header_refs(), value).unwrap();
            let of = (u32::try_from(number).unwrap(), u32::try_from(encoded.len()).unwrap());
            prop_assert_eq!((decoded.part, decoded.of), of);
            let named = decoded.rates.len() + decoded.missing.len();
            prop_assert!(value.unwrap().len() <= limit || named <= 1);
            prop_assert!(named >= 1 || encoded.len() == 1);
            let is_whole = decoded.report().full == (rates.full && encoded.len() == 1);
            prop_assert!(is_whole, "a part is no full report");
            together.rates.extend(decoded.rates);
            together.missing.extend(decoded.missing);
        }
        prop_assert_eq!(together, rates);
    }
}

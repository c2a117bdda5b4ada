//! One message of each kind, and ways to make any.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tidegate_core::ids::{
    BootId, ConsumerNumber, DirectoryId, Epoch, Generation, GroupName, Incarnation, Offset,
    PartitionId, Position, ProcessId, Term, TopicId,
};
use tidegate_core::ledger::{
    AdoptedPlan, Attempt, Command, CommandBody, Entry, Evidence, Facts, Hello, LatestHellos, Life,
    Move, Ownership, PartitionFigures, PlanBody, Record, Refusal, Reign, Seal, StopReason, Trigger,
};
use tidegate_core::rates::{Measurement, Sample, Source};
use tidegate_wire::{
    Decoded, Encoded, Kind, Override, PartitionRates, encode_command, encode_entry,
    encode_override, encode_rates,
};

/// A topic that is called orders in these tests.
pub(crate) const ORDERS: TopicId =
    TopicId([0xb2, 0x1c, 0x00, 0x7f, 0x80, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xfe]);
const CLICKS: TopicId = TopicId(*b"0123456789abcdef");

pub(crate) fn encode(message: &Decoded) -> Encoded {
    match message {
        Decoded::Entry(entry) => encode_entry(entry),
        Decoded::Command(command) => encode_command(command),
        Decoded::Rates(rates) => encode_rates(rates),
        Decoded::Override(change) => encode_override(change),
        Decoded::Unknown { .. } => panic!("nothing writes what it does not know"),
    }
}

pub(crate) fn decode(encoded: &Encoded) -> Result<Decoded, tidegate_wire::Error> {
    let value = encoded.value.as_deref();
    tidegate_wire::decode(encoded.key.as_deref(), &encoded.header_refs(), value)
}

/// One message of each kind.
pub(crate) fn one_of_each() -> BTreeMap<Kind, Decoded> {
    Kind::ALL.iter().map(|kind| (*kind, sample(*kind))).collect()
}

pub(crate) const fn partition(topic: TopicId, number: u32) -> PartitionId {
    PartitionId { topic, number }
}

pub(crate) fn consumer(number: u32) -> ConsumerNumber {
    ConsumerNumber::new(number).unwrap()
}

pub(crate) const fn epoch(offset: u64) -> Epoch {
    Epoch(Offset(offset))
}

pub(crate) const fn term(offset: u64) -> Term {
    Term(Offset(offset))
}

pub(crate) const fn incarnation(offset: u64) -> Incarnation {
    Incarnation(Offset(offset))
}

pub(crate) fn entry(record: Record) -> Decoded {
    Decoded::Entry(Entry { generation: Generation(1_790_000_000), record })
}

pub(crate) fn command(body: CommandBody) -> Decoded {
    let generation = Generation(1_790_000_000);
    Decoded::Command(Command { generation, incarnation: incarnation(40), body })
}

fn sample(kind: Kind) -> Decoded {
    match kind {
        Kind::Genesis
        | Kind::Elect
        | Kind::Tick
        | Kind::Plan
        | Kind::Grant
        | Kind::Fenced
        | Kind::Snapshot => entry(of_controller(kind)),
        Kind::Hello
        | Kind::Heartbeat
        | Kind::StartConsumingEvent
        | Kind::Progress
        | Kind::StopConsumingEvent
        | Kind::Goodbye
        | Kind::Reply
        | Kind::State => entry(of_consumer(kind)),
        Kind::StartConsumingCommand
        | Kind::StopConsumingCommand
        | Kind::StateQuery
        | Kind::Drain
        | Kind::Ended => command(body(kind)),
        Kind::PartitionRates => Decoded::Rates(rates()),
        Kind::Override => Decoded::Override(Override {
            group: GroupName("orders-to-lake".to_owned()),
            field: "consumers.max".to_owned(),
            value: Some(json!(12)),
        }),
    }
}

fn of_controller(kind: Kind) -> Record {
    let seal = Seal { term: term(12), seq: 7 };
    match kind {
        Kind::Genesis => {
            Record::Genesis { group: GroupName("orders-to-lake".to_owned()), first: true }
        }
        Kind::Elect => Record::Elect { process: ProcessId(0x5eed), attempt: 2 },
        Kind::Tick => Record::Tick { seal },
        Kind::Plan => Record::Plan { seal, plan: plan() },
        Kind::Grant => Record::Grant {
            seal,
            consumer: consumer(3),
            incarnation: incarnation(40),
            partitions: vec![
                (partition(ORDERS, 0), Position(1200)),
                (partition(ORDERS, 3), Position(0)),
                (partition(CLICKS, 1), Position(u64::MAX)),
            ],
        },
        Kind::Fenced => Record::Fenced {
            seal,
            incarnation: incarnation(40),
            beat: 9,
            evidence: Evidence::Death,
        },
        _ => Record::Snapshot {
            group: GroupName("orders-to-lake".to_owned()),
            upto: Offset(500),
            part: 1,
            of: 3,
            facts: Box::new(facts()),
        },
    }
}

fn facts() -> Facts {
    let (epoch, held) = (Epoch(Offset(60)), incarnation(40));
    let next = Position(1200);
    let life = Life {
        consumer: consumer(3),
        process: ProcessId(0x5eed),
        boot: Some(BootId(0xb007)),
        directory: None,
        beat: 9,
    };
    Facts {
        reign: Some(Reign { term: term(12), process: ProcessId(1), attempt: 2, seq: 7 }),
        plan: Some(AdoptedPlan { at: Offset(55), body: plan() }),
        attempts: vec![(ProcessId(1), Attempt { number: 2, at: Offset(12) })],
        lives: vec![(held, life)],
        ended: vec![(incarnation(20), consumer(3))],
        hellos: vec![(
            consumer(3),
            LatestHellos { last: (Offset(40), ProcessId(0x5eed)), other: Some(Offset(20)) },
        )],
        partitions: vec![
            (partition(ORDERS, 0), Ownership::Active { epoch, incarnation: held, next }),
            (partition(ORDERS, 1), Ownership::Granted { epoch, incarnation: held, next }),
            (partition(CLICKS, 0), Ownership::Free { next: Some(next) }),
            (partition(CLICKS, 1), Ownership::Free { next: None }),
        ],
    }
}

fn plan() -> PlanBody {
    let moves = vec![
        Move {
            partition: partition(ORDERS, 0),
            from: Some(consumer(1)),
            to: Some(consumer(2)),
            reason: "overload".to_owned(),
        },
        Move {
            partition: partition(CLICKS, 1),
            from: None,
            to: Some(consumer(2)),
            reason: "unassigned".to_owned(),
        },
    ];
    PlanBody {
        parent: Some(Offset(61)),
        trigger: Some(Trigger::Overload),
        moves,
        cost_permille: 380,
        consumers: 2,
        lower_bound: 2,
    }
}

fn of_consumer(kind: Kind) -> Record {
    let incarnation = incarnation(40);
    let (first, second) = (partition(ORDERS, 0), partition(ORDERS, 3));
    match kind {
        Kind::Hello => Record::Hello(Hello {
            consumer: consumer(3),
            process: ProcessId(0x5eed),
            attempt: 1,
            seen: Offset(39),
            boot: Some(BootId(0xb007)),
            directory: Some(DirectoryId(0xd1)),
            clean: true,
            persisted: vec![(first, Position(1200))],
        }),
        Kind::Heartbeat => Record::Heartbeat {
            consumer: consumer(3),
            incarnation,
            seq: 9,
            heard: Offset(17),
            figures: vec![
                PartitionFigures {
                    partition: first,
                    records: 1200,
                    bytes: 240_000,
                    busy_us: 51_000,
                    lag: Some(14),
                },
                PartitionFigures { partition: second, records: 0, bytes: 0, busy_us: 0, lag: None },
            ],
        },
        Kind::StartConsumingEvent => Record::Started {
            incarnation,
            partitions: vec![(first, epoch(77)), (second, epoch(77))],
        },
        Kind::Progress => {
            Record::Progress { incarnation, partitions: vec![(first, epoch(77), Position(1300))] }
        }
        Kind::StopConsumingEvent => Record::Stopped {
            incarnation,
            partitions: vec![(first, epoch(77), Some(Position(1300))), (second, epoch(78), None)],
            reason: StopReason::Command,
        },
        Kind::Goodbye => Record::Goodbye { incarnation, clean: true },
        Kind::Reply => {
            Record::Reply { incarnation, command: Offset(16), refusal: Refusal::StaleTerm }
        }
        _ => Record::State { incarnation, partitions: vec![(first, epoch(77), Position(1300))] },
    }
}

fn body(kind: Kind) -> CommandBody {
    let partitions = [partition(ORDERS, 0), partition(ORDERS, 3)];
    match kind {
        Kind::StartConsumingCommand => CommandBody::Start {
            term: term(12),
            epoch: epoch(77),
            partitions: vec![(partitions[0], Position(1200)), (partitions[1], Position(0))],
        },
        Kind::StopConsumingCommand => CommandBody::Stop {
            term: term(12),
            epoch: epoch(77),
            partitions: partitions.to_vec(),
            deadline: Duration::from_secs(5),
        },
        Kind::StateQuery => CommandBody::StateQuery { term: term(12) },
        Kind::Drain => CommandBody::Drain { term: term(12) },
        _ => CommandBody::Ended,
    }
}

pub(crate) fn rates() -> PartitionRates {
    let measured = |size, bytes_per_record, source| Measurement {
        sample: Sample {
            high_watermark: Position(5000),
            log_start: Position(100),
            size,
            leader: 1,
        },
        window: Duration::from_secs(30),
        write_rate: 1_048_576,
        filtered_rate: 1_000_000,
        records_per_sec: 5000,
        bytes_per_record,
        staleness: Duration::ZERO,
        source,
    };
    PartitionRates {
        topic: "orders".to_owned(),
        topic_id: ORDERS,
        partitions: 4,
        sampled_unix_ms: 1_790_000_123_456,
        full: true,
        part: 0,
        of: 1,
        rates: BTreeMap::from([
            (0, measured(Some(980_000), Some(200), Source::LogSize)),
            (1, measured(None, None, Source::HighWatermark)),
        ]),
        missing: [2, 3].into(),
    }
}

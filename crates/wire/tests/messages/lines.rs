//! Messages as one line.

use std::fmt::Write as _;

use serde_json::json;
use tidegate_core::ids::{GroupName, Position, TopicId};
use tidegate_core::ledger::{CommandBody, Record};
use tidegate_wire::{Decoded, Override, describe};

use crate::samples::{ORDERS, command, entry, epoch, incarnation, one_of_each, partition, term};

fn name(topic: TopicId) -> Option<String> {
    (topic == ORDERS).then(|| "orders".to_owned())
}

const LINES: &str = "\
Genesis generation=1790000000 group=orders-to-lake first=true
Elect process=00000000000000000000000000005eed attempt=2
Tick term=12 seq=7
Plan term=12 seq=7 parent=61 trigger=overload cost=380permille consumers=2 lowerBound=2 moves=2 orders-0:1->2(overload) MDEyMzQ1Njc4OWFiY2RlZg-1:-->2(unassigned)
Hello consumer=3 process=00000000000000000000000000005eed attempt=1 seen=39 clean=true orders-0@1200
Heartbeat incarnation=40 seq=9 heard=17 orders-0:records=1200,bytes=240000,busyUs=51000,lag=14 orders-3:records=0,bytes=0,busyUs=0
Grant term=12 seq=7 consumer=3 incarnation=40 orders-0@1200 orders-3@0 MDEyMzQ1Njc4OWFiY2RlZg-1@18446744073709551615
StartConsumingEvent incarnation=40 orders-0(77) orders-3(77)
Progress incarnation=40 orders-0(77)@1300
StopConsumingEvent incarnation=40 reason=command orders-0(77)@1300 orders-3(78)@?
Fenced term=12 seq=7 incarnation=40 beat=9 evidence=death
Goodbye incarnation=40 clean=true
Reply incarnation=40 command=16 refusal=stale-term
State incarnation=40 orders-0(77)@1300
Snapshot upto=500 part=2/3 lives=1 partitions=4
StartConsumingCommand term=12 incarnation=40 epoch=77 orders-0@1200 orders-3@0
StopConsumingCommand term=12 incarnation=40 epoch=77 deadlineMs=5000 orders-0 orders-3
StateQuery term=12 incarnation=40
Drain term=12 incarnation=40
Ended incarnation=40
PartitionRates topic=orders partitions=4 full missing=2 orders-0=1000000B/s(log-size) orders-1=1000000B/s(high-watermark)
Override group=orders-to-lake consumers.max=12
";

#[test]
fn each_message_is_one_line() {
    let mut lines = String::new();
    for message in one_of_each().values() {
        writeln!(lines, "{}", describe(message, &name)).unwrap();
    }
    assert_eq!(lines, LINES);
}

#[test]
fn nothing_in_a_message_can_steer_a_terminal_or_begin_a_line() {
    let field = "image\u{1b}[2J\nDrain term=1\r\u{9b}31m".to_owned();
    let group = GroupName("g".to_owned());
    let change = Override { group, field, value: Some(json!("x\u{7f}".repeat(2000))) };
    let line = describe(&Decoded::Override(change), &name);
    assert!(!line.contains(char::is_control), "{line:?}");
    assert!(line.len() < 1000, "{line}");
}

#[test]
fn long_lists_are_cut() {
    let partitions = (0..100).map(|number| (partition(ORDERS, number), epoch(1))).collect();
    let started = Record::Started { incarnation: incarnation(40), partitions };
    let line = describe(&entry(started), &name);
    assert!(line.ends_with("orders-15(1) +84 more"), "{line}");
}

#[test]
fn what_is_not_known_is_shown_with_its_name() {
    let kind = "Rename".to_owned();
    let unknown = [
        Decoded::Unknown { kind: kind.clone() },
        entry(Record::Unknown { kind: kind.clone() }),
        command(CommandBody::Unknown { kind }),
    ];
    let lines = unknown.map(|message| describe(&message, &name));
    assert_eq!(lines[0], "Unknown kind=Rename");
    assert_eq!(lines[1], "Unknown kind=Rename");
    assert_eq!(lines[2], "Unknown kind=Rename incarnation=40");
}

#[test]
fn the_published_example_reads_as_documented() {
    let start = CommandBody::Start {
        term: term(12),
        epoch: epoch(77),
        partitions: vec![(partition(ORDERS, 3), Position(1200))],
    };
    let line = describe(&command(start), &name);
    assert_eq!(line, "StartConsumingCommand term=12 incarnation=40 epoch=77 orders-3@1200");
}

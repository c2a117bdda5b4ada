use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;
use tidegate_core::ids::{
    Epoch, FencingToken, Generation, Instant, Offset, PartitionId, Position, TopicId,
};
use tidegate_runtime::ports::{Batch, Clock, Record};
use tidegate_sinks::object::format::{Body, Header, seal};
use tidegate_sinks::object::layout;

use super::*;
use crate::stamp::Stamper;

const RUN: u64 = 5;

/// A wall clock that the test sets. Far ahead of the real one: files that the test itself writes are older.
#[derive(Debug, Default)]
struct Set(AtomicU64);

const BASE_MS: u64 = 4_000_000_000_000;

impl Clock for Set {
    fn now(&self) -> Instant {
        Instant::default()
    }

    fn unix_ms(&self) -> u64 {
        BASE_MS + self.0.load(Ordering::Relaxed)
    }
}

fn partition(number: u32) -> TopicPartition {
    let id = PartitionId { topic: TopicId([3; 16]), number };
    TopicPartition { topic: "orders".to_owned(), id }
}

/// A record at an offset; by default offsets are ten above sequences.
fn record(number: u32, offset: u64, sequence: u64) -> Record {
    let time_ms = BASE_MS + sequence;
    let value =
        Stamper::new(1, 100).value(Stamp { run: RUN, partition: number, sequence, time_ms });
    Record { offset, timestamp_ms: 0, key: None, value: Some(value), headers: Vec::new() }
}

fn records(number: u32, offsets: std::ops::Range<u64>) -> Vec<Record> {
    offsets.map(|offset| record(number, offset, offset - 10)).collect()
}

/// A sink's folder.
struct World {
    root: TempDir,
    clock: Arc<Set>,
    ledger: Acknowledged,
}

impl World {
    /// Two partitions of 30 acknowledged records each, at the offsets 10 to 39.
    fn new() -> Self {
        let mut ledger = Acknowledged::new(RUN);
        for number in [0, 1] {
            (0..30).for_each(|sequence| ledger.stored("orders", number, sequence, sequence + 10));
        }
        Self { root: TempDir::new().unwrap(), clock: Arc::default(), ledger }
    }

    fn url(&self) -> String {
        format!("file://{}", self.root.path().display())
    }

    /// Writes through the sink, at a time, as an owner.
    async fn write(&self, number: u32, epoch: u64, at_ms: u64, offsets: std::ops::Range<u64>) {
        self.write_behind(number, epoch, at_ms, (offsets.start, offsets)).await;
    }

    /// The same where there are no records between the expected position and the first.
    async fn write_behind(
        &self,
        number: u32,
        epoch: u64,
        at_ms: u64,
        (expected, offsets): (u64, std::ops::Range<u64>),
    ) {
        let end = offsets.end;
        self.append((number, epoch, at_ms), (expected, end), &records(number, offsets)).await;
    }

    async fn append(
        &self,
        (number, epoch, at_ms): (u32, u64, u64),
        (expected, end): (u64, u64),
        records: &[Record],
    ) {
        self.clock.0.store(at_ms, Ordering::Relaxed);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let sink = tidegate_sinks::open(&self.url(), clock).await.unwrap();
        let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) };
        sink.acquire(&partition(number), token).await.unwrap();
        let batch = Batch { expected: Position(expected), records, end: Position(end) };
        sink.write(&partition(number), token, batch).await.unwrap();
    }

    /// Both partitions, whole, in two objects each.
    async fn filled() -> Self {
        let world = Self::new();
        for number in [0, 1] {
            world.write(number, 1, 100, 10..25).await;
            world.write(number, 1, 200, 25..40).await;
        }
        world
    }

    fn object(&self, number: u32, position: u64) -> PathBuf {
        let folder = self.root.path().join(layout::folder(&partition(number)).unwrap());
        folder.join(layout::name(Position(position)))
    }

    /// Replaces the records of the first object of partition 0, with a header that fits.
    fn plant(&self, records: &[Record]) {
        plant(&self.object(0, 0), records);
    }

    async fn audit(&self) -> AuditReport {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let reader = tidegate_sinks::open_reader(&self.url(), clock).await.unwrap();
        audit(&reader, &self.ledger).await.unwrap()
    }
}

fn plant(path: &Path, records: &[Record]) {
    let mut body = Vec::new();
    let encoder = tidegate_sinks::ndjson::Encoder::new("orders", 0);
    for record in records {
        encoder.line(record, &mut body);
    }
    let header = Header {
        partition: partition(0),
        position: Position(0),
        start: Position(10),
        end: Position(25),
        records: records.len() as u64,
        token: FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) },
        written_ms: BASE_MS + 100,
    };
    let body = Body::plain(body.into());
    std::fs::write(path, [seal(&header, &body), body.stored.to_vec()].concat()).unwrap();
}

/// lost, duplicated, out of order, unexpected
fn findings(report: &AuditReport) -> [u64; 4] {
    [report.lost, report.duplicated, report.out_of_order, report.unexpected]
}

#[tokio::test]
async fn a_whole_sink_is_clean() {
    let report = World::filled().await.audit().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.acknowledged, report.delivered, report.objects), (60, 60, 4));
    assert_eq!(report.freshness_ms, Quantiles { p50: 100, p99: 185, max: 185 });
    let second = report.seconds[&(BASE_MS / 1000)];
    assert_eq!((second.records, second.freshness_max_ms), (60, 185));
    assert!(report.handoffs.is_empty());
}

#[tokio::test]
async fn a_planted_loss_is_found() {
    let world = World::filled().await;
    let mut kept = records(0, 10..25);
    kept.drain(3..5);
    world.plant(&kept);
    let report = world.audit().await;
    assert_eq!(findings(&report), [2, 0, 0, 0]);
    let range = LostRange { topic: "orders".to_owned(), partition: 0, first: 13, end: 15 };
    assert_eq!(report.lost_ranges, [range]);
    assert_eq!((report.acknowledged, report.delivered), (60, 58));
}

#[tokio::test]
async fn a_lost_object_and_a_lost_chain_are_found() {
    let world = World::filled().await;
    std::fs::remove_file(world.object(0, 25)).unwrap();
    assert_eq!(findings(&world.audit().await), [15, 0, 0, 0]);
    std::fs::remove_dir_all(world.object(1, 0).parent().unwrap()).unwrap();
    assert_eq!(findings(&world.audit().await), [45, 0, 0, 0]);
}

#[tokio::test]
async fn a_planted_duplicate_is_found() {
    let world = World::filled().await;
    let mut doubled = records(0, 10..25);
    doubled.insert(7, doubled[6].clone());
    world.plant(&doubled);
    assert_eq!(findings(&world.audit().await), [0, 1, 0, 0]);
    let mut doubled = records(0, 10..25);
    doubled.push(record(0, 30, 20)); // the next object has it, too
    world.plant(&doubled);
    let report = world.audit().await;
    assert_eq!((report.lost, report.duplicated), (0, 1));
    assert!(report.out_of_order > 0);
}

#[tokio::test]
async fn a_planted_swap_is_found() {
    let world = World::filled().await;
    let mut swapped = records(0, 10..25);
    swapped.swap(4, 5);
    world.plant(&swapped);
    assert_eq!(findings(&world.audit().await), [0, 0, 1, 0]);
}

#[tokio::test]
async fn records_of_others_and_at_wrong_offsets_are_unexpected() {
    let world = World::filled().await;
    let mut mixed = records(0, 10..25);
    mixed[2].value = Some("a stranger".into());
    mixed[9].value = record(1, 19, 9).value; // of another partition
    world.plant(&mixed);
    assert_eq!(findings(&world.audit().await), [2, 0, 0, 2]);
    let mut moved = records(0, 10..25);
    moved[3] = record(0, 13, 100); // another record than the one acknowledged there
    world.plant(&moved);
    let report = world.audit().await;
    assert_eq!((report.lost, report.unexpected), (1, 1));
}

#[tokio::test]
async fn damage_is_a_loss_and_named() {
    let world = World::filled().await;
    let path = world.object(0, 0);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = world.audit().await;
    assert_eq!(findings(&report), [15, 0, 0, 0]);
    assert!(report.faults[0].contains("orders-0: object"), "{:?}", report.faults);
}

#[tokio::test]
async fn a_record_of_unknown_outcome_may_be_there_or_not() {
    let mut world = World::filled().await;
    world.ledger.maybe("orders", 0, 30);
    world.ledger.maybe("orders", 0, 31);
    world.write(0, 1, 300, 40..41).await;
    let report = world.audit().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.maybe_delivered, report.acknowledged), (61, 1, 60));
    world.write_behind(0, 1, 400, (41, 42..43)).await; // sequence 32 was never sent
    assert_eq!(findings(&world.audit().await), [0, 0, 0, 1]);
}

#[tokio::test]
async fn what_the_log_has_twice_is_told_apart_from_what_is_out_of_order() {
    let mut world = World::filled().await;
    world.ledger.maybe("orders", 0, 30);
    let again = [record(0, 40, 30), record(0, 41, 30), record(0, 42, 29)];
    world.append((0, 1, 300), (40, 43), &again).await;
    let report = world.audit().await;
    assert_eq!(findings(&report), [0, 0, 0, 0]);
    let repeat =
        |offset, sequence| Repeat { topic: "orders".to_owned(), partition: 0, offset, sequence };
    assert_eq!(report.repeats, [repeat(41, 30), repeat(42, 29)]);
    assert_eq!((report.repeated, report.delivered, report.maybe_delivered), (2, 61, 1));
    assert!(!report.is_clean(), "only the log can prove it");
}

#[tokio::test]
async fn a_record_of_unknown_outcome_may_stand_behind_later_ones() {
    let mut world = World::filled().await;
    world.ledger.maybe("orders", 0, 30);
    world.ledger.stored("orders", 0, 31, 40);
    world.append((0, 1, 300), (40, 42), &[record(0, 40, 31), record(0, 41, 30)]).await;
    let report = world.audit().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.maybe_delivered), (62, 1));
}

#[tokio::test]
async fn what_is_not_there_yet_and_what_others_wrote_is_told() {
    let world = World::filled().await;
    std::fs::remove_file(world.object(0, 25)).unwrap();
    let mut others = records(0, 10..25);
    let stamp = Stamp { run: RUN + 1, partition: 0, sequence: 2, time_ms: BASE_MS };
    others[2].value = Some(Stamper::new(1, 100).value(stamp));
    others[3].value = Some("a stranger".into());
    world.plant(&others);
    let report = world.audit().await;
    assert_eq!(findings(&report), [17, 0, 0, 2]);
    assert_eq!((report.lost_at_end, report.of_other_runs), (15, 1));
}

#[tokio::test]
async fn owner_changes_are_listed_with_their_gaps() {
    let world = World::new();
    world.write(0, 1, 1000, 10..20).await;
    world.write(0, 4, 1700, 20..30).await;
    world.write(0, 4, 1800, 30..35).await;
    world.write(0, 9, 4000, 35..40).await;
    let report = world.audit().await;
    let handoff = |from_epoch, to_epoch, gap_ms, at_ms| Handoff {
        topic: "orders".to_owned(),
        partition: 0,
        from_epoch,
        to_epoch,
        generation: 1,
        gap_ms,
        idle_ms: 0,
        at_ms: BASE_MS + at_ms,
    };
    assert_eq!(report.handoffs, [handoff(1, 4, 700, 1700), handoff(4, 9, 2200, 4000)]);
    assert_eq!(report.lost, 30, "partition 1 was never written");
}

#[tokio::test]
async fn time_without_records_is_told_apart() {
    let mut world = World::new();
    world.write(0, 1, 100, 10..20).await;
    (1500..1505).for_each(|sequence| world.ledger.stored("orders", 0, sequence, sequence + 10));
    world.write(0, 2, 900, 20..40).await; // its oldest record was sent at 10 ms
    assert_eq!(world.audit().await.handoffs[0].idle_ms, 0);
    world.write_behind(0, 3, 2000, (40, 1510..1515)).await; // sent at 1,500 ms
    let handoff = &world.audit().await.handoffs[1];
    assert_eq!((handoff.gap_ms, handoff.idle_ms), (1100, 600));
}

#[tokio::test]
async fn a_topic_of_the_same_name_and_another_id_is_left_out() {
    let mut world = World::filled().await;
    world.ledger.set_topic_id("orders", TopicId([4; 16]));
    let report = world.audit().await;
    assert_eq!((report.foreign_chains, report.delivered, report.lost), (2, 0, 60));
}

/// One way to spoil a sequence of records.
#[derive(Clone, Debug)]
enum Spoil {
    Drop(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    use prop::sample::Index;
    prop_oneof![
        any::<Index>().prop_map(Spoil::Drop),
        any::<Index>().prop_map(Spoil::Double),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Spoil::Swap(one, other)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_spoiled_is_found(spoils in proptest::collection::vec(spoil(), 0..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::filled().await;
            let whole = records(0, 10..25);
            let mut spoiled = whole.clone();
            for spoil in spoils {
                match spoil {
                    Spoil::Drop(at) if !spoiled.is_empty() => {
                        spoiled.remove(at.index(spoiled.len()));
                    }
                    Spoil::Double(at) if !spoiled.is_empty() => {
                        let at = at.index(spoiled.len());
                        spoiled.insert(at, spoiled[at].clone());
                    }
                    Spoil::Swap(one, other) if !spoiled.is_empty() => {
                        let count = spoiled.len();
                        spoiled.swap(one.index(count), other.index(count));
                    }
                    Spoil::Drop(_) | Spoil::Double(_) | Spoil::Swap(..) => {}
                }
            }
            world.plant(&spoiled);
            let report = world.audit().await;
            let kept: std::collections::BTreeSet<_> = spoiled.iter().map(|kept| kept.offset).collect();
            assert_eq!(report.lost, 15 - kept.len() as u64);
            assert_eq!(report.duplicated, (spoiled.len() - kept.len()) as u64);
            assert_eq!(report.is_clean(), spoiled == whole, "{report:?}");
        });
    }
}

//! The suite against the embedded broker, and what only a broker that fails on demand can show.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cognitive_complexity,
    reason = "helpers of tests, and stories told in one piece"
)]

mod suite;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::ids::Position;
use tidegate_devbroker::{ApiKey, DevBroker, FaultAction, FaultRule, Options, ResponseError};
use tidegate_kafka::{ControlOptions, Kafka, ReaderOptions};
use tidegate_runtime::ports::{AppendError, Class, ControlReader, ReadEvent};

use crate::suite::reader::{read, reader};
use crate::suite::{client, new_log, new_topic, partition, plaintext, raw, soon};

/// After how long an append of these tests is given up. A first append takes half a second on an idle machine, and some
/// appends here have to arrive while all the other tests run.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

mod shared {
    fn bootstrap() -> String {
        crate::shared_broker()
    }

    crate::suite! { crate::suite::plaintext(&super::bootstrap()) }
}

/// The broker of the suite, on a thread of its own: each test has a runtime that ends with it.
fn shared_broker() -> String {
    static BROKER: OnceLock<String> = OnceLock::new();
    BROKER
        .get_or_init(|| {
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async {
                    let broker = DevBroker::start(Options::default()).await.expect("a broker");
                    tell.send(broker.bootstrap()).expect("the test waits");
                    std::future::pending::<()>().await;
                });
            });
            told.recv().expect("the broker starts")
        })
        .clone()
}

async fn broker(nodes: u16) -> (DevBroker, Kafka) {
    let nodes = NonZeroU16::new(nodes).expect("a broker has nodes");
    let broker = DevBroker::start(Options { nodes, ..Options::default() }).await.unwrap();
    let kafka = client(&plaintext(&broker.bootstrap()));
    (broker, kafka)
}

async fn read_values(reader: &mut Box<dyn ControlReader>, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        for record in soon("a record", reader.next()).await.unwrap() {
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_acknowledgements_are_lost_is_unknown_and_stored_once() {
    let (broker, kafka) = broker(1).await;
    let topic = new_topic(&kafka, "lost", 1).await;
    let options = ControlOptions { append_timeout: APPEND_TIMEOUT };
    let log = kafka.control_log(&topic, options).unwrap();
    log.append(0, raw("before")).await.unwrap();
    let fault = broker.inject(FaultRule::new(ApiKey::Produce, FaultAction::ApplyThenDrop));
    let outcome = soon("the outcome", log.append(0, raw("lost"))).await;
    assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");
    assert!(broker.fault_hits(fault).unwrap() > 0);
    broker.clear_faults();
    assert_eq!(log.end(0).await.unwrap(), 2);
    // The log goes on, whatever became of the record in between.
    let offset = loop {
        match soon("the outcome", log.append(0, raw("after"))).await {
            Ok(offset) => break offset,
            Err(error) => println!("once more after {error:?}"),
        }
    };
    assert!(offset >= 2);
    let mut reader = log.read(0, 0).await.unwrap();
    let values = read_values(&mut reader, 3).await;
    assert_eq!(values[..2], ["before", "lost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_never_arrives_is_unknown_and_one_that_is_refused_is_not() {
    let (broker, kafka) = broker(1).await;
    let topic = new_topic(&kafka, "fails", 1).await;
    let options = ControlOptions { append_timeout: APPEND_TIMEOUT };
    let log = kafka.control_log(&topic, options).unwrap();
    log.append(0, raw("before")).await.unwrap();
    let fault = broker.inject(FaultRule::new(ApiKey::Produce, FaultAction::DropConnection));
    let outcome = soon("the outcome", log.append(0, raw("x"))).await;
    assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");
    assert!(broker.fault_hits(fault).unwrap() > 0);
    broker.clear_faults();
    let denied = FaultAction::Error(ResponseError::TopicAuthorizationFailed);
    broker.inject(FaultRule::new(ApiKey::Produce, denied));
    let Err(AppendError::Refused(error)) = soon("the outcome", log.append(0, raw("x"))).await
    else {
        panic!("a denied append is refused");
    };
    assert!(error.to_string().starts_with(&format!("missing Write on topic {topic}")), "{error}");
    assert_eq!(error.class(), Class::Permanent);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_appends_follow_a_leader_that_moves_and_a_node_that_restarts() {
    let (broker, kafka) = broker(3).await;
    let topic = suite::new_replicated_topic(&kafka, "moves", 1, 3).await;
    let log = kafka.control_log(&topic, ControlOptions::default()).unwrap();
    let mut reader = log.read(0, 0).await.unwrap();
    let mut expected = 0_u64;
    for round in 0..4 {
        for _ in 0..5 {
            let appended = log.append(0, raw(format!("{expected}"))).await.unwrap();
            assert_eq!(appended, expected);
            expected += 1;
        }
        assert_eq!(read_values(&mut reader, 5).await.len(), 5);
        let leader = broker.leader(&topic, 0).unwrap();
        let other = broker.nodes().into_iter().find(|node| *node != leader).unwrap();
        if round % 2 == 0 {
            broker.move_leader(&topic, 0, other).unwrap();
        } else {
            broker.stop_node(leader).await.unwrap();
            assert_eq!(log.end(0).await.unwrap(), expected);
            log.append(0, raw("without the node")).await.unwrap();
            expected += 1;
            assert_eq!(read_values(&mut reader, 1).await, ["without the node"]);
            broker.start_node(leader).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_keeps_the_answers_of_other_brokers_and_follows_the_leaders() {
    let (broker, kafka) = broker(3).await;
    let topic = suite::new_replicated_topic(&kafka, "partial", 6, 1).await;
    let names = vec![topic.clone()];
    let mut sizes = kafka.log_sizes(Duration::from_secs(3600));
    let count = |round: &tidegate_runtime::ports::Round| round.topics[0].samples.len();
    assert_eq!(count(&sizes.sample(&names).await.unwrap()), 6);
    let node = broker.leader(&topic, 0).unwrap();
    broker.stop_node(node).await.unwrap();
    let partial = async {
        loop {
            let round = sizes.sample(&names).await.unwrap();
            if count(&round) < 6 {
                return round;
            }
        }
    };
    let round = soon("a partial round", partial).await;
    assert!(count(&round) > 0, "the others answer");
    assert!(!round.failures.is_empty());
    broker.start_node(node).await.unwrap();
    let whole = async {
        while count(&sizes.sample(&names).await.unwrap()) < 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("a whole round", whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_log_sizes_are_lived_without() {
    let (broker, kafka) = broker(1).await;
    let topic = new_topic(&kafka, "denied", 2).await;
    let denied = FaultAction::Error(ResponseError::ClusterAuthorizationFailed);
    let fault = broker.inject(FaultRule::new(ApiKey::DescribeLogDirs, denied));
    let mut sizes = kafka.log_sizes(Duration::from_secs(5));
    for _ in 0..3 {
        let round = sizes.sample(std::slice::from_ref(&topic)).await.unwrap();
        assert!(!round.log_sizes_permitted);
        assert!(round.failures.is_empty(), "{:?}", round.failures);
        assert!(round.topics[0].samples.values().all(|sample| sample.size.is_none()));
        assert_eq!(round.topics[0].samples.len(), 2);
    }
    assert_eq!(broker.fault_hits(fault), Some(1), "it is not asked again at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_with_an_error_is_absent_and_its_neighbour_is_not() {
    let (broker, kafka) = broker(1).await;
    let topic = new_topic(&kafka, "absent", 2).await;
    let moved = FaultAction::Error(ResponseError::NotLeaderOrFollower);
    broker.inject(FaultRule::new(ApiKey::ListOffsets, moved).on_partition(&topic, 0).times(2));
    let mut sizes = kafka.log_sizes(Duration::from_secs(3600));
    let names = [topic];
    let first = sizes.sample(&names).await.unwrap();
    assert_eq!(first.topics[0].samples.keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(sizes.sample(&names).await.unwrap().topics[0].samples.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_outlive_a_dropped_connection_and_a_slow_answer() {
    let (broker, kafka) = broker(1).await;
    let (_, log) = new_log(&kafka, "drops", 1).await;
    log.append(0, raw("x")).await.unwrap();
    for api in [ApiKey::ListOffsets, ApiKey::Metadata, ApiKey::Fetch] {
        broker.inject(FaultRule::new(api, FaultAction::DropConnection).times(2));
        assert_eq!(log.end(0).await.unwrap(), 1);
        let mut reader = log.read(0, 0).await.unwrap();
        assert_eq!(read_values(&mut reader, 1).await, ["x"]);
        broker.clear_faults();
    }
    let slow = FaultAction::Delay(Duration::from_millis(300));
    broker.inject(FaultRule::new(ApiKey::ListOffsets, slow).times(1));
    assert_eq!(log.end(0).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_damaged_batch_passes_it_and_its_partition_is_named() {
    let (broker, kafka) = broker(1).await;
    let topic = new_topic(&kafka, "damaged", 2).await;
    let writer = kafka.batch_writer();
    // Batches of ten records each.
    let values: Vec<_> = (0..10).map(|at| Bytes::from(format!("value {at}"))).collect();
    for _ in 0..4 {
        let batches = [(0, values.clone()), (1, values.clone())].into();
        writer.write(&topic, &batches, 1).await.unwrap();
    }
    assert!(broker.corrupt(&topic, 0, 25));
    let (bad, good) = (partition(&kafka, &topic, 0).await, partition(&kafka, &topic, 1).await);
    let mut reader = reader(&kafka);
    // A second time the same, from where the first has come to.
    for from in [0, 20] {
        reader.assign(&bad, Position(from)).await.unwrap();
        let mut next = Position(from);
        let error = loop {
            match soon("the error", reader.next()).await {
                ReadEvent::Records(batches) => {
                    for batch in batches.into_iter().filter(|batch| batch.partition == bad) {
                        assert_eq!(batch.records[0].offset, next.0);
                        next = batch.next;
                    }
                }
                ReadEvent::Failed(of, error) => {
                    assert_eq!(of, bad);
                    break error;
                }
                other @ ReadEvent::OutOfRange(_) => panic!("{other:?}"),
            }
        };
        assert!(next <= Position(20), "{next:?}");
        assert_eq!(error.class(), Class::Permanent);
        let text = error.to_string();
        assert!(text.contains(&bad.to_string()) && text.contains("CRC"), "{text}");
        reader.unassign(&bad).await.unwrap();
    }
    reader.assign(&good, Position(0)).await.unwrap();
    assert_eq!(read(&mut reader, 40).await[&1].len(), 40);
}

/// Everything that can happen to a fetch, again and again: each record comes once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_fetches_no_record_is_passed_over_or_comes_twice() {
    const PARTITIONS: u32 = 4;
    const BATCHES: u64 = 150;
    let (broker, kafka) = broker(3).await;
    let topic = suite::new_replicated_topic(&kafka, "storm", PARTITIONS, 3).await;
    let writer = kafka.batch_writer();
    let values = vec![Bytes::from(vec![b'x'; 1000]); 10];
    for _ in 0..BATCHES {
        let batches = (0..PARTITIONS).map(|number| (number, values.clone())).collect();
        writer.write(&topic, &batches, 1).await.unwrap();
    }
    // Several answers to each partition, and a disturbance after each event.
    let options = ReaderOptions { queue_kib: 256, ..ReaderOptions::default() };
    let mut reader = kafka.partition_reader(options);
    let mut next = BTreeMap::new();
    for number in 0..PARTITIONS {
        let part = partition(&kafka, &topic, number).await;
        reader.assign(&part, Position(0)).await.unwrap();
        next.insert(number, 0);
    }
    let nodes = broker.nodes();
    let mut down = None;
    let mut events = 0..;
    while next.values().any(|next| *next < 10 * BATCHES) {
        match soon("records", reader.next()).await {
            ReadEvent::Records(batches) => {
                for batch in batches {
                    let next = next.get_mut(&batch.partition.id.number).unwrap();
                    for record in batch.records {
                        assert_eq!(record.offset, *next, "of {}", batch.partition);
                        *next += 1;
                    }
                    assert_eq!(batch.next, Position(*next));
                }
            }
            other => panic!("{other:?} in place of records"),
        }
        let event = events.next().unwrap();
        let number = i32::try_from(event % PARTITIONS).unwrap();
        let node = nodes[usize::try_from(event).unwrap() % nodes.len()];
        let on_fetch = |action| FaultRule::new(ApiKey::Fetch, action).times(1);
        match event % 8 {
            0 => drop(broker.inject(on_fetch(FaultAction::DropConnection))),
            1 if down.is_none() => drop(broker.move_leader(&topic, number, node)),
            2 => {
                let moved = FaultAction::Error(ResponseError::NotLeaderOrFollower);
                broker.inject(on_fetch(moved).on_partition(&topic, number));
            }
            // As a leader says that has not caught up.
            3 => {
                let outside = FaultAction::Error(ResponseError::OffsetOutOfRange);
                broker.inject(on_fetch(outside).on_partition(&topic, number));
            }
            4 => drop(broker.inject(on_fetch(FaultAction::Delay(Duration::from_millis(50))))),
            5 => drop(broker.inject(on_fetch(FaultAction::ApplyThenDrop))),
            6 => {
                let session = FaultAction::Error(ResponseError::FetchSessionIdNotFound);
                broker.inject(on_fetch(session));
            }
            _ => {
                if let Some(node) = down.take() {
                    broker.start_node(node).await.unwrap();
                } else {
                    broker.stop_node(node).await.unwrap();
                    down = Some(node);
                }
            }
        }
    }
    println!("{} events, and a disturbance after each", events.start);
    assert!(events.start > 40, "the records came in {} events", events.start);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_cannot_be_reached_are_a_transient_error_that_names_them() {
    let (broker, kafka) = broker(1).await;
    let bootstrap = broker.bootstrap();
    broker.stop().await;
    drop(broker);
    let admin: Arc<dyn tidegate_runtime::ports::Admin> = kafka.admin();
    let error = soon("the error", admin.brokers()).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(error.to_string().contains(&bootstrap), "{error}");
}

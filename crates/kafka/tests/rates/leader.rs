//! A broker that is killed while its partitions are written to: their leaders move to others.

use std::time::Duration;

use tidegate_core::ids::TopicId;
use tidegate_core::rates::{Measurement, Source};
use tidegate_kafka::Kafka;
use tidegate_testing::{KafkaOptions, KafkaVersion, RealKafka, unique_name};

use crate::client;
use crate::judge::Records;
use crate::load::Load;
use crate::watch::{Published, Watch, config, create};

const PARTITIONS: u32 = 6;

/// Records of a batch.
const RECORDS: u64 = 20;

/// Three nodes, one of which may be killed.
pub(crate) fn cluster(version: KafkaVersion) -> RealKafka {
    let settings = ["broker.session.timeout.ms=3000".to_owned()].into();
    RealKafka::start_own(&KafkaOptions { settings, ..KafkaOptions::new(version, 3) })
}

pub(crate) async fn a_killed_leader_does_not_show(kafka: &RealKafka) {
    let bootstrap = kafka.bootstrap();
    let (monitor, admin, topic) = (client(bootstrap), client(bootstrap), unique_name("moved"));
    let config = config(bootstrap, &topic);
    let control = &config.control_topics.monitor;
    create(&admin, control, 1, &[]).await;
    // Each replica deletes when it comes to it: the new leader's log may have another size and another start.
    let settings = [("segment.bytes", "1048576"), ("retention.bytes", "1048576")];
    let id = create(&admin, &topic, PARTITIONS, &settings).await;
    let mut watch = Watch::start(&monitor, &admin, &config);
    watch.until_measured(id, PARTITIONS).await;
    // Each partition has a producer of its own: that of the killed leader's holds no other back.
    let records = usize::try_from(RECORDS).unwrap();
    let load = |number| Load::start(&client(bootstrap), &topic, vec![number], records);
    let loads: Vec<_> = (0..PARTITIONS).map(load).collect();
    let steady = Duration::from_secs(8);
    let is_steady = |seen: &Published, number| {
        let has_deleted = |(_, last): &(u64, Measurement)| last.sample.log_start.0 > 0;
        seen.window(id, number) >= steady && seen.track(id, number).last().is_some_and(has_deleted)
    };
    let all = |seen: &Published| (0..PARTITIONS).all(|number| is_steady(seen, number));
    watch.until("steady rate", all).await;

    let killed = other_leader(&watch.published, id, leader_of(&admin, control).await);
    let (moved, stayed): (Vec<u32>, Vec<u32>) =
        (0..PARTITIONS).partition(|number| leader(&watch.published, id, *number) == killed);
    kill(kafka, killed);
    let is_moved = |seen: &Published, number| {
        let track = seen.track(id, number);
        let samples = track.iter().rev().take_while(|(_, seen)| seen.sample.leader != killed);
        // The first of them goes by offsets, and those after it by the new leader's log.
        samples.count() >= 8
    };
    watch.until("new leaders", |seen| moved.iter().all(|n| is_moved(seen, *n))).await;

    let mut bytes = 0;
    for load in loads {
        bytes = load.end().await.batch_bytes;
    }
    let seen = watch.end().await;
    let records = Records::in_batches(RECORDS, bytes);
    for number in 0..PARTITIONS {
        records.judge(&format!("partition {number}"), &seen.track(id, number));
    }
    for number in moved {
        let track = seen.track(id, number);
        let mut after = track.iter().skip_while(|(_, seen)| seen.sample.leader == killed);
        let (_, first) = after.next().unwrap();
        assert_eq!(first.source, Source::HighWatermark, "partition {number}: {first:?}");
        assert!(after.any(|(_, seen)| seen.source == Source::LogSize), "partition {number}");
    }
    let measured = seen.of(id).skip_while(|report| report.rates.is_empty());
    for report in measured.skip(1) {
        for number in &stayed {
            assert!(report.rates.contains_key(number), "partition {number}: {report:?}");
        }
        let told = report.rates.len() + report.missing.len();
        assert_eq!(u32::try_from(told).unwrap(), PARTITIONS, "{report:?}");
    }
}

/// Crashes a broker. Everything else goes on meanwhile.
fn kill(kafka: &RealKafka, broker: i32) {
    let node = u8::try_from(broker).unwrap();
    tokio::task::block_in_place(|| kafka.kill(node));
}

/// The broker that leads a partition by its last sample.
fn leader(seen: &Published, topic: TopicId, partition: u32) -> i32 {
    seen.track(topic, partition).last().unwrap().1.sample.leader
}

/// The broker that leads the only partition of a topic.
async fn leader_of(kafka: &Kafka, topic: &str) -> i32 {
    let mut sizes = kafka.log_sizes(Duration::from_secs(1));
    let round = sizes.sample(&[topic.to_owned()]).await.unwrap();
    round.topics[0].samples[&0].leader
}

/// A broker that leads a partition, and not the monitor topic: what happens there is another story.
fn other_leader(seen: &Published, topic: TopicId, but: i32) -> i32 {
    let mut leaders = (0..PARTITIONS).map(|number| leader(seen, topic, number));
    leaders.find(|leader| *leader != but).expect("the partitions have several leaders")
}

//! Retention by whole segments, and records deleted on request.

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;

use crate::raw::log_size;
use crate::support::{BOUND, admin, broker, consumer, list, patient, producer, send};

/// Each record is a batch of its own (the next is sent when it is acknowledged) and fills more than half a segment.
const ONE_PER_SEGMENT: [(&str, &str); 2] = [("segment.bytes", "2000"), ("retention.ms", "-1")];
const RECORDS: i32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_falls_by_whole_segments_and_earliest_moves_with_it() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &ONE_PER_SEGMENT).unwrap();
    let producer = producer(&broker);
    for n in 0..RECORDS {
        send(&producer, "t", 0, &incompressible(n)).await;
    }
    let full = log_size(&broker, "t", 0);
    let segment = full / i64::from(RECORDS);
    assert!((1_001..2_000).contains(&segment), "{segment}");
    assert_eq!(broker.run_retention(), 0);

    let keep = (segment * 5 / 2).to_string();
    let change = rdkafka::admin::AlterConfig::new(rdkafka::admin::ResourceSpecifier::Topic("t"))
        .set("segment.bytes", "2000")
        .set("retention.bytes", &keep);
    let changed = admin(&broker).alter_configs([&change], &patient()).await;
    assert!(changed.unwrap().iter().all(Result::is_ok));
    let freed = i64::try_from(broker.run_retention()).unwrap();

    assert_eq!(log_size(&broker, "t", 0), full - freed);
    let ends = consumer(&broker).fetch_watermarks("t", 0, BOUND).unwrap();
    assert_eq!(ends, (3, 6));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_segments_go_when_their_time_comes() {
    let broker = broker(1).await;
    let settings = [("segment.bytes", "2000"), ("retention.ms", "60000")];
    broker.create_topic("t", 1, &settings).unwrap();
    let producer = producer(&broker);
    for n in 0..RECORDS {
        send(&producer, "t", 0, &incompressible(n)).await;
    }
    assert_eq!(broker.run_retention(), 0);
    let far_future = i64::MAX;
    assert!(broker.run_retention_at(far_future) > 0);
    assert_eq!(broker.offsets("t", 0), Some((6, 6)));
    assert_eq!(log_size(&broker, "t", 0), 0);
    assert_eq!(send(&producer, "t", 0, "next").await, (0, 6));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_records_moves_earliest() {
    let broker = broker(2).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let producer = producer(&broker);
    for n in 0..RECORDS {
        send(&producer, "t", 0, &n.to_string()).await;
    }
    let size = log_size(&broker, "t", 0);
    let before = list("t", &[(0, 4)]);
    let deleted = admin(&broker).delete_records(&before, &patient()).await.unwrap();
    let start = deleted.find_partition("t", 0).unwrap();
    assert_eq!((start.error(), start.offset()), (Ok(()), Offset::Offset(4)));
    let ends = consumer(&broker).fetch_watermarks("t", 0, BOUND).unwrap();
    assert_eq!(ends, (4, 6));
    assert_eq!(log_size(&broker, "t", 0), size, "their segment is still in use");
    broker.stop().await;
}

/// 1,200 characters that zstd makes no less than 1,000 bytes of, different for each `seed`.
fn incompressible(seed: i32) -> String {
    let mut state = u64::try_from(seed).unwrap_or_default() + 1;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let letter = u8::try_from((state >> 33) % 90).unwrap_or_default();
        char::from(b'!' + letter)
    };
    (0..1_300).map(|_| letter()).collect()
}

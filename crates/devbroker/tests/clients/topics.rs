//! Topics through an administrator's client.

use rdkafka::admin::{NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::metadata::MetadataPartition;
use rdkafka::types::RDKafkaErrorCode;

use crate::raw::topic_id;
use crate::support::{BOUND, admin, assign, broker, consumer, list, patient, producer, read, send};

fn topic(partitions: i32, replication: i32) -> NewTopic<'static> {
    NewTopic::new("t", partitions, TopicReplication::Fixed(replication))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_as_asked_and_described_so() {
    let broker = broker(3).await;
    let admin = admin(&broker);
    let new = topic(6, 3).set("retention.ms", "-1").set("min.insync.replicas", "2");
    let created = admin.create_topics([&new], &patient()).await.unwrap();
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    let again = admin.create_topics([&new], &patient()).await.unwrap();
    let exists = ("t".to_owned(), RDKafkaErrorCode::TopicAlreadyExists);
    assert_eq!(again, [Err(exists)]);

    let metadata = consumer(&broker).fetch_metadata(Some("t"), BOUND).unwrap();
    let partitions = metadata.topics()[0].partitions();
    let mut leaders: Vec<i32> = partitions.iter().map(MetadataPartition::leader).collect();
    leaders.sort_unstable();
    assert_eq!(leaders, [1, 1, 2, 2, 3, 3]);
    assert!(partitions.iter().all(|one| one.replicas().len() == 3));

    let asked = ResourceSpecifier::Topic("t");
    let described = admin.describe_configs([&asked], &patient()).await.unwrap();
    let described = described.into_iter().next().unwrap().unwrap();
    let value = |name: &str| described.get(name).and_then(|entry| entry.value.clone());
    assert_eq!(value("retention.ms").as_deref(), Some("-1"));
    assert_eq!(value("min.insync.replicas").as_deref(), Some("2"));
    assert_eq!(value("segment.bytes").as_deref(), Some("1073741824"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_grows_under_an_assigned_consumer() {
    let broker = broker(2).await;
    let admin = admin(&broker);
    admin.create_topics([&topic(1, 1)], &patient()).await.unwrap();
    let (first, consumer) = (producer(&broker), consumer(&broker));
    assign(&consumer, "t", &[(0, 0)]);
    send(&first, "t", 0, "before").await;
    assert_eq!(read(&consumer, 1), [(0, 0, "before".to_owned())]);

    let grown = NewPartitions::new("t", 3);
    let grown = admin.create_partitions([&grown], &patient()).await.unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    let more = list("t", &[(1, 0), (2, 0)]);
    consumer.incremental_assign(&more).unwrap();
    // A producer that starts now: one that knows the topic learns of its growth only at its next refresh.
    let second = producer(&broker);
    for partition in 0..3 {
        send(&second, "t", partition, "after").await;
    }
    let mut seen = read(&consumer, 3);
    seen.sort();
    let after = "after".to_owned();
    assert_eq!(seen, [(0, 1, after.clone()), (1, 0, after.clone()), (2, 0, after)]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_again_is_another_topic() {
    let broker = broker(1).await;
    let admin = admin(&broker);
    admin.create_topics([&topic(1, 1)], &patient()).await.unwrap();
    send(&producer(&broker), "t", 0, "old").await;
    let old = topic_id(&broker, "t");
    let deleted = admin.delete_topics(&["t"], &patient()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    admin.create_topics([&topic(1, 1)], &patient()).await.unwrap();
    assert_ne!(topic_id(&broker, "t"), old);
    assert_eq!(broker.offsets("t", 0), Some((0, 0)));
    broker.stop().await;
}

//! The monitor's rounds.

use std::time::Duration;

use tidegate_kafka::Kafka;
use tidegate_runtime::ports::{BatchAt, BatchSize, LogSizes, MeasuredTopic};
use tidegate_testing::unique_name;

use super::{new_log, new_topic, raw, soon};

async fn sample(sizes: &mut Box<dyn LogSizes>, topics: &[String]) -> Vec<MeasuredTopic> {
    let round = sizes.sample(topics).await.expect("a round");
    assert!(round.failures.is_empty(), "{:?}", round.failures);
    assert!(round.log_sizes_permitted);
    round.topics
}

pub(crate) async fn a_round_follows_pattern_growth_and_writes(kafka: Kafka) {
    let prefix = unique_name("round");
    let (first, log) = new_log(&kafka, &prefix, 2).await;
    let other = new_topic(&kafka, "other", 1).await;
    let pattern = vec![format!("{prefix}*")];
    let mut sizes = kafka.log_sizes(Duration::from_millis(50));

    let topics = sample(&mut sizes, &pattern).await;
    assert_eq!(topics.len(), 1);
    assert_eq!((topics[0].name.as_str(), topics[0].partitions), (first.as_str(), 2));
    let before = topics[0].samples[&1];
    assert_eq!((before.high_watermark, before.log_start, before.size), (0, 0, Some(0)));

    for number in 0..5 {
        log.append(1, raw(format!("{number}"))).await.unwrap();
    }
    log.trim(1, 2).await.unwrap();
    let after = sample(&mut sizes, &pattern).await[0].samples[&1];
    assert_eq!((after.high_watermark, after.log_start), (5, 2));
    assert!(after.size > before.size);
    assert_eq!(after.leader, before.leader);

    kafka.admin().grow(&first, 6).await.unwrap();
    let second = new_topic(&kafka, &prefix, 1).await;
    let grown = async {
        loop {
            let topics = sample(&mut sizes, &pattern).await;
            if topics.iter().map(|topic| topic.samples.len()).sum::<usize>() == 7 {
                return topics;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let topics = soon("samples of the new partitions", grown).await;
    assert!(topics.iter().any(|topic| topic.name == second));
    assert!(topics.iter().all(|topic| topic.name != other));

    // A topic by name, and one that does not exist.
    let names = vec![other.clone(), unique_name("none")];
    let topics = sample(&mut sizes, &names).await;
    assert_eq!(topics.len(), 1);
    assert_eq!((topics[0].name.as_str(), topics[0].samples.len()), (other.as_str(), 1));
    assert_ne!(topics[0].id.0, [0; 16]);
}

pub(crate) async fn the_headers_of_all_batches_add_up_to_the_log(kafka: Kafka) {
    let (topic, log) = new_log(&kafka, "headers", 2).await;
    let topics = [topic.clone()];
    let mut sizes = kafka.log_sizes(Duration::from_secs(5));
    for length in [1, 10, 5000, 200] {
        log.append(1, raw("x".repeat(length))).await.unwrap();
    }
    let size = sample(&mut sizes, &topics).await[0].samples[&1].size;
    let at = |number, offset| BatchAt { topic: topic.clone(), number, offset };
    let told = sizes.batch_sizes((0..4).map(|offset| at(1, offset)).collect()).await;
    let batches: Vec<BatchSize> = told.into_iter().map(|told| told.unwrap().unwrap()).collect();
    assert!(batches.iter().all(|batch| batch.offsets == 1));
    assert_eq!(Some(batches.iter().map(|batch| batch.bytes).sum()), size);

    // Partition 0 has no batch, and nobody leads a third; the answers keep the order of the questions.
    let told = sizes.batch_sizes(vec![at(1, 2), at(0, 0), at(2, 0), at(1, 0)]).await;
    let told: Vec<_> = told.into_iter().map(|told| told.map(Result::ok)).collect();
    assert_eq!(told, [Some(Some(batches[2])), Some(None), None, Some(Some(batches[0]))]);
}

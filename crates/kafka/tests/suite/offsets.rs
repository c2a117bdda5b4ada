//! Offsets of groups and logs.

use std::collections::BTreeMap;

use tidegate_kafka::Kafka;
use tidegate_runtime::ports::Bound;
use tidegate_testing::unique_name;

use super::{new_log, new_topic, raw};

pub(crate) async fn commits_are_found_again_and_missing_ones_are_absent(kafka: Kafka) {
    let topic = new_topic(&kafka, "commits", 3).await;
    let group = unique_name("group");
    let offsets = kafka.offsets();
    let all: Vec<(String, u32)> = (0..3).map(|number| (topic.clone(), number)).collect();
    assert!(offsets.committed(&group, &all).await.unwrap().is_empty());
    let commits = BTreeMap::from([((topic.clone(), 0), 7), ((topic.clone(), 2), 0)]);
    offsets.commit(&group, &commits).await.unwrap();
    assert_eq!(offsets.committed(&group, &all).await.unwrap(), commits);
    let later = BTreeMap::from([((topic.clone(), 0), 9)]);
    offsets.commit(&group, &later).await.unwrap();
    assert_eq!(offsets.committed(&group, &all[..1]).await.unwrap(), later);
}

pub(crate) async fn bounds_follow_the_log(kafka: Kafka) {
    let (topic, log) = new_log(&kafka, "extent", 2).await;
    for _ in 0..6 {
        log.append(1, raw("x")).await.unwrap();
    }
    log.trim(1, 2).await.unwrap();
    let all =
        [(topic.clone(), 0), (topic.clone(), 1), (unique_name("none"), 0), (topic.clone(), 9)];
    let offsets = kafka.offsets();
    let latest = offsets.bounds(&all, Bound::Latest).await.unwrap();
    assert_eq!(latest, BTreeMap::from([((topic.clone(), 0), 0), ((topic.clone(), 1), 6)]));
    let earliest = offsets.bounds(&all, Bound::Earliest).await.unwrap();
    assert_eq!(earliest, BTreeMap::from([((topic.clone(), 0), 0), ((topic, 1), 2)]));
}

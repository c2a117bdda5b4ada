//! Topics.

use std::collections::BTreeMap;

use tidegate_kafka::Kafka;
use tidegate_runtime::ports::{Class, TopicSpec};
use tidegate_testing::unique_name;

use super::new_topic;

fn spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions: 2,
        replication: Some(1),
        config: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
    }
}

pub(crate) async fn creating_growing_and_deleting_are_idempotent(kafka: Kafka) {
    let admin = kafka.admin();
    assert!(admin.brokers().await.unwrap() >= 1);
    let name = unique_name("admin");
    let names = [name.clone(), unique_name("never-made")];
    assert!(admin.describe(&names).await.unwrap().is_empty());
    assert!(admin.create(&spec(&name)).await.unwrap());
    assert!(!admin.create(&spec(&name)).await.unwrap());

    let found = admin.describe(&names).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].partitions, found[0].replication), (2, 1));
    assert_eq!(found[0].config.get("retention.ms").map(String::as_str), Some("-1"));

    admin.grow(&name, 5).await.unwrap();
    admin.grow(&name, 5).await.unwrap();
    admin.grow(&name, 3).await.unwrap();
    assert_eq!(admin.describe(&names).await.unwrap()[0].partitions, 5);

    admin.delete(&name).await.unwrap();
    admin.delete(&name).await.unwrap();
    assert!(admin.describe(&names).await.unwrap().is_empty());
    let error = admin.grow(&name, 6).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains("does not exist"), "{error}");
}

pub(crate) async fn settings_are_changed_one_by_one(kafka: Kafka) {
    let admin = kafka.admin();
    let topic = new_topic(&kafka, "settings", 1).await;
    let set = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    admin.configure(&topic, &set("retention.ms", "60000")).await.unwrap();
    admin.configure(&topic, &set("segment.bytes", "1048576")).await.unwrap();
    let config = admin.describe(&[topic]).await.unwrap().remove(0).config;
    assert_eq!(config.get("retention.ms").map(String::as_str), Some("60000"));
    assert_eq!(config.get("segment.bytes").map(String::as_str), Some("1048576"));
}

pub(crate) async fn a_topic_made_again_has_another_id(kafka: Kafka) {
    let admin = kafka.admin();
    let topic = new_topic(&kafka, "again", 1).await;
    let before = admin.describe(std::slice::from_ref(&topic)).await.unwrap().remove(0).id;
    assert_ne!(before.0, [0; 16]);
    admin.delete(&topic).await.unwrap();
    assert!(admin.create(&spec(&topic)).await.unwrap());
    let after = admin.describe(&[topic]).await.unwrap().remove(0).id;
    assert_ne!(before, after);
}

pub(crate) async fn a_refused_setting_is_a_permanent_error(kafka: Kafka) {
    let topic = new_topic(&kafka, "refused", 1).await;
    let config = BTreeMap::from([("retention.ms".to_owned(), "soon".to_owned())]);
    let error = kafka.admin().configure(&topic, &config).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains(&topic), "{error}");
}

//! Dead letters as objects: one for each rejected record, named by where it is from.
//!
//! ```text
//! <prefix>/<topic name>/<topic id>/<partition>/<offset, 20 digits>.json
//! ```
//!
//! Objects are only ever created. One that is there already is the same record, put by an earlier attempt: the name says
//! all that tells records apart. The content is one line of JSON with `reason` and, under `record`, the record's line as
//! [`crate::ndjson`] has it. The prefix is one of its own: a chain of the object sink is not looked for among dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_core::ids::FencingToken;
use tidegate_runtime::ports::{Class, DeadLetter, DeadLetters, Error, TopicPartition};
use tokio::task::JoinSet;

use crate::ndjson::Encoder;
use crate::object::layout;
use crate::object::store::{Creation, Store, StoreError};

/// Keeps rejected records as objects of a store.
#[derive(Debug)]
pub struct ObjectDeadLetters {
    store: Arc<dyn Store>,
    /// Where it is, for errors.
    url: String,
}

impl ObjectDeadLetters {
    /// Dead letters in a store; errors name it by its URL.
    pub fn new(store: Arc<dyn Store>, url: impl Into<String>) -> Self {
        Self { store, url: url.into() }
    }

    fn failed(&self, class: Class) -> Error {
        Error::new(class, format!("failed to put rejected records to {}", self.url))
    }
}

#[async_trait]
impl DeadLetters for ObjectDeadLetters {
    async fn put(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        letters: &[DeadLetter<'_>],
    ) -> Result<(), Error> {
        let folder = layout::folder(partition).ok_or_else(|| {
            let cause = format!("topic name {:?} is not legal", partition.topic);
            self.failed(Class::Permanent).because(cause)
        })?;
        let failed = |error: StoreError| self.failed(error.class).because(error);
        self.store.settle(&folder, token).await.map_err(failed)?;
        let encoder = Encoder::new(&partition.topic, partition.id.number);
        let mut creations = JoinSet::new();
        for letter in letters {
            let creation = Creation {
                folder: folder.clone(),
                name: format!("{:020}.json", letter.record.offset),
                parts: vec![content(&encoder, *letter).into()],
                token,
                hold: Box::new(()),
            };
            let store = Arc::clone(&self.store);
            creations.spawn(async move { store.create(creation).await });
        }
        while let Some(created) = creations.join_next().await {
            let created = created.map_err(|died| self.failed(Class::Transient).because(died))?;
            created.map_err(failed)?;
        }
        Ok(())
    }
}

fn content(encoder: &Encoder, letter: DeadLetter<'_>) -> Vec<u8> {
    let reason = serde_json::Value::from(letter.reason);
    let mut content = format!("{{\"reason\":{reason},\"record\":").into_bytes();
    encoder.line(letter.record, &mut content);
    content.pop(); // the line feed of the record's line
    content.extend_from_slice(b"}\n");
    content
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_core::ids::{Epoch, Generation, Offset, PartitionId, TopicId};
    use tidegate_runtime::ports::{BootClock, Record};

    use super::*;
    use crate::open_dead_letters;

    fn token(epoch: u64) -> FencingToken {
        FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) }
    }

    fn partition(topic: &str) -> TopicPartition {
        let id = PartitionId { topic: TopicId([9; 16]), number: 7 };
        TopicPartition { topic: topic.to_owned(), id }
    }

    fn record(offset: u64) -> Record {
        let value = Some(Bytes::from_static(&[0xff]));
        Record { offset, timestamp_ms: 5, key: None, value, headers: Vec::new() }
    }

    async fn put(url: &str, topic: &str, epoch: u64, offsets: &[u64]) -> Result<(), Error> {
        let dead = open_dead_letters(url, Arc::new(BootClock)).await.unwrap();
        let records: Vec<_> = offsets.iter().map(|offset| record(*offset)).collect();
        let letters: Vec<_> =
            records.iter().map(|record| DeadLetter { record, reason: "a \"b\"" }).collect();
        dead.put(&partition(topic), token(epoch), &letters).await
    }

    #[tokio::test]
    async fn each_record_is_an_object_and_repetitions_change_nothing() {
        let root = tempfile::TempDir::new().unwrap();
        let url = format!("file://{}", root.path().display());
        put(&url, "orders", 2, &[12, 30]).await.unwrap();
        put(&url, "orders", 3, &[30, 41]).await.unwrap();
        put(&url, "orders", 1, &[12]).await.unwrap();
        let folder = root.path().join("orders/CQkJCQkJCQkJCQkJCQkJCQ/7");
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let name = |offset| format!("{offset:020}.json");
        assert_eq!(names, [name(12), name(30), name(41)]);
        assert_eq!(
            std::fs::read_to_string(folder.join(name(30))).unwrap(),
            "{\"reason\":\"a \\\"b\\\"\",\"record\":{\"topic\":\"orders\",\"partition\":7,\
             \"offset\":30,\"timestamp\":5,\"key\":null,\"valueBase64\":\"/w==\"}}\n"
        );
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_used_is_told_with_its_class() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = format!("file://{}", file.path().display());
        assert!(open_dead_letters(&url, Arc::new(BootClock)).await.is_err());
        assert!(open_dead_letters("blackhole:", Arc::new(BootClock)).await.is_err());
        let root = tempfile::TempDir::new().unwrap();
        let url = format!("file://{}", root.path().display());
        std::fs::write(root.path().join("orders"), "in the way").unwrap();
        let error = put(&url, "orders", 2, &[12]).await.unwrap_err();
        assert_eq!(error.class(), Class::Permanent, "{error}");
        assert!(error.to_string().contains(&url), "{error}");
        assert_eq!(put(&url, "../up", 2, &[12]).await.unwrap_err().class(), Class::Permanent);
    }
}

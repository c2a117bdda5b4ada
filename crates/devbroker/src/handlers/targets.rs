//! The partitions that a request names, for faults that are armed for one of them.

use std::collections::BTreeSet;

use kafka_protocol::messages::{
    ApiKey, DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, TopicName,
};
use uuid::Uuid;

use super::decode;
use crate::cluster::Cluster;
use crate::codec::{CodecError, RawRequest};

type Targets = BTreeSet<(String, i32)>;

/// Decodes the request once more; only done while such a fault is armed.
pub(crate) fn of(cluster: &Cluster, raw: &RawRequest) -> Result<Targets, CodecError> {
    let mut targets = Targets::new();
    match raw.api {
        ApiKey::Produce => {
            for topic in decode::<ProduceRequest>(raw)?.topic_data {
                let name = name_of(cluster, &topic.name, topic.topic_id);
                let indexes = topic.partition_data.iter().map(|data| data.index);
                add(&mut targets, &name, indexes);
            }
        }
        ApiKey::Fetch => {
            for topic in decode::<FetchRequest>(raw)?.topics {
                let name = name_of(cluster, &topic.topic, topic.topic_id);
                let indexes = topic.partitions.iter().map(|asked| asked.partition);
                add(&mut targets, &name, indexes);
            }
        }
        ApiKey::ListOffsets => {
            for topic in decode::<ListOffsetsRequest>(raw)?.topics {
                let indexes = topic.partitions.iter().map(|asked| asked.partition_index);
                add(&mut targets, &topic.name, indexes);
            }
        }
        ApiKey::DeleteRecords => {
            for topic in decode::<DeleteRecordsRequest>(raw)?.topics {
                let indexes = topic.partitions.iter().map(|asked| asked.partition_index);
                add(&mut targets, &topic.name, indexes);
            }
        }
        ApiKey::OffsetCommit => {
            for topic in decode::<OffsetCommitRequest>(raw)?.topics {
                let indexes = topic.partitions.iter().map(|asked| asked.partition_index);
                add(&mut targets, &topic.name, indexes);
            }
        }
        ApiKey::OffsetFetch => add_fetched(&mut targets, &decode(raw)?),
        _ => {}
    }
    Ok(targets)
}

fn add_fetched(targets: &mut Targets, request: &OffsetFetchRequest) {
    for topic in request.topics.iter().flatten() {
        add(targets, &topic.name, topic.partition_indexes.iter().copied());
    }
    let groups = request.groups.iter();
    for topic in groups.flat_map(|group| group.topics.iter().flatten()) {
        add(targets, &topic.name, topic.partition_indexes.iter().copied());
    }
}

fn add(targets: &mut Targets, name: &TopicName, indexes: impl Iterator<Item = i32>) {
    targets.extend(indexes.map(|index| (name.to_string(), index)));
}

/// Newer versions name a topic by its id only.
fn name_of(cluster: &Cluster, name: &TopicName, id: Uuid) -> TopicName {
    if id.is_nil() {
        return name.clone();
    }
    cluster.name_of(id).map_or_else(|_| name.clone(), super::topic_name)
}

//! `DescribeLogDirs`: the bytes each partition holds on the node that is asked.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::{Context, code, text, topic_name, wire_size};
use crate::cluster::Topic;

/// Stands for the memory that holds everything.
const LOG_DIR: &str = "memory";

pub(super) fn describe(
    cx: &mut Context<'_>,
    request: &DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let allowed = cx.check_request_fault();
    if allowed.is_err() {
        return DescribeLogDirsResponse::default().with_error_code(code(&allowed));
    }
    let topics = match &request.topics {
        None => cx.cluster.topics().map(|(name, topic)| sizes(cx, name, topic, |_| true)).collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let name = asked.topic.as_str();
                let wanted: BTreeSet<i32> = asked.partitions.iter().copied().collect();
                let topic = cx.cluster.topic(name).ok()?;
                Some(sizes(cx, name, topic, |index| wanted.contains(&index)))
            })
            .collect(),
    };
    let dir = DescribeLogDirsResult::default().with_log_dir(text(LOG_DIR)).with_topics(topics);
    DescribeLogDirsResponse::default().with_results(vec![dir])
}

/// The partitions of a topic that have a replica on the node that is asked.
fn sizes(
    cx: &Context<'_>,
    name: &str,
    topic: &Topic,
    wanted: impl Fn(i32) -> bool,
) -> DescribeLogDirsTopic {
    let here = topic
        .numbered()
        .filter(|(index, partition)| wanted(*index) && partition.replicas().contains(&cx.node));
    let partitions = here.map(|(index, partition)| {
        DescribeLogDirsPartition::default()
            .with_partition_index(index)
            .with_partition_size(wire_size(partition.log.size()))
    });
    DescribeLogDirsTopic::default()
        .with_name(topic_name(name))
        .with_partitions(partitions.collect())
}

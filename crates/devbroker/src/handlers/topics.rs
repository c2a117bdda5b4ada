//! `CreateTopics`, `CreatePartitions`, `DeleteTopics`.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
};

use super::configs::effective_of;
use super::{Context, text, topic_name};
use crate::cluster::{NewTopic, NodeId, Refusal};

pub(super) fn create(cx: &mut Context<'_>, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let dry_run = request.validate_only;
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
    let topics = request.topics.iter().map(|topic| {
        let result = if twice.contains(topic.name.as_str()) {
            Err(refused(ResponseError::InvalidRequest))
        } else {
            create_one(cx, topic, dry_run)
        };
        let created = CreatableTopicResult::default().with_name(topic.name.clone());
        match result {
            Ok(()) => described(cx, created, topic.name.as_str()),
            Err((error, words)) => {
                created.with_error_code(error.code()).with_error_message(Some(text(words)))
            }
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn create_one(cx: &mut Context<'_>, topic: &CreatableTopic, dry_run: bool) -> Result<(), Refusal> {
    cx.check_request_fault().map_err(refused)?;
    let assignment = assignment(topic)?;
    let settings = topic.configs.iter().filter_map(|config| {
        let value = config.value.as_ref()?;
        Some((config.name.to_string(), value.to_string()))
    });
    let new = NewTopic {
        partitions: topic.num_partitions,
        replication: topic.replication_factor,
        assignment,
        settings: settings.collect(),
    };
    cx.cluster.create_topic(topic.name.as_str(), new, dry_run)
}

/// The replicas the client chose, by partition; they must number the partitions from 0 without a gap.
fn assignment(topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let mut chosen: Vec<_> = topic.assignments.iter().collect();
    chosen.sort_by_key(|one| one.partition_index);
    if (0..).zip(&chosen).any(|(index, one)| one.partition_index != index) {
        return Err(refused(ResponseError::InvalidReplicaAssignment));
    }
    let ids = chosen.into_iter().map(|one| node_ids(&one.broker_ids));
    Ok(ids.collect())
}

fn node_ids(ids: &[BrokerId]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId::new(id.0)).collect()
}

/// What was created; nothing to tell after a dry run.
fn described(cx: &Context<'_>, created: CreatableTopicResult, name: &str) -> CreatableTopicResult {
    let Ok(topic) = cx.cluster.topic(name) else {
        return created;
    };
    let configs = effective_of(cx.cluster, topic).map(|setting| {
        CreatableTopicConfigs::default()
            .with_name(text(setting.known.name))
            .with_value(Some(text(setting.value)))
            .with_config_source(setting.source)
    });
    created
        .with_topic_id(topic.id)
        .with_num_partitions(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(topic.replication).unwrap_or(i16::MAX))
        .with_configs(Some(configs.collect()))
}

pub(super) fn grow(
    cx: &mut Context<'_>,
    request: &CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
    let results = request.topics.iter().map(|topic| {
        let result = if twice.contains(topic.name.as_str()) {
            Err(refused(ResponseError::InvalidRequest))
        } else {
            grow_one(cx, topic, request.validate_only)
        };
        let (code, words) = outcome(result);
        CreatePartitionsTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(code)
            .with_error_message(words.map(text))
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn grow_one(
    cx: &mut Context<'_>,
    topic: &CreatePartitionsTopic,
    dry_run: bool,
) -> Result<(), Refusal> {
    cx.check_request_fault().map_err(refused)?;
    let chosen = topic.assignments.as_ref();
    let chosen = chosen.map(|all| all.iter().map(|one| node_ids(&one.broker_ids)).collect());
    cx.cluster.grow_topic(topic.name.as_str(), topic.count, chosen, dry_run)
}

pub(super) fn delete(cx: &mut Context<'_>, request: &DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.iter().cloned();
    let by_name = by_name.map(|name| DeleteTopicState::default().with_name(Some(name)));
    let responses = request.topics.iter().cloned().chain(by_name).map(|asked| {
        let name = match &asked.name {
            Some(name) => Ok(name.to_string()),
            None => cx.cluster.name_of(asked.topic_id).map(str::to_owned),
        };
        let shown = name.as_ref().ok().map(|name| topic_name(name));
        let deleted = name.and_then(|name| {
            cx.check_request_fault()?;
            cx.cluster.delete_topic(&name)
        });
        let (code, words) = outcome(deleted.map_err(refused));
        DeletableTopicResult::default()
            .with_name(shown.or(asked.name))
            .with_topic_id(deleted.unwrap_or(asked.topic_id))
            .with_error_code(code)
            .with_error_message(words.map(text))
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

fn named_twice<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).map(str::to_owned).collect()
}

fn refused(error: ResponseError) -> Refusal {
    (error, error.to_string())
}

fn outcome<T>(result: Result<T, Refusal>) -> (i16, Option<String>) {
    match result {
        Ok(_) => (0, None),
        Err((error, words)) => (error.code(), Some(words)),
    }
}

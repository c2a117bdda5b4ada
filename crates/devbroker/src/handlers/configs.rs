//! `DescribeConfigs`, `AlterConfigs`, `IncrementalAlterConfigs`.
//!
//! Topics have settings that can be changed. A node has a few that can be read: what clients ask a
//! broker for before they create a topic.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Replaced;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as Altered;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::cluster::{Cluster, Refusal, Topic};
use crate::config::{KNOWN, Kind, Known, Source, effective};

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// A setting with the value that counts.
#[derive(Debug)]
pub(super) struct Effective<'a> {
    /// The setting.
    pub(super) known: &'static Known,
    /// Its value.
    pub(super) value: &'a str,
    /// Where the value comes from, in the protocol's numbers.
    pub(super) source: i8,
}

/// All settings of a topic.
pub(super) fn effective_of<'a>(
    cluster: &'a Cluster,
    topic: &'a Topic,
) -> impl Iterator<Item = Effective<'a>> {
    KNOWN.iter().map(|known| {
        let defaults = &cluster.policy().topic_defaults;
        let (value, source) = effective(topic.config.own(), defaults, known.name);
        let source = match source {
            Source::Topic => 1,
            Source::Broker => 4,
            Source::Default => 5,
        };
        Effective { known, value, source }
    })
}

pub(super) fn describe(
    cx: &mut Context<'_>,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe_one(cx, resource) {
            Ok(configs) => result.with_configs(configs),
            Err(error) => result
                .with_error_code(error.code())
                .with_error_message(Some(text(error.to_string()))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe_one(
    cx: &Context<'_>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, ResponseError> {
    cx.check_request_fault()?;
    let all = match resource.resource_type {
        RESOURCE_TOPIC => {
            let topic = cx.cluster.topic(resource.resource_name.as_str())?;
            effective_of(cx.cluster, topic).map(|setting| topic_setting(&setting)).collect()
        }
        RESOURCE_BROKER => broker_settings(cx.cluster),
        _ => return Err(ResponseError::InvalidRequest),
    };
    let Some(keys) = &resource.configuration_keys else {
        return Ok(all);
    };
    let keys: BTreeSet<&str> = keys.iter().map(StrBytes::as_str).collect();
    let asked = all.into_iter().filter(|one| keys.contains(one.name.as_str()));
    Ok(asked.collect())
}

fn topic_setting(setting: &Effective<'_>) -> DescribeConfigsResourceResult {
    let config_type = match setting.known.kind {
        Kind::Boolean => 1,
        Kind::Word(_) => 2,
        Kind::Int(_) => 3,
        Kind::Long(_) => 5,
        Kind::Ratio => 6,
        Kind::Words(_) => 7,
    };
    DescribeConfigsResourceResult::default()
        .with_name(text(setting.known.name))
        .with_value(Some(text(setting.value)))
        .with_config_source(setting.source)
        .with_config_type(config_type)
}

fn broker_settings(cluster: &Cluster) -> Vec<DescribeConfigsResourceResult> {
    let policy = cluster.policy();
    let replication = cluster.nodes.ids().count().min(3);
    let settings = [
        ("auto.create.topics.enable", policy.auto_create.to_string()),
        ("default.replication.factor", replication.to_string()),
        ("num.partitions", policy.default_partitions.to_string()),
    ];
    let setting = |(name, value): (&'static str, String)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(4)
            .with_config_type(2)
    };
    settings.into_iter().map(setting).collect()
}

pub(super) fn replace(cx: &mut Context<'_>, request: &AlterConfigsRequest) -> AlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        let settings = resource.configs.iter().filter_map(|config| {
            let value = config.value.as_ref()?;
            Some((config.name.to_string(), value.to_string()))
        });
        let settings: BTreeMap<_, _> = settings.collect();
        let name = resource.resource_name.as_str();
        let result = changeable(cx, resource.resource_type)
            .and_then(|()| cx.cluster.configure(name, settings, request.validate_only));
        let replaced = Replaced::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match result {
            Ok(()) => replaced,
            Err((error, words)) => {
                replaced.with_error_code(error.code()).with_error_message(Some(text(words)))
            }
        }
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

pub(super) fn alter(
    cx: &mut Context<'_>,
    request: &IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        let altered = Altered::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match alter_one(cx, resource, request.validate_only) {
            Ok(()) => altered,
            Err((error, words)) => {
                altered.with_error_code(error.code()).with_error_message(Some(text(words)))
            }
        }
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn alter_one(
    cx: &mut Context<'_>,
    resource: &AlterConfigsResource,
    dry_run: bool,
) -> Result<(), Refusal> {
    changeable(cx, resource.resource_type)?;
    let name = resource.resource_name.as_str();
    let topic = cx.cluster.topic(name).map_err(in_words)?;
    let mut settings = topic.config.own().clone();
    for config in &resource.configs {
        let key = config.name.to_string();
        let value = config.value.as_ref().map(ToString::to_string);
        let defaults = &cx.cluster.policy().topic_defaults;
        let current = effective(&settings, defaults, &key).0.to_owned();
        match (config.config_operation, value) {
            (0, Some(value)) => settings.insert(key, value),
            (1, _) => settings.remove(&key),
            (2, Some(value)) => settings.insert(key, with_words(&current, &value)),
            (3, Some(value)) => settings.insert(key, without_words(&current, &value)),
            _ => return Err(in_words(ResponseError::InvalidRequest)),
        };
    }
    cx.cluster.configure(name, settings, dry_run)
}

fn changeable(cx: &Context<'_>, resource_type: i8) -> Result<(), Refusal> {
    cx.check_request_fault().map_err(in_words)?;
    if resource_type == RESOURCE_TOPIC {
        Ok(())
    } else {
        let words = "only topics have settings that can be changed".to_owned();
        Err((ResponseError::InvalidRequest, words))
    }
}

fn in_words(error: ResponseError) -> Refusal {
    (error, error.to_string())
}

fn with_words(current: &str, added: &str) -> String {
    let words = current.split(',').chain(added.split(','));
    let words: BTreeSet<&str> = words.map(str::trim).filter(|word| !word.is_empty()).collect();
    words.into_iter().collect::<Vec<_>>().join(",")
}

fn without_words(current: &str, removed: &str) -> String {
    let removed: BTreeSet<&str> = removed.split(',').map(str::trim).collect();
    let words = current.split(',').map(str::trim);
    let left: Vec<&str> = words.filter(|word| !removed.contains(word)).collect();
    left.join(",")
}

//! Administration of topics, on the thin layer: one request per call, with the broker's own words in the error.
//!
//! librdkafka's administration client has neither topic ids nor `DescribeLogDirs`, and needs a thread to be polled from;
//! the requests here are small, so all of them go the same way.
//!
//! Every change waits until the broker that is asked sees it, because callers go on to use what they made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use tidegate_core::ids::TopicId;
use tidegate_runtime::ports::{Admin, Class, Error, TopicSpec, TopicState};
use tokio::time::Instant;

use crate::cluster::{Cluster, Retry, topic_name};
use crate::connection::Connection;
use crate::errors::{Right, refused};
use crate::metadata::TopicMeta;

/// How long the controller may take to carry a change out, and the metadata to show it.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a changed setting may take to be shown; brokers apply it within some tens of milliseconds.
const SHOW_SETTINGS: Duration = Duration::from_secs(2);

/// How long one request may take: the broker is told to give up before that.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Kafka's number for the resource type "topic", and for the operation "set".
const TOPIC_RESOURCE: i8 = 2;
const SET: i8 = 0;

/// Administration of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct KafkaAdmin {
    cluster: Arc<Cluster>,
}

// === impl KafkaAdmin ===

impl KafkaAdmin {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Sends a request to the controller, or to the broker that passes it on.
    async fn to_controller<R: Request + Sync>(
        &self,
        highest: i16,
        build: impl Fn(i16) -> R + Send + Sync,
    ) -> Result<R::Response, Error> {
        let mut retry = Retry::within(PATIENCE);
        loop {
            let connection = match self.controller().await {
                Ok(connection) => connection,
                Err(error) if retry.again(&error).await => continue,
                Err(error) => return Err(error),
            };
            let version = connection.version::<R>(highest)?;
            // Not tried again once it was sent: a change that took effect would come back as a refusal.
            return connection.call(&build(version), version, CALL_TIMEOUT).await;
        }
    }

    async fn controller(&self) -> Result<Arc<Connection>, Error> {
        let metadata = self.cluster.metadata(Some(&[])).await?;
        match self.cluster.broker(metadata.controller).await {
            Ok(connection) => Ok(connection),
            Err(_) => self.cluster.any().await,
        }
    }

    /// Waits until the metadata shows a topic as it should be.
    async fn until(
        &self,
        topic: &str,
        fulfilled: impl Fn(Option<&TopicMeta>) -> bool + Send + Sync,
    ) -> Result<(), Error> {
        let mut retry = Retry::within(PATIENCE);
        loop {
            let seen = self.cluster.metadata(Some(&[topic.to_owned()])).await;
            let error = match seen {
                Ok(seen) => {
                    let meta = seen.topics.get(topic).and_then(|found| found.as_ref().ok());
                    if fulfilled(meta) {
                        self.cluster.forget(topic);
                        return Ok(());
                    }
                    let text = format!("topic {topic} does not show the change yet");
                    Error::new(Class::Transient, text)
                }
                Err(error) => error,
            };
            if !retry.again(&error).await {
                return Err(error);
            }
        }
    }

    /// Waits until a topic shows its new settings. Not for ever: a broker may write a value in another way.
    async fn until_set(&self, topic: &str, config: &BTreeMap<String, String>) {
        let deadline = Instant::now() + SHOW_SETTINGS;
        let name = topic.to_owned();
        while Instant::now() < deadline {
            let seen = self.settings(std::iter::once(&name)).await.ok();
            let seen = seen.and_then(|mut seen| seen.remove(topic)).unwrap_or_default();
            if seen.is_empty() || config.iter().all(|(name, value)| seen.get(name) == Some(value)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The settings of topics; a topic whose settings may not be read has none.
    async fn settings(
        &self,
        topics: impl Iterator<Item = &String> + Send,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        let resource = |topic: &String| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC_RESOURCE)
                .with_resource_name(StrBytes::from_string(topic.clone()))
                .with_configuration_keys(None)
        };
        let request =
            DescribeConfigsRequest::default().with_resources(topics.map(resource).collect());
        if request.resources.is_empty() {
            return Ok(BTreeMap::new());
        }
        let connection = self.cluster.any().await?;
        let version = connection.version::<DescribeConfigsRequest>(4)?;
        let answer = connection.call(&request, version, CALL_TIMEOUT).await?;
        answer.results.into_iter().map(settings_of).collect()
    }
}

fn settings_of(result: DescribeConfigsResult) -> Result<(String, BTreeMap<String, String>), Error> {
    let topic = result.resource_name.to_string();
    match ResponseError::try_from_code(result.error_code) {
        None => {
            let values = result
                .configs
                .into_iter()
                .filter_map(|config| Some((config.name.to_string(), config.value?.to_string())));
            Ok((topic, values.collect()))
        }
        Some(ResponseError::TopicAuthorizationFailed | ResponseError::UnknownTopicOrPartition) => {
            Ok((topic, BTreeMap::new()))
        }
        Some(code) => {
            let doing = format!("failed to read the settings of topic {topic}");
            let right = Right::topic("DescribeConfigs", &topic);
            Err(refused(doing, right, code, result.error_message.as_deref()))
        }
    }
}

/// Turns a topic's error code into an error.
fn check(
    doing: String,
    right: Right<'_>,
    code: i16,
    message: Option<&StrBytes>,
) -> Result<(), Error> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(code) => Err(refused(doing, right, code, message.map(StrBytes::as_str))),
    }
}

fn no_answer(doing: String) -> Error {
    Error::new(Class::Transient, doing).because("the broker's answer is empty")
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn count_of(partitions: u32) -> i32 {
    i32::try_from(partitions).unwrap_or(i32::MAX)
}

#[async_trait]
impl Admin for KafkaAdmin {
    async fn brokers(&self) -> Result<u32, Error> {
        let metadata = self.cluster.metadata(Some(&[])).await?;
        Ok(u32::try_from(metadata.brokers.len()).unwrap_or(u32::MAX))
    }

    async fn list(&self) -> Result<BTreeMap<TopicId, String>, Error> {
        let topics = self.cluster.metadata(None).await?.topics;
        Ok(topics.into_iter().filter_map(|(name, topic)| Some((topic.ok()?.id, name))).collect())
    }

    async fn describe(&self, names: &[String]) -> Result<Vec<TopicState>, Error> {
        let metadata = self.cluster.metadata(Some(names)).await?;
        let mut found = BTreeMap::new();
        for (name, topic) in metadata.topics {
            match topic {
                Ok(topic) => {
                    found.insert(name, topic);
                }
                // Who asks again, to be sure, hears another broker.
                Err(ResponseError::UnknownTopicOrPartition) => self.cluster.ask_another(),
                Err(code) => {
                    let doing = format!("failed to describe topic {name}");
                    return Err(refused(doing, Right::topic("Describe", &name), code, None));
                }
            }
        }
        let mut settings = self.settings(found.keys()).await?;
        let state = |(name, meta): (String, TopicMeta)| TopicState {
            id: meta.id,
            partitions: meta.count(),
            replication: meta.partitions.values().next().map_or(0, |first| first.replicas),
            config: settings.remove(&name).unwrap_or_default(),
            name,
        };
        Ok(found.into_iter().map(state).collect())
    }

    async fn create(&self, topic: &TopicSpec) -> Result<bool, Error> {
        let setting = |(name, value): (&String, &String)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        };
        let replication = topic.replication.map_or(-1, |count| i16::try_from(count).unwrap_or(-1));
        let spec = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(count_of(topic.partitions))
            .with_replication_factor(replication)
            .with_configs(topic.config.iter().map(setting).collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![spec])
            .with_timeout_ms(milliseconds(PATIENCE));
        let answer = self.to_controller(7, |_| request.clone()).await?;
        let doing = || format!("failed to create topic {}", topic.name);
        let result = answer.topics.first().ok_or_else(|| no_answer(doing()))?;
        if ResponseError::try_from_code(result.error_code)
            == Some(ResponseError::TopicAlreadyExists)
        {
            return Ok(false);
        }
        let right = Right::topic("Create", &topic.name);
        check(doing(), right, result.error_code, result.error_message.as_ref())?;
        let whole = |meta: Option<&TopicMeta>| {
            meta.is_some_and(|meta| meta.count() >= topic.partitions && meta.is_led())
        };
        self.until(&topic.name, whole).await?;
        Ok(true)
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Error> {
        if self.cluster.look_up(topic).await?.count() >= partitions {
            return Ok(());
        }
        let spec = CreatePartitionsTopic::default()
            .with_name(topic_name(topic))
            .with_count(count_of(partitions))
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![spec])
            .with_timeout_ms(milliseconds(PATIENCE));
        let answer = self.to_controller(3, |_| request.clone()).await?;
        let doing = || format!("failed to grow topic {topic} to {partitions} partitions");
        let result = answer.results.first().ok_or_else(|| no_answer(doing()))?;
        let code = ResponseError::try_from_code(result.error_code);
        let grown_meanwhile = code == Some(ResponseError::InvalidPartitions)
            && self.cluster.look_up(topic).await?.count() >= partitions;
        if !grown_meanwhile {
            let right = Right::topic("Alter", topic);
            check(doing(), right, result.error_code, result.error_message.as_ref())?;
        }
        let whole = |meta: Option<&TopicMeta>| {
            meta.is_some_and(|meta| meta.count() >= partitions && meta.is_led())
        };
        self.until(topic, whole).await
    }

    async fn configure(&self, topic: &str, config: &BTreeMap<String, String>) -> Result<(), Error> {
        let change = |(name, value): (&String, &String)| {
            AlterableConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_config_operation(SET)
                .with_value(Some(StrBytes::from_string(value.clone())))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(StrBytes::from_string(topic.to_owned()))
            .with_configs(config.iter().map(change).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.to_controller(1, |_| request.clone()).await?;
        let doing = format!("failed to change settings of topic {topic}");
        let Some(result) = answer.responses.first() else { return Err(no_answer(doing)) };
        let right = Right::topic("AlterConfigs", topic);
        check(doing, right, result.error_code, result.error_message.as_ref())?;
        self.until_set(topic, config).await;
        Ok(())
    }

    async fn delete(&self, topic: &str) -> Result<(), Error> {
        let build = |version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(milliseconds(PATIENCE));
            if version >= 6 {
                let named = DeleteTopicState::default().with_name(Some(topic_name(topic)));
                request.with_topics(vec![named])
            } else {
                request.with_topic_names(vec![topic_name(topic)])
            }
        };
        let answer = self.to_controller(6, build).await?;
        let doing = format!("failed to delete topic {topic}");
        let Some(result) = answer.responses.first() else { return Err(no_answer(doing)) };
        let code = ResponseError::try_from_code(result.error_code);
        if code != Some(ResponseError::UnknownTopicOrPartition) {
            let right = Right::topic("Delete", topic);
            check(doing, right, result.error_code, result.error_message.as_ref())?;
        }
        self.until(topic, |meta| meta.is_none()).await
    }
}

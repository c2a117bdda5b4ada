//! The adapters' promises, as tests that any Kafka cluster must pass. Each takes a cluster that others use at the same
//! time: topics have names of their own.

pub(crate) mod admin;
pub(crate) mod control;
pub(crate) mod dead_letters;
pub(crate) mod fetching;
pub(crate) mod offsets;
pub(crate) mod produce;
pub(crate) mod reader;
pub(crate) mod sizes;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::ids::PartitionId;
use tidegate_kafka::{ControlOptions, Kafka};
use tidegate_runtime::ports::{ControlLog, RawRecord, TopicPartition, TopicSpec};
use tidegate_runtime::security::Cluster;
use tidegate_testing::unique_name;

/// No wait in these tests is longer; those that fail say what they waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one test on a runtime like the processes'.
pub(crate) fn run<F: Future<Output = ()>>(cluster: &Cluster, test: impl FnOnce(Kafka) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let kafka = client(cluster);
        tokio::time::timeout(PATIENCE * 2, test(kafka)).await.expect("the test ends in time");
    });
}

pub(crate) fn client(cluster: &Cluster) -> Kafka {
    tidegate_kafka::connect(cluster, "tidegate-test").expect("settings are right")
}

/// A cluster without security.
pub(crate) fn plaintext(bootstrap: &str) -> Cluster {
    Cluster { bootstrap_servers: bootstrap.to_owned(), ..Cluster::default() }
}

/// Makes a topic of its own with one replica.
pub(crate) async fn new_topic(kafka: &Kafka, prefix: &str, partitions: u32) -> String {
    new_replicated_topic(kafka, prefix, partitions, 1).await
}

pub(crate) async fn new_replicated_topic(
    kafka: &Kafka,
    prefix: &str,
    partitions: u32,
    replicas: u16,
) -> String {
    let name = unique_name(prefix);
    // Some tests write records with timestamps of long ago.
    let config = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    let spec = TopicSpec { name: name.clone(), partitions, replication: Some(replicas), config };
    assert!(kafka.admin().create(&spec).await.expect("the topic is made"));
    name
}

pub(crate) async fn new_log(
    kafka: &Kafka,
    prefix: &str,
    partitions: u32,
) -> (String, Arc<dyn ControlLog>) {
    let topic = new_topic(kafka, prefix, partitions).await;
    let log = kafka.control_log(&topic, ControlOptions::default()).expect("a log");
    (topic, log)
}

/// The partition as the data path names it.
pub(crate) async fn partition(kafka: &Kafka, topic: &str, number: u32) -> TopicPartition {
    let found = kafka.admin().describe(&[topic.to_owned()]).await.expect("the topic is described");
    let topic_id = found.first().expect("the topic exists").id;
    TopicPartition { topic: topic.to_owned(), id: PartitionId { topic: topic_id, number } }
}

pub(crate) fn raw(value: impl Into<String>) -> RawRecord {
    RawRecord {
        key: Some(Bytes::from_static(b"key")),
        headers: vec![("tidegate-type".to_owned(), Bytes::from_static(b"Test"))],
        value: Some(Bytes::from(value.into())),
        ..RawRecord::default()
    }
}

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|elapsed| panic!("{what} did not come: {elapsed}"))
}

/// One `#[test]` for each test of the suite, against the cluster that an expression gives.
#[macro_export]
macro_rules! suite {
    ($cluster:expr; $($module:ident: $($test:ident),+ $(,)?);+ $(;)?) => {
        $(mod $module {
            $(#[test]
            fn $test() {
                $crate::suite::run(&$cluster, $crate::suite::$module::$test);
            })+
        })+
    };
    ($cluster:expr) => {
        $crate::suite! { $cluster;
            admin:
                creating_growing_and_deleting_are_idempotent,
                settings_are_changed_one_by_one,
                a_topic_made_again_has_another_id,
                a_refused_setting_is_a_permanent_error;
            control:
                records_are_read_back_in_order,
                appends_that_overlap_keep_their_order,
                end_and_start_follow_appends_and_trims,
                a_position_below_the_start_is_trimmed,
                a_position_beyond_the_end_is_lost,
                a_dropped_wait_loses_nothing,
                a_partition_that_is_grown_can_be_used_at_once,
                a_topic_made_again_ends_its_readers;
            dead_letters:
                dead_letters_are_whole_and_say_where_they_are_from,
                dead_letters_for_a_missing_topic_fail_and_make_none;
            fetching:
                a_partition_that_comes_does_not_wait_for_a_fetch_that_is_held_back,
                a_hot_partition_does_not_keep_a_quiet_one_from_being_read,
                what_nobody_takes_is_not_fetched;
            offsets:
                commits_are_found_again_and_missing_ones_are_absent,
                a_commit_for_a_topic_that_was_deleted_is_none_for_its_successor,
                bounds_follow_the_log,
                a_time_is_the_first_record_that_is_not_older;
            produce:
                many_records_are_pipelined_and_acknowledged_in_order,
                a_partition_that_does_not_exist_is_refused;
            reader:
                records_come_in_order_from_the_position_asked_for,
                an_unassigned_partition_gives_no_more_records,
                a_partition_assigned_again_starts_where_it_is_told,
                positions_outside_the_log_are_out_of_range,
                a_log_cut_under_a_reader_is_out_of_range,
                a_partition_of_another_topic_or_number_is_refused,
                a_paused_partition_keeps_its_place_and_its_end,
                a_partition_that_was_paused_when_it_was_given_up_is_read_when_it_comes_back,
                a_topic_made_again_is_read_while_the_old_one_is_given_up,
                a_reader_ends_a_partition_whose_topic_was_made_again;
            sizes:
                a_round_follows_pattern_growth_and_writes,
                the_headers_of_all_batches_add_up_to_the_log;
        }
    };
}

//! Access control: which right is missing is said, and those of `docs/security.md` are enough.

use std::collections::BTreeMap;
use std::path::Path;

use tidegate_core::ids::Position;
use tidegate_kafka::{ControlOptions, Kafka, ReaderOptions};
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{
    BatchAt, Class, Error, Overridden, Overrides as _, ReadError, ReadEvent,
};
use tidegate_runtime::security::{Cluster, Mechanism};
use tidegate_runtime::{feeds, service};
use tidegate_testing::{KafkaVersion, SecureListener, unique_name};
use tidegate_wire::Override;

use crate::grants::{Grant, Object, Operation, Scram, add_user, grant};
use crate::job::{Job, Parts, assert_clean};
use crate::mechanisms::accepted;
use crate::suite::{new_topic, partition, raw, soon};
use crate::world::{World, chain, connect, sasl};

fn missing(error: &Error, operation: &str, object: &str) {
    let expected = format!("missing {operation} on {object}: allow it");
    assert!(error.to_string().starts_with(&expected), "{expected:?}: {}", chain(error));
    assert_eq!((error.class(), error.code()), (Class::Permanent, Some(Code::RightMissing)));
}

fn on_topic(user: &str, operation: Operation, topic: &str) -> Grant {
    Grant { user: user.to_owned(), operation, object: Object::Topic(topic.to_owned()) }
}

pub(crate) async fn a_user_without_rights_learns_which_is_missing(world: &World) {
    let admin = connect(&world.plaintext());
    for (listener, user) in [
        (SecureListener::SaslPlaintext, "stranger"),
        (SecureListener::SaslSsl, "stranger"),
        (SecureListener::Ssl, "stranger"),
    ] {
        let topic = new_topic(&admin, "forbidden", 1).await;
        let stranger = connect(&world.cluster(listener, user));
        let names = std::slice::from_ref(&topic);
        let error = stranger.admin().describe(names).await.unwrap_err();
        missing(&error, "Describe", &format!("topic {topic}"));
        let log = stranger.control_log(&topic, ControlOptions::default()).unwrap();
        missing(&log.end(0).await.unwrap_err(), "Describe", &format!("topic {topic}"));
        let group = unique_name("group");
        let commits = [partition(&admin, &topic, 0).await];
        let error = stranger.offsets().committed(&group, &commits).await.unwrap_err();
        missing(&error, "Describe", &format!("group {group}"));

        grant(world.kafka.bootstrap(), &[on_topic(user, Operation::Describe, &topic)]);
        stranger.admin().describe(names).await.unwrap();
        only_described(&stranger, &admin, &topic).await;
    }
}

/// What is said when a topic may be seen and nothing else.
async fn only_described(stranger: &Kafka, admin: &Kafka, topic: &str) {
    let what = format!("topic {topic}");
    let log = stranger.control_log(topic, ControlOptions::default()).unwrap();
    let outcome = log.append(0, raw("x")).await.unwrap_err();
    let error = std::error::Error::source(&outcome).unwrap().downcast_ref::<Error>().unwrap();
    missing(error, "Write", &what);
    let mut reader = log.read(0, 0).await.unwrap();
    let refused = soon("the refusal", reader.next()).await.unwrap_err();
    let ReadError::Failed(error) = refused else { panic!("{refused:?}") };
    missing(&error, "Read", &what);
    missing(&stranger.admin().grow(topic, 2).await.unwrap_err(), "Alter", &what);

    let part = partition(admin, topic, 0).await;
    let mut reader = stranger.partition_reader(ReaderOptions::default());
    reader.assign(&part, Position(0)).await.unwrap();
    match soon("the refusal", reader.next()).await {
        ReadEvent::Failed(found, error) => {
            assert_eq!(found, part);
            missing(&error, "Read", &what);
        }
        other => panic!("{other:?}"),
    }
    // Sizes of logs need a right on the cluster: the round goes on without them.
    let mut sizes = stranger.log_sizes(std::time::Duration::from_secs(5));
    let round = sizes.sample(&[topic.to_owned()]).await.unwrap();
    assert!(!round.log_sizes_permitted);
    assert_eq!(round.topics[0].samples.len(), 1);
    let batch = BatchAt { topic: topic.to_owned(), number: 0, offset: 0 };
    let told = sizes.batch_sizes(vec![batch]).await.remove(0);
    missing(&told.unwrap().unwrap_err(), "Read", &what);
}

/// A row of the table of rights.
#[derive(Debug)]
struct Row {
    process: String,
    operations: Vec<Operation>,
    on: String,
    needed: Needed,
}

/// Whether a process can do without a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    Always,
    /// It does better with it.
    Optional,
    /// Only without what is optional.
    Instead,
}

fn table() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [process, operations, on, optional, ..] = cells[..] else { return None };
        Some(Row {
            process: process.trim_end_matches('`').to_owned(),
            operations: operations.split(", ").map(Operation::parse).collect(),
            on: on.to_owned(),
            needed: match optional {
                "yes" => Needed::Optional,
                "no" => Needed::Always,
                "instead" => Needed::Instead,
                other => panic!("{other} is neither yes, no nor instead"),
            },
        })
    });
    rows.collect()
}

/// The rights of a row, for the job's names.
fn grants(row: &Row, user: &str, job: &Job) -> Vec<Grant> {
    let control = &job.config.control_topics;
    let topic = |name: &str| Object::Topic(name.to_owned());
    let objects = match row.on.as_str() {
        "control topics" => control.names().map(topic).collect(),
        "monitor topic" => vec![topic(&control.monitor)],
        "controller topic" => vec![topic(&control.controller)],
        "service topic" => vec![topic(&control.service)],
        "data topics" => vec![topic(&job.topic)],
        "group" => vec![Object::Group(job.config.group.0.clone())],
        "cluster" => vec![Object::Cluster],
        other => panic!("{other} is not explained"),
    };
    let of_user = |(object, operation): (Object, &Operation)| Grant {
        user: user.to_owned(),
        operation: *operation,
        object,
    };
    objects
        .into_iter()
        .flat_map(|object| row.operations.iter().map(move |operation| (object.clone(), operation)))
        .map(of_user)
        .collect()
}

/// Each process as a user of its own that may do what the table says; on the older version without what is optional.
pub(crate) async fn the_main_job_needs_the_rights_of_the_table(world: &World) {
    let over_tls = world.cluster(SecureListener::SaslSsl, "admin");
    let job = Job::new(&over_tls);
    let mut users = BTreeMap::new();
    for row in table() {
        let left_out = match world.version {
            KafkaVersion::V3 => Needed::Optional,
            KafkaVersion::V4 => Needed::Instead,
        };
        if row.needed == left_out {
            continue;
        }
        let user = users
            .entry(row.process.clone())
            .or_insert_with(|| unique_name(&row.process.replace(' ', "-")));
        grant(world.kafka.bootstrap(), &grants(&row, user, &job));
    }
    assert_eq!(users.len(), 6, "{users:?}");
    let mut kafkas = BTreeMap::new();
    for (process, user) in users {
        let secret = format!("{user}-secret");
        add_user(world.kafka.bootstrap(), &user, &secret, Scram::Sha512);
        let password = world.secret(&user, &secret);
        let mut cluster: Cluster = over_tls.clone();
        cluster.security.sasl = Some(sasl(Mechanism::ScramSha512, &user, password));
        accepted(&cluster).await;
        kafkas.insert(process, connect(&cluster));
    }
    let mut take = |process: &str| kafkas.remove(process).unwrap();
    let parts = Parts {
        operator: take("topics create"),
        monitor: take("monitor"),
        controller: take("controller"),
        consumer: take("consumer"),
        load: take("load"),
    };
    let operator = take("service");
    let (report, status) = job.run(&parts).await;
    assert_clean(&report, &status);
    a_field_is_set_and_read_by(&[&parts.monitor, &parts.controller, &operator], &operator, &job)
        .await;
}

/// The service topic, by those who may read it, and by the one who may write it.
async fn a_field_is_set_and_read_by(readers: &[&Kafka], operator: &Kafka, job: &Job) {
    let log = |kafka: &Kafka| {
        let topic = &job.config.control_topics.service;
        kafka.control_log(topic, ControlOptions::default()).unwrap()
    };
    let change = Override {
        group: job.config.group.clone(),
        field: "consumers.max".to_owned(),
        value: Some(3.into()),
    };
    service::write(&*log(operator), &change).await.unwrap();
    for reader in readers {
        let mut feed = feeds::overrides(log(reader), job.config.group.clone());
        assert_eq!(soon("what is set", feed.next()).await, Overridden::Whole(vec![change.clone()]));
    }
}

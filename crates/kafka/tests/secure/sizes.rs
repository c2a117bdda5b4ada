//! A monitor whose right to ask for log sizes is taken away: what it publishes from then on, and what it says.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::rates::Source;
use tidegate_kafka::Kafka;
use tidegate_runtime::security::{Cluster, Mechanism};
use tidegate_testing::{SecureListener, unique_name};

use crate::canary::Log;
use crate::grants::{Grant, Object, Operation, Scram, add_user, grant, revoke};
use crate::judge::Records;
use crate::load::Load;
use crate::mechanisms::accepted;
use crate::watch::{Published, Watch, config, create};
use crate::world::{World, connect, sasl};

/// Records of a batch.
const RECORDS: u64 = 20;

pub(crate) async fn refused_log_sizes_are_said_once_and_rates_go_on_by_offsets(world: &World) {
    let user = unique_name("sizes");
    add_user(world.kafka.bootstrap(), &user, "sizes-secret", Scram::Sha512);
    let password = world.secret(&user, "sizes-secret");
    let mut cluster: Cluster = world.cluster(SecureListener::SaslSsl, "admin");
    cluster.security.sasl = Some(sasl(Mechanism::ScramSha512, &user, password));
    accepted(&cluster).await;
    let (monitor, admin) = (connect(&cluster), connect(&world.plaintext()));
    let bootstrap = world.kafka.bootstrap().to_owned();

    // Other stories are refused at the same time: what this monitor says is what is said on its thread.
    let log = Log::default();
    let listening = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let story = move || {
        let _listening = tracing::subscriber::set_default(listening);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(on_one_thread(&monitor, &admin, &bootstrap, &user));
    };
    tokio::task::spawn_blocking(story).await.unwrap();
    let said = log.text();
    assert_eq!(said.matches("Describe on").count(), 1, "{said}");
    assert!(said.contains("missing Describe on cluster kafka-cluster"), "{said}");
}

async fn on_one_thread(monitor: &Kafka, admin: &Kafka, bootstrap: &str, user: &str) {
    let prefix = unique_name("unseen");
    let [known, unknown, readable] = [1, 2, 3].map(|number| format!("{prefix}-{number}"));
    let config = config(bootstrap, &format!("{prefix}*"));
    let right = |operation, object| Grant { user: user.to_owned(), operation, object };
    let sizes = right(Operation::Describe, Object::Cluster);
    let topic = |name: &str| Object::Topic(name.to_owned());
    grant(
        bootstrap,
        &[
            sizes.clone(),
            right(Operation::Write, topic(&config.control_topics.monitor)),
            right(Operation::Describe, topic(&known)),
            right(Operation::Describe, topic(&unknown)),
            right(Operation::Read, topic(&readable)),
        ],
    );
    create(admin, &config.control_topics.monitor, 1, &[]).await;
    let id = create(admin, &known, 1, &[]).await;
    let mut watch = Watch::start(monitor, admin, &Arc::clone(&config));
    watch.until_measured(id, 1).await;
    let records = usize::try_from(RECORDS).unwrap();
    let load = Load::start(admin, &known, vec![0], records);
    let some = Duration::from_secs(5);
    watch.until("rate by sizes", |seen| seen.window(id, 0) >= some).await;

    revoke(bootstrap, &sizes);
    let by_offsets = |seen: &Published| {
        let track = seen.track(id, 0);
        let refused = track.iter().rev().take_while(|(_, seen)| seen.sample.size.is_none());
        refused.filter(|(_, seen)| seen.source == Source::HighWatermark).count()
    };
    watch.until("rate by offsets", |seen| by_offsets(seen) >= 3).await;
    // What nobody knows the size of has no rate, and not a rate of zero.
    let new = create(admin, &unknown, 1, &[]).await;
    let other = Load::start(admin, &unknown, vec![0], records);
    let is_missing =
        |seen: &Published| seen.of(new).filter(|report| report.missing.contains(&0)).count() >= 5;
    watch.until("missing partition", is_missing).await;
    watch.until("rate by offsets", |seen| by_offsets(seen) >= 8).await;
    // Unless its batches may be looked at.
    let by_batches = create(admin, &readable, 1, &[]).await;
    let third = Load::start(admin, &readable, vec![0], records);
    watch.until("rate by batches", |seen| seen.window(by_batches, 0) >= some).await;

    let (wrote, _, third) = (load.end().await, other.end().await, third.end().await);
    let seen = watch.end().await;
    let records = Records::in_batches(RECORDS, wrote.batch_bytes);
    records.judge("without sizes", &seen.track(id, 0));
    let records = Records::in_batches(RECORDS, third.batch_bytes);
    records.judge("by batches", &seen.track(by_batches, 0));
    for (_, measured) in seen.track(new, 0) {
        assert_eq!(measured.sample.high_watermark.0, 0, "{measured:?}");
    }
}

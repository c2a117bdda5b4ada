//! `tidegate load`: the load generator alone, beside processes that were started by hand.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tidegate_kafka::ProducerOptions;
use tidegate_load::generator::{Generator, GeneratorConfig, Outcome, Totals};
use tidegate_load::ledger::Acknowledged;
use tidegate_load::profile::Profile;
use tidegate_runtime::ports::{Admin, TopicSpec};
use tidegate_wire::status::ByteRate;

use crate::args::{LoadArgs, LoadShape};
use crate::failure::Exit;
use crate::output::Output;
use crate::setup::{self, Patience};
use crate::signals::Signals;
use crate::wiring;

/// The result.
#[derive(Serialize)]
struct Sent {
    run: u64,
    seed: u64,
    #[serde(flatten)]
    totals: Totals,
    trouble: Option<String>,
}

pub(super) async fn run(
    args: LoadArgs,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let config = setup::load_config(&args.spec)?;
    let kafka = setup::connect(&config.cluster, "tidegate-load", Patience::Command).await?;
    let admin = kafka.admin();
    let topics = topic_names(&args.prefix, args.load.topics);
    create_topics(&*admin, &topics, &args.load).await?;
    let (run, seed) = numbers(args.load.seed)?;
    let generator = Generator::new(
        kafka.producer(producer_options())?,
        wiring::clock(),
        &profile(&args.load, seed, config.capacity.bytes_per_second),
        partitions(&topics, args.load.partitions),
        generator_config(&args.load, run),
    );
    output.say(&format!(
        "writing to {} topics, profile {}, seed {seed}",
        topics.len(),
        args.load.profile
    ));
    let stop = async {
        let time = async {
            match args.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => {}
            () = signals.next() => {}
        }
    };
    let clock = wiring::clock();
    let began = clock.now();
    let Outcome { mut acknowledged, totals, trouble } = Box::pin(generator.run(stop)).await;
    let reached = rate(totals.bytes, clock.now().since(began));
    tell_topic_ids(&*admin, &topics, &mut acknowledged).await?;
    if let Some(file) = &args.ledger {
        save(file, &acknowledged)?;
    }
    let text = format!(
        "{} records acknowledged, {} with unknown outcome, {} refused; {} on average",
        totals.stored,
        totals.maybe,
        totals.refused,
        ByteRate(reached)
    );
    output.result(&text, &Sent { run, seed, totals, trouble })?;
    Ok(Exit::Done)
}

/// Bytes in a second.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX)
}

fn topic_names(prefix: &str, count: NonZeroU32) -> Vec<String> {
    (0..count.get()).map(|number| format!("{prefix}{number}")).collect()
}

/// A number for this run, and the seed of its rates.
pub(crate) fn numbers(seed: Option<u64>) -> anyhow::Result<(u64, u64)> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).context("failed to get random numbers")?;
    let run = u64::from_le_bytes(random);
    // Seeds are short enough to be typed again.
    Ok((run, seed.unwrap_or(run % 100_000)))
}

/// Creates the data topics that are missing, with as many replicas as the cluster can keep, up to three.
pub(crate) async fn create_topics(
    admin: &dyn Admin,
    topics: &[String],
    load: &LoadShape,
) -> anyhow::Result<()> {
    let replication = u16::try_from(admin.brokers().await?.clamp(1, 3)).unwrap_or(1);
    for name in topics {
        let topic = TopicSpec {
            name: name.clone(),
            partitions: load.partitions.get(),
            replication: Some(replication),
            config: data_topic_settings(),
        };
        if !admin.create(&topic).await? {
            admin.grow(name, load.partitions.get()).await?;
        }
    }
    Ok(())
}

/// Retention by time, in small segments: a long run on the embedded broker must not fill the memory. A consumer is
/// never minutes behind in it unless it is lost.
fn data_topic_settings() -> std::collections::BTreeMap<String, String> {
    [("retention.ms", "180000"), ("segment.bytes", "1048576")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The rates of a run.
pub(crate) fn profile(load: &LoadShape, seed: u64, capacity: std::num::NonZeroU64) -> Profile {
    let partitions = NonZeroU32::new(load.topics.get().saturating_mul(load.partitions.get()));
    Profile::new(load.profile, seed, partitions.unwrap_or(NonZeroU32::MIN), load.rate, capacity)
}

/// All partitions that are written to.
pub(crate) fn partitions(topics: &[String], each: NonZeroU32) -> Vec<(Arc<str>, u32)> {
    let of = |topic: &String| {
        let topic: Arc<str> = topic.as_str().into();
        (0..each.get()).map(move |number| (Arc::clone(&topic), number))
    };
    topics.iter().flat_map(of).collect()
}

/// How the records are produced. An idempotent producer keeps each record single and in order only as long as none of
/// its records expires: on a cluster that is too slow the load must wait, and wait long. What may wait is less than a
/// second's worth, so that freshness tells of the group and not of a queue in the producer.
pub(crate) fn producer_options() -> ProducerOptions {
    ProducerOptions {
        timeout: Duration::from_secs(600),
        max_bytes: 16 << 20,
        ..ProducerOptions::default()
    }
}

/// How the generator works in a run.
pub(crate) fn generator_config(load: &LoadShape, run: u64) -> GeneratorConfig {
    let record_bytes = usize::try_from(load.record_bytes).unwrap_or(usize::MAX).min(1 << 20);
    GeneratorConfig { run, record_bytes, ..GeneratorConfig::default() }
}

/// Notes the ids of the topics, so that an audit tells them from others that had their names.
pub(crate) async fn tell_topic_ids(
    admin: &dyn Admin,
    topics: &[String],
    acknowledged: &mut Acknowledged,
) -> anyhow::Result<()> {
    for topic in admin.describe(topics).await? {
        acknowledged.set_topic_id(&topic.name, topic.id);
    }
    Ok(())
}

fn save(file: &Path, acknowledged: &Acknowledged) -> anyhow::Result<()> {
    let text = serde_json::to_vec(acknowledged)?;
    std::fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

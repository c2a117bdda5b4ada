//! Finds out who leads the partitions that are read, has a fetcher for each of those brokers, and looks into what they cannot
//! explain.
//!
//! It goes by what the board shows, not by who told it: a partition without a leader is due at some time, is looked up
//! then, and is due again later if that did not help.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::ports::{Bound, Class};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::time::Instant;

use super::board::Doubt;
use super::{Shared, Unread, Why, fault, fetcher};
use crate::list_offsets::{self, Isolation};

/// How often the leaders of all partitions are compared to what is known, and the ends of those asked for that no fetch
/// tells. Lag is shown to people and decided on over seconds.
const PERIOD: Duration = Duration::from_secs(1);

/// How often all topics are asked for, as Kafka's clients do each five minutes: a leader that is cut off from its cluster answers as
/// before, and has no error to tell.
const MOST_AGE: Duration = Duration::from_secs(30);

/// Runs for ever, with all fetchers.
pub(super) async fn run(shared: Arc<Shared>) {
    tokio::select! {
        Unread = direct(&shared) => {}
        () = watch_ends(&shared) => {}
    }
}

async fn direct(shared: &Arc<Shared>) -> Unread {
    let mut fetchers = BTreeMap::new();
    let (mut compared, mut asked) = (Instant::now(), Instant::now());
    loop {
        let now = Instant::now();
        let mut doubts = shared.board.due(now);
        let mut anew = false;
        if now >= compared + PERIOD {
            compared = now;
            doubts.extend(shared.board.led());
            anew = now >= asked + MOST_AGE;
        }
        if anew {
            asked = now;
            // Whoever was asked last may be the one that is cut off.
            shared.cluster.ask_another();
        }
        let round = async {
            find_leaders(shared, doubts, anew, &mut fetchers).await?;
            let outside = shared.board.outside(now);
            look_into(shared, outside).await
        };
        if let Err(unread) = round.await {
            return unread;
        }
        let due =
            shared.board.next_due().map_or(compared + PERIOD, |due| due.min(compared + PERIOD));
        tokio::select! {
            () = shared.board.doubted() => {}
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

/// Notes the leaders of partitions, and starts fetchers.
async fn find_leaders(
    shared: &Arc<Shared>,
    doubts: Vec<Doubt>,
    anew: bool,
    fetchers: &mut BTreeMap<i32, Task<()>>,
) -> Result<(), Unread> {
    let names = doubts.iter().map(|doubt| doubt.partition.topic.clone()).collect();
    let topics = shared.cluster.topics(&names, anew).await;
    let mut led = Vec::new();
    for doubt in &doubts {
        let topic = &doubt.partition.topic;
        let Some(outcome) = topics.get(topic) else {
            shared.board.wait(doubt);
            continue;
        };
        if let Some(error) = fault(outcome, topic, doubt.partition.id) {
            shared.finish(doubt.partition.id, doubt.generation, Why::Failed(error)).await?;
            continue;
        }
        let found = outcome.as_ref().ok();
        let found = found.and_then(|meta| meta.partitions.get(&doubt.partition.id.number));
        let leader = found.and_then(|found| Some((found.leader?, found.leader_epoch)));
        let Some((broker, epoch)) = leader else {
            shared.cluster.forget(topic);
            shared.board.wait(doubt);
            continue;
        };
        let start = || {
            let run = fetcher::run(Arc::clone(shared), broker);
            spawn_named(format!("kafka fetcher {broker}"), run)
        };
        let fetcher = fetchers.entry(broker).or_insert_with(start);
        if fetcher.is_finished() {
            *fetcher = start();
        }
        led.push((doubt, (broker, epoch)));
    }
    shared.board.lead(&led);
    Ok(())
}

/// Finds out on which side of their logs positions are that leaders say are not in them.
async fn look_into(shared: &Shared, doubts: Vec<Doubt>) -> Result<(), Unread> {
    if doubts.is_empty() {
        return Ok(());
    }
    let key = |doubt: &Doubt| (doubt.partition.topic.clone(), doubt.partition.id.number);
    let keys: Vec<_> = doubts.iter().map(key).collect();
    let isolation = Isolation::ReadUncommitted;
    let bounds = |bound| list_offsets::of_partitions(&shared.cluster, &keys, bound, isolation);
    let (starts, ends) = tokio::join!(bounds(Bound::Earliest), bounds(Bound::Latest));
    let (starts, ends) = (starts.unwrap_or_default(), ends.unwrap_or_default());
    for doubt in &doubts {
        let (start, end) = (starts.get(&key(doubt)), ends.get(&key(doubt)));
        if start.is_some_and(|start| doubt.next < *start)
            || end.is_some_and(|end| doubt.next > *end)
        {
            shared.finish(doubt.partition.id, doubt.generation, Why::OutOfRange).await?;
        } else if start.is_some() && end.is_some() {
            shared.board.inside(doubt);
        } else {
            shared.board.wait(doubt);
        }
    }
    Ok(())
}

/// Asks for the ends of partitions that are not fetched: paused ones, and those without a leader.
async fn watch_ends(shared: &Shared) {
    loop {
        let keys = shared.board.unfetched();
        if !keys.is_empty() {
            let isolation = Isolation::ReadCommitted;
            let asked =
                list_offsets::of_partitions(&shared.cluster, &keys, Bound::Latest, isolation);
            match asked.await {
                Ok(found) => shared.board.note_ends(&found),
                Err(error) if error.class() == Class::Transient => {
                    tracing::debug!(%error, "the ends of partitions are not known");
                }
                Err(error) => tracing::warn!(%error, "the ends of partitions are not known"),
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

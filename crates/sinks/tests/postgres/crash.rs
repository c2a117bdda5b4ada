//! A server that crashes while records are written, several times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_runtime::ports::{Class, Sink};
use tidegate_testing::{PostgresVersion, RealPostgres};

use crate::world::{World, acquire, in_time, write};

const CRASHES: u64 = 3;

/// Writes until told to stop, and goes on after failures as a consumer does; returns where the last write ended.
async fn write_on(sink: Arc<dyn Sink>, acknowledged: Arc<AtomicU64>, until: Arc<AtomicU64>) -> u64 {
    'acquiring: loop {
        let mut at = match acquire(&sink, 1).await {
            Ok(stands) => stands.unwrap_or(0),
            Err(error) => {
                assert_eq!(error.class(), Class::Transient, "{error:?}");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                continue;
            }
        };
        assert!(at >= acknowledged.load(Ordering::SeqCst), "what was acknowledged is there");
        while at < until.load(Ordering::SeqCst) {
            match write(&sink, 1, at..at + 500).await {
                Ok(()) => at += 500,
                Err(error) => {
                    assert_eq!(error.class(), Class::Transient, "{error:?}");
                    continue 'acquiring;
                }
            }
            acknowledged.store(at, Ordering::SeqCst);
        }
        return at;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_crashes_of_the_server_each_offset_is_there_once() {
    let mut world = World::on(|| RealPostgres::start_own(PostgresVersion::V18, &[])).await;
    let (acknowledged, until) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
    let sink = world.open("").await;
    let writing = write_on(sink, Arc::clone(&acknowledged), Arc::clone(&until));
    let mut writing = tokio::task::JoinSet::from_iter([writing]);
    for crash in 1..=CRASHES {
        let goal = acknowledged.load(Ordering::SeqCst) + 2000;
        in_time(async {
            while acknowledged.load(Ordering::SeqCst) < goal {
                tokio::task::yield_now().await;
            }
        })
        .await;
        tokio::task::block_in_place(|| {
            world.server.kill();
            world.server.restart();
        });
        if crash == CRASHES {
            until.store(acknowledged.load(Ordering::SeqCst) + 2000, Ordering::SeqCst);
        }
    }
    let end = in_time(writing.join_next()).await.unwrap().unwrap();
    world.reconnect().await;
    assert_eq!(world.offsets().await, (0..i64::try_from(end).unwrap()).collect::<Vec<_>>());
    assert_eq!(world.count("SELECT next FROM tidegate_offsets").await, i64::try_from(end).unwrap());
}

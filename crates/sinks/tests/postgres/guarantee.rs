//! Exactly-once between owners: the conformance suite, stale owners, owners that stall or are cut off.

use std::sync::Arc;

use tidegate_core::ids::{FencingToken, Generation};
use tidegate_runtime::ports::{Class, SinkError};
use tidegate_runtime::sink::conformance;
use tidegate_testing::{PostgresVersion, RealPostgres};

use crate::proxy::{Proxy, Trouble};
use crate::world::{World, acquire, in_time, open, partition, token, write};

async fn conforms(world: &World) {
    let report = conformance(async || world.open("connections=2").await).await;
    report.assert_passed();
    for (partition, offsets) in &report.written {
        let sql = "SELECT \"offset\" FROM records WHERE topic = $1 AND partition = $2 \
                   AND $3 <> 'x' ORDER BY 1";
        let number = i32::try_from(partition.id.number).unwrap();
        let rows = world.admin.query(sql, &[&partition.topic, &number, &""]).await.unwrap();
        let found: Vec<u64> = rows.iter().map(|row| row.get::<_, i64>(0).unsigned_abs()).collect();
        // A topic that was deleted and created again has the same name and other ids.
        let same =
            report.written.iter().filter(|(other, _)| other.id.number == partition.id.number);
        let mut wanted: Vec<u64> = same.flat_map(|(_, offsets)| offsets.clone()).collect();
        wanted.sort_unstable();
        assert!(offsets.iter().all(|offset| wanted.contains(offset)));
        assert_eq!(found, wanted, "{partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_conforms_on_the_newest_server() {
    conforms(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_conforms_on_the_oldest_server() {
    conforms(&World::on(|| RealPostgres::start(PostgresVersion::V14)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_owner_is_fenced_though_nobody_has_written_since() {
    let world = World::new().await;
    let (old, new) = (world.open("").await, world.open("").await);
    acquire(&old, 5).await.unwrap();
    write(&old, 5, 0..3).await.unwrap();
    assert_eq!(acquire(&new, 6).await.unwrap(), Some(3));
    let error = write(&old, 5, 3..9).await.unwrap_err();
    assert_eq!(error.class(), Class::Fenced);
    assert!(error.to_string().contains("epoch 6 has acquired it, ours is 5"), "{error}");
    assert_eq!(acquire(&old, 5).await.unwrap_err().class(), Class::Fenced);
    assert_eq!(world.offsets().await, [0, 1, 2]);
    write(&new, 6, 3..4).await.unwrap();
    assert_eq!(world.offsets().await, [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_generation_is_above_every_epoch_of_an_earlier_one() {
    let world = World::new().await;
    let (old, new) = (world.open("").await, world.open("").await);
    let token =
        |generation, epoch| FencingToken { generation: Generation(generation), ..token(epoch) };
    old.acquire(&partition(0), token(1, 900)).await.unwrap();
    new.acquire(&partition(0), token(2, 3)).await.unwrap();
    let error = old.acquire(&partition(0), token(1, 901)).await.unwrap_err();
    assert_eq!(error.class(), Class::Fenced);
}

/// A trigger notes what the session of the sink has set.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_sets_does_not_weaken_a_commit() {
    let world = World::new().await;
    for setting in [
        "synchronous_commit = off",
        "statement_timeout = '1h'",
        "default_transaction_isolation = serializable",
    ] {
        world.run(&format!("ALTER DATABASE {} SET {setting}", world.database)).await;
    }
    drop(world.open("").await);
    world
        .run(
            "CREATE TABLE seen (commits text, statements text, idle text, isolation text); \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen SELECT \
             current_setting('synchronous_commit'), current_setting('statement_timeout'), \
             current_setting('idle_in_transaction_session_timeout'), \
             current_setting('transaction_isolation'); RETURN NULL; END $$; \
             CREATE TRIGGER note AFTER INSERT ON records EXECUTE FUNCTION note()",
        )
        .await;
    let sink = world.open("timeout=7s").await;
    acquire(&sink, 1).await.unwrap();
    write(&sink, 1, 0..3).await.unwrap();
    let row = world.admin.query_one("SELECT * FROM seen", &[]).await.unwrap();
    let seen: Vec<&str> = (0..4).map(|column| row.get(column)).collect();
    assert_eq!(seen, ["on", "0", "7s", "read committed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_same_schema_have_positions_of_their_own() {
    let world = World::new().await;
    let (one, other) = (world.open("table=one").await, world.open("table=other").await);
    acquire(&one, 1).await.unwrap();
    write(&one, 1, 0..3).await.unwrap();
    assert_eq!(acquire(&other, 1).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_take_a_partition_from_each_other_write_each_offset_once() {
    const END: u64 = 300;
    let world = World::new().await;
    let epochs = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let mut owners = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (sink, epochs) = (world.open("").await, Arc::clone(&epochs));
        owners.spawn(async move {
            loop {
                let epoch = epochs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let Ok(stands) = acquire(&sink, epoch).await else { continue };
                let mut at = stands.unwrap_or(0);
                for _ in 0..4 {
                    if at >= END {
                        return;
                    }
                    match write(&sink, epoch, at..at + 5).await {
                        Ok(()) => at += 5,
                        Err(SinkError::Fenced { .. }) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        });
    }
    in_time(owners.join_all()).await;
    assert_eq!(world.offsets().await, (0..i64::try_from(END).unwrap()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stalls_before_its_commit_is_rid_of_its_lock() {
    let world = World::new().await;
    let proxy = Proxy::start(world.server.port(), Trouble::HoldBeforeCommit).await;
    let url = world.url_at(proxy.port, "admin", "timeout=1s&sslmode=disable");
    let (stalled, new) = (open(&url).await.unwrap(), world.open("").await);
    acquire(&stalled, 1).await.unwrap();
    write(&stalled, 1, 0..3).await.unwrap();
    proxy.arm();
    let mut writing = Box::pin(write(&stalled, 1, 3..6));
    tokio::select! {
        () = proxy.struck() => {}
        written = &mut writing => panic!("the write should be held: {written:?}"),
    }
    assert_eq!(in_time(acquire(&new, 2)).await.unwrap(), Some(3));
    write(&new, 2, 3..5).await.unwrap();
    drop(writing);
    assert_eq!(world.offsets().await, [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stalls_among_its_rows_holds_nobody_up() {
    let world = World::new().await;
    let proxy = Proxy::start(world.server.port(), Trouble::HoldInCopy).await;
    let url = world.url_at(proxy.port, "admin", "timeout=1h&sslmode=disable");
    let (stalled, new) = (open(&url).await.unwrap(), world.open("").await);
    acquire(&stalled, 1).await.unwrap();
    proxy.arm();
    let mut writing = Box::pin(write(&stalled, 1, 0..3));
    tokio::select! {
        () = proxy.struck() => {}
        written = &mut writing => panic!("the write should be held: {written:?}"),
    }
    assert_eq!(in_time(acquire(&new, 2)).await.unwrap(), None);
    write(&new, 2, 0..2).await.unwrap();
    assert_eq!(world.offsets().await, [0, 1]);
}

//! Acknowledgements that are lost, and sessions that end in the middle: what `acquire` tells afterwards.

use std::sync::Arc;

use tidegate_runtime::ports::{Class, Sink};

use crate::proxy::{Proxy, Trouble};
use crate::world::{World, acquire, in_time, open, write};

/// A write that meets trouble; returns where the sink stands then, by the same owner's next `acquire`.
async fn stands_after(trouble: Trouble) -> (World, Arc<dyn Sink>, Option<u64>) {
    let world = World::new().await;
    let proxy = Proxy::start(world.server.port(), trouble).await;
    let sink = open(&world.url_at(proxy.port, "admin", "sslmode=disable")).await.unwrap();
    acquire(&sink, 1).await.unwrap();
    write(&sink, 1, 0..3).await.unwrap();
    proxy.arm();
    let error = in_time(write(&sink, 1, 3..6)).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error:?}");
    assert_eq!(write(&sink, 1, 3..6).await.unwrap_err().class(), Class::Fenced);
    let stands = in_time(acquire(&sink, 1)).await.unwrap();
    // The proxy ends here; whoever goes on does so without it.
    let direct = world.open("").await;
    assert_eq!(acquire(&direct, 1).await.unwrap(), stands);
    (world, direct, stands)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_acknowledgement_is_lost_is_found() {
    let (world, sink, stands) = stands_after(Trouble::CutAfterCommit).await;
    assert_eq!(stands, Some(6));
    write(&sink, 1, 6..8).await.unwrap();
    assert_eq!(world.offsets().await, (0..8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_did_not_arrive_is_not_found() {
    let (world, sink, stands) = stands_after(Trouble::CutBeforeCommit).await;
    assert_eq!(stands, Some(3));
    write(&sink, 1, 3..8).await.unwrap();
    assert_eq!(world.offsets().await, (0..8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_among_its_rows_leaves_nothing() {
    let world = World::new().await;
    let proxy = Proxy::start(world.server.port(), Trouble::HoldInCopy).await;
    let sink = open(&world.url_at(proxy.port, "admin", "sslmode=disable")).await.unwrap();
    acquire(&sink, 1).await.unwrap();
    proxy.arm();
    let ending = async {
        proxy.struck().await;
        let copying = format!("{} AND query LIKE 'COPY%'", world.sessions());
        world.until(&format!("SELECT count(*) {copying}")).await;
        world.run(&format!("SELECT pg_terminate_backend(pid, 10000) {copying}")).await;
        drop(proxy);
    };
    let (written, ()) = in_time(async { tokio::join!(write(&sink, 1, 0..3), ending) }).await;
    assert_eq!(written.unwrap_err().class(), Class::Transient);
    let direct = world.open("").await;
    assert_eq!(acquire(&direct, 1).await.unwrap(), None);
    write(&direct, 1, 0..2).await.unwrap();
    assert_eq!(world.offsets().await, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_that_were_ended_are_replaced() {
    let world = World::new().await;
    let sink = world.open("connections=1").await;
    acquire(&sink, 1).await.unwrap();
    write(&sink, 1, 0..3).await.unwrap();
    world.run(&format!("SELECT pg_terminate_backend(pid, 10000) {}", world.sessions())).await;
    let mut failures = 0;
    // The end of the session may reach the sink a moment later: then one call fails, as after any broken connection.
    let stands = loop {
        match in_time(acquire(&sink, 1)).await {
            Ok(stands) => break stands,
            Err(error) => {
                assert_eq!(error.class(), Class::Transient, "{error:?}");
                failures += 1;
                assert!(failures < 2, "{error:?}");
            }
        }
    };
    assert_eq!(stands, Some(3));
    write(&sink, 1, 3..4).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_given_up_leaves_no_session_behind() {
    let world = World::new().await;
    let proxy = Proxy::start(world.server.port(), Trouble::HoldBeforeCommit).await;
    let url = world.url_at(proxy.port, "admin", "sslmode=disable&connections=1&timeout=1h");
    let sink = open(&url).await.unwrap();
    acquire(&sink, 1).await.unwrap();
    proxy.arm();
    tokio::select! {
        () = proxy.struck() => {}
        written = write(&sink, 1, 0..3) => panic!("the write should be held: {written:?}"),
    }
    // The server still holds the transaction, since nobody has told it. A new proxy stands for the network that came back.
    drop(proxy);
    let direct = world.open("").await;
    assert_eq!(in_time(acquire(&direct, 1)).await.unwrap(), None);
    write(&direct, 1, 0..2).await.unwrap();
    assert_eq!(world.offsets().await, [0, 1]);
}

//! Answers that are lost, servers that fail, and servers that die.

use std::time::Duration;

use tidegate_runtime::ports::{Class, SinkError};
use tidegate_sinks::object::store::Store as _;
use tidegate_sinks::object::{ObjectConfig, layout, probe};
use tokio::sync::oneshot;

use crate::proxy::{Act, Proxy};
use crate::world::{
    acquire, bucket, chain, offsets, on_server, open, partition, sink, sink_on, store, write,
};

#[test]
fn a_write_whose_answer_was_lost_is_found_by_its_owner() {
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let sink = sink(proxy.endpoint()).await;
        acquire(&sink, 1).await.unwrap();
        write(&sink, 1, 0, 3).await.unwrap();
        proxy.take_seen();
        proxy.next_puts([Act::LoseAnswer]);
        let error = write(&sink, 1, 3, 5).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
        assert_eq!(proxy.take_seen().len(), 1, "a put that may have arrived is not sent again");
        assert_eq!(acquire(&sink, 1).await.unwrap(), Some(5));
        write(&sink, 1, 5, 6).await.unwrap();
        assert_eq!(offsets(server.endpoint(), &partition()).await, [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_put_that_was_sent_again_is_not_fenced_by_its_first_try() {
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let sink = sink(proxy.endpoint()).await;
        acquire(&sink, 1).await.unwrap();
        proxy.take_seen();
        proxy.next_puts([Act::FailAfter(500)]);
        write(&sink, 1, 0, 3).await.unwrap();
        let puts = proxy.take_seen().iter().filter(|seen| seen.starts_with("PUT")).count();
        assert_eq!(puts, 2);
        write(&sink, 1, 3, 4).await.unwrap();
        assert_eq!(offsets(server.endpoint(), &partition()).await, [0, 1, 2, 3]);
    });
}

#[test]
fn a_server_that_is_busy_for_a_moment_is_asked_again_and_one_that_stays_so_is_unavailable() {
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let sink = sink(proxy.endpoint()).await;
        acquire(&sink, 1).await.unwrap();
        proxy.next_puts([Act::Refuse(503, "SlowDown"), Act::Refuse(503, "SlowDown")]);
        write(&sink, 1, 0, 3).await.unwrap();
        proxy.next_puts((0..4).map(|_| Act::Refuse(503, "SlowDown")));
        let error = write(&sink, 1, 3, 5).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient);
        assert!(chain(&error).contains("SlowDown"), "{}", chain(&error));
        assert_eq!(acquire(&sink, 1).await.unwrap(), Some(3));
    });
}

#[test]
fn two_puts_at_the_same_moment_leave_the_outcome_unknown() {
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let sink = sink(proxy.endpoint()).await;
        acquire(&sink, 1).await.unwrap();
        proxy.next_puts([Act::Refuse(409, "ConditionalRequestConflict")]);
        let error = write(&sink, 1, 0, 3).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
    });
}

#[test]
fn a_put_that_arrives_after_its_owner_has_acquired_again_does_not_fence_it() {
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let mut hasty = bucket(proxy.endpoint());
        hasty.request_timeout = Duration::from_millis(500);
        let sink = sink_on(open(&hasty).await.unwrap(), ObjectConfig::default());
        acquire(&sink, 1).await.unwrap();
        let (go, wait) = oneshot::channel();
        proxy.next_puts([Act::Wait(wait)]);
        let error = write(&sink, 1, 0, 3).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
        assert_eq!(acquire(&sink, 1).await.unwrap(), None);
        go.send(()).unwrap();
        let plain = store(server.endpoint()).await;
        let folder = layout::folder(&partition()).unwrap();
        let mut looks = 0;
        while plain.last(&folder, None, 1).await.unwrap().is_empty() {
            looks += 1;
            assert!(looks < 1000, "the put never arrives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let error = write(&sink, 1, 0, 4).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
        assert!(chain(&error).contains("an earlier write of this owner has arrived"));
        assert_eq!(acquire(&sink, 1).await.unwrap(), Some(3));
        write(&sink, 1, 3, 4).await.unwrap();
        assert_eq!(offsets(server.endpoint(), &partition()).await, [0, 1, 2, 3]);
    });
}

#[test]
fn a_server_that_overwrites_is_refused_and_leaves_no_probe() {
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let honest = store(proxy.endpoint()).await;
        probe::create_only(&honest, "the bucket").await.unwrap();
        proxy.overwrite();
        let error = probe::create_only(&honest, "the bucket").await.unwrap_err();
        assert_eq!(error.class, Class::Permanent);
        let text = chain(&error);
        assert!(text.starts_with("failed to rely on the bucket: it overwrites objects"), "{text}");
        assert!(text.contains("use a store that keeps this condition"), "{text}");
        let left = std::fs::read_dir(server.file("records/of a test"));
        assert_eq!(left.map_or(0, Iterator::count), 0);
    });
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_writes_loses_nothing_and_doubles_nothing() {
    const ROUNDS: u64 = 3;
    on_server(async |server| {
        let sink = sink(server.endpoint()).await;
        acquire(&sink, 1).await.unwrap();
        let (mut at, mut failures) = (0, 0);
        for round in 1..=ROUNDS {
            // Writes go on until one fails because the server is gone.
            let kill = tokio::task::block_in_place(|| {
                std::thread::scope(|scope| {
                    let killer = scope.spawn(|| server.kill());
                    tokio::runtime::Handle::current().block_on(async {
                        loop {
                            match write(&sink, 1, at, at + 2).await {
                                Ok(()) => at += 2,
                                Err(error) => break error,
                            }
                        }
                    });
                    killer.join()
                })
            });
            kill.unwrap();
            failures += 1;
            tokio::task::block_in_place(|| server.restart());
            let found = acquire(&sink, 1).await.unwrap().unwrap_or(0);
            assert!(found == at || found == at + 2, "round {round}: {found} after {at}");
            at = found;
        }
        write(&sink, 1, at, at + 1).await.unwrap();
        assert_eq!(failures, ROUNDS);
        assert!(offsets(server.endpoint(), &partition()).await.into_iter().eq(0..=at));
    });
}

#[test]
fn a_sink_without_its_server_is_unavailable() {
    on_server(async |server| {
        let sink = sink(server.endpoint()).await;
        tokio::task::block_in_place(|| server.kill());
        let error = acquire(&sink, 1).await.unwrap_err();
        assert!(matches!(error, SinkError::Unavailable { .. }), "{}", chain(&error));
        tokio::task::block_in_place(|| server.restart());
        assert_eq!(acquire(&sink, 1).await.unwrap(), None);
    });
}

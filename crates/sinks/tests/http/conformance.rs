//! The conformance suite with different receivers.

use std::sync::Arc;

use tidegate_runtime::sink::Sink;
use tidegate_runtime::sink::conformance::Suite;

use crate::losing::Losing;
use crate::receiver::{Receiver, Rules, poison};
use crate::{Exactly, open};

#[tokio::test(flavor = "multi_thread")]
async fn any_receiver_of_lines_makes_it_at_least_once() {
    let receiver = Receiver::start(Rules { compares: false, ..Rules::default() }).await;
    let suite = Suite::new(async || open(&receiver.url).await);
    let suite = suite.reading(|partition| {
        let offsets = receiver.offsets(&partition);
        Box::pin(async move { Ok(offsets) })
    });
    suite.run().await.assert_passed();
}

async fn is_exactly_once(url: &str, receiver: &Receiver) {
    let suite = Suite::new(async || Arc::new(Exactly(open(url).await)) as Arc<dyn Sink>);
    let suite = suite.rejecting(poison).reading(|partition| {
        let offsets = receiver.offsets(&partition);
        Box::pin(async move { Ok(offsets) })
    });
    suite.run().await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_compares_makes_it_exactly_once() {
    let receiver = Receiver::start(Rules::default()).await;
    is_exactly_once(&receiver.url, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_small_bodies_makes_it_exactly_once() {
    let receiver = Receiver::start(Rules { limit: 1_100_000, ..Rules::default() }).await;
    is_exactly_once(&receiver.url, &receiver).await;
    let largest = receiver.writes().iter().map(|seen| seen.body.len()).max();
    assert!(largest > Some(1_100_000), "nothing had to be cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_exactly_once_when_the_first_answer_to_each_batch_is_lost() {
    let receiver = Receiver::start(Rules::default()).await;
    let losing = Losing::before(&receiver.url).await;
    is_exactly_once(&losing.url, &receiver).await;
    assert!(losing.lost() > 20, "{} answers were lost", losing.lost());
}

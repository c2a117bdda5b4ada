//! A TCP proxy between one consumer and the brokers, that can be told to misbehave.
//!
//! ```text
//! consumer ──► listener for node 1 ──► node 1      each listener stands for one node; answers that name
//!          ──► listener for node 2 ──► node 2      brokers are changed on their way (see `rewrite`), so that
//!          ──► listener for node 3 ──► node 3      the consumer finds no way around
//! ```
//!
//! Frames are passed on whole, so that no fault leaves half of one behind. What a black hole holds back arrives when it
//! is over, as after a partition of the network that TCP survives: late, and perhaps after a fence.

mod frames;
mod link;
mod rewrite;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_runtime::task::{Task, spawn_named};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::rewrite::Addresses;

/// Rest after a connection that could not be accepted, so that the loop does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToBroker,
    ToConsumer,
}

/// How frames get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// At once.
    Clear,
    /// Not at all; they arrive when this ends. Connections are accepted.
    BlackHole,
    /// Each so much later than the one before it.
    Delay(Duration),
    /// Those of one direction are lost; when this ends, so do the connections that have lost some.
    HalfOpen(Direction),
}

/// A running proxy. It ends, with all of its connections, when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    bootstrap: String,
    weather: watch::Sender<Weather>,
    _listening: Vec<Task<()>>,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToBroker => "requests",
            Self::ToConsumer => "answers",
        })
    }
}

impl Proxy {
    /// Starts a proxy before these nodes, which are listed as clients are told of them.
    pub(crate) async fn start(name: &str, nodes: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut addresses = Addresses::new();
        let mut listeners = Vec::new();
        for node in nodes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.context("failed to listen for a proxy")?;
            addresses.insert((node.ip().to_string(), node.port()), listener.local_addr()?.port());
            listeners.push((listener, *node));
        }
        let addresses = Arc::new(addresses);
        let (weather, seen) = watch::channel(Weather::Clear);
        let bootstrap: Vec<_> =
            addresses.values().map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST)).collect();
        let listening = listeners.into_iter().map(|(listener, node)| {
            let accepting = accept(listener, node, seen.clone(), Arc::clone(&addresses));
            spawn_named(format!("{name} {node}"), accepting)
        });
        Ok(Self { bootstrap: bootstrap.join(","), weather, _listening: listening.collect() })
    }

    /// The value for `bootstrap.servers`.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Changes the weather.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn accept(
    listener: TcpListener,
    node: SocketAddr,
    weather: watch::Receiver<Weather>,
    addresses: Arc<Addresses>,
) {
    let mut links = JoinSet::new();
    loop {
        // Cancel-safe: a connection is accepted or stays in the backlog.
        tokio::select! {
            Some(_) = links.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    links.spawn(serve(client, node, weather.clone(), Arc::clone(&addresses)));
                }
                Err(error) => {
                    tracing::warn!(%node, %error, "the proxy cannot accept");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
        }
    }
}

async fn serve(
    client: TcpStream,
    node: SocketAddr,
    weather: watch::Receiver<Weather>,
    addresses: Arc<Addresses>,
) {
    let joined = async {
        let broker = TcpStream::connect(node).await?;
        link::join(client, broker, weather, &addresses).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(%node, %error, "a link of the proxy has ended");
    }
}

#[cfg(test)]
mod tests;

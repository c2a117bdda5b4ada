//! A running node: its listener and the tasks of its connections, all joined when it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use crate::cluster::NodeId;
use crate::connection;
use crate::error::Error;
use crate::shared::Shared;

/// Rest after a failed accept (usually: too many open files), so that the loop does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A node that listens.
#[derive(Debug)]
pub(crate) struct RunningNode {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Binds a node's address. Port 0 takes a free one.
pub(crate) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

// === impl RunningNode ===

impl RunningNode {
    /// Starts to accept connections.
    pub(crate) fn start(listener: TcpListener, shared: Arc<Shared>, id: NodeId) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared, id, stopped));
        Self { stop, tasks }
    }

    /// Stops listening, drops every connection and waits until their tasks have ended.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    id: NodeId,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // Cancel-safe: a change that is not yet seen stays unseen.
            _ = stopped.changed() => break,
            Some(ended) = connections.join_next() => report(ended),
            // Cancel-safe: a connection is accepted or stays in the backlog.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection::serve(stream, Arc::clone(&shared), id));
                }
                Err(error) => {
                    warn!(node = %id, %error, "accepting a connection failed");
                    sleep(ACCEPT_REST).await;
                }
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        warn!(%error, "a task of the development broker panicked");
    }
}

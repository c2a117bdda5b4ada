//! The state that connections share, behind one lock that is never held across an await.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::clock;
use crate::cluster::{Cluster, NodeId, WaiterId};
use crate::codec::{CodecError, RawRequest};
use crate::faults::{Call, Fault, Faults};
use crate::handlers::{Context, targets};

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State {
    /// Topics, nodes, offsets.
    pub(crate) cluster: Cluster,
    /// Armed faults.
    pub(crate) faults: Faults,
    connections: BTreeMap<WaiterId, Arc<Notify>>,
    next_connection: u64,
}

/// The state of a broker and the connections to wake when it changes.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

/// A connection's place among those that can be woken; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its number.
    pub(crate) id: WaiterId,
    /// Rings when a partition changed that the connection waits for. A ring is kept until it is heard.
    pub(crate) bell: Arc<Notify>,
    shared: Arc<Shared>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let state = State {
            cluster,
            faults: Faults::default(),
            connections: BTreeMap::new(),
            next_connection: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// Runs one step on the state, then wakes those it concerns.
    pub(crate) fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = step(&mut state);
        for waiter in state.cluster.take_woken() {
            if let Some(bell) = state.connections.get(&waiter) {
                bell.notify_one();
            }
        }
        result
    }

    /// Runs a handler.
    pub(crate) fn handle<T>(
        &self,
        node: NodeId,
        raw: &RawRequest,
        fault: Option<&Fault>,
        handler: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let now_ms = clock::now_ms();
        self.step(|state| {
            handler(&mut Context {
                cluster: &mut state.cluster,
                node,
                version: raw.version,
                now_ms,
                fault,
            })
        })
    }

    /// The fault that strikes a request.
    pub(crate) fn strike(
        &self,
        node: NodeId,
        raw: &RawRequest,
    ) -> Result<Option<Fault>, CodecError> {
        self.step(|state| {
            let partitions = if state.faults.by_partition(raw.api) {
                targets::of(&state.cluster, raw)?
            } else {
                BTreeSet::new()
            };
            let call =
                Call { api: raw.api, node, client_id: &raw.client_id, partitions: &partitions };
            Ok(state.faults.strike(&call))
        })
    }

    /// Gives a connection its place.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        let id = WaiterId(state.next_connection);
        state.next_connection += 1;
        state.connections.insert(id, Arc::clone(&bell));
        Seat { id, bell, shared: Arc::clone(self) }
    }

    /// A poisoned lock is taken all the same: the panic that poisoned it is reported by its own task.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.connections.remove(&self.id);
        state.cluster.forget_waiter(self.id);
    }
}

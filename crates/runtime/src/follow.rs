//! Follows the specification of a group while it runs: what whoever started the loop says, and what the service topic sets over it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::live::{Check, Live};
use crate::ports::Overrides;
use crate::spec::{Config, Faults, GroupSpec};

/// A specification that may change.
#[derive(Debug)]
pub struct Followed {
    specs: watch::Receiver<GroupSpec>,
    overrides: Box<dyn Overrides>,
    live: Live,
}

impl Followed {
    /// Waits for what the service topic sets: to act without it would be to act otherwise than was asked for.
    pub async fn begin(
        mut specs: watch::Receiver<GroupSpec>,
        mut overrides: Box<dyn Overrides>,
        check: Check,
    ) -> Result<Self, Faults> {
        let base = specs.borrow_and_update().clone();
        let mut live = Live::new(base, check)?;
        live.read(&overrides.next().await);
        Ok(Self { specs, overrides, live })
    }

    /// What is in effect.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// What is in effect, for those who need no more than that. Ends when nobody looks at it any more.
    pub async fn tell(mut self, configs: watch::Sender<Arc<Config>>) {
        loop {
            configs.send_replace(Arc::clone(self.live.config()));
            tokio::select! {
                () = self.changed() => {}
                () = configs.closed() => return,
            }
        }
    }

    /// Waits until something else is in effect. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            // Cancel-safe: each branch takes up what it was given in the same poll.
            let has_changed = tokio::select! {
                spec = next(&mut self.specs) => self.live.respecify(spec),
                overrides = self.overrides.next() => self.live.read(&overrides),
            };
            if has_changed {
                return;
            }
        }
    }
}

/// The next value; none comes once nobody can give one. Cancel-safe.
pub(crate) async fn next<T: Clone>(values: &mut watch::Receiver<T>) -> T {
    match values.changed().await {
        Ok(()) => values.borrow_and_update().clone(),
        Err(_) => std::future::pending().await,
    }
}

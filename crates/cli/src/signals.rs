//! SIGTERM and SIGINT: the first asks for a controlled stop, the second cuts it short.

use tidegate_runtime::task::{Task, spawn_named};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Wishes that may wait: after the second there is nothing more to wish.
const WISHES: usize = 4;

/// The signals that end a process.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// The signals as a loop sees them; the tasks behind them end with it.
#[derive(Debug)]
pub(crate) struct Stop {
    /// Cancelled by the first signal.
    pub(crate) orderly: CancellationToken,
    /// Cancelled by the second.
    pub(crate) at_once: CancellationToken,
    _task: Task<()>,
}

impl Signals {
    /// Catches the signals from now on.
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of them. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Hands the signals on as messages, one for each.
    pub(crate) fn into_messages(mut self) -> (mpsc::Receiver<()>, Task<()>) {
        let (sender, receiver) = mpsc::channel(WISHES);
        let task = spawn_named("signals", async move {
            loop {
                self.next().await;
                tracing::info!("told to end");
                if sender.send(()).await.is_err() {
                    return;
                }
            }
        });
        (receiver, task)
    }

    /// Hands the first two signals on.
    pub(crate) fn into_stop(mut self) -> Stop {
        let (orderly, at_once) = (CancellationToken::new(), CancellationToken::new());
        let tokens = [orderly.clone(), at_once.clone()];
        let task = spawn_named("signals", async move {
            for token in tokens {
                self.next().await;
                tracing::info!("told to end");
                token.cancel();
            }
        });
        Stop { orderly, at_once, _task: task }
    }
}

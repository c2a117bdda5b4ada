//! A proxy between a sink and the server that cuts or holds the connection at a chosen moment.
//!
//! What a client sends is looked at before it is passed on; everything else is passed on as it comes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_runtime::task::{Task, spawn_named};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is done when the moment comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection is cut before `COMMIT` reaches the server.
    CutBeforeCommit,
    /// `COMMIT` reaches the server, and its answer not the client.
    CutAfterCommit,
    /// Nothing moves from `COMMIT` on, but the connection stays.
    HoldBeforeCommit,
    /// Nothing moves from the first rows on, but the connection stays.
    HoldInCopy,
}

/// A running proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    armed: Arc<AtomicBool>,
    struck: watch::Receiver<bool>,
    _listening: Task<()>,
}

impl Proxy {
    pub(crate) async fn start(server: u16, trouble: Trouble) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicBool::new(false));
        let (strike, struck) = watch::channel(false);
        let strikes = Arc::clone(&armed);
        let listening = spawn_named("proxy", async move {
            let mut links = Vec::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (armed, strike) = (Arc::clone(&strikes), strike.clone());
                links.push(spawn_named("link", link(client, server, trouble, armed, strike)));
            }
        });
        Self { port, armed, struck, _listening: listening }
    }

    /// From now on trouble comes with the next transaction, once.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Waits until it has come.
    pub(crate) async fn struck(&self) {
        self.struck.clone().wait_for(|struck| *struck).await.unwrap();
    }
}

async fn link(
    client: TcpStream,
    server: u16,
    trouble: Trouble,
    armed: Arc<AtomicBool>,
    strike: watch::Sender<bool>,
) {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let marks: &[u8] = if trouble == Trouble::HoldInCopy { b"PGCOPY" } else { b"COMMIT\0" };
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(1..) = read else { return };
                let bytes = &asked[..read.unwrap()];
                let is_moment = bytes.windows(marks.len()).any(|window| window == marks);
                if !is_moment || !armed.swap(false, Ordering::SeqCst) {
                    to_server.write_all(bytes).await.unwrap_or_default();
                    continue;
                }
                match trouble {
                    Trouble::CutBeforeCommit => {}
                    Trouble::CutAfterCommit => {
                        to_server.write_all(bytes).await.unwrap();
                        assert_ne!(from_server.read(&mut answered).await.unwrap(), 0);
                    }
                    Trouble::HoldBeforeCommit | Trouble::HoldInCopy => {
                        strike.send_replace(true);
                        std::future::pending::<()>().await;
                    }
                }
                strike.send_replace(true);
                return;
            }
            read = from_server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                to_client.write_all(&answered[..read]).await.unwrap_or_default();
            }
        }
    }
}

//! A proxy that loses answers: the first success of each idempotency key never reaches who asked, though the receiver
//! has done its work.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tidegate_runtime::task::{Task, TaskSet, spawn_named};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// It ends when it is dropped.
pub(crate) struct Losing {
    pub(crate) url: String,
    lost: Arc<Mutex<BTreeSet<String>>>,
    _proxy: Task<()>,
}

impl Losing {
    /// In front of the receiver at this URL.
    pub(crate) async fn before(url: &str) -> Self {
        let receiver: SocketAddr =
            url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/lines", listener.local_addr().unwrap());
        let lost = Arc::<Mutex<BTreeSet<_>>>::default();
        let known = Arc::clone(&lost);
        let proxy = async move {
            let mut relays = TaskSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let known = Arc::clone(&known);
                relays.spawn("relay", async move {
                    // Whoever hangs up ends the relay, and nothing else.
                    let _ended = relay(client, receiver, &known).await;
                    Ok(())
                });
            }
        };
        Self { url, lost, _proxy: spawn_named("losing proxy", proxy) }
    }

    /// How many answers were lost.
    pub(crate) fn lost(&self) -> usize {
        self.lost.lock().unwrap().len()
    }
}

async fn relay(
    mut client: TcpStream,
    receiver: SocketAddr,
    lost: &Mutex<BTreeSet<String>>,
) -> io::Result<()> {
    let mut receiver = TcpStream::connect(receiver).await?;
    loop {
        let request = message(&mut client).await?;
        receiver.write_all(&request).await?;
        let answer = message(&mut receiver).await?;
        let head = String::from_utf8_lossy(&request);
        let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
        let key = key.filter(|_| answer.starts_with(b"HTTP/1.1 2"));
        if key.is_some_and(|key| lost.lock().unwrap().insert(key.to_owned())) {
            return Ok(());
        }
        client.write_all(&answer).await?;
    }
}

/// A message of HTTP with its body, whose length it tells.
async fn message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    let begin = bytes.len();
    bytes.resize(begin + length, 0);
    stream.read_exact(&mut bytes[begin..]).await?;
    Ok(bytes)
}

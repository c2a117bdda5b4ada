//! One client connection: frames in, answers out, in order, one request at a time.
//!
//! The thin shell around the handlers. It owns what they must not know: the socket, waiting (a
//! fetch that finds too little, a fault that delays) and hanging up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, FetchRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::cluster::NodeId;
use crate::codec::{self, CodecError, RawRequest};
use crate::faults::{Fault, FaultAction};
use crate::handlers::{self, fetch};
use crate::shared::{Seat, Shared};

/// The largest request, as `socket.request.max.bytes` of Apache Kafka.
const MOST_FRAME_BYTES: usize = 100 * 1024 * 1024;
/// The read buffer's first size; it grows to the largest request the client sends.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Why a connection ends early.
#[derive(Debug, thiserror::Error)]
enum Hangup {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("request of {0} bytes is too large")]
    TooLarge(usize),
    #[error("armed fault")]
    Fault,
}

struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    shared: Arc<Shared>,
    seat: Seat,
    node: NodeId,
}

/// Serves a client until it leaves, errs, or a fault cuts it off.
///
/// May be dropped at any await: state changes only in steps that do not await.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>, node: NodeId) {
    let peer = stream.peer_addr().ok();
    let mut connection = Connection {
        stream,
        buffer: BytesMut::with_capacity(READ_BUFFER_BYTES),
        seat: shared.seat(),
        shared,
        node,
    };
    if let Err(error) = connection.run().await {
        let error: &dyn std::error::Error = &error;
        debug!(%node, ?peer, error, "connection closed");
    }
}

// === impl Connection ===

impl Connection {
    async fn run(&mut self) -> Result<(), Hangup> {
        self.stream.set_nodelay(true)?;
        while let Some(frame) = self.next_frame().await? {
            let raw = codec::parse(frame)?;
            if let Some(answer) = self.answer(&raw).await? {
                self.stream.write_all(&answer).await?;
            }
        }
        Ok(())
    }

    /// The next request, `None` when the client is done.
    async fn next_frame(&mut self) -> Result<Option<Bytes>, Hangup> {
        if !self.fill(4).await? {
            return Ok(None);
        }
        let length = self.buffer.get_u32();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MOST_FRAME_BYTES {
            return Err(Hangup::TooLarge(length));
        }
        let whole = self.fill(length).await?;
        Ok(whole.then(|| self.buffer.split_to(length).freeze()))
    }

    /// Reads until the buffer holds `least` bytes; false if the client leaves before.
    async fn fill(&mut self, least: usize) -> io::Result<bool> {
        while self.buffer.len() < least {
            let missing = least - self.buffer.len();
            self.buffer.reserve(missing.max(READ_BUFFER_BYTES));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn answer(&self, raw: &RawRequest) -> Result<Option<Bytes>, Hangup> {
        let fault = self.shared.strike(self.node, raw)?;
        match fault.as_ref().map(|fault| fault.action) {
            Some(FaultAction::DropConnection) => return Err(Hangup::Fault),
            Some(FaultAction::Delay(time)) => sleep(time).await,
            _ => {}
        }
        let answer = if raw.api == ApiKey::Fetch {
            Some(self.fetch(raw, fault.as_ref()).await?)
        } else {
            self.shared.handle(self.node, raw, fault.as_ref(), |cx| handlers::dispatch(cx, raw))?
        };
        match fault.map(|fault| fault.action) {
            Some(FaultAction::ApplyThenDrop) => Err(Hangup::Fault),
            _ => Ok(answer),
        }
    }

    /// Looks until there is enough or the client's patience ends, and answers with what is there.
    async fn fetch(&self, raw: &RawRequest, fault: Option<&Fault>) -> Result<Bytes, Hangup> {
        let request: FetchRequest = handlers::decode(raw)?;
        let patience = u64::try_from(request.max_wait_ms).unwrap_or_default();
        let deadline = Instant::now() + Duration::from_millis(patience);
        loop {
            let look = self.shared.handle(self.node, raw, fault, |cx| {
                let look = fetch::look(cx, &request);
                if !look.done {
                    fetch::wait(cx, &request, self.seat.id);
                }
                look
            });
            let rung = self.seat.bell.notified();
            if look.done || timeout_at(deadline, rung).await.is_err() {
                return Ok(codec::encode(raw, &look.response)?);
            }
        }
    }
}

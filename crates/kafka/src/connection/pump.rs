//! The socket of a connection: requests go out as they come, answers come back to those who wait, in the same order.
//!
//! It runs until the connection fails or nobody holds it any more, and leaves the reason behind.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::MAX_PIPELINED;
use crate::transport::Stream;

/// The largest answer that is believed; a length beyond it is taken for something that is no broker.
const MAX_FRAME: usize = 256 << 20;

/// Most room that is made at once for an announced answer, unless more was asked for: more is made as it comes.
pub(super) const ROOM: usize = 64 << 10;

/// How long what the other side said last is waited for, after a write failed: it has arrived before the failure.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How an alert of TLS begins, by which a listener with TLS answers a client without.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// How a connection fares, shared with its pump.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) broken: AtomicBool,
    /// Why the pump ended. A broker may hang up while nobody asks it anything, and the next one who does should learn why.
    pub(super) cause: OnceLock<Arc<std::io::Error>>,
}

/// A request on its way to the pump.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) correlation: i32,
    pub(super) frame: Bytes,
    /// Room that may be made for the answer at once.
    pub(super) room: usize,
    pub(super) answer: oneshot::Sender<Result<Bytes, Arc<std::io::Error>>>,
}

/// Moves frames until the connection fails or its last handle is gone. Whoever still waits then learns why.
pub(super) async fn pump(
    stream: Box<dyn Stream>,
    mut incoming: mpsc::Receiver<Outgoing>,
    fate: Arc<Fate>,
) {
    let mut waiting = VecDeque::new();
    let outcome = exchange(stream, &mut incoming, &mut waiting).await;
    fate.broken.store(true, Ordering::Release);
    let Err(cause) = outcome.map_err(Arc::new) else { return incoming.close() };
    // Before the queue is closed, so that whoever finds it closed finds this.
    let _first = fate.cause.set(Arc::clone(&cause));
    incoming.close();
    let late = std::iter::from_fn(|| incoming.try_recv().ok());
    for request in waiting.into_iter().chain(late) {
        // Whoever asked may have given up.
        let _gone = request.answer.send(Err(Arc::clone(&cause)));
    }
}

async fn exchange(
    stream: Box<dyn Stream>,
    incoming: &mut mpsc::Receiver<Outgoing>,
    waiting: &mut VecDeque<Outgoing>,
) -> Result<(), std::io::Error> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut outbox = BytesMut::new();
    let mut inbox = BytesMut::with_capacity(64 << 10);
    let mut flushed = true;
    loop {
        // Every branch is cancel-safe: the buffers keep what was moved, and a closed queue stays closed.
        tokio::select! {
            request = incoming.recv(), if waiting.len() < MAX_PIPELINED => {
                let Some(mut request) = request else { return Ok(()) };
                outbox.extend_from_slice(&std::mem::take(&mut request.frame));
                waiting.push_back(request);
            }
            sent = send_some(&mut writer, &mut outbox, &mut flushed), if !outbox.is_empty() || !flushed => {
                if let Err(failure) = sent {
                    return Err(last_words(&mut reader, failure).await);
                }
            }
            read = reader.read_buf(&mut inbox) => {
                if read? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                while let Some(frame) = take_frame(&mut inbox, room(waiting))? {
                    answer(waiting, frame)?;
                }
            }
        }
    }
}

/// One step of sending: bytes to the stream or, when there are none left, what the stream keeps back to the socket. TLS may
/// have to wait for room at either, while answers must be read. Cancel-safe, because what one call has moved stays moved.
async fn send_some(
    writer: &mut (impl AsyncWrite + Unpin),
    outbox: &mut BytesMut,
    flushed: &mut bool,
) -> Result<(), std::io::Error> {
    if outbox.is_empty() {
        writer.flush().await?;
        *flushed = true;
    } else {
        *flushed = false;
        writer.write_buf(outbox).await?;
    }
    Ok(())
}

/// Why the other side stopped listening, if it said so: what is read after a failed write is nearer to the reason.
async fn last_words(
    reader: &mut (impl AsyncRead + Unpin),
    failure: std::io::Error,
) -> std::io::Error {
    let mut unread = [0; 1024];
    let reading = async {
        loop {
            match reader.read(&mut unread).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error),
            }
        }
    };
    match tokio::time::timeout(LAST_WORDS, reading).await {
        Ok(Some(reason)) if reason.kind() == std::io::ErrorKind::InvalidData => reason,
        _ => failure,
    }
}

/// Something that is no broker, or not in the way it was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stranger {
    /// It speaks TLS.
    #[error("the answer is an alert of TLS")]
    Tls,
    /// It speaks something else.
    #[error("an answer of {0} bytes is announced: this is no Kafka broker")]
    Unknown(usize),
}

/// Room that may be made at once for the answer that comes next.
fn room(waiting: &VecDeque<Outgoing>) -> usize {
    waiting.front().map_or(ROOM, |first| first.room)
}

/// Cuts a whole frame off the front; makes room for more of one that is not whole, but not for more than so much at once.
fn take_frame(inbox: &mut BytesMut, room: usize) -> Result<Option<Bytes>, std::io::Error> {
    let Some(prefix) = inbox.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        let stranger =
            if prefix.starts_with(&TLS_ALERT) { Stranger::Tls } else { Stranger::Unknown(length) };
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, stranger));
    }
    if inbox.len() < length + 4 {
        inbox.reserve((length + 4 - inbox.len()).min(room.max(ROOM)));
        return Ok(None);
    }
    inbox.advance(4);
    Ok(Some(inbox.split_to(length).freeze()))
}

/// Gives an answer to the first in the line, whose it must be.
fn answer(waiting: &mut VecDeque<Outgoing>, frame: Bytes) -> Result<(), std::io::Error> {
    let correlation = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
    match waiting.pop_front() {
        Some(request) if Some(request.correlation) == correlation => {
            // Whoever asked may have given up.
            let _gone = request.answer.send(Ok(frame));
            Ok(())
        }
        _ => Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "an answer came to a question that was not asked",
        )),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_cut_only_when_whole() {
        let mut inbox = BytesMut::new();
        inbox.extend_from_slice(&[0, 0, 0, 3, 1, 2]);
        assert_eq!(take_frame(&mut inbox, ROOM).unwrap(), None);
        inbox.extend_from_slice(&[3, 0]);
        assert_eq!(take_frame(&mut inbox, ROOM).unwrap().as_deref(), Some([1_u8, 2, 3].as_slice()));
        assert_eq!(inbox.as_ref(), [0]);
    }

    proptest! {
        /// However the bytes arrive: each frame comes out as it was sent, and only whole.
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in vec(vec(any::<u8>(), 0..40), 0..6),
            pieces in vec(1..30_usize, 1..40),
        ) {
            let mut sent = BytesMut::new();
            for frame in &frames {
                sent.put_u32(u32::try_from(frame.len()).unwrap());
                sent.extend_from_slice(frame);
            }
            let (mut inbox, mut received) = (BytesMut::new(), Vec::new());
            for piece in pieces.into_iter().chain([usize::MAX]) {
                let piece = sent.split_to(piece.min(sent.len()));
                inbox.extend_from_slice(&piece);
                while let Some(frame) = take_frame(&mut inbox, ROOM).unwrap() {
                    received.push(frame.to_vec());
                }
            }
            prop_assert_eq!(received, frames);
            prop_assert!(inbox.is_empty());
        }

        /// What is no broker: the bytes are frames, wait for more, or end the connection.
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in vec(any::<u8>(), 0..80), asked in any::<i32>()) {
            let mut inbox = BytesMut::from(&*bytes);
            let (sender, _receiver) = oneshot::channel();
            let frame = Bytes::new();
            let mut waiting = VecDeque::from([Outgoing { correlation: asked, frame, room: ROOM, answer: sender }]);
            while let Ok(Some(frame)) = take_frame(&mut inbox, ROOM) {
                prop_assert!(frame.len() <= bytes.len());
                let correlation = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
                let was_asked = !waiting.is_empty() && correlation == Some(asked);
                prop_assert_eq!(answer(&mut waiting, frame).is_ok(), was_asked);
            }
            prop_assert!(inbox.capacity() <= bytes.len() + 2 * ROOM);
        }
    }

    #[test]
    fn an_announced_length_alone_takes_no_memory() {
        let mut inbox = BytesMut::from([15, 255, 255, 255, 0].as_slice());
        assert_eq!(take_frame(&mut inbox, ROOM).unwrap(), None);
        assert!(inbox.capacity() <= 2 * ROOM, "{}", inbox.capacity());
    }

    #[test]
    fn an_announced_length_beyond_reason_is_an_error() {
        let mut inbox = BytesMut::from(b"HTTP/1.1 400 Bad Request".as_slice());
        assert!(take_frame(&mut inbox, ROOM).is_err());
    }

    #[test]
    fn an_alert_of_tls_is_recognised() {
        let mut inbox = BytesMut::from([0x15, 3, 3, 0, 2, 2, 40].as_slice());
        let error = take_frame(&mut inbox, ROOM).unwrap_err();
        let stranger = error.get_ref().and_then(|cause| cause.downcast_ref::<Stranger>());
        assert_eq!(stranger, Some(&Stranger::Tls));
    }

    /// A broker that misses a client certificate says so after the handshake, which may be before the first request is
    /// queued: the reason was lost with the pump.
    #[tokio::test]
    async fn a_connection_that_ended_while_nobody_asked_keeps_the_reason() {
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        let (requests, incoming) = mpsc::channel(1);
        let fate = Arc::new(Fate::default());
        pump(Box::new(near), incoming, Arc::clone(&fate)).await;
        assert!(requests.is_closed() && fate.broken.load(Ordering::Acquire));
        let cause = fate.cause.get().map(|cause| cause.kind());
        assert_eq!(cause, Some(std::io::ErrorKind::UnexpectedEof));
    }
}

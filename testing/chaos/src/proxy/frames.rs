//! Frames of the Kafka protocol, cut out of a stream of bytes: four bytes of length, then so many bytes.

use std::io::{Error, ErrorKind};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The largest frame that is passed on: above what brokers and clients send each other in a run.
const MAX_FRAME: usize = 128 << 20;

/// What is read at a time.
const CHUNK: usize = 64 << 10;

/// Frames that arrive.
#[derive(Debug)]
pub(super) struct FrameReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new(stream: OwnedReadHalf) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame without its length; `None` when the other side is done. Cancel-safe: what was read stays in the
    /// buffer.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(CHUNK);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Sends a frame with its length.
pub(super) async fn send(stream: &mut OwnedWriteHalf, frame: &Bytes) -> Result<(), Error> {
    let length = u32::try_from(frame.len()).map_err(Error::other)?;
    let mut whole = BytesMut::with_capacity(frame.len() + 4);
    whole.put_u32(length);
    whole.extend_from_slice(frame);
    stream.write_all(&whole).await
}

fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        let text = format!("a frame of {length} bytes is announced: this is no Kafka");
        return Err(Error::new(ErrorKind::InvalidData, text));
    }
    if buffer.len() < length + 4 {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_only_when_whole() {
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&[0, 0, 0, 3, 1, 2]);
        assert_eq!(take_frame(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(&[3, 0]);
        assert_eq!(take_frame(&mut buffer).unwrap().as_deref(), Some([1_u8, 2, 3].as_slice()));
        assert_eq!(buffer.as_ref(), [0]);
    }

    #[test]
    fn an_announced_length_beyond_reason_is_an_error() {
        let mut buffer = BytesMut::from(b"HTTP/1.1 400 Bad Request".as_slice());
        assert!(take_frame(&mut buffer).is_err());
    }
}

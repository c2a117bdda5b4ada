//! Decoding a frame without believing how much it says it holds.
//!
//! The library makes room for as many elements as an array claims before it reads the first: eight bytes can ask for
//! hundreds of gigabytes, and an allocation that fails ends the process. An element takes a byte at least, so a claim
//! beyond what is left of the frame is false. The library reads through a buffer that watches what it hands out:
//!
//! - Flexible versions have their lengths as unsigned varints, which are read byte by byte and are nothing but lengths
//!   and tags. One beyond what is left is an error.
//! - Older versions have them as `i32`, as numbers are. One beyond what is left is handed out as one more than what is
//!   left. Was it a length, the frame ends before its elements do, which is an error. Was it a number, nothing depends
//!   on it; the frame is then known to be sound, and is decoded again as it is.
//!
//! So what is allocated is bounded by the frame's bytes, times the size of an element, times the depth of arrays in
//! arrays. This module knows no messages; both ends of the protocol use it.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

/// A varint of one byte is let through wherever it stands: the number of a tag may be above the few bytes that are left
/// after it, and room for so many elements is nothing.
const ONE_BYTE: u64 = 0x7f;

/// Bits of the longest varint that the library reads: five bytes of seven.
const MAX_VARINT_BITS: u32 = 35;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Decodes a message or header in front of `frame` and leaves what follows.
pub(crate) fn decode<T: Decodable>(frame: &mut Bytes, version: i16) -> Result<T, Cause> {
    let mut watched = Watched { left: frame.clone(), varint: 0, bits: 0, has_cut: false };
    let decoded = T::decode(&mut watched, version)?;
    if watched.has_cut {
        return Ok(T::decode(frame, version)?);
    }
    *frame = watched.left;
    Ok(decoded)
}

/// A buffer that hands out no length beyond what is left of it.
struct Watched {
    left: Bytes,
    /// What was read of a varint. A flag that is neither 0 nor 1 may be taken for its beginning: then it is taken for
    /// larger than it is, never for smaller.
    varint: u64,
    bits: u32,
    /// An `i32` was handed out as less than it is.
    has_cut: bool,
}

impl Buf for Watched {
    fn remaining(&self) -> usize {
        self.left.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.left.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.left.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.left.copy_to_bytes(len)
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.left.try_get_u8()?;
        self.varint |= u64::from(byte & 0x7f) << self.bits;
        self.bits += 7;
        let is_last = byte & 0x80 == 0;
        let available = self.remaining();
        if self.varint > ONE_BYTE.saturating_add(available as u64)
            || (!is_last && self.bits >= MAX_VARINT_BITS)
        {
            let requested = usize::try_from(self.varint).unwrap_or(usize::MAX);
            return Err(TryGetError { requested, available });
        }
        if is_last {
            (self.varint, self.bits) = (0, 0);
        }
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let number = self.left.try_get_i32()?;
        let most = i32::try_from(self.remaining()).unwrap_or(i32::MAX).saturating_add(1);
        self.has_cut |= number > most;
        Ok(number.min(most))
    }
}

impl ByteBuf for Watched {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.left.peek_bytes(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.left.get_bytes(size)
    }
}

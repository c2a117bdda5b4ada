//! The four codecs of Kafka's record batches, each with a limit to what comes out.
//!
//! A few bytes can stand for gigabytes: a block of zstd repeats one byte 128 Ki times in four, and snappy only claims a
//! size. The protocol library believes both, so batches are decompressed here. Nothing here knows what a record is.

use std::io::{Error, ErrorKind, Read};

use bytes::Bytes;

/// The most that a batch of a control topic may hold once it is decompressed: twice the largest value that Tidegate reads,
/// and sixteen times what producers put into a batch by default. Full of empty records it takes some 250 MB for a moment,
/// which a process survives.
pub(crate) const MAX_PLAIN: usize = 16 << 20;

/// How snappy begins in the framing of its Java library, which Kafka's clients use: a mark and two versions.
const XERIAL: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";

/// A copy of snappy takes three bytes for up to 64: what claims to hold more than this many times its size is false.
const MAX_SNAPPY_RATIO: usize = 22;

/// Decompresses with the codec of a batch's attributes, to no more than so many bytes.
pub(crate) fn decompress(codec: i16, bytes: Bytes, most: usize) -> Result<Bytes, Error> {
    let plain = match codec {
        0 => return Ok(bytes),
        1 => read(flate2::read::GzDecoder::new(&*bytes), most)?,
        2 => snappy(&bytes, most)?,
        3 => read(lz4::Decoder::new(&*bytes)?, most)?,
        4 => read(zstd::stream::read::Decoder::with_buffer(&*bytes)?, most)?,
        _ => return Err(invalid(format!("there is no codec {codec}"))),
    };
    Ok(Bytes::from(plain))
}

fn read(source: impl Read, most: usize) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    // One more than the limit tells what is at it from what is beyond.
    source.take(most as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > most { Err(too_large(most)) } else { Ok(plain) }
}

/// Blocks with their lengths in front, or, without the mark, one block.
fn snappy(bytes: &[u8], most: usize) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(&XERIAL) else {
        snappy_block(bytes, &mut plain, most)?;
        return Ok(plain);
    };
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (block, after) = after.split_at_checked(length).ok_or_else(cut_off)?;
        snappy_block(block, &mut plain, most)?;
        rest = after;
    }
    Ok(plain)
}

fn snappy_block(block: &[u8], plain: &mut Vec<u8>, most: usize) -> Result<(), Error> {
    let (from, claimed) = (plain.len(), snap::raw::decompress_len(block)?);
    if claimed > block.len().saturating_mul(MAX_SNAPPY_RATIO) {
        return Err(invalid(format!("{} bytes of snappy claim to hold {claimed}", block.len())));
    }
    if from + claimed > most {
        return Err(too_large(most));
    }
    plain.resize(from + claimed, 0);
    snap::raw::Decoder::new().decompress(block, &mut plain[from..])?;
    Ok(())
}

fn too_large(most: usize) -> Error {
    invalid(format!("it holds more than {most} bytes"))
}

fn cut_off() -> Error {
    ErrorKind::UnexpectedEof.into()
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidData, text)
}

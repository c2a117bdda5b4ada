//! From records to lines, at the speed of memory: no intermediate tree, one pass to check that bytes are text and one
//! to copy them, eight bytes at a step.

use bytes::Bytes;
use tidegate_runtime::ports::Record;

use super::base64;

/// Writes the lines of one partition.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// What all lines begin with, up to the offset.
    prefix: Vec<u8>,
}

impl Encoder {
    /// An encoder for a partition of a topic.
    pub fn new(topic: &str, partition: u32) -> Self {
        let mut prefix = b"{\"topic\":".to_vec();
        string(topic, &mut prefix);
        prefix.extend_from_slice(b",\"partition\":");
        decimal(u64::from(partition), &mut prefix);
        prefix.extend_from_slice(b",\"offset\":");
        Self { prefix }
    }

    /// Bytes that the line of a record takes when nothing in it has to be escaped: what to reserve.
    pub fn size_hint(&self, record: &Record) -> usize {
        const FRAME: usize = 96;
        const HEADER_FRAME: usize = 24;
        self.prefix.len() + FRAME + record.size() + record.headers.len() * HEADER_FRAME
    }

    /// Appends the line of a record, with its line feed.
    pub fn line(&self, record: &Record, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        decimal(record.offset, out);
        out.extend_from_slice(b",\"timestamp\":");
        if record.timestamp_ms == -1 {
            out.extend_from_slice(b"null");
        } else {
            if record.timestamp_ms < 0 {
                out.push(b'-');
            }
            decimal(record.timestamp_ms.unsigned_abs(), out);
        }
        field("key", record.key.as_ref(), out);
        field("value", record.value.as_ref(), out);
        if !record.headers.is_empty() {
            headers(&record.headers, out);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn headers(headers: &[(String, Option<Bytes>)], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"headers\":");
    let mut opening = b'[';
    for (name, value) in headers {
        out.push(opening);
        opening = b',';
        out.extend_from_slice(b"{\"name\":");
        string(name, out);
        field("value", value.as_ref(), out);
        out.push(b'}');
    }
    out.push(b']');
}

/// Appends `,"name":` with a string or null, or `,"nameBase64":` where the bytes are no text.
fn field(name: &str, bytes: Option<&Bytes>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => out.extend_from_slice(b"\":null"),
        Some(Ok(text)) => {
            out.extend_from_slice(b"\":");
            string(text, out);
        }
        Some(Err(bytes)) => {
            out.extend_from_slice(b"Base64\":\"");
            base64::encode(bytes, out);
            out.push(b'"');
        }
    }
}

/// Appends a JSON string.
fn string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.push(b'"');
    while let Some(at) = first_special(rest) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else { break };
        escape(*special, out);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Index of the first byte that JSON wants escaped: a quote, a backslash or a control character.
fn first_special(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let clean =
        words.iter().take_while(|word| !has_special(u64::from_le_bytes(**word))).count() * 8;
    let (_, rest) = bytes.split_at(clean);
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).map(|at| clean + at)
}

/// Whether one of eight bytes is special: the well-known tests for a zero byte and for a byte below a bound.
fn has_special(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    below(word, 0x20) | below(quote, 1) | below(backslash, 1) != 0
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}

/// Appends a number in decimal.
fn decimal(mut number: u64, out: &mut Vec<u8>) {
    /// Digits of the highest `u64`.
    const MOST: usize = 20;
    let mut digits = [b'0'; MOST];
    let mut start = MOST;
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

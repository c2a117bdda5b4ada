//! What a record of the generator says about itself: its value is a line of text such as
//!
//! ```text
//! tidegate-load 1f 7 42 1700000000123 Zm9vYmFy…
//!               |  | |  |             padding up to the record's size
//!               |  | |  when it was sent, in milliseconds since the Unix epoch
//!               |  | sequence number in its partition, from 0
//!               |  number of its partition
//!               run, in hexadecimal
//! ```

use std::io::Write as _;

use bytes::Bytes;

/// What every value begins with.
const MARK: &str = "tidegate-load";

/// Bytes that a stamp takes at most, and so the least size of a record.
pub const MIN_RECORD_BYTES: usize = 96;

/// Bytes of the text that padding is cut from.
const PADDING: usize = 64 * 1024;

/// The identity of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which run of a generator sent it.
    pub run: u64,
    /// Number of the partition that it was sent to.
    pub partition: u32,
    /// Its place among the records that were sent to that partition.
    pub sequence: u64,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub time_ms: u64,
}

/// Makes values from stamps. The padding is random text, so that compression does not shrink the load to nothing.
#[derive(Clone, Debug)]
pub struct Stamper {
    padding: Vec<u8>,
    record_bytes: usize,
}

// === impl Stamp ===

impl Stamp {
    /// Reads the stamp at the beginning of a value; `None` when it is no record of a generator.
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        if words.next()? != MARK {
            return None;
        }
        Some(Self {
            run: u64::from_str_radix(words.next()?, 16).ok()?,
            partition: words.next()?.parse().ok()?,
            sequence: words.next()?.parse().ok()?,
            time_ms: words.next()?.parse().ok()?,
        })
    }
}

// === impl Stamper ===

impl Stamper {
    /// Makes values of this size, or of [`MIN_RECORD_BYTES`] if that is larger.
    pub fn new(seed: u64, record_bytes: usize) -> Self {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let record_bytes = record_bytes.max(MIN_RECORD_BYTES);
        let letter =
            |at: u64| LETTERS[usize::from(crate::profile::mix(seed, at, 0).to_le_bytes()[0] & 63)];
        let padding = (0..(PADDING + record_bytes) as u64).map(letter).collect();
        Self { padding, record_bytes }
    }

    /// The value of the record with this stamp.
    pub fn value(&self, stamp: Stamp) -> Bytes {
        let Stamp { run, partition, sequence, time_ms } = stamp;
        let mut value = Vec::with_capacity(self.record_bytes);
        // Writing to memory does not fail.
        drop(write!(value, "{MARK} {run:x} {partition} {sequence} {time_ms} "));
        let from = usize::try_from(sequence % PADDING as u64).unwrap_or_default();
        let length = self.record_bytes.saturating_sub(value.len());
        value.extend_from_slice(&self.padding[from..from + length]);
        value.into()
    }

    /// Bytes of every value.
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stamp_is_read_back(run: u64, partition: u32, sequence: u64, time_ms: u64, size in 0_usize..300) {
            let stamp = Stamp { run, partition, sequence, time_ms };
            let stamper = Stamper::new(1, size);
            let value = stamper.value(stamp);
            prop_assert_eq!(value.len(), size.max(MIN_RECORD_BYTES));
            prop_assert_eq!(Stamp::parse(std::str::from_utf8(&value).unwrap()), Some(stamp));
        }

        #[test]
        fn other_text_has_no_stamp(text: String) {
            prop_assert_eq!(Stamp::parse(&text), None);
        }
    }
}

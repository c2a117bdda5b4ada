//! Names of things and points in time, as types that cannot be mixed up.
//!
//! Offsets of the ledger double as fencing tokens; each role they play has its own type, so that a term is never
//! compared with an epoch. All of them order by offset, and are only comparable inside one [`Generation`].

use alloc::string::String;
use core::fmt::{self, Write as _};
use core::num::NonZeroU32;
use core::time::Duration;

/// Kafka's unique id of a topic. A topic that was deleted and created again is another topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The alphabet of URL-safe base 64, in which Kafka's tools print topic ids.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Digits of a topic id: 21 of six bits and a last one of two.
const TOPIC_ID_DIGITS: u32 = 22;

impl fmt::Display for TopicId {
    /// Writes the id as Kafka's own tools do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        (0..TOPIC_ID_DIGITS).try_for_each(|digit| {
            let shift = 122_u32.saturating_sub(digit.saturating_mul(6));
            let bits = if digit < 21 { value >> shift } else { value << 4 };
            let index = usize::try_from(bits & 63).unwrap_or_default();
            f.write_char(char::from(BASE64.get(index).copied().unwrap_or(b'A')))
        })
    }
}

impl TopicId {
    /// Reads the 22 digits that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let (last, front) = digits.split_last()?;
        if front.len() != 21 {
            return None;
        }
        let digit = |byte: &u8| {
            BASE64.iter().position(|letter| letter == byte).and_then(|at| u128::try_from(at).ok())
        };
        let high =
            front.iter().try_fold(0_u128, |value, byte| Some((value << 6) | digit(byte)?))?;
        let low = digit(last)?;
        low.is_multiple_of(16).then_some(Self(((high << 2) | (low >> 4)).to_be_bytes()))
    }
}

/// A partition of a data topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic, by id.
    pub topic: TopicId,
    /// The partition's number in its topic.
    pub number: u32,
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// The number of a consumer, from 1 on: also the partition of the controller topic that it reads its commands from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerNumber(NonZeroU32);

impl ConsumerNumber {
    /// The lowest number.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The consumer with this number; `None` for 0, which is the ledger's partition.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// All numbers in rising order, starting with this one.
    pub fn and_above(self) -> impl Iterator<Item = Self> {
        (self.get()..=u32::MAX).filter_map(Self::new)
    }
}

impl fmt::Debug for ConsumerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConsumerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Identifies one run of one process: random, made at its start, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u128);

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl ProcessId {
    /// Reads the 32 hexadecimal digits that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == 32 { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
    }

    /// Stands for all processes that were started in one place, such as the containers of a pod one after the other: their ids
    /// differ in the last eight digits only.
    #[must_use]
    pub const fn family(self) -> Self {
        Self(self.0 & !0xffff_ffff)
    }

    /// The one of a family that has the same last digits.
    #[must_use]
    pub const fn in_family(self, family: Self) -> Self {
        Self(family.family().0 | (self.0 & !self.family().0))
    }
}

/// Identifies a state directory: random, made with it, kept in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub u128);

/// Identifies one boot of one machine, as its kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u128);

/// Which life of the ledger: unix seconds at its genesis, higher with each reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    /// The lowest generation above this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// An offset in the ledger or in a consumer's command partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

macro_rules! ledger_token {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Offset);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "@{}"), self.0.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.0)
            }
        }
    };
}

ledger_token! {
    /// A controller's reign: the offset of its `Elect`.
    Term
}
ledger_token! {
    /// A consumer's life: the offset of its `Hello`.
    Incarnation
}
ledger_token! {
    /// A grant's fencing token: the offset at which the `Grant` was read, never one taken from an acknowledgement.
    Epoch
}

/// What a sink compares before it lets an owner write: a later grant has a higher token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken {
    /// The ledger's generation, compared first.
    pub generation: Generation,
    /// The grant's epoch in that generation.
    pub epoch: Epoch,
}

/// A position in a data partition: the offset of the next record to read or to write.
///
/// Kafka's offsets are signed on the wire; negative ones never get this far.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A point in time: since the machine's boot, suspended time included, so that it never jumps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{:?}", self.0)
    }
}

impl Instant {
    /// The point in time this long after boot.
    pub const fn since_boot(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The point in time this much earlier, at most back to boot.
    #[must_use]
    pub const fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// The point in time this much later.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}

/// The name of a consumer group that Tidegate runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(pub String);

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn a_topic_id_is_written_as_kafka_writes_it_and_read_back() {
        let bytes = [0xb2, 0x1c, 0x00, 0x7f, 0x80, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xfe];
        let id = TopicId(bytes);
        assert_eq!(id.to_string(), "shwAf4D_AQIDBAUGBwgJ_g");
        assert_eq!(TopicId::parse("shwAf4D_AQIDBAUGBwgJ_g"), Some(id));
        assert_eq!(TopicId::parse("shwAf4D_AQIDBAUGBwgJ_h"), None, "spare bits must be zero");
        assert_eq!(TopicId::parse("short"), None);
    }
}

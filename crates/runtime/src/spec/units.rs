//! Durations, sizes, rates and ratios as people write them: `30s`, `5MB`, `2 MiB/s`, `0.75`.
//!
//! Each unit here is a marker for `#[serde(with = "...")]`: the field itself is a plain `Duration` or integer. All
//! arithmetic is in integers, so `0.1MB` is exactly 100,000 bytes.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Suffix and worth of a unit, the largest first.
type Units = [(&'static str, u64)];

const TIME: &Units = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const BYTES: &Units = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A length of time: a number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug)]
pub struct Span;

/// A number of bytes: a number and `B`, `kB`, `MB`, `GB` (powers of 1000) or `KiB`, `MiB`, `GiB` (powers of 1024).
#[derive(Clone, Copy, Debug)]
pub struct Size;

/// Bytes per second, above 0: a size and `/s`.
#[derive(Clone, Copy, Debug)]
pub struct Rate;

/// A [`Rate`] that can be left out.
#[derive(Clone, Copy, Debug)]
pub struct OptionalRate;

/// An address and a port to listen on.
#[derive(Clone, Copy, Debug)]
pub struct Address;

/// A ratio in thousandths: written as a decimal number, kept as an integer so that no decision sees a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permille(pub u32);

// === impl Span ===

impl Span {
    /// Reads a duration; the error says what is expected.
    pub fn parse(text: &str) -> Result<Duration, String> {
        number_with_unit(text, TIME)
            .map(Duration::from_millis)
            .ok_or_else(|| format!("expected a duration such as 30s, 500ms or 3m, found {text:?}"))
    }

    /// Writes a duration with the largest unit that keeps it whole; parts of a millisecond are dropped.
    pub fn print(span: Duration) -> String {
        print(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), TIME, "s")
    }

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Self::print(*span))
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Self::parse(&text(deserializer)?).map_err(D::Error::custom)
    }
}

// === impl Size ===

impl Size {
    /// Reads a size in bytes; the error says what is expected.
    pub fn parse(text: &str) -> Result<u64, String> {
        number_with_unit(text, BYTES)
            .ok_or_else(|| format!("expected a size such as 5MB or 64KiB, found {text:?}"))
    }

    /// Writes a size with the unit that gives the smallest whole number.
    pub fn print(bytes: u64) -> String {
        print(bytes, BYTES, "B")
    }

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Self::print(*bytes))
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Self::parse(&text(deserializer)?).map_err(D::Error::custom)
    }
}

// === impl Rate ===

impl Rate {
    /// Reads a rate in bytes per second; the error says what is expected.
    pub fn parse(text: &str) -> Result<NonZeroU64, String> {
        text.strip_suffix("/s")
            .and_then(|size| number_with_unit(size, BYTES))
            .and_then(NonZeroU64::new)
            .ok_or_else(|| format!("expected a rate such as 10MB/s, found {text:?}"))
    }

    /// Writes a rate with the unit that gives the smallest whole number.
    pub fn print(bytes_per_second: NonZeroU64) -> String {
        format!("{}/s", Size::print(bytes_per_second.get()))
    }

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(rate: &NonZeroU64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Self::print(*rate))
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU64, D::Error> {
        Self::parse(&text(deserializer)?).map_err(D::Error::custom)
    }
}

// === impl OptionalRate ===

impl OptionalRate {
    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(rate: &Option<NonZeroU64>, to: S) -> Result<S::Ok, S::Error> {
        rate.map(Rate::print).serialize(to)
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NonZeroU64>, D::Error> {
        Rate::deserialize(deserializer).map(Some)
    }
}

// === impl Address ===

impl Address {
    /// Reads an address and a port; the error says what is expected.
    pub fn parse(text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| {
            format!("expected an address and a port such as 127.0.0.1:8080, found {text:?}")
        })
    }

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(address: &SocketAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(address)
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        Self::parse(&text(deserializer)?).map_err(D::Error::custom)
    }
}

// === impl Permille ===

impl Permille {
    /// The whole.
    pub const ONE: Self = Self(1000);

    /// Reads a decimal number; digits beyond the third decimal are refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        scaled(text, 1000).and_then(|value| u32::try_from(value).ok()).map(Self).ok_or_else(|| {
            format!("expected a number such as 0.75 with at most three decimals, found {text}")
        })
    }
}

impl Serialize for Permille {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Permille {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        Self::parse(&number.to_string()).map_err(D::Error::custom)
    }
}

// === schemas ===

macro_rules! schema {
    ($($unit:ident),+: $schema:tt) => {
        $(
            impl JsonSchema for $unit {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($unit).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!($schema)
                }
            }
        )+
    };
}

schema!(Span: {
    "type": "string",
    "format": "duration",
    "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$",
});
schema!(Size: {
    "type": "string",
    "format": "bytes",
    "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|[kKMGT]B|[KMGT]iB)$",
});
schema!(Rate, OptionalRate: {
    "type": "string",
    "format": "bytes-per-second",
    "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|[kKMGT]B|[KMGT]iB)/s$",
});
schema!(Address: { "type": "string", "format": "address" });
schema!(Permille: { "type": "number", "format": "permille", "minimum": 0 });

/// Checks a leaf against the `format` of its schema; formats that are not ours pass.
pub(super) fn check(format: &str, leaf: &str) -> Result<(), String> {
    match format {
        "duration" => Span::parse(leaf).map(drop),
        "bytes" => Size::parse(leaf).map(drop),
        "bytes-per-second" => Rate::parse(leaf).map(drop),
        "address" => Address::parse(leaf).map(drop),
        "permille" => Permille::parse(leaf).map(drop),
        _ => Ok(()),
    }
}

// === helpers ===

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer)
}

fn number_with_unit(text: &str, units: &Units) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, worth) = units.iter().find(|(name, _)| *name == unit)?;
    scaled(number, *worth)
}

/// The decimal number times `worth`, when that is a whole number that fits.
fn scaled(number: &str, worth: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain { text.parse::<u128>().ok() } else { None }
    };
    let unit = 10_u128.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    let value = digits(whole)?.checked_mul(unit)?.checked_add(digits(decimals)?)?;
    let scaled = value.checked_mul(u128::from(worth))?;
    if scaled.is_multiple_of(unit) { u64::try_from(scaled / unit).ok() } else { None }
}

/// The shortest whole number of a unit; `zero` is the unit that zero is written in.
fn print(value: u64, units: &Units, zero: &str) -> String {
    units
        .iter()
        .filter(|(_, worth)| value > 0 && value.is_multiple_of(*worth))
        .max_by_key(|(_, worth)| *worth)
        .map_or_else(|| format!("0{zero}"), |(name, worth)| format!("{}{name}", value / worth))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(Span::parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(Span::parse("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(Size::parse("5MB"), Ok(5_000_000));
        assert_eq!(Size::parse("64 KiB"), Ok(65_536));
        assert_eq!(Rate::parse("0.1MB/s"), Ok(NonZeroU64::new(100_000).unwrap()));
        assert_eq!(Permille::parse("0.75"), Ok(Permille(750)));
        assert_eq!(Permille::parse("2"), Ok(Permille(2000)));
    }

    #[test]
    fn what_is_not_exact_or_has_no_unit_is_refused_with_an_example() {
        for wrong in ["30", "s", "-1s", "1.s", ".5s", "0.1ms", "9999999999999999999d", "1 month"] {
            let error = Span::parse(wrong).unwrap_err();
            assert!(error.contains("30s") && error.contains(wrong), "{error}");
        }
        for wrong in ["10MB", "0B/s", "10 mb/s", "MB/s"] {
            assert!(Rate::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Permille::parse("0.7555").is_err());
        assert!(Permille::parse("-1").is_err());
    }

    #[test]
    fn values_are_printed_short() {
        assert_eq!(Span::print(Duration::from_secs(180)), "3m");
        assert_eq!(Span::print(Duration::from_secs(90)), "90s");
        assert_eq!(Span::print(Duration::ZERO), "0s");
        assert_eq!(Size::print(5_000_000), "5MB");
        assert_eq!(Size::print(10 << 20), "10MiB");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(value in any::<u64>()) {
            prop_assert_eq!(Size::parse(&Size::print(value)), Ok(value));
            let span = Duration::from_millis(value);
            prop_assert_eq!(Span::parse(&Span::print(span)), Ok(span));
        }

        #[test]
        fn reading_never_panics(text in ".*") {
            for format in ["duration", "bytes", "bytes-per-second", "permille"] {
                drop(check(format, &text));
            }
        }
    }
}

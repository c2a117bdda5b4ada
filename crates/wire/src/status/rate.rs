//! Rates as people read them.

use std::fmt;

/// A rate in bytes per second, with the decimal unit that fits: `7.50 MB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate(pub u64);

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            bytes @ 1_000_000.. => {
                format!("{}.{:02} MB/s", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
            }
            bytes @ 1000.. => format!("{}.{} kB/s", bytes / 1000, bytes % 1000 / 100),
            bytes => format!("{bytes} B/s"),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_in_the_unit_that_fits() {
        let texts = [0, 999, 1000, 999_999, 7_509_999].map(|rate| ByteRate(rate).to_string());
        assert_eq!(texts, ["0 B/s", "999 B/s", "1.0 kB/s", "999.9 kB/s", "7.50 MB/s"]);
        assert_eq!(format!("{:<8}|", ByteRate(5)), "5 B/s   |");
    }
}

//! The largest value of the last while, which is forgotten part by part.

use core::time::Duration;

/// The largest value of each part: of the present one first, and of as many before as a while has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peak([u64; 5]);

/// The parts of a while.
const PARTS: u32 = 4;

impl Peak {
    /// How long a part lasts. What is remembered is the while, and at most one part more.
    pub(super) fn part_of(whole: Duration) -> Duration {
        whole.checked_div(PARTS).unwrap_or(whole)
    }

    /// Takes a value in.
    pub(super) fn note(&mut self, value: u64) {
        let [present, ..] = &mut self.0;
        *present = value.max(*present);
    }

    /// A part is over; the next begins with this value.
    pub(super) fn turn(&mut self, value: u64) {
        self.0.rotate_right(1);
        let [present, ..] = &mut self.0;
        *present = value;
    }

    pub(super) fn largest(self) -> u64 {
        self.0.into_iter().fold(0, u64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_remembered_for_as_many_parts_and_then_forgotten() {
        let mut peak = Peak::default();
        peak.note(7);
        peak.note(9);
        for _ in 0..PARTS {
            peak.turn(5);
            assert_eq!(peak.largest(), 9);
        }
        peak.turn(5);
        assert_eq!(peak.largest(), 5);
    }
}

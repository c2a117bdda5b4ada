//! The largest value of the last while, which is forgotten part by part.

use core::time::Duration;

/// The largest value of each part: of the present one first, and of as many before as a while has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peak([u64; 5]);

/// The parts of a while.
const PARTS: u128 = 4;

impl Peak {
    /// How many parts of a while a time has, at most as many as are remembered: the while itself, and one part more.
    pub(super) fn parts_in(time: Duration, whole: Duration) -> usize {
        let parts = time.as_nanos().saturating_mul(PARTS).checked_div(whole.as_nanos());
        let all = Self::default().0.len();
        parts.and_then(|parts| usize::try_from(parts).ok()).unwrap_or(all).min(all)
    }

    /// Takes a value in.
    pub(super) fn note(&mut self, value: u64) {
        let [present, ..] = &mut self.0;
        *present = value.max(*present);
    }

    /// So many parts are over; all that have begun since have this value.
    pub(super) fn turn(&mut self, parts: usize, value: u64) {
        let over = parts.min(self.0.len());
        self.0.rotate_right(over);
        for part in self.0.iter_mut().take(over) {
            *part = value;
        }
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
            peak.turn(1, 5);
            assert_eq!(peak.largest(), 9);
        }
        peak.turn(1, 5);
        assert_eq!(peak.largest(), 5);
        peak.note(9);
        peak.turn(7, 5);
        assert_eq!(peak.largest(), 5, "after a long time all of it");
    }

    #[test]
    fn parts_are_counted_by_time() {
        let secs = Duration::from_secs;
        assert_eq!(Peak::parts_in(secs(44), secs(180)), 0);
        assert_eq!(Peak::parts_in(secs(45), secs(180)), 1);
        assert_eq!(Peak::parts_in(secs(3600), secs(180)), 5);
        assert_eq!(Peak::parts_in(secs(0), secs(0)), 5, "without a hold nothing is remembered");
    }
}

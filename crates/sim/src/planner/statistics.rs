//! Means, spreads and percentiles: the few that reports need. Percentiles are interpolated between neighbours, so that they agree with
//! what the common tools for data give.

use crate::number::{floored, length};

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / length(values.len()) }
}

/// The standard deviation of a sample; 0 of fewer than two.
pub fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    libm::sqrt(squares / length(values.len() - 1))
}

/// The value that this share of all are below; 0 of nothing.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let rank = share.clamp(0.0, 1.0) * length(last);
    let below = usize::try_from(floored(rank)).unwrap_or(last).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - length(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(value: f64, wanted: f64) -> bool {
        (value - wanted).abs() < 1e-12
    }

    #[test]
    fn mean_and_deviation_are_those_of_a_sample() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert!(is_near(mean(&values), 5.0));
        assert!(is_near(deviation(&values), libm::sqrt(32.0 / 7.0)));
        assert!(is_near(deviation(&[3.0]), 0.0) && is_near(mean(&[]), 0.0));
    }

    #[test]
    fn percentiles_are_interpolated() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert!(is_near(percentile(&values, 0.5), 2.5));
        assert!(is_near(percentile(&values, 0.0), 1.0) && is_near(percentile(&values, 1.0), 4.0));
        assert!(is_near(percentile(&[], 0.5), 0.0));
    }
}

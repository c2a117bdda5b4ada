//! Quantiles that were measured, not interpolated: for times of which the largest ones count.

/// The smallest values that 50, 99 and 100 in a hundred do not exceed; the default of nothing.
pub(crate) fn nearest_ranks<T: Copy + Default + Ord>(mut values: Vec<T>) -> [T; 3] {
    values.sort_unstable();
    [50, 99, 100].map(|percent| {
        let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
        values.get(rank).copied().unwrap_or_default()
    })
}

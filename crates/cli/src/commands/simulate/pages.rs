//! What the reports of simulations share: which points stand in front.

/// The points that no other one beats in both coordinates, from left to right.
pub(super) fn front(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut lowest = f64::INFINITY;
    sorted.retain(|(_, y)| {
        let is_lower = *y < lowest;
        lowest = lowest.min(*y);
        is_lower
    });
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_has_what_nothing_beats_in_both() {
        let points = [(3.0, 1.0), (1.0, 5.0), (2.0, 6.0), (2.0, 3.0), (4.0, 1.0)];
        assert_eq!(front(&points), [(1.0, 5.0), (2.0, 3.0), (3.0, 1.0)]);
    }
}

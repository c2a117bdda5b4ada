//! Conversions between counts and floats, in one place. Simulations measure in floats; what they decide with are integers.

/// A count as a float; above 2^53 the nearest that there is.
#[expect(clippy::cast_precision_loss, reason = "a measurement needs no more than 53 bits")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// A length as a float.
pub(crate) const fn length(count: usize) -> f64 {
    float(count as u64)
}

/// The nearest count; 0 for what is below it or is no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is wanted"
)]
pub(crate) fn rounded(value: f64) -> u64 {
    libm::round(value) as u64
}

/// The count below; 0 for what is below it or is no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is wanted"
)]
pub(crate) const fn floored(value: f64) -> u64 {
    value as u64
}

//! The low-pass filter: the one place where a rate is a float.
//!
//! An exponentially weighted moving average with the exact gain `1 - exp(-dt / tau)`, so that late samples weigh what they
//! should: after a step, 63 % of it is reached after one time constant and 95 % after three, however the samples fall.
//! Only basic operations and `libm` are used: every machine computes the same bits.

use core::time::Duration;

/// An exponentially weighted moving average of a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowPass {
    time_constant: Duration,
    value: Option<f64>,
}

impl LowPass {
    /// A filter that has seen nothing. A time constant of zero passes everything.
    pub const fn new(time_constant: Duration) -> Self {
        Self { time_constant, value: None }
    }

    /// Takes in that `bytes` were written during `elapsed`. The first input is believed as it is.
    pub fn push(&mut self, bytes: u64, elapsed: Duration) {
        if elapsed.is_zero() {
            return;
        }
        let rate = to_float(bytes) / elapsed.as_secs_f64();
        self.value = Some(match self.value {
            Some(value) if !self.time_constant.is_zero() => {
                let passed = elapsed.as_secs_f64() / self.time_constant.as_secs_f64();
                let gain = 1.0 - libm::exp(-passed);
                value + gain * (rate - value)
            }
            _ => rate,
        });
    }

    /// The filtered rate, rounded; `None` before the first input.
    pub fn rate(&self) -> Option<u64> {
        self.value.map(|value| to_integer(libm::round(value)))
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 53 bits, and there is no lossless conversion"
)]
fn to_float(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and an average of rates is never negative"
)]
fn to_integer(rate: f64) -> u64 {
    rate as u64
}

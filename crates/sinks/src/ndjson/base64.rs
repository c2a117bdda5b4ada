//! Base 64 with the standard alphabet and padding, for values that are not text.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Marks a byte that is no digit in [`DIGITS`].
const NO_DIGIT: u8 = 0xff;

/// The value of each digit, by its byte.
static DIGITS: [u8; 256] = digits();

/// The two digits of each twelve bits: half as many look-ups as digit by digit.
static PAIRS: [[u8; 2]; 4096] = pairs();

/// Appends the digits of `bytes`.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let (triples, rest) = bytes.as_chunks::<3>();
    for triple in triples {
        out.extend_from_slice(&quad(*triple));
    }
    match *rest {
        [one] => {
            let [first, second, ..] = quad([one, 0, 0]);
            out.extend_from_slice(&[first, second, b'=', b'=']);
        }
        [one, two] => {
            let [first, second, third, _] = quad([one, two, 0]);
            out.extend_from_slice(&[first, second, third, b'=']);
        }
        _ => {}
    }
}

fn quad([one, two, three]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, one, two, three]);
    let [first, second] = PAIRS[(bits >> 12) as usize];
    let [third, fourth] = PAIRS[(bits & 0xfff) as usize];
    [first, second, third, fourth]
}

/// The bytes that the digits stand for; `None` unless [`encode`] could have written them.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let (quads, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(quads.len() * 3);
    for (at, quad) in quads.iter().enumerate() {
        let padding = quad.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 < quads.len()) {
            return None;
        }
        let digits = quad.get(..4 - padding)?;
        let mut bits = 0_u32;
        for byte in digits {
            let digit = DIGITS[usize::from(*byte)];
            if digit == NO_DIGIT {
                return None;
            }
            bits = (bits << 6) | u32::from(digit);
        }
        let [_, bytes @ ..] = (bits << (6 * padding)).to_be_bytes();
        let (kept, spare) = bytes.split_at(3 - padding);
        if spare.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(kept);
    }
    Some(out)
}

const fn digits() -> [u8; 256] {
    let mut table = [NO_DIGIT; 256];
    let mut digit: u8 = 0;
    while digit < 64 {
        table[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
}

const fn pairs() -> [[u8; 2]; 4096] {
    let mut table = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < 4096 {
        table[bits] = [ALPHABET[bits >> 6], ALPHABET[bits & 63]];
        bits += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{decode, encode};

    fn text(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_examples_of_the_standard_hold() {
        for (bytes, digits) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(text(bytes.as_bytes()), digits);
            assert_eq!(decode(digits).unwrap(), bytes.as_bytes());
        }
        for bad in ["Z", "Zg=", "Zg==Zg==", "Zh==", "Zm9=", "Z===", "Zm 9", "Zm9v\n"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&text(&bytes)), Some(bytes));
        }

        #[test]
        fn what_is_decoded_has_one_spelling(digits in "[A-Za-z0-9+/=]{0,12}") {
            if let Some(bytes) = decode(&digits) {
                prop_assert_eq!(text(&bytes), digits);
            }
        }
    }
}

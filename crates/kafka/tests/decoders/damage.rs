//! Ways to damage bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
}

impl Damage {
    pub(crate) fn apply(self, bytes: &mut Vec<u8>) {
        let (Self::Replace(at, _) | Self::Insert(at, _) | Self::Delete(at, _)) = &self;
        let at = at.index(bytes.len() + 1);
        match self {
            Self::Replace(_, byte) => {
                bytes.splice(at..bytes.len().min(at + 1), [byte]);
            }
            Self::Insert(_, new) => {
                bytes.splice(at..at, new);
            }
            Self::Delete(_, count) => {
                bytes.drain(at..bytes.len().min(at + count));
            }
        }
    }
}

/// A few changes. Bytes at the limits of numbers and of varints are more likely to be claims.
pub(crate) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let byte =
        || prop_oneof![prop::sample::select(vec![0, 1, 0x7f, 0x80, 0xff, 0x0f]), any::<u8>()];
    let at = any::<Index>;
    let one = prop_oneof![
        3 => (at(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        1 => (at(), vec(byte(), 1..6)).prop_map(|(at, new)| Damage::Insert(at, new)),
        1 => (at(), 1..8_usize).prop_map(|(at, count)| Damage::Delete(at, count)),
    ];
    vec(one, 1..5)
}

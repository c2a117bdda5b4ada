//! Finds out, before anything is written, whether a place can create an object only where there is none.
//!
//! Exactly-once stands on that one ability, and a place that lacks it does not say so: it accepts the condition and
//! overwrites. So a probe is created twice. It has a name that no chain uses, and is removed again; where this process
//! may not remove it, a few bytes stay.

use bytes::Bytes;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset};
use tidegate_runtime::ports::Class;

use super::store::{Created, Creation, Store, StoreError};

/// A place that overwrites what it was told to keep.
#[derive(Debug, thiserror::Error)]
#[error(
    "it overwrites objects that it was told to create only where there are none (If-None-Match: * on PutObject), \
     so records could be lost or doubled: use a store that keeps this condition"
)]
struct Overwrites;

/// Fails unless the store creates an object only where there is none; `place` is its name for people.
pub async fn create_only(store: &dyn Store, place: &str) -> Result<(), StoreError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| failed(place, Class::Transient, error))?;
    let name = format!(".tidegate-probe-{:016x}", u64::from_ne_bytes(random));
    store.create(creation(&name)).await?;
    let second = store.create(creation(&name)).await;
    // Not the fault of who only lacks the right to remove.
    drop(store.remove("", &name).await);
    match second? {
        Created::Taken => Ok(()),
        Created::Done => Err(failed(place, Class::Permanent, Overwrites)),
    }
}

fn creation(name: &str) -> Creation {
    Creation {
        folder: String::new(),
        name: name.to_owned(),
        parts: vec![Bytes::from_static(b"Tidegate asks whether this object can be overwritten.\n")],
        token: FencingToken { generation: Generation(0), epoch: Epoch(Offset(0)) },
        hold: Box::new(()),
    }
}

fn failed(
    place: &str,
    class: Class,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError { doing: "rely on", object: place.to_owned(), class, source: source.into() }
}

//! Parts of a state that many states share, with a fingerprint that is computed once for each change.
//!
//! A state is a dozen pointers and numbers: a step copies what it changes, and equality of states is equality of
//! fingerprints, as it is for the checker itself.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The fingerprint of a value. The hasher has fixed keys, so that every run sees the same ones.
fn print<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A value that states share until one of them changes it.
#[derive(Clone, Debug)]
pub(crate) struct Shared<T> {
    value: Arc<T>,
    /// `None` while a step is changing it.
    print: Option<u64>,
}

impl<T: Clone + Hash> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Arc::new(value), print: None }
    }

    pub(crate) fn get(&self) -> &T {
        &self.value
    }

    /// The value to be changed; [`Shared::seal`] must follow.
    pub(crate) fn change(&mut self) -> &mut T {
        self.print = None;
        Arc::make_mut(&mut self.value)
    }

    /// Computes the fingerprint if the value was changed.
    pub(crate) fn seal(&mut self) {
        if self.print.is_none() {
            self.print = Some(print(&*self.value));
        }
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl<T> Eq for Shared<T> {}

/// A partition of the controller topic: offsets are real. Its end can be lost, and its beginning deleted.
#[derive(Clone, Debug)]
pub(crate) struct Log<T> {
    records: Arc<Vec<Arc<T>>>,
    /// Offset of the first record that is left.
    start: u64,
    /// Of everything that was ever in it, one record after the other.
    print: u64,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { records: Arc::default(), start: 0, print: 0 }
    }
}

impl<T: Hash> Log<T> {
    /// The offset of the first record that is left.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// The first record that is left.
    pub(crate) fn first(&self) -> Option<&Arc<T>> {
        self.from(self.start).next().map(|(_, record)| record)
    }

    /// The offset of the next record.
    pub(crate) fn end(&self) -> u64 {
        self.records.len() as u64
    }

    /// Appends a record and returns its offset.
    pub(crate) fn append(&mut self, record: Arc<T>) -> u64 {
        let at = self.end();
        self.print = print(&(self.print, &record));
        Arc::make_mut(&mut self.records).push(record);
        at
    }

    /// Loses what is not below this offset; the offsets are given again. Logs that lost different records stay different,
    /// because those who have read them are.
    pub(crate) fn truncate(&mut self, end: u64) {
        self.print = print(&(self.print, end));
        Arc::make_mut(&mut self.records).truncate(usize::try_from(end).unwrap_or(usize::MAX));
        self.start = self.start.min(end);
    }

    /// Deletes what is below this offset.
    pub(crate) fn trim(&mut self, below: u64) {
        self.start = self.start.max(below);
    }

    /// Offsets and records from here to the end.
    pub(crate) fn from(&self, cursor: u64) -> impl Iterator<Item = (u64, &Arc<T>)> {
        let skipped = usize::try_from(cursor).unwrap_or(usize::MAX);
        (cursor..).zip(self.records.iter().skip(skipped))
    }
}

impl<T> Hash for Log<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.start, self.print).hash(state);
    }
}

impl<T> PartialEq for Log<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.print) == (other.start, other.print)
    }
}

impl<T> Eq for Log<T> {}

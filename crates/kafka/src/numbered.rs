//! Values by the number of their partition, as a list in order: an answer about very many partitions is gone through
//! once, beside others in the same order, and a tree would cost more than the answer itself.

/// Values in rising order of their partitions, one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered<T>(Vec<(u32, T)>);

/// Finds partitions that are asked for in rising order.
#[derive(Debug)]
pub(crate) struct Cursor<'a, T>(&'a [(u32, T)]);

impl<T> Numbered<T> {
    /// The value of a partition.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let at = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(u32, T)> {
        self.0.iter()
    }

    /// To look partitions up in rising order.
    pub(crate) fn cursor(&self) -> Cursor<'_, T> {
        Cursor(&self.0)
    }
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Whoever answers may have an order of his own. Of several values for a partition the last one counts.
impl<T> FromIterator<(u32, T)> for Numbered<T> {
    fn from_iter<I: IntoIterator<Item = (u32, T)>>(values: I) -> Self {
        let mut values: Vec<(u32, T)> = values.into_iter().collect();
        if !values.is_sorted_by(|(before, _), (after, _)| before < after) {
            values.sort_by_key(|(number, _)| *number);
            values.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        Self(values)
    }
}

impl<T> IntoIterator for Numbered<T> {
    type Item = (u32, T);
    type IntoIter = std::vec::IntoIter<(u32, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> Cursor<'a, T> {
    /// The value of a partition that is not before the last one asked for.
    pub(crate) fn find(&mut self, number: u32) -> Option<&'a T> {
        while let [(first, value), rest @ ..] = self.0 {
            if *first == number {
                return Some(value);
            }
            if *first > number {
                return None;
            }
            self.0 = rest;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_order_and_the_last_one_counts() {
        let told = [(3, 'a'), (1, 'b'), (3, 'c'), (1, 'd'), (2, 'e')];
        let numbered: Numbered<char> = told.into_iter().collect();
        let all: Vec<_> = numbered.iter().copied().collect();
        assert_eq!(all, [(1, 'd'), (2, 'e'), (3, 'c')]);
        assert_eq!((numbered.get(2), numbered.get(4)), (Some(&'e'), None));
    }

    #[test]
    fn a_cursor_finds_what_is_there_and_passes_what_is_not() {
        let numbered: Numbered<char> = [(1, 'a'), (4, 'b'), (5, 'c')].into_iter().collect();
        let mut cursor = numbered.cursor();
        let found = [0, 1, 1, 2, 4, 7, 9].map(|number| cursor.find(number).copied());
        assert_eq!(found, [None, Some('a'), Some('a'), None, Some('b'), None, None]);
    }
}

//! Streams as CSV: a header of `topic:partition`, then one row of whole rates for each measurement. Names of topics hold neither commas nor
//! quotes, so there is no quoting, and each fault has an exact line and column.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{PartitionName, Stream};

/// A place in a file, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1: a count of fields, not of letters.
    pub column: usize,
    /// What is wrong.
    pub fault: CsvFault,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsvFault {
    /// There is nothing in it, not even a header.
    Empty,
    /// There is a header and no measurement.
    NoRows,
    /// A column's head is not `topic:partition`.
    Head(String),
    /// A partition has a second column.
    Duplicate {
        /// Which.
        partition: PartitionName,
        /// Its first column.
        first: usize,
    },
    /// A row has another number of fields than the header.
    Ragged {
        /// What the header has.
        expected: usize,
        /// What the row has.
        found: usize,
    },
    /// A field is not a whole number of 0 or more.
    Rate(String),
    /// The rates of a row add up to more than there is room for.
    TotalTooLarge,
}

// === impl CsvError ===

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.fault)
    }
}

impl std::error::Error for CsvError {}

impl fmt::Display for CsvFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty, expected a header of topic:partition"),
            Self::NoRows => f.write_str("expected a row of rates after the header"),
            Self::Head(found) => write!(f, "expected topic:partition, found {found:?}"),
            Self::Duplicate { partition, first } => {
                write!(f, "partition {partition} is already in column {first}")
            }
            Self::Ragged { expected, found } => {
                write!(f, "expected {expected} fields as in the header, found {found}")
            }
            Self::Rate(found) => {
                write!(f, "expected a rate, a whole number of 0 or more, found {found:?}")
            }
            Self::TotalTooLarge => {
                write!(f, "the rates of this row add up to more than {}", u64::MAX)
            }
        }
    }
}

// === impl Stream ===

impl Stream {
    /// Reads a file's text. Empty lines at its end are no rows.
    pub fn from_csv(text: &str) -> Result<Self, CsvError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end_matches(['\r', '\n']);
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let header = lines.next().map(|(_, line)| line).filter(|line| !line.trim().is_empty());
        let header = header.ok_or(CsvError { line: 1, column: 1, fault: CsvFault::Empty })?;
        let partitions = read_header(header)?;
        let rows = lines
            .map(|(line, text)| read_row(line, text, partitions.len()))
            .collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            return Err(CsvError { line: 2, column: 1, fault: CsvFault::NoRows });
        }
        Ok(Self { partitions, rows })
    }

    /// The text of a file that gives the same stream again.
    pub fn to_csv(&self) -> String {
        let mut text = joined(&self.partitions);
        for row in &self.rows {
            text.push('\n');
            text.push_str(&joined(row));
        }
        text.push('\n');
        text
    }
}

fn joined<T: fmt::Display>(fields: &[T]) -> String {
    let mut text = String::new();
    for (index, field) in fields.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a text cannot fail.
        let _written = write!(text, "{comma}{field}");
    }
    text
}

fn read_header(header: &str) -> Result<Vec<PartitionName>, CsvError> {
    let mut columns = BTreeMap::new();
    let mut partitions = Vec::new();
    for (column, field) in fields(header) {
        let at = |fault| CsvError { line: 1, column, fault };
        let partition =
            PartitionName::parse(field).ok_or_else(|| at(CsvFault::Head(field.to_owned())))?;
        if let Some(first) = columns.insert(partition.clone(), column) {
            return Err(at(CsvFault::Duplicate { partition, first }));
        }
        partitions.push(partition);
    }
    Ok(partitions)
}

fn read_row(line: usize, text: &str, expected: usize) -> Result<Vec<u64>, CsvError> {
    let mut row = Vec::with_capacity(expected);
    let mut total = 0_u64;
    let found = fields(text).count();
    for (column, field) in fields(text) {
        let at = |fault| CsvError { line, column, fault };
        if column > expected {
            return Err(at(CsvFault::Ragged { expected, found }));
        }
        // A row that ends early is told by what is missing, and not by the empty field of an empty line.
        if field.is_empty() && found < expected {
            break;
        }
        let rate = read_rate(field).ok_or_else(|| at(CsvFault::Rate(field.to_owned())))?;
        total = total.checked_add(rate).ok_or_else(|| at(CsvFault::TotalTooLarge))?;
        row.push(rate);
    }
    if row.len() < expected {
        let fault = CsvFault::Ragged { expected, found };
        return Err(CsvError { line, column: row.len() + 1, fault });
    }
    Ok(row)
}

/// A whole number. `12.0` is one, too: some tools write every number so.
fn read_rate(field: &str) -> Option<u64> {
    let (whole, zeros) = field.split_once('.').unwrap_or((field, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_whole = is_digits(whole) && !zeros.is_empty() && zeros.bytes().all(|b| b == b'0');
    is_whole.then(|| whole.parse().ok()).flatten()
}

/// The fields of a line, counted from 1.
fn fields(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split(',').enumerate().map(|(index, field)| (index + 1, field.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::Walk;
    use super::*;

    fn fault(text: &str) -> String {
        Stream::from_csv(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let stream = Walk { partitions: 7, delta: 9, iterations: 12 }.stream(5);
        assert_eq!(Stream::from_csv(&stream.to_csv()), Ok(stream));
    }

    #[test]
    fn other_tools_line_ends_marks_and_spaces_are_read() {
        let stream = Stream::from_csv("\u{feff}a:0, a:1\r\n1,2.0\r\n").unwrap();
        assert_eq!(stream.rows(), [[1, 2]]);
    }

    #[test]
    fn ragged_rows_are_told_by_the_first_field_that_is_missing_or_too_many() {
        let short = "line 3, column 2: expected 2 fields as in the header, found 1";
        assert_eq!(fault("a:0,a:1\n1,2\n3\n"), short);
        let long = "line 2, column 3: expected 2 fields as in the header, found 3";
        assert_eq!(fault("a:0,a:1\n1,2,3\n"), long);
        let blank = "line 3, column 1: expected 2 fields as in the header, found 1";
        assert_eq!(fault("a:0,a:1\n1,2\n\n3,4\n"), blank);
    }

    #[test]
    fn rates_are_whole_numbers_of_0_or_more() {
        for wrong in ["-5", "x", "", "1.5", "1e3", "+1", "99999999999999999999"] {
            assert_eq!(
                fault(&format!("a:0,a:1\n1,{wrong}\n")),
                format!(
                    "line 2, column 2: expected a rate, a whole number of 0 or more, found {wrong:?}"
                )
            );
        }
    }

    #[test]
    fn a_partition_has_one_column() {
        assert_eq!(
            fault("a:0,b:0,a:0\n"),
            "line 1, column 3: partition a:0 is already in column 1"
        );
    }

    #[test]
    fn heads_name_partitions() {
        let wrong = "line 1, column 2: expected topic:partition, found \"b\"";
        assert_eq!(fault("a:0,b\n1,2\n"), wrong);
    }

    #[test]
    fn an_empty_file_and_one_without_rows_are_no_streams() {
        assert!(fault("").starts_with("line 1, column 1: the file is empty"));
        assert!(fault("a:0\n").starts_with("line 2, column 1: expected a row"));
    }

    #[test]
    fn sums_that_do_not_fit_are_refused() {
        let wrong = fault(&format!("a:0,a:1\n{},1\n", u64::MAX));
        assert!(wrong.starts_with("line 2, column 2: the rates of this row add up"), "{wrong}");
    }
}

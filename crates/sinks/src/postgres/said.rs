//! What a server says, without what it says of records.
//!
//! Details ("Failing row contains …") and the messages of two classes quote data, which belongs neither in logs nor in the
//! reasons of dead letters. The SQLSTATE and the names of constraint, table and column remain.

use std::fmt;

use tokio_postgres::error::{DbError, SqlState};

/// An error of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) struct Said {
    severity: String,
    pub(super) state: SqlState,
    /// Absent where it may quote data.
    message: Option<String>,
    /// Kinds and names of what it is about.
    about: Vec<(&'static str, String)>,
}

impl Said {
    pub(super) fn of(error: &DbError) -> Self {
        let state = error.code().clone();
        let column = error.column().or_else(|| copied_column(error.where_()?));
        let about =
            [("constraint", error.constraint()), ("table", error.table()), ("column", column)];
        let about = about.into_iter().filter_map(|(kind, name)| Some((kind, name?.to_owned())));
        Self {
            severity: error.severity().to_owned(),
            message: (!quotes_data(&state)).then(|| error.message().to_owned()),
            about: about.collect(),
            state,
        }
    }

    /// Why a record is rejected.
    pub(super) fn reason(&self) -> String {
        let code = self.state.code();
        let mut reason = format!("{} (SQLSTATE {code})", meaning(code));
        for (kind, name) in &self.about {
            reason.push_str(&format_about(kind, name));
        }
        reason
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.state.code();
        let message = self.message.as_deref().unwrap_or_else(|| meaning(code));
        write!(f, "{}: {message} (SQLSTATE {code})", self.severity)?;
        self.about.iter().try_for_each(|(kind, name)| f.write_str(&format_about(kind, name)))
    }
}

fn format_about(kind: &str, name: &str) -> String {
    format!(", {kind} {name:?}")
}

/// Data exceptions and violations of constraints.
fn quotes_data(state: &SqlState) -> bool {
    ["22", "23"].iter().any(|class| state.code().starts_with(class))
}

/// The column in `COPY table, line 3, column value: "…"`; what follows the name is data.
fn copied_column(context: &str) -> Option<&str> {
    let copy = context.lines().find(|line| line.starts_with("COPY "))?;
    let (place, _) = copy.split_once(": ")?;
    place.split_once(", column ").map(|(_, column)| column)
}

/// What a SQLSTATE means, for those that a record can meet.
fn meaning(code: &str) -> &'static str {
    match code {
        "22001" => "a text is too long",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a time is not valid",
        "22021" | "22P05" => "a character is not in the encoding of the database",
        "22P02" => "a text is not valid for the column's type",
        "22P03" => "bytes are not valid for the column's type",
        "23502" => "a NOT NULL constraint is violated",
        "23503" => "a foreign key is violated",
        "23505" => "a unique constraint is violated",
        "23514" => "a CHECK constraint is violated",
        "54001" => "a value is nested too deeply",
        _ if code.starts_with("22") => "a value is not valid",
        _ if code.starts_with("23") => "a constraint is violated",
        _ if code.starts_with("54") => "a limit of the server is exceeded",
        _ => "the server will not take it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_told_by_its_meaning_and_names() {
        let said = Said {
            severity: "ERROR".to_owned(),
            state: SqlState::CHECK_VIOLATION,
            message: None,
            about: vec![("constraint", "positive".to_owned()), ("table", "records".to_owned())],
        };
        let about = "a CHECK constraint is violated (SQLSTATE 23514), constraint \"positive\", table \"records\"";
        assert_eq!(said.to_string(), format!("ERROR: {about}"));
        assert_eq!(said.reason(), about);
    }

    #[test]
    fn data_is_quoted_in_two_classes() {
        for (code, quotes) in [("22P02", true), ("23505", true), ("42P01", false), ("57P01", false)]
        {
            assert_eq!(quotes_data(&SqlState::from_code(code)), quotes, "{code}");
        }
    }

    #[test]
    fn the_column_of_a_copy_ends_before_its_data() {
        let context =
            "JSON data, line 1: hunter2\nCOPY records, line 2, column value: \"hunter2: x\"";
        assert_eq!(copied_column(context), Some("value"));
        assert_eq!(copied_column("COPY records, line 2: \"hunter2, column x\""), None);
        assert_eq!(copied_column("COPY records, line 2"), None);
    }
}

//! Files of numbers for other programs.

/// Lines of values with a heading.
#[derive(Clone, Debug)]
pub(crate) struct Csv {
    text: String,
}

impl Csv {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { text: columns.join(",") + "\n" }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, values: &[&dyn std::fmt::Display]) {
        let values: Vec<_> = values.iter().map(|value| quoted(value.to_string())).collect();
        self.text.push_str(&values.join(","));
        self.text.push('\n');
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn quoted(value: String) -> String {
    if value.contains([',', '"', '\n']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes_are_kept_apart_from_the_form() {
        let mut csv = Csv::new(&["a", "b"]);
        csv.line(&[&1, &"x,\"y\""]);
        assert_eq!(csv.text(), "a,b\n1,\"x,\"\"y\"\"\"\n");
    }
}

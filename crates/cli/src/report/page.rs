//! Pages of HTML that stand alone.

use std::fmt::Write as _;

use super::chart::Chart;

/// A page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    /// One sentence on what this is.
    pub(crate) about: String,
    /// What to see first.
    pub(crate) figures: Vec<Figure>,
    pub(crate) sections: Vec<Section>,
}

/// A number that matters.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) value: String,
    pub(crate) label: String,
    /// Whether it is as it should be; `None` where there is nothing to be judged.
    pub(crate) good: Option<bool>,
}

/// A part of a page: its text stands before what it shows.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) heading: String,
    pub(crate) text: String,
    pub(crate) chart: Option<Chart>,
    pub(crate) table: Option<Table>,
}

/// A table; the first column is text, the others are numbers.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) heads: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

const STYLE: &str = "\
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;color:#1d2430;background:#f5f6f8;margin:0}\
main{max-width:1000px;margin:0 auto;padding:28px 20px 60px}\
h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:0 0 2px}\
p{margin:0 0 10px;color:#566070}\
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:18px 0 22px}\
.figure{background:#fff;border:1px solid #e2e5ea;border-radius:8px;padding:10px 14px}\
.figure b{display:block;font-size:21px;font-weight:600;white-space:nowrap}\
.figure span{color:#566070;font-size:13px}\
.good b{color:#04794f}.bad b{color:#b3261e}\
section{background:#fff;border:1px solid #e2e5ea;border-radius:8px;padding:16px 18px;margin:0 0 16px}\
table{border-collapse:collapse;font-size:14px}\
th,td{text-align:right;padding:3px 16px 3px 0;border-bottom:1px solid #eef0f3;font-variant-numeric:tabular-nums}\
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:#3c4656}\
svg text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}";

// === impl Page ===

impl Page {
    /// The page as one file.
    pub(crate) fn html(&self) -> anyhow::Result<String> {
        let title = escaped(&self.title);
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n\
             <h1>{title}</h1>\n<p>{}</p>\n<div class=\"figures\">\n",
            escaped(&self.about)
        );
        for Figure { value, label, good } in &self.figures {
            let class = match good {
                Some(true) => "figure good",
                Some(false) => "figure bad",
                None => "figure",
            };
            let (value, label) = (escaped(value), escaped(label));
            writeln!(html, "<div class=\"{class}\"><b>{value}</b><span>{label}</span></div>")?;
        }
        html.push_str("</div>\n");
        for section in &self.sections {
            section.write(&mut html)?;
        }
        html.push_str("</main></body></html>\n");
        Ok(html)
    }
}

// === impl Section ===

impl Section {
    fn write(&self, html: &mut String) -> anyhow::Result<()> {
        let (heading, text) = (escaped(&self.heading), escaped(&self.text));
        writeln!(html, "<section><h2>{heading}</h2><p>{text}</p>")?;
        if let Some(chart) = &self.chart {
            html.push_str(&chart.svg()?);
        }
        if let Some(table) = &self.table {
            table.write(html);
        }
        html.push_str("</section>\n");
        Ok(())
    }
}

// === impl Table ===

impl Table {
    fn write(&self, html: &mut String) {
        let row = |cells: &[String], tag: &str| {
            let cell = |cell: &String| format!("<{tag}>{}</{tag}>", escaped(cell));
            format!("<tr>{}</tr>\n", cells.iter().map(cell).collect::<String>())
        };
        html.push_str("<table>\n");
        html.push_str(&row(&self.heads, "th"));
        html.extend(self.rows.iter().map(|cells| row(cells, "td")));
        html.push_str("</table>\n");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_shows_text_as_it_is() {
        let table = Table { heads: vec!["a".to_owned()], rows: vec![vec!["<1>".to_owned()]] };
        let section = Section {
            heading: "H & M".to_owned(),
            text: String::new(),
            chart: None,
            table: Some(table),
        };
        let page = Page {
            title: "T".to_owned(),
            about: String::new(),
            figures: Vec::new(),
            sections: vec![section],
        };
        let html = page.html().unwrap();
        assert!(html.contains("H &amp; M") && html.contains("&lt;1&gt;"));
        assert!(!html.contains("src=") && !html.contains("href="), "no external assets");
    }
}

//! What a chapter is made of: words, tables, plots. *Pure.*

use super::plot::Plot;

/// A chapter of the report.
#[derive(Clone, Debug, Default)]
pub struct Chapter {
    /// Its name, of which the names of its files begin.
    pub name: &'static str,
    /// What a reader reads first.
    pub title: String,
    /// Paragraphs in plain words: what was done, under which assumptions, what came of it.
    pub text: Vec<String>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its plots.
    pub plots: Vec<Plot>,
    /// What others have published about the same.
    pub published: Vec<Published>,
    /// Whether it was ended before it was complete.
    pub cut: bool,
}

/// Rows of text or numbers as they are to be read. In the file their digits are the same.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Of the file, behind the name of the chapter.
    pub name: &'static str,
    /// What it shows.
    pub caption: String,
    /// With units.
    pub columns: Vec<&'static str>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// A figure that others have published.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Which system.
    pub system: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// The figure, as it is said there.
    pub figure: &'static str,
    /// Where it is said.
    pub source: &'static str,
    /// Whether it was read there for this report, the paper's abstract at least; else it is quoted from memory.
    pub read: bool,
}

impl Chapter {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Names and contents of its files.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let tables =
            self.tables.iter().map(|table| (format!("{}-{}.csv", self.name, table.name), table.csv()));
        let plots = self.plots.iter().map(|plot| (format!("{}-{}.svg", self.name, plot.name), plot.svg()));
        tables.chain(plots).collect()
    }
}

impl Table {
    /// Comma separated, with the columns' names first (RFC 4180).
    pub fn csv(&self) -> String {
        let columns = self.columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(",");
        let rows =
            self.rows.iter().map(|row| row.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(","));
        std::iter::once(columns).chain(rows).map(|line| line + "\r\n").collect()
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_commas_and_quotes_is_one_cell() {
        let table = Table {
            columns: vec!["a", "b, c"],
            rows: vec![vec!["1".to_owned(), "say \"yes\"".to_owned()]],
            ..Table::default()
        };
        assert_eq!(table.csv(), "a,\"b, c\"\r\n1,\"say \"\"yes\"\"\"\r\n");
    }
}

//! Columns that line up.

use std::io::{self, Write};

/// Blanks between columns.
const GAP: usize = 2;

/// Rows of text under headings.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row; an empty cell is shown as `-`, and nothing in a cell can end the line.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { plain(&cell) }));
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(&format!("{cell:<width$}", width = width + GAP));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Without control characters, which could move the cursor or forge a line.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_blanks_at_their_ends() {
        let mut table = Table::new(["NAME", "STATE", "TROUBLE"]);
        table.row(["ä".into(), "current".into(), String::new()]);
        table.row(["database".into(), String::new(), "a\nb".into()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        let expected = "NAME      STATE    TROUBLE\n\
                        ä         current  -\n\
                        database  -        a\u{fffd}b\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

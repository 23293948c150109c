//! Rows as a table for people, or as JSON.

use super::super::args::ListFormat;
use super::super::exit::{Exit, Failure};
use crate::cli::out::outln;
use serde::Serialize;

/// A cell of a table.
pub struct Cell {
    text: String,
    is_right: bool,
}

impl Cell {
    /// Text, on the left.
    pub fn text(text: &str) -> Cell {
        Cell { text: text.replace(['\n', '\r'], " "), is_right: false }
    }

    /// Text, on the right.
    pub fn right(text: String) -> Cell {
        Cell { text, is_right: true }
    }

    /// A number, if there is one.
    pub fn number(number: Option<i64>) -> Cell {
        Cell::right(number.map_or(String::new(), |number| number.to_string()))
    }
}

/// A table whose columns are as wide as what is in them.
pub struct Table {
    heads: Vec<&'static str>,
    widths: Vec<usize>,
    has_head: bool,
}

impl Table {
    /// A table with these columns.
    pub fn new(heads: &[&'static str]) -> Table {
        Table { heads: heads.to_vec(), widths: heads.iter().map(|head| head.len()).collect(), has_head: false }
    }

    /// Prints all rows.
    pub fn show<T: Serialize>(mut self, format: ListFormat, rows: &[T], cells: impl Fn(&T) -> Vec<Cell>) -> Result<Exit, Failure> {
        match format {
            ListFormat::Json => outln!("{}", serde_json::to_string_pretty(rows).unwrap_or_default()),
            ListFormat::Table if rows.is_empty() => outln!("none"),
            _ => self.append(format, rows, cells),
        }
        Ok(Exit::Complete)
    }

    /// Prints some more rows.
    pub fn append<T: Serialize>(&mut self, format: ListFormat, rows: &[T], cells: impl Fn(&T) -> Vec<Cell>) {
        if format != ListFormat::Table {
            rows.iter().for_each(|row| outln!("{}", serde_json::to_string(row).unwrap_or_default()));
            return;
        }
        let lines: Vec<Vec<Cell>> = rows.iter().map(cells).collect();
        for line in &lines {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if !std::mem::replace(&mut self.has_head, true) {
            let heads: Vec<Cell> = self.heads.iter().map(|head| Cell::text(head)).collect();
            self.line(&heads);
        }
        lines.iter().for_each(|line| self.line(line));
    }

    fn line(&self, cells: &[Cell]) {
        let padded = cells.iter().zip(&self.widths).map(|(cell, width)| {
            if cell.is_right { format!("{:>width$}", cell.text, width = *width) } else { format!("{:<width$}", cell.text, width = *width) }
        });
        outln!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}

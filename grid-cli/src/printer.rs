//! Where results go: text for people, or one JSON document a line for programs.

use std::fmt;
use std::io::Write;

use prost::Name;
use serde_json::Value;

use crate::exit::Failure;
use crate::json;

/// The stream of results of one command.
pub(crate) struct Printer<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Printer<'a> {
    /// Prints results to `out`, and to `err` only what a remote command wrote to its own.
    pub(crate) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err }
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(Failure::Output)
    }

    /// A message of one of the protocols as JSON, on one line.
    pub(crate) fn message<M: Name>(&mut self, message: &M) -> Result<(), Failure> {
        let value = json::of(message)?;
        self.value(&value)
    }

    /// A JSON document on one line.
    pub(crate) fn value(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(value)
    }

    /// Bytes as they are, at once: somebody may follow them.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(Failure::Output)?;
        self.flush()
    }

    /// Where results go, for content that comes in pieces.
    pub(crate) fn output(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Where the standard error of a remote command goes.
    pub(crate) fn error(&mut self) -> &mut dyn Write {
        self.err
    }

    /// Rows under their headings, columns padded to the widest cell.
    pub(crate) fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let pad = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<_> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        self.line(pad(&mut headings.iter().copied()))?;
        rows.iter().try_for_each(|row| self.line(pad(&mut row.iter().map(String::as_str))))
    }

    /// Hands everything to the system.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_leaves_no_blanks_behind() {
        let mut out = Vec::new();
        let rows =
            vec![vec!["a".to_owned(), "long cell".to_owned()], vec!["émile".to_owned(), String::new()]];
        Printer::new(&mut out, &mut Vec::new()).table(&["K", "VALUE"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "K      VALUE\na      long cell\némile\n");
    }
}

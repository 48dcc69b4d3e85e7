//! One table: printed for people, written as Markdown, and how many of its bars hold.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

/// One table, and how many bars in it hold and do not.
#[derive(Debug)]
pub struct Sheet {
    pub title: &'static str,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
    held: usize,
    missed: usize,
}

impl Sheet {
    pub fn new(title: &'static str, header: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let header = header.into_iter().map(Into::into).collect();
        Self { title, header, rows: Vec::new(), held: 0, missed: 0 }
    }

    pub fn held(&self) -> usize {
        self.held
    }

    pub fn missed(&self) -> usize {
        self.missed
    }

    /// Whether a bar holds, in a word; nothing where there is no bar.
    pub fn judge(&mut self, holds: Option<bool>) -> String {
        self.held += usize::from(holds == Some(true));
        self.missed += usize::from(holds == Some(false));
        holds.map_or("", |holds| if holds { "holds" } else { "MISSES" }).to_owned()
    }

    /// As a section of Markdown.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let ruler: Vec<_> =
            (0..self.header.len()).map(|column| if column == 0 { "---" } else { "---:" }.into()).collect();
        let rows: String = self.rows.iter().map(|cells| row(cells)).collect();
        format!("## {}\n\n{}{}{rows}", self.title, row(&self.header), row(&ruler))
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.header.clone());
        self.rows.iter().for_each(|row| {
            table.add_row(row.clone());
        });
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        writeln!(f, "{}", console::style(self.title).bold())?;
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

//! The report's Markdown twin: the same page, every text escaped.

use std::fmt::Write as _;

use crate::page::Page;
use crate::section::{Block, Section, Table};

pub(crate) fn markdown(page: &Page) -> String {
    let mut out = format!("# {}\n\n{}\n", escape(&page.title), escape(&page.facts));
    if let Some(banner) = &page.banner {
        out += &format!("\n> **{}**\n", escape(banner));
    }
    for (title, lines) in [("What was shown", &page.summary.shown), ("What was not shown", &page.summary.not_shown)] {
        out += &format!("\n## {title}\n\n");
        out.extend(lines.iter().map(|line| format!("- {}\n", escape(line))));
    }
    for section in &page.sections {
        section_to(section, &mut out);
    }
    out
}

fn section_to(section: &Section, out: &mut String) {
    *out += &format!("\n## {}\n", escape(section.title));
    for block in &section.blocks {
        out.push('\n');
        match block {
            Block::Text(text) => *out += &format!("{}\n", escape(text)),
            Block::Code(text) => *out += &code(text),
            Block::List(lines) => out.extend(lines.iter().map(|line| format!("- {}\n", escape(line)))),
            Block::Figures(figures) | Block::Folded(_, figures) => out.extend(
                figures.iter().map(|figure| format!("![{}]({}.svg)\n\n", escape(&figure.caption), figure.name)),
            ),
            Block::Table(table) => *out += &table_text(table),
        }
    }
}

/// A fence longer than any run of backticks within.
fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}sh\n{text}\n{fence}\n")
}

/// A pipe table under its caption.
pub(crate) fn table_text(table: &Table) -> String {
    let mut out = format!("**{}**\n\n|", escape(&table.caption));
    for column in &table.columns {
        let _ = write!(out, " {} |", escape(&column.title));
    }
    out += "\n|";
    for column in &table.columns {
        out += if column.numeric { "---:|" } else { "---|" };
    }
    for row in &table.rows {
        out += "\n|";
        for cell in &row.cells {
            let tag = if cell.tag.is_empty() { String::new() } else { format!(" ({})", cell.tag) };
            let _ = write!(out, " {}{tag} |", escape(&cell.text));
        }
    }
    out + "\n"
}

/// Plain text that Markdown and its HTML leave alone: one line, every character with a meaning backslashed.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '!' | '~' | '&' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

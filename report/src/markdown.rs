//! The report's Markdown twin: the same page, every text escaped.

use std::fmt::Write as _;

use crate::page::Page;
use crate::section::{Block, Cell, Figure, Section, Table};

/// A table with more rows is replaced by a sentence that names the page and the file that have it.
const MAX_ROWS: usize = 30;
/// Lines of one list at most.
const MAX_LINES: usize = 12;
/// Figures of one section at most; the page has the others.
const MAX_FIGURES: usize = 4;

pub(crate) fn markdown(page: &Page) -> String {
    let mut out = format!("# {}\n\n{}\n", escape(&page.title), escape(&page.facts));
    if let Some(banner) = &page.banner {
        out += &format!("\n> **{}**\n", escape(banner));
    }
    if let Some(glance) = &page.glance {
        out += &format!("\n{}", linked_table(glance));
    }
    for (title, lines) in [("What was shown", &page.summary.shown), ("What was not shown", &page.summary.not_shown)] {
        out += &format!("\n## {title}\n\n");
        out += &list(lines);
    }
    for section in &page.sections {
        section_to(section, &mut out);
    }
    out
}

fn section_to(section: &Section, out: &mut String) {
    *out += &format!("\n## {}\n", escape(section.title));
    let tables = section.blocks.iter().filter_map(|block| match block {
        Block::Table(table) => Some(table),
        _ => None,
    });
    let replaced: Vec<&Table> = tables.filter(|table| is_replaced(table)).collect();
    let replaced = replaced.as_slice();
    for block in &section.blocks {
        out.push('\n');
        let before = out.len();
        match block {
            Block::Text(text) => *out += &format!("{}\n", escape(text)),
            Block::Code(text) => *out += &code(text),
            Block::List(lines) => *out += &list(lines),
            Block::Figures(figures) => *out += &images(figures),
            Block::Folded(caption, _) => *out += &format!("{}: index.html has these plots.\n", escape(caption)),
            Block::Table(table) if is_replaced(table) => *out += &replacement(section, table, replaced),
            Block::Table(table) => *out += &table_text(table),
        }
        if out.len() == before {
            out.pop();
        }
    }
}

fn is_replaced(table: &Table) -> bool {
    table.collapsed || table.rows.len() > MAX_ROWS
}

/// The sentence that stands for a table. Many tables of one section share the sentence at the place of the first.
fn replacement(section: &Section, table: &Table, replaced: &[&Table]) -> String {
    let file = source(section.id);
    match replaced {
        [first, _, _, _, ..] if std::ptr::eq(*first, table) => {
            let rows: usize = replaced.iter().map(|table| table.rows.len()).sum();
            format!("{} tables with {rows} rows are in index.html; {file} has the numbers.\n", replaced.len())
        }
        [_, _, _, _, ..] => String::new(),
        _ => {
            let (caption, rows) = (escape(&table.caption), table.rows.len());
            format!("**{caption}**: {rows} rows in index.html; {file} has the numbers.\n")
        }
    }
}

/// The first lines of a list, and how many more there are.
fn list(lines: &[String]) -> String {
    let mut out: String = lines.iter().take(MAX_LINES).map(|line| format!("- {}\n", escape(line))).collect();
    if let more @ 1.. = lines.len().saturating_sub(MAX_LINES) {
        out += &format!("- {more} more lines are in index.html.\n");
    }
    out
}

fn images(figures: &[Figure]) -> String {
    let image = |figure: &Figure| format!("![{}]({}.svg)\n\n", escape(&figure.caption), figure.name);
    let mut out: String = figures.iter().take(MAX_FIGURES).map(image).collect();
    if let more @ 1.. = figures.len().saturating_sub(MAX_FIGURES) {
        out += &format!("{more} more plots are in index.html.\n");
    }
    out
}

/// The file that has a section's numbers.
fn source(section: &str) -> &'static str {
    match section {
        "fidelity" => "fidelity.csv",
        "audit" | "neurons" => "layers.csv",
        "temperature" => "fdg.csv",
        "loss" => "curves.csv",
        "published" => "suites/published.toml",
        "gaps" => "run.json",
        _ => "rows.csv",
    }
}

/// A table whose links lead to the anchors of the page beside this file.
fn linked_table(table: &Table) -> String {
    let cell = |cell: &Cell| match cell.link.is_empty() {
        true => escape(&cell.text),
        false => format!("[{}](index.html#{})", escape(&cell.text), cell.link),
    };
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = format!("## At a glance\n\n{}\n\n", escape(&table.caption));
    out += &line(table.columns.iter().map(|column| escape(&column.title)).collect());
    out += &line(table.columns.iter().map(|column| if column.numeric { "---:" } else { "---" }.into()).collect());
    out.extend(table.rows.iter().map(|row| line(row.cells.iter().map(cell).collect())));
    out
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

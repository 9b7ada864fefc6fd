//! The report as one self-contained HTML file. The template escapes every text; only our own drawings, styles and
//! script pass as they are.

use anyhow::Result;
use askama::Template;

use crate::page::Page;
use crate::section::summary::Summary;
use crate::section::{Block, Table};

#[derive(Template)]
#[template(path = "report.html")]
struct Html<'a> {
    title: &'a str,
    facts: &'a str,
    banner: Option<&'a str>,
    glance: Option<&'a Table>,
    summary: &'a Summary,
    sections: &'a [crate::section::Section],
    datasets: &'a [String],
    methods: &'a [String],
    style: &'static str,
    script: &'static str,
}

pub(crate) fn html(page: &Page) -> Result<String> {
    let html = Html {
        title: &page.title,
        facts: &page.facts,
        banner: page.banner.as_deref(),
        glance: page.glance.as_ref(),
        summary: &page.summary,
        sections: &page.sections,
        datasets: &page.datasets,
        methods: &page.methods,
        style: include_str!("../templates/style.css"),
        script: include_str!("../templates/script.js"),
    };
    Ok(html.render()?)
}

//! The whole report as data, from a result folder.

use anyhow::Result;

use crate::model::Model;
use crate::section::summary::{Summary, summary};
use crate::section::{self, Block, Figure, Section, Table};
use crate::verdict::time_steps;

/// What both writers write.
pub(crate) struct Page {
    pub title: String,
    pub facts: String,
    pub banner: Option<String>,
    /// Questions and answers, before everything else.
    pub glance: Option<Table>,
    pub summary: Summary,
    pub sections: Vec<Section>,
    pub datasets: Vec<String>,
    pub methods: Vec<String>,
}

impl Page {
    pub fn of(model: &Model) -> Result<Self> {
        let sections = [
            Some(section::accuracy::section(model)?),
            Some(section::comparison::section(model)?),
            Some(section::published::section(model)?),
            section::classes::section(model)?,
            section::temperature::section(model),
            section::fidelity::section(model),
            section::neurons::section(model),
            section::audit::section(model),
            Some(section::cost::section(model)),
            section::loss::section(model),
            Some(section::cells::gap_section(model)),
            Some(section::deviations::section(model)),
            Some(section::cells::every_section(model)),
            Some(section::cells::reproduce_section(model)),
        ];
        let plan = model.results.plan.as_ref();
        Ok(Self {
            title: suite(model),
            facts: facts(model),
            banner: plan.and_then(|plan| plan.banner.clone()),
            glance: section::glance::glance(model),
            summary: summary(model),
            sections: sections.into_iter().flatten().collect(),
            datasets: names(model, |row| &row.dataset),
            methods: names(model, |row| &row.method),
        })
    }

    /// The plots that stand on the page without being opened.
    #[cfg(feature = "png")]
    pub fn open_figures(&self) -> impl Iterator<Item = &Figure> {
        let figures = self.sections.iter().flat_map(|section| &section.blocks).filter_map(|block| match block {
            Block::Figures(figures) => Some(figures),
            _ => None,
        });
        figures.flatten()
    }

    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        let figures = self.sections.iter().flat_map(|section| &section.blocks).filter_map(|block| match block {
            Block::Figures(figures) | Block::Folded(_, figures) => Some(figures),
            _ => None,
        });
        figures.flatten()
    }
}

/// `Suite paper-mini`, or both names of a merged folder.
fn suite(model: &Model) -> String {
    match model.results.suite() {
        none if none.is_empty() => "No suite".into(),
        suite => format!("Suite {suite}"),
    }
}

fn facts(model: &Model) -> String {
    let rows = &model.results.rows;
    let mut facts = vec![format!("{} cells", rows.len())];
    let mut times: Vec<_> = rows.iter().map(|row| row.train_time_steps).filter(Option::is_some).collect();
    times.sort_unstable();
    times.dedup();
    if !times.is_empty() {
        facts.push(format!("T = {}", times.into_iter().map(time_steps).collect::<Vec<_>>().join(", ")));
    }
    let mut seeds: Vec<u64> = rows.iter().map(|row| row.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    facts.push(format!("{} {}", seeds.len(), if seeds.len() == 1 { "seed" } else { "seeds" }));
    if let Some(last) = rows.iter().filter_map(|row| row.finished_utc.as_deref()).max() {
        facts.push(format!("last cell finished {last}"));
    }
    facts.join(" · ")
}

/// Distinct names in the order of the rows.
fn names(model: &Model, of: impl Fn(&crate::record::Record) -> &String) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    model.results.rows.iter().map(of).filter(|name| seen.insert((*name).clone())).cloned().collect()
}

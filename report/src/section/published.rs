//! The paper's table beside what was measured, with verdicts; other papers as context.

use anyhow::Result;

use super::accuracy::published as published_series;
use super::{Cell, Column, Figure, Row, Section, Table, cell_anchor, percent, points};
use crate::model::Model;
use crate::plot::{self, Axis, Chart};
use crate::published::{Certainty, Claim};
use crate::stats::Summary;
use crate::verdict::{self, Kind, Verdict, meets};

pub(crate) fn section(model: &Model) -> Result<Section> {
    let mut section = Section::new("published", "Published beside measured");
    section.text(format!("The test. {}", verdict::TEST));
    if let Some(path) = &model.published_from {
        section.text(format!("Published numbers were read from {}, which replaces the built-in list.", path.display()));
    }
    let apart = apart(model);
    if !apart.is_empty() {
        section.text(
            "No cell of this run is one of the experiments plotted below; they stand here for reference and share no \
             axis with what was measured.",
        );
        section.figures(apart.into_iter().map(|dataset| figure(model, dataset)).collect::<Result<_>>()?);
    }
    section.table(verdicts(model));
    section.table(contexts(model));
    Ok(section)
}

/// The paper's data sets that no panel of this run shares.
fn apart(model: &Model) -> Vec<&str> {
    let met = |claim: &Claim| model.panels.iter().any(|panel| meets(claim, panel, &model.published, &model.results));
    let settings = model.published.settings.iter().map(|setting| setting.dataset.as_str());
    settings
        .filter(|dataset| !model.published.claims.iter().any(|claim| claim.dataset == *dataset && met(claim)))
        .collect()
}

fn figure(model: &Model, dataset: &str) -> Result<Figure> {
    let claims: Vec<&Claim> = model.published.claims.iter().filter(|claim| claim.dataset == dataset).collect();
    let label = model.published.setting(dataset).map_or(dataset, |setting| &setting.label);
    let (low, high) = claims
        .iter()
        .fold((usize::MAX, 1), |(low, high), claim| (low.min(claim.time_steps), high.max(claim.time_steps)));
    let chart = Chart {
        title: format!("Published accuracy of the paper on {label}"),
        alt: format!("{} published points on {label}; the verdict table has the numbers", claims.len()),
        x: Axis::whole("time steps T", low.min(high), high),
        y: Axis::fit("top-1 accuracy, %", claims.iter().map(|claim| 100.0 * claim.top1), plot::short),
        series: published_series(&model.published.name, &claims),
        height: 230,
        ..Chart::default()
    };
    let networks: std::collections::BTreeSet<&str> = claims.iter().map(|claim| claim.network.as_str()).collect();
    let networks = networks.into_iter().collect::<Vec<_>>().join(" and ");
    Ok(Figure {
        name: format!("published-{dataset}"),
        caption: format!("{label}: published only, {networks}. Not measured in this run."),
        svg: plot::svg(&chart)?,
        dataset: String::new(),
    })
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Reproduced => "good",
        Kind::Below | Kind::Above => "bad",
        Kind::Underpowered | Kind::ProtocolDiffers | Kind::ToyScale | Kind::NotRun => "open",
    }
}

fn certainty(certainty: Certainty) -> Cell {
    Cell::text(certainty.to_string()).class(if certainty == Certainty::Unverified { "bad" } else { "" })
}

/// The cell of the lowest seed, of a judged experiment.
fn measured_cell<'a>(model: &'a Model, verdict: &Verdict) -> Option<&'a str> {
    verdict.measured.as_ref()?;
    verdict.rows.first().map(|&row| model.results.rows[row].cell_id.as_str())
}

fn verdicts(model: &Model) -> Table {
    let columns = vec![
        Column::text("data set"),
        Column::text("network"),
        Column::number("T"),
        Column::number("published %"),
        Column::text("certainty").hint("quoted: a text that reports it was read; UNVERIFIED: recalled only"),
        Column::number("measured %"),
        Column::number("n"),
        Column::number("difference").hint("measured minus published, in points"),
        Column::text("verdict"),
        Column::text("why"),
        Column::text("source of the published number"),
    ];
    let row = |(claim, verdict): (&Claim, &Verdict)| {
        let first = measured_cell(model, verdict);
        let measured = verdict.measured.as_ref();
        let label = model.published.setting(&claim.dataset).map_or(&claim.dataset, |setting| &setting.label);
        let spread = claim.std.map_or_else(String::new, |std| format!(" ± {}", percent(std)));
        let published = Cell::number(Some(claim.top1), |top1| format!("{}{spread}", percent(top1)));
        let summary = |summary: &Summary| {
            let deviation = summary.std.map_or_else(String::new, |std| format!(" ± {}", percent(std)));
            format!("{}{deviation}", percent(summary.mean))
        };
        let cells = vec![
            Cell::text(label),
            Cell::text(&claim.network),
            Cell::count(claim.time_steps),
            published,
            certainty(claim.certainty),
            Cell::number(measured.map(|measured| measured.mean), |_| measured.map(summary).unwrap_or_default())
                .link(first.map(cell_anchor).unwrap_or_default()),
            Cell::number(measured.map(|measured| measured.n as f64), |n| n.to_string()),
            Cell::number(measured.map(|measured| measured.mean - claim.top1), points),
            Cell::text(verdict.kind.to_string()).class(class(verdict.kind)),
            Cell::text(&verdict.reason),
            Cell::text(&claim.source),
        ];
        Row::of(&claim.dataset, "", cells)
    };
    let rows = model.published.claims.iter().zip(&model.verdicts).map(row).collect();
    let caption = "The paper's table, cell by cell (every ± of a published number is unverified)".into();
    Table { caption, columns, rows, collapsed: false }
}

fn contexts(model: &Model) -> Table {
    let columns = vec![
        Column::text("data set"),
        Column::text("method"),
        Column::text("surrogate"),
        Column::text("network"),
        Column::number("T"),
        Column::number("published %"),
        Column::text("certainty"),
        Column::text("source"),
    ];
    let rows = model.published.contexts.iter().map(|context| {
        let label = model.published.setting(&context.dataset).map_or(&context.dataset, |setting| &setting.label);
        let cells = vec![
            Cell::text(label),
            Cell::text(&context.label),
            Cell::text(context.surrogate.as_deref().unwrap_or("–")),
            Cell::text(&context.network),
            Cell::number(context.time_steps.map(|t| t as f64), |t| t.to_string()),
            Cell::number(Some(context.top1), percent),
            certainty(context.certainty),
            Cell::text(&context.source),
        ];
        Row::of(&context.dataset, "", cells)
    });
    Table {
        caption: "Other papers, as context: networks, augmentation and initialisation differ, so this is no ranking"
            .into(),
        columns,
        rows: rows.collect(),
        collapsed: true,
    }
}

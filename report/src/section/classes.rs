//! Accuracy per class and the most frequent confusions, from the predictions that cells kept.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Cell, Column, Row, Section, Table, percent};
use crate::image_error::{self, interval_cell};
use crate::model::Model;
use crate::predictions::Predictions;
use crate::series::{Panel, Point};
use crate::stats::{CONFIDENCE, wilson};
use crate::verdict::time_steps;

/// Confusions listed per arm; the files have all.
const MAX_CONFUSIONS: usize = 20;

/// The section; `None` if no cell of a reference arm kept predictions.
///
/// # Errors
/// A damaged file of predictions.
pub(crate) fn section(model: &Model) -> Result<Option<Section>> {
    let mut section = Section::new("classes", "Classes");
    for panel in &model.panels {
        let Some(line) = panel.reference() else { continue };
        // The largest T stands for the arm; a table for each T would say nearly the same.
        let Some(point) = line.points.last() else { continue };
        let cells = read(model, point, &mut section)?;
        if cells.is_empty() {
            continue;
        }
        let name = format!(
            "{}, {}, T = {}, {} of {} seeds",
            panel.name,
            line.label(),
            time_steps(point.time_steps),
            cells.len(),
            point.rows.len()
        );
        section.table(per_class(panel, &line.method, &name, &cells));
        section.table(confusions(panel, &line.method, &name, &cells));
    }
    if section.blocks.is_empty() {
        return Ok(None);
    }
    section.blocks.insert(
        0,
        super::Block::Text(
            "From cells/<cell>/predictions.npy of the reference arm. The accuracy of a class is the mean over seeds; its \
             interval covers the choice of test images only, for as many answers as the class has images, because the \
             seeds' answers to one image are alike."
                .into(),
        ),
    );
    Ok(Some(section))
}

/// The predictions of a point's seeds that are there; a sentence in the section for those that cannot be used.
fn read(model: &Model, point: &Point, section: &mut Section) -> Result<Vec<Predictions>> {
    let mut cells: Vec<Predictions> = Vec::new();
    for row in point.rows.iter().map(|&row| &model.results.rows[row]) {
        let Some(predictions) = model.results.predictions(row)? else { continue };
        let problem = match cells.first() {
            Some(first) if first.label != predictions.label => Some("its test images are others".to_string()),
            _ => image_error::check_accuracy(row, &predictions).err(),
        };
        match problem {
            Some(problem) => section.text(format!("{} is left out: {problem}.", row.cell_id)),
            None => cells.push(predictions),
        }
    }
    Ok(cells)
}

/// One row per class: its accuracy with Wilson's interval, the lowest first.
fn per_class(panel: &Panel, method: &str, name: &str, cells: &[Predictions]) -> Table {
    let mut counts: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
    for class in cells.iter().flat_map(Predictions::per_class) {
        let (right, images) = counts.entry(class.class).or_default();
        (*right, *images) = (*right + class.right, class.n);
    }
    let seeds = cells.len();
    let accuracy = |(right, images): (usize, usize)| right as f64 / (seeds * images.max(1)) as f64;
    let mut counts: Vec<(u16, (usize, usize))> = counts.into_iter().collect();
    counts.sort_by(|a, b| accuracy(a.1).total_cmp(&accuracy(b.1)));
    let columns = vec![
        Column::number("class"),
        Column::number("images").hint("test images of the class"),
        Column::number("top-1 %"),
        Column::number("95 % interval").hint("Wilson's interval over the images"),
    ];
    let rows = counts.into_iter().map(|(class, (right, images))| {
        let cells = vec![
            Cell::count(class.into()),
            Cell::count(images),
            Cell::number(Some(accuracy((right, images))), percent).of_panel(panel),
            interval_cell(wilson((right as f64 / seeds as f64).round() as usize, images, CONFIDENCE)),
        ];
        Row::of(&panel.dataset, method, cells)
    });
    Table { caption: format!("Accuracy per class: {name}"), columns, rows: rows.collect(), collapsed: true }
}

/// The most frequent wrong answers: an entry of the confusion matrix per row.
fn confusions(panel: &Panel, method: &str, name: &str, cells: &[Predictions]) -> Table {
    let mut counts: BTreeMap<(u16, u16), usize> = BTreeMap::new();
    for (label, predicted, count) in cells.iter().flat_map(Predictions::confusion) {
        *counts.entry((label, predicted)).or_default() += count;
    }
    let mut counts: Vec<((u16, u16), usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
    let all = counts.len();
    counts.truncate(MAX_CONFUSIONS);
    let columns = vec![Column::number("class"), Column::number("answered as"), Column::number("times")];
    let rows = counts.into_iter().map(|((label, predicted), count)| {
        let cells = vec![Cell::count(label.into()), Cell::count(predicted.into()), Cell::count(count)];
        Row::of(&panel.dataset, method, cells)
    });
    let caption =
        format!("Confusions: {name} ({} of {all} pairs of classes, the most frequent first)", all.min(MAX_CONFUSIONS));
    Table { caption, columns, rows: rows.collect(), collapsed: true }
}

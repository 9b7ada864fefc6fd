//! The error over test images of a comparison, beside its error over seeds, where cells kept their predictions.

use anyhow::Result;
use serde::Serialize;

use crate::predictions::{Predictions, paired};
use crate::record::Record;
use crate::section::{Cell, Column, interval};
use crate::stats::{CONFIDENCE, Dominant, wilson};

/// What the choice of the test images does to a difference of accuracies, second minus first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OverImages {
    /// Test images that both sides answered.
    pub n_images: usize,
    /// 95 % interval of the difference over the choice of test images, as fractions.
    pub interval: (f64, f64),
    /// Standard error over test images, as a fraction.
    pub standard_error: f64,
    /// Standard error over seeds; `None` for one pair.
    pub standard_error_of_seeds: Option<f64>,
    /// p of the exact McNemar test; `None` for more than one pair, because it holds for two trained networks only.
    pub mcnemar_p: Option<f64>,
    /// Which of the two standard errors is larger; `None` for one pair.
    pub dominant: Option<Dominant>,
}

/// How one side of a comparison reads a cell's predictions.
pub(crate) type Reader<'a> = &'a dyn Fn(&Record) -> Result<Option<Predictions>>;

/// The error over images of paired cells. `None` if no pair kept its predictions. The inner error is a sentence on why
/// predictions that are there cannot be used.
///
/// # Errors
/// A damaged file.
pub(crate) fn over_images(
    pairs: &[(&Record, &Record)],
    readers: [Reader; 2],
) -> Result<Option<Result<OverImages, String>>> {
    let (mut of_first, mut of_second, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for (a, b) in pairs {
        for (read, row, list) in [(readers[0], a, &mut of_first), (readers[1], b, &mut of_second)] {
            match read(row)? {
                Some(predictions) => match check_accuracy(row, &predictions) {
                    Ok(()) => list.push(predictions),
                    Err(problem) => return Ok(Some(Err(problem))),
                },
                None => absent.push(row.cell_id.as_str()),
            }
        }
    }
    if of_first.is_empty() || of_second.is_empty() {
        return Ok(None);
    }
    if let Some(cell_id) = absent.first() {
        let (some, all) = (absent.len(), 2 * pairs.len());
        return Ok(Some(Err(format!("{some} of {all} predictions are absent, first cells/{cell_id}/predictions.npy"))));
    }
    Ok(Some(of_both(&of_first, &of_second)))
}

fn of_both(first: &[Predictions], second: &[Predictions]) -> Result<OverImages, String> {
    let paired = paired(second, first)?;
    let error = paired.over_images.ok_or("a comparison over images needs two test images")?;
    let single = (paired.seeds.len() == 1).then(|| paired.seeds.first()).flatten();
    Ok(OverImages {
        n_images: error.n_images,
        interval: error.interval,
        standard_error: error.standard_error,
        standard_error_of_seeds: paired.standard_error_of_seeds,
        mcnemar_p: single.map(|seed| seed.p),
        dominant: paired.dominant,
    })
}

/// Predictions of another run than the row's would give an interval around another number.
pub(crate) fn check_accuracy(row: &Record, predictions: &Predictions) -> Result<(), String> {
    let (Some(top1), Some(accuracy)) = (row.top1_last, predictions.accuracy()) else { return Ok(()) };
    if (top1 - accuracy).abs() * predictions.n_images() as f64 <= 0.5 {
        return Ok(());
    }
    Err(format!(
        "cells/{}/predictions.npy holds an accuracy of {accuracy:.4}, the row {top1:.4}: they come from two runs",
        row.cell_id
    ))
}

/// Wilson's interval of a single accuracy, from the number of test samples; `None` if that was not recorded.
pub(crate) fn single(row: &Record) -> Option<(f64, f64)> {
    let (top1, samples) = (row.top1_last?, row.test_samples?);
    wilson((top1 * samples as f64).round() as usize, samples, CONFIDENCE)
}

/// The columns that [`cells`] fills.
pub(crate) fn columns() -> [Column; 3] {
    [
        Column::number("95 % over images").hint("interval of the difference over the choice of test images, in points"),
        Column::number("p, McNemar").hint("exact test of two trained networks on the same images; one pair only"),
        Column::text("larger error").hint("which standard error is larger: that of seeds or that of test images"),
    ]
}

/// The error over images as cells of a table; dashes where it is unknown.
pub(crate) fn cells(error: Option<&OverImages>) -> [Cell; 3] {
    let (range, p) = (error.map(|error| error.interval), error.and_then(|error| error.mcnemar_p));
    [
        interval_cell(range),
        Cell::number(p, crate::section::comparison::p_value),
        Cell::text(error.and_then(|error| error.dominant).map_or("–".into(), |dominant| dominant.to_string())),
    ]
}

/// `[92.99, 94.33]`, sorted by its lower end; a dash where it is unknown.
pub(crate) fn interval_cell(range: Option<(f64, f64)>) -> Cell {
    Cell::number(range.map(|(low, _)| low), |_| range.map(interval).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_accuracy_gets_wilsons_interval_only_if_the_test_set_is_known() {
        let mut row = Record { top1_last: Some(0.9), ..Record::default() };
        assert_eq!(single(&row), None);
        row.test_samples = Some(10);
        let (low, high) = single(&row).unwrap();
        // scipy.stats.binomtest(9, 10).proportion_ci(method="wilson")
        assert!((low - 0.595_849_973_2).abs() < 1e-9 && (high - 0.982_123_786_9).abs() < 1e-9, "{low} {high}");
    }
}

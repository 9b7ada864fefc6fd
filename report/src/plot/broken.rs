//! A broken axis: where to break it, so that arms that failed do not press the others into one line.

/// A gap counts only if it is wider than this many percentage points …
const MIN_GAP: f64 = 10.0;
/// … and wider than this many times the range of the means above it.
const TIMES_SPREAD: f64 = 3.0;
/// Means that must lie above a break.
const MIN_ABOVE: usize = 2;

/// The gap at which an axis breaks: the highest mean below it and the lowest mean above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Break {
    pub below: f64,
    pub above: f64,
}

impl Break {
    /// The middle of the gap. Values from here on belong to the upper panel.
    pub fn middle(self) -> f64 {
        (self.below + self.above) / 2.0
    }
}

/// Finds the highest gap between neighbouring means (in percent) that is wider than 10 points and wider than three times
/// the range of the means above it. At least two means must lie above it; `None` if there is no such gap.
pub(crate) fn split(means: &[f64]) -> Option<Break> {
    let mut sorted: Vec<f64> = means.iter().copied().filter(|mean| mean.is_finite()).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let top = *sorted.first()?;
    sorted.windows(2).skip(MIN_ABOVE - 1).find_map(|pair| {
        let (above, below) = (pair[0], pair[1]);
        let gap = above - below;
        (gap > MIN_GAP && gap > TIMES_SPREAD * (top - above)).then_some(Break { below, above })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_breaks_at_the_highest_wide_gap() {
        let broken = split(&[19.0, 97.0, 96.0, 95.0, 74.0, 64.0, 20.0]);
        assert_eq!(broken, Some(Break { below: 74.0, above: 95.0 }));
        assert_eq!(broken.map(Break::middle), Some(84.5));
    }

    #[test]
    fn the_axis_stays_whole_where_no_gap_is_wide_enough() {
        assert_eq!(split(&[97.0, 95.0, 85.5]), None, "9.5 points are too narrow");
        assert_eq!(split(&[97.0, 92.0, 77.5]), None, "14.5 points are less than three times 5");
        assert_eq!(split(&[97.0, 20.0]), None, "one mean above is no group");
        assert_eq!(split(&[]), None);
        assert_eq!(split(&[f64::NAN, 1.0]), None);
    }
}

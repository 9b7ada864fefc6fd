//! Everything that the report shows, gathered once: lines and points, and per point what the long files add.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Result;

use crate::deviations::{self, Deviation};
use crate::local::Local;
use crate::plot::{Style, palette};
use crate::published::Published;
use crate::record::{FdgPoint, FidelityPoint, MembraneBin};
use crate::results::Results;
use crate::series::{self, Line, Panel, Point};
use crate::verdict::{Verdict, judge};

/// The report's whole input.
pub(crate) struct Model {
    pub results: Results,
    pub panels: Vec<Panel>,
    pub published: Published,
    pub published_from: Local,
    /// In the order of `published.claims`.
    pub verdicts: Vec<Verdict>,
    pub ledger: Vec<Deviation>,
    pub ledger_from: Local,
    /// By point.
    pub curves: BTreeMap<Place, Curve>,
    pub anytime: BTreeMap<Place, BTreeMap<usize, Mean>>,
    pub layers: BTreeMap<Place, Vec<Layer>>,
    /// By the cell of a point's lowest seed.
    pub fdg: BTreeMap<Place, Vec<FdgPoint>>,
    pub membranes: BTreeMap<Place, Vec<MembraneBin>>,
    pub fidelity: Vec<(Place, FidelityPoint)>,
}

/// Panels with plots at most.
pub(crate) const DRAWN_PANELS: usize = 8;

/// A point: panel, line, point.
pub(crate) type Place = (usize, usize, usize);

/// A mean over seeds, as it is gathered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    sum: f64,
    n: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.sum += value;
            self.n += 1;
        }
    }

    pub fn get(self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}

/// By epoch: training loss and test loss, over seeds.
pub(crate) type Curve = BTreeMap<usize, (Mean, Mean)>;

/// One spiking layer, over seeds.
#[derive(Debug)]
pub(crate) struct Layer {
    pub name: String,
    pub firing_rate: Mean,
    pub active_gradient_share: Mean,
}

impl Model {
    pub fn load(dir: &Path, published: Option<&Path>) -> Result<Self> {
        Self::of(Results::load(dir)?, published)
    }

    /// Several folders in one report.
    pub fn load_together(dirs: &[&Path], published: Option<&Path>) -> Result<Self> {
        Self::of(Results::load_together(dirs)?, published)
    }

    fn of(results: Results, published: Option<&Path>) -> Result<Self> {
        let panels = series::panels(&results);
        let (published, published_from) = Published::load(published)?;
        let judge = |claim| judge(claim, &published, &panels, &results);
        let verdicts = published.claims.iter().map(judge).collect();
        let (ledger, ledger_from) = deviations::load()?;
        let mut model = Self {
            results,
            panels,
            published,
            published_from,
            verdicts,
            ledger,
            ledger_from,
            curves: BTreeMap::new(),
            anytime: BTreeMap::new(),
            layers: BTreeMap::new(),
            fdg: BTreeMap::new(),
            membranes: BTreeMap::new(),
            fidelity: Vec::new(),
        };
        model.gather()?;
        Ok(model)
    }

    /// Streams the long files. Rows of cells that are in no line (failed ones, say) are left out.
    fn gather(&mut self) -> Result<()> {
        let mut places: HashMap<String, Place> = HashMap::new();
        let mut first: HashMap<String, Place> = HashMap::new();
        for (place, _, _, point) in points(&self.panels) {
            for (rank, &row) in point.rows.iter().enumerate() {
                let id = &self.results.rows[row].cell_id;
                places.insert(id.clone(), place);
                if rank == 0 {
                    first.insert(id.clone(), place);
                }
            }
        }
        let Self { results, curves, anytime, layers, fdg, membranes, fidelity, .. } = self;
        results.each_curve(|row| {
            if let Some(place) = places.get(&row.cell_id) {
                let (train, test) = curves.entry(*place).or_default().entry(row.epoch).or_default();
                row.train_loss.into_iter().for_each(|loss| train.add(loss));
                row.test_loss.into_iter().for_each(|loss| test.add(loss));
            }
        })?;
        results.each_anytime(|row| {
            if let Some(place) = places.get(&row.cell_id) {
                anytime.entry(*place).or_default().entry(row.t).or_default().add(row.top1);
            }
        })?;
        results.each_layer(|row| {
            let Some(place) = places.get(&row.cell_id) else { return };
            let layers = layers.entry(*place).or_default();
            let index = layers.iter().position(|layer| layer.name == row.layer).unwrap_or_else(|| {
                let (firing_rate, active_gradient_share) = Default::default();
                layers.push(Layer { name: row.layer.clone(), firing_rate, active_gradient_share });
                layers.len() - 1
            });
            layers[index].firing_rate.add(row.firing_rate);
            if let Some(share) = row.active_gradient_share {
                layers[index].active_gradient_share.add(share);
            }
        })?;
        results.each_fdg(|row| {
            if let Some(place) = first.get(&row.cell_id) {
                fdg.entry(*place).or_default().push(row);
            }
        })?;
        results.each_fidelity(|row| {
            if let Some(place) = first.get(&row.cell_id) {
                fidelity.push((*place, row));
            }
        })?;
        results.each_membrane(|row| {
            if let Some(place) = first.get(&row.cell_id) {
                membranes.entry(*place).or_default().push(row);
            }
        })
    }

    /// The panels that get plots: all of them, up to a number that a page can bear (tables have the rest).
    pub fn drawn(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().take(DRAWN_PANELS)
    }

    /// Every point with its place.
    pub fn points(&self) -> impl Iterator<Item = (Place, &Panel, &Line, &Point)> {
        points(&self.panels)
    }

    /// The look of a method, the same in every figure.
    pub fn style(&self, method: &str) -> Style {
        let mut methods: Vec<&str> = Vec::new();
        for line in self.panels.iter().flat_map(|panel| &panel.lines) {
            if !methods.contains(&&*line.method) {
                methods.push(&line.method);
            }
        }
        palette::style(method, methods.iter().position(|name| *name == method).unwrap_or(0))
    }

    /// The command that makes or completes the folder.
    pub fn command(&self) -> Option<&str> {
        self.results.plan.as_ref().map(|plan| &*plan.command)
    }
}

fn points(panels: &[Panel]) -> impl Iterator<Item = (Place, &Panel, &Line, &Point)> {
    panels.iter().enumerate().flat_map(|(p, panel)| {
        panel.lines.iter().enumerate().flat_map(move |(l, line)| {
            line.points.iter().enumerate().map(move |(i, point)| ((p, l, i), panel, line, point))
        })
    })
}

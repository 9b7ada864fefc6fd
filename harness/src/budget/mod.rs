//! `--budget 48h`: what each cell costs on this device, and which cells tell most for that.

pub mod measure;

use crate::cell::Cell;
use crate::exit::{self, Code};
use crate::plan;
use crate::store::Store;
use crate::suite::Suite;
use anyhow::Result;
use measure::Rates;
use report::record::Status;
use report::stats::detectable_difference;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// What a cell costs on this device: a calibration scaled up, an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Training, FDG and tests.
    pub seconds: f64,
    /// Peak memory at the cell's micro-batch; `None` where it was not measured.
    pub memory_bytes: Option<f64>,
}

impl Price {
    /// Its share of the clock where `jobs` cells train at once.
    fn shared(self, jobs: usize) -> Self {
        Self { seconds: self.seconds / jobs as f64, ..self }
    }
}

/// A cell of the plan, in the order in which it should run.
#[derive(Debug)]
pub struct Priced<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Its price; nothing where it has a result.
    pub price: Price,
    /// Whether it lies within the budget.
    pub fits: bool,
}

/// `48h`, `90m`, `2d`, `30s`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 48h, 90m, 2d or 30s");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let (_, seconds) = seconds.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// Prices the cells, `jobs` of which train at once, orders them and marks what fits; says so. The cells that fit, in that
/// order.
pub fn plan(suite: &Suite, cells: &[Cell], store: Option<&Store>, budget: Duration, jobs: usize) -> Result<Vec<Cell>> {
    let mut left = Vec::new();
    for cell in cells {
        let status = store.map(|store| store.status(&cell.id)).transpose()?.flatten();
        left.push(status != Some(Status::Done));
    }
    let wanted: Vec<&Cell> = cells.iter().zip(&left).filter(|(_, left)| **left).map(|(cell, _)| cell).collect();
    let rates = calibrate(&wanted, (rayon::current_num_threads() / jobs).max(1))?;
    let price = |(cell, left): (&Cell, &bool)| match *left {
        true => price(cell, &rates[&key(cell)]).shared(jobs),
        false => Price::default(),
    };
    let prices: Vec<Price> = cells.iter().zip(&left).map(price).collect();
    let priced = choose(suite, cells, &prices, budget.as_secs_f64());
    print!("{}", shown(&priced, budget));
    print!("{}", power(suite, &priced));
    let fitting: Vec<Cell> = priced.iter().filter(|priced| priced.fits).map(|priced| priced.cell.clone()).collect();
    if fitting.is_empty() {
        return Err(exit::failure(
            Code::NothingSelected,
            "no cell fits the budget; the table above says what they cost",
        ));
    }
    Ok(fitting)
}

/// Cells of one key cost the same an image, but for T.
fn key(cell: &Cell) -> String {
    let (config, network) = (&cell.config, &cell.config.network);
    let kind = if config.time_steps.is_some() { "snn" } else { "ann" };
    let (name, stem, size) = (network.architecture.name(), network.imagenet_stem, config.data.size);
    format!("{name} width {} {kind}, {} x {size} x {size}, stem {stem}", network.width, config.data.dataset.channels())
}

/// One measurement a key, on that many threads, at its smallest T; of a cell with FDG, where one has it.
fn calibrate(cells: &[&Cell], threads: usize) -> Result<HashMap<String, Rates>> {
    let mut rates: HashMap<String, Rates> = HashMap::new();
    for cell in cells {
        let key = key(cell);
        if rates.contains_key(&key) {
            continue;
        }
        let alike = cells.iter().filter(|other| self::key(other) == key);
        let Some(chosen) = alike.min_by_key(|c| (c.config.fdg.is_none(), c.config.time_steps)) else { continue };
        eprintln!("calibrating: {key}, T = {}", chosen.config.time_steps.unwrap_or(1));
        rates.insert(key, measure::in_own_process(&chosen.config, threads)?);
    }
    Ok(rates)
}

fn price(cell: &Cell, rates: &Rates) -> Price {
    let config = &cell.config;
    let scale = config.time_steps.unwrap_or(1) as f64 / rates.time_steps as f64;
    let limit = |n: usize| config.data.limit.map_or(n, |limit| limit.min(n)) as f64;
    let (train, test) = config.data.dataset.declared_samples();
    let together = config.at_once();
    let fdg = plan::fdg_passes(cell) * rates.fdg_seconds.unwrap_or(rates.eval_seconds);
    let epoch = limit(train) * rates.train_seconds + limit(test) * rates.eval_seconds + fdg;
    Price {
        seconds: config.stage.epochs as f64 * epoch * scale,
        memory_bytes: rates.memory.map(|m| m.base_bytes + m.image_bytes * scale * together as f64),
    }
}

/// Headline arms first, then first seeds, then the suite's order; a cell is bought with the ancestors that it needs, if
/// the rest of the budget pays for them, so that a chain too dear does not keep a cheaper one out.
fn choose<'a>(suite: &Suite, cells: &'a [Cell], prices: &[Price], budget: f64) -> Vec<Priced<'a>> {
    let index: HashMap<&str, usize> = cells.iter().enumerate().map(|(i, cell)| (cell.id.as_str(), i)).collect();
    let seeds: BTreeSet<u64> = cells.iter().map(|cell| cell.config.seed).collect();
    let rank = |i: &usize| {
        let cell = &cells[*i];
        let headline = suite.headline.is_empty() || suite.headline.iter().any(|name| name == cell.method_name());
        (!headline, seeds.iter().position(|seed| *seed == cell.config.seed), *i)
    };
    // An ANN is no arm: it comes with the first chain that needs it.
    let mut order: Vec<usize> = (0..cells.len()).filter(|&i| cells[i].config.method.is_some()).collect();
    order.sort_by_key(rank);
    order.extend((0..cells.len()).filter(|&i| cells[i].config.method.is_none()));
    let (mut rest, mut placed, mut plan) = (budget, HashSet::new(), Vec::new());
    for fits in [true, false] {
        for &i in &order {
            let mut needed = Vec::new();
            let mut at = Some(i);
            while let Some(i) = at.filter(|i| !placed.contains(i)) {
                needed.push(i);
                at = cells[i].config.parent_cell.as_deref().and_then(|parent| index.get(parent).copied());
            }
            let cost: f64 = needed.iter().map(|&i| prices[i].seconds).sum();
            if fits && cost > rest {
                continue;
            }
            rest -= cost;
            placed.extend(needed.iter().copied());
            plan.extend(needed.iter().rev().map(|&i| Priced { cell: &cells[i], price: prices[i], fits }));
        }
    }
    plan
}

fn shown(priced: &[Priced<'_>], budget: Duration) -> String {
    let width = priced.iter().map(|priced| priced.cell.id.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:>9}  {:>7}  {:>9}  fits\n", "cell", "hours", "GiB", "petaMAC");
    let (mut fitting, mut all) = ((0, 0.0), 0.0);
    for Priced { cell, price, fits } in priced {
        let hours = price.seconds / 3600.0;
        let gib = price.memory_bytes.map_or("-".into(), |bytes| format!("{:.2}", bytes / 1024f64.powi(3)));
        all += hours;
        if *fits {
            fitting = (fitting.0 + 1, fitting.1 + hours);
        }
        let (macs, fits) = (plan::work(cell).training_macs / 1e15, if *fits { "yes" } else { "no" });
        text += &format!("{:width$}  {hours:>9.3}  {gib:>7}  {macs:>9.4}  {fits}\n", cell.id);
    }
    let budget = budget.as_secs_f64() / 3600.0;
    text += &format!(
        "{} of {} cells fit {budget:.2} h: {:.2} h of {all:.2} h. Estimates: one short calibration a network, scaled by T, \
         images and epochs; without loading, audits and other load. Finished cells cost nothing.\n",
        fitting.0,
        priced.len(),
        fitting.1
    );
    text
}

/// What comparisons of the arms that fit can still show.
fn power(suite: &Suite, priced: &[Priced<'_>]) -> String {
    // (data set, network, T) → arm → seeds.
    let mut seeds: BTreeMap<String, BTreeMap<&str, BTreeSet<u64>>> = BTreeMap::new();
    for Priced { cell, fits, .. } in priced.iter().filter(|priced| priced.cell.config.method.is_some()) {
        let config = &cell.config;
        let network = format!("{} width {}", config.network.architecture.name(), config.network.width);
        let place = format!("{}, {network}, T = {}", config.protocol_id, config.time_steps.unwrap_or(0));
        let of_arm = seeds.entry(place).or_default().entry(cell.method_name()).or_default();
        if *fits {
            of_arm.insert(config.seed);
        }
    }
    let first = suite.headline.first().unwrap_or(&suite.methods[0].name);
    let mut text = String::from("power that remains (paired over seeds, two-sided 5 %, shown four times in five):\n");
    for (place, arms) in &seeds {
        let Some(ours) = arms.get(first.as_str()) else { continue };
        let mut by_seeds: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (arm, theirs) in arms.iter().filter(|(arm, _)| **arm != first) {
            by_seeds.entry(ours.intersection(theirs).count()).or_default().push(arm);
        }
        for (n, arms) in by_seeds.into_iter().rev() {
            let shows = match detectable_difference(n, 1.0) {
                Some(d) => format!("a difference of {d:.2} standard deviations of the paired difference"),
                None => "no difference: two seeds are the least".into(),
            };
            text += &format!("  {place}: {first} against {}: {n} seeds, {shows}\n", arms.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Overrides, cells};

    fn suite() -> Suite {
        let mut suite = Suite::parse(include_str!("../../../suites/smoke.toml")).unwrap();
        suite.experiments.truncate(1);
        suite.experiments[0].methods = ["dspike-no-fdg", "dspike", "rectangle"].map(String::from).to_vec();
        suite.headline = ["dspike", "rectangle"].map(String::from).to_vec();
        suite
    }

    fn names(plan: &[Priced<'_>], fits: bool) -> Vec<String> {
        let chosen = plan.iter().filter(|priced| priced.fits == fits);
        chosen.map(|p| format!("{}:{}:{}", p.cell.method_name(), p.cell.stage, p.cell.config.seed)).collect()
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse("48h"), Ok(Duration::from_secs(172_800)));
        assert_eq!(parse("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "h", "48", "-1h", "1e300d", "3 weeks", "5µ"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn headline_arms_come_first_and_their_first_seeds_before_the_second() {
        let suite = suite();
        let seeds = Overrides { seeds: Some(vec![0, 1]), ..Overrides::default() };
        let cells = cells(&suite, &seeds, "cpu-f32").unwrap();
        let prices = vec![Price { seconds: 1.0, memory_bytes: None }; cells.len()];
        let of = |arm: &str, seed: u64| [3, 2].map(|t| format!("{arm}:t{t}:{seed}")).to_vec();
        let headline =
            |seed: u64| [vec![format!("ann:ann:{seed}")], of("dspike", seed), of("rectangle", seed)].concat();
        let all = [headline(0), headline(1), of("dspike-no-fdg", 0), of("dspike-no-fdg", 1)].concat();
        assert_eq!(names(&choose(&suite, &cells, &prices, 14.0), true), all);
        // Seven seconds: the first seed, and the beginning of the second; parents always before their children.
        let plan = choose(&suite, &cells, &prices, 7.0);
        assert_eq!(names(&plan, true), all[..7]);
        assert_eq!(names(&plan, false), all[7..]);
        assert!(
            power(&suite, &plan).contains("dspike against rectangle: 1 seeds, no difference"),
            "{}",
            power(&suite, &plan)
        );
    }

    #[test]
    fn a_chain_too_dear_keeps_no_cheaper_one_out() {
        let suite = suite();
        let cells = cells(&suite, &Overrides::default(), "cpu-f32").unwrap();
        let dear = |cell: &Cell| if cell.method_name() == "dspike" { 10.0 } else { 1.0 };
        let prices: Vec<Price> = cells.iter().map(|cell| Price { seconds: dear(cell), memory_bytes: None }).collect();
        let plan = choose(&suite, &cells, &prices, 5.0);
        let fitting = ["ann:ann:0", "rectangle:t3:0", "rectangle:t2:0", "dspike-no-fdg:t3:0", "dspike-no-fdg:t2:0"];
        assert_eq!(names(&plan, true), fitting);
        assert_eq!(plan.len(), cells.len());
    }

    #[test]
    fn three_seeds_show_three_standard_deviations() {
        let suite = suite();
        let seeds = Overrides { seeds: Some(vec![0, 1, 2]), ..Overrides::default() };
        let cells = cells(&suite, &seeds, "cpu-f32").unwrap();
        let plan = choose(&suite, &cells, &vec![Price::default(); cells.len()], 0.0);
        // (4.3027 + 1.0607) / sqrt(3), the quantiles of Student's t with two degrees of freedom.
        assert!(power(&suite, &plan).contains("3 seeds, a difference of 3.10 standard"), "{}", power(&suite, &plan));
    }

    #[test]
    fn a_price_is_images_epochs_and_t_times_their_rates() {
        let suite = suite();
        let cells = cells(&suite, &Overrides::default(), "cpu-f32").unwrap();
        let cell = cells.iter().find(|cell| cell.method_name() == "dspike" && cell.stage == "t3").unwrap();
        let rates = Rates {
            time_steps: 1,
            train_seconds: 1.0,
            eval_seconds: 0.1,
            fdg_seconds: Some(0.01),
            memory: Some(measure::Memory { base_bytes: 100.0, image_bytes: 1.0 }),
        };
        // 64 images of each split, one epoch, T = 3; 2 · 2·3·9 (width 4: 2 stem channels, 3 colours, 3 × 3) · 4 losses.
        let weights: usize =
            crate::model::layout::Layout::new(&cell.config.network, 3, 10, None).params[0].shape.iter().product();
        let expected = 3.0 * (64.0 + 6.4 + (2 * weights * 4) as f64 * 0.01);
        let price = price(cell, &rates);
        assert!((price.seconds - expected).abs() < 1e-9, "{} {expected}", price.seconds);
        assert_eq!(price.memory_bytes, Some(100.0 + 3.0 * 16.0));
    }
}

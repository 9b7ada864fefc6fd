//! The moving-image event-camera model: a still picture goes round a closed loop before an ideal 128×128 DVS.
//!
//! The picture becomes gray, 152×152 (bicubic). It moves along four 45-degree legs of 2.5 sensor pixels, 50 ms each, in
//! 10 steps a leg. Each pixel sees log intensity `ln(y + 0.06)`, remembers the level at which it last fired, and fires
//! once for each full `theta` crossed, ON for a rise, at a time linear between two steps. No noise, no refractory time.

use super::SENSOR;
use super::aedat::Event;
use super::image::luma;
use super::resample::{Filter, Window, resize};

/// Side of the enlarged picture: the sensor and a margin of 12 pixels on each side.
const STAGE: usize = SENSOR + 24;
/// The window's corner at rest is (6, 12), so that the loop (0 … 5 pixels right, ±2.5 down) stays inside.
const ORIGIN: (usize, usize) = (6, 12);
const STEPS_PER_LEG: usize = 10;
const STEP_MICROSECONDS: u32 = 5000;
/// Positions are multiples of a quarter pixel, so an interpolated level is a whole number of 1/(16·255).
const LEVELS: usize = 16 * 255;
/// Log intensities are whole numbers of `theta / ONE`: a picture back at its start has exactly its first level again,
/// and the threshold met exactly fires. (In floating point such ties fall by the last bit, which costs a sixth of the
/// events and may differ between machines.)
const ONE: i32 = 1 << 22;

/// What may be chosen of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Contrast threshold, in log intensity, at least 0.01. A smaller one gives more events.
    pub theta: f64,
    /// Times round the path (0.2 s each).
    pub loops: usize,
}

impl Camera {
    /// Events of an RGB picture, `side`×`side` (`side >= 1`), ordered by time, then row, then column.
    pub fn record(&self, rgb: &[u8], side: usize) -> Vec<Event> {
        let log = |level| ((level as f64 / LEVELS as f64 + 0.06).ln() / self.theta * f64::from(ONE)).round() as i32;
        let log: Vec<i32> = (0..=LEVELS).map(log).collect();
        let stage = enlarge(rgb, side);
        let views: Vec<Vec<i32>> = path().iter().map(|&position| view(&stage, position, &log)).collect();
        let mut reference = views[0].clone();
        let mut events = Vec::new();
        for step in 0..self.loops * views.len() {
            let (previous, current) = (&views[step % views.len()], &views[(step + 1) % views.len()]);
            let start = step as u32 * STEP_MICROSECONDS;
            for (pixel, level) in reference.iter_mut().enumerate() {
                let sees = Change { from: previous[pixel], to: current[pixel] };
                let crossings = (sees.to - *level) / ONE;
                for _ in 0..crossings.abs() {
                    *level += crossings.signum() * ONE;
                    let t = start + sees.time_of(*level);
                    let (x, y) = ((pixel % SENSOR) as u8, (pixel / SENSOR) as u8);
                    events.push(Event::new(t, x, y, crossings > 0));
                }
            }
        }
        events.sort_by_key(|event| u64::from(event.t()) << 14 | u64::from(event.y()) << 7 | u64::from(event.x()));
        events
    }
}

/// The log intensities of a pixel at both ends of a step.
struct Change {
    from: i32,
    to: i32,
}

impl Change {
    /// When the level is crossed, in microseconds from the start of the step.
    fn time_of(&self, level: i32) -> u32 {
        let change = i64::from(self.to) - i64::from(self.from);
        let way = i64::from(level) - i64::from(self.from);
        let span = i64::from(STEP_MICROSECONDS);
        if change == 0 { STEP_MICROSECONDS } else { (way * span / change).clamp(0, span) as u32 }
    }
}

/// The gray picture, enlarged to `STAGE`×`STAGE`.
fn enlarge(rgb: &[u8], side: usize) -> Vec<u8> {
    let gray: Vec<u8> = rgb.chunks_exact(3).map(luma).collect();
    let whole = Window { left: 0, top: 0, width: side, height: side };
    resize::<1>(&gray, side, whole, (STAGE, STAGE), Filter::Bicubic)
}

/// The positions of one loop, in quarter pixels (right, down) from the origin: 0 → (s, s) → (2s, 0) → (s, −s) → 0.
fn path() -> Vec<(usize, isize)> {
    let legs: [(isize, isize); 4] = [(1, 1), (1, -1), (-1, -1), (-1, 1)];
    let mut position = (0, 0);
    let mut positions = Vec::with_capacity(legs.len() * STEPS_PER_LEG);
    for (right, down) in legs {
        for _ in 0..STEPS_PER_LEG {
            positions.push((position.0 as usize, position.1));
            position = (position.0 + right, position.1 + down);
        }
    }
    positions
}

/// Log intensities that the sensor sees at a position: bilinear between four pixels of the stage.
fn view(stage: &[u8], (right, down): (usize, isize), log: &[i32]) -> Vec<i32> {
    let down = (ORIGIN.1 * 4).strict_add_signed(down);
    let (left, top) = (ORIGIN.0 + right / 4, down / 4);
    let (fx, fy) = (right % 4, down % 4);
    let mut seen = Vec::with_capacity(SENSOR * SENSOR);
    for y in top..top + SENSOR {
        let above = &stage[y * STAGE + left..][..=SENSOR];
        let below = &stage[(y + 1) * STAGE + left..][..=SENSOR];
        for x in 0..SENSOR {
            let across = |row: &[u8]| (4 - fx) * usize::from(row[x]) + fx * usize::from(row[x + 1]);
            seen.push(log[(4 - fy) * across(above) + fy * across(below)]);
        }
    }
    seen
}

//! Events to T frames of counts, and frames to the size the network sees.

use anyhow::Result;

use super::aedat::Event;
use super::{Integration, Resize, SENSOR};
use crate::exit::data;

/// Pixels of a sensor frame.
const AREA: usize = SENSOR * SENSOR;

/// How recordings become frames; the key of every cache of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// T.
    pub time_steps: usize,
    /// The cut along time.
    pub integration: Integration,
    /// Height and width, in pixels.
    pub size: usize,
    /// From the sensor's size to `size`.
    pub resize: Option<Resize>,
}

impl Framing {
    /// Values of one frame, `[size, size, 2]`.
    pub fn frame_len(self) -> usize {
        2 * self.size * self.size
    }

    /// Values that one recording's frames take: `time_steps` × (frame, then its peak).
    pub fn stored_len(self) -> usize {
        self.time_steps * (self.frame_len() + 1)
    }

    /// Sensor pixels summed in one value.
    pub fn block(self) -> usize {
        match self.resize {
            Some(Resize::Average) => (SENSOR / self.size).pow(2),
            _ => 1,
        }
    }

    /// `time_steps` × (`[size, size, 2]` counts, summed over blocks for `average`; then the peak, what `per-frame-max`
    /// divides by). Counts beyond 65,535 stay there. `name` is for the errors.
    pub fn build(self, events: &[Event], name: &str) -> Result<Vec<u16>> {
        let mut stored = Vec::with_capacity(self.stored_len());
        let mut counts = vec![0u16; 2 * AREA];
        for slice in slices(events, self.time_steps, self.integration, name)? {
            count(slice, &mut counts);
            self.resize_into(&counts, &mut stored);
        }
        Ok(stored)
    }

    fn resize_into(self, counts: &[u16], stored: &mut Vec<u16>) {
        let start = stored.len();
        match self.resize {
            None => stored.extend_from_slice(counts),
            Some(Resize::Nearest) => {
                let nearest = |i: usize| (2 * i + 1) * SENSOR / (2 * self.size);
                for (y, x) in (0..self.size).flat_map(|y| (0..self.size).map(move |x| (y, x))) {
                    stored.extend_from_slice(&counts[(nearest(y) * SENSOR + nearest(x)) * 2..][..2]);
                }
            }
            Some(Resize::Average) => {
                stored.resize(start + self.frame_len(), 0);
                let block = SENSOR / self.size;
                for (i, &n) in counts.iter().enumerate().filter(|&(_, &n)| n > 0) {
                    let (y, x, channel) = (i / 2 / SENSOR / block, i / 2 % SENSOR / block, i % 2);
                    let sum = &mut stored[start + (y * self.size + x) * 2 + channel];
                    *sum = sum.saturating_add(n);
                }
            }
        }
        let whole = if self.resize == Some(Resize::Average) { &stored[start..] } else { counts };
        let peak = whole.iter().copied().max().unwrap_or(0);
        stored.push(peak);
    }
}

/// Counts of a slice, `[128, 128, 2]` with channel 0 = OFF, 1 = ON.
fn count(events: &[Event], counts: &mut [u16]) {
    counts.fill(0);
    for event in events {
        let cell =
            &mut counts[(usize::from(event.y()) * SENSOR + usize::from(event.x())) * 2 + usize::from(event.on())];
        *cell = cell.saturating_add(1);
    }
}

/// Cuts a recording into `time_steps` slices as SpikingJelly does; the last one takes the remainder.
fn slices<'a>(
    events: &'a [Event],
    time_steps: usize,
    integration: Integration,
    name: &str,
) -> Result<Vec<&'a [Event]>> {
    let bounds: Vec<usize> = match integration {
        Integration::Number => {
            let each = events.len() / time_steps;
            if each == 0 {
                let n = events.len();
                return Err(data(format!("{name} holds {n} events, too few for {time_steps} frames of equal number")));
            }
            (0..time_steps).map(|i| i * each).collect()
        }
        Integration::Time => {
            let times = rising_times(events);
            let span = times.last().copied().unwrap_or(0);
            let each = span / time_steps as u64;
            if each == 0 {
                return Err(data(format!("{name} spans {span} µs, too little for {time_steps} frames of equal time")));
            }
            (0..time_steps as u64).map(|i| times.partition_point(|&t| t < i * each)).collect()
        }
    };
    let ends = bounds.iter().skip(1).copied().chain([events.len()]);
    Ok(bounds.iter().zip(ends).map(|(&start, end)| &events[start..end]).collect())
}

/// Microseconds since the first event; a fall of the clock counts as no time passed.
fn rising_times(events: &[Event]) -> Vec<u64> {
    let mut elapsed = 0;
    let mut last = events.first().map_or(0, |event| event.t());
    events
        .iter()
        .map(|event| {
            elapsed += u64::from(event.t().saturating_sub(last));
            last = event.t();
            elapsed
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(t: u32, x: u8, y: u8, on: bool) -> Event {
        Event::new(t, x, y, on)
    }

    fn lengths(times: &[u32], time_steps: usize, integration: Integration) -> Vec<usize> {
        let events: Vec<Event> = times.iter().map(|&t| event(t, 0, 0, true)).collect();
        slices(&events, time_steps, integration, "a").unwrap().iter().map(|slice| slice.len()).collect()
    }

    #[test]
    fn the_last_frame_takes_the_remainder() {
        assert_eq!(lengths(&[0, 1, 2, 3, 4, 5, 6], 3, Integration::Number), [2, 2, 3]);
        // dt = (23 - 3) / 3 = 6: [3, 9), [9, 15), [15, …]
        assert_eq!(lengths(&[3, 8, 9, 14, 15, 20, 21, 23], 3, Integration::Time), [2, 2, 4]);
    }

    #[test]
    fn a_fall_of_the_clock_counts_as_no_time_passed() {
        // Elapsed: 0, 10, 10, 15, 20; dt = 10.
        assert_eq!(lengths(&[100, 110, 0, 5, 10], 2, Integration::Time), [1, 4]);
    }

    #[test]
    fn too_few_events_or_too_short_a_time_is_refused() {
        let events = [event(5, 0, 0, true), event(6, 0, 0, true)];
        let number = slices(&events, 3, Integration::Number, "a.aedat").unwrap_err().to_string();
        assert!(number.contains("a.aedat holds 2 events, too few for 3 frames"), "{number}");
        let time = slices(&events, 3, Integration::Time, "a.aedat").unwrap_err().to_string();
        assert!(time.contains("spans 1 µs"), "{time}");
    }

    #[test]
    fn averaging_sums_blocks_and_nearest_picks_pillows_pixel() {
        let events = [event(0, 4, 0, true), event(1, 7, 3, true), event(2, 6, 1, true), event(3, 6, 1, true)];
        let framing = |size, resize| Framing { time_steps: 1, integration: Integration::Number, size, resize };
        let average = framing(32, Some(Resize::Average)).build(&events, "a").unwrap();
        assert_eq!((average[3], average[2 * 32 * 32], average.iter().map(|&v| u32::from(v)).sum::<u32>()), (4, 4, 8));
        // 128 → 48: target (2, 0) shows source column ⌊2.5·128/48⌋ = 6, row ⌊0.5·128/48⌋ = 1; the peak is the sensor's.
        let nearest = framing(48, Some(Resize::Nearest)).build(&events, "a").unwrap();
        assert_eq!((nearest[5], nearest[2 * 48 * 48]), (2, 2));
        assert_eq!(nearest.iter().map(|&v| u32::from(v)).sum::<u32>(), 4);
    }
}

//! Batches of an epoch, in order, loaded ahead by worker threads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

use super::{Dataset, Draw, Split};

/// One batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// `[B, H, W, C]` for stills, `[T, B, H, W, C]` for event frames.
    pub input: Vec<f32>,
    /// `[B]`.
    pub labels: Vec<u32>,
    /// B: the batch size asked for, or what is left for the last batch.
    pub len: usize,
}

impl Batch {
    /// The samples of `range`, of a batch of `frames` frames a sample (1 for stills).
    pub fn part(&self, range: Range<usize>, frames: usize) -> Cow<'_, Self> {
        if range == (0..self.len) {
            return Cow::Borrowed(self);
        }
        let pixels = self.input.len() / (frames * self.len);
        let rows = (0..frames).map(|t| {
            let (from, to) = (t * self.len + range.start, t * self.len + range.end);
            &self.input[from * pixels..to * pixels]
        });
        Cow::Owned(Self {
            input: rows.collect::<Vec<_>>().concat(),
            labels: self.labels[range.clone()].to_vec(),
            len: range.len(),
        })
    }
}

/// What every worker reads.
struct Plan {
    dataset: Arc<dyn Dataset>,
    split: Split,
    order: Vec<usize>,
    batch: usize,
    augment: Option<Draw>,
}

impl Plan {
    fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch)
    }

    fn load(&self, number: usize) -> Result<Batch> {
        let indices = &self.order[number * self.batch..];
        let indices = &indices[..indices.len().min(self.batch)];
        let (shape, len) = (self.dataset.input(), indices.len());
        let frame = shape.frame_len();
        let mut input = vec![0.0; len * shape.sample_len()];
        let mut sample = vec![0.0; shape.sample_len()];
        for (b, &index) in indices.iter().enumerate() {
            if shape.time_steps.is_none() {
                let out = &mut input[b * frame..][..frame];
                self.dataset.sample(self.split, index, self.augment, out)?;
                continue;
            }
            self.dataset.sample(self.split, index, self.augment, &mut sample)?;
            for (t, values) in sample.chunks_exact(frame).enumerate() {
                input[(t * len + b) * frame..][..frame].copy_from_slice(values);
            }
        }
        let labels = indices.iter().map(|&index| self.dataset.label(self.split, index) as u32).collect();
        Ok(Batch { input, labels, len })
    }

    /// `load`, with a panic of a decoder turned into an error, so that no reader waits for ever.
    fn load_guarded(&self, number: usize) -> Result<Batch> {
        catch_unwind(AssertUnwindSafe(|| self.load(number)))
            .unwrap_or_else(|_| Err(anyhow!("loading batch {number} panicked; the message is above")))
    }
}

/// Where the workers and the reader meet.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Batches that may be loaded or being loaded before the reader asks for them.
    ahead: usize,
}

struct State {
    /// The next batch for a worker to take.
    ticket: usize,
    /// The next batch to give out.
    next: usize,
    ready: BTreeMap<usize, Result<Batch>>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's life: take a number, load it, put it down.
    fn work(&self, plan: &Plan) {
        loop {
            let mut state = self.lock();
            while !state.closed && state.ticket < plan.batches() && state.ticket >= state.next + self.ahead {
                state = self.wait(state);
            }
            if state.closed || state.ticket >= plan.batches() {
                return;
            }
            let number = state.ticket;
            state.ticket += 1;
            drop(state);
            let batch = plan.load_guarded(number);
            self.lock().ready.insert(number, batch);
            self.changed.notify_all();
        }
    }
}

/// The batches of an epoch, in order. They do not depend on the number of workers.
pub struct Batches {
    plan: Arc<Plan>,
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

impl Batches {
    /// Starts loading `order` (indices of samples of `split`) in batches of `batch` (at least 1), from batch number
    /// `skip` on. At most `workers + 2` batches are held; with 0 workers each is loaded when asked for.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        split: Split,
        order: Vec<usize>,
        batch: usize,
        augment: Option<Draw>,
        workers: usize,
        skip: usize,
    ) -> Self {
        let plan = Arc::new(Plan { dataset, split, order, batch: batch.max(1), augment });
        let state = State { ticket: skip, next: skip, ready: BTreeMap::new(), closed: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new(), ahead: workers + 2 });
        let workers = (0..workers)
            .filter_map(|_| {
                let (plan, queue) = (plan.clone(), queue.clone());
                // Fewer do, and none: batches are then loaded when asked for.
                let started = std::thread::Builder::new().spawn(move || queue.work(&plan));
                started.inspect_err(|error| tracing::warn!("a thread that loads batches did not start: {error}")).ok()
            })
            .collect();
        Self { plan, queue, workers }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.queue.lock();
        let number = state.next;
        if number >= self.plan.batches() {
            return None;
        }
        state.next += 1;
        if self.workers.is_empty() {
            drop(state);
            return Some(self.plan.load(number));
        }
        self.queue.changed.notify_all();
        loop {
            if let Some(batch) = state.ready.remove(&number) {
                return Some(batch);
            }
            state = self.queue.wait(state);
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

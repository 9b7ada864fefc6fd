//! Loops over tiles on rayon's pool, and scratch memory that threads keep.

use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};

/// Loops of less work (elementary operations) run on the calling thread, because sharing them
/// would cost more than it saves.
const SERIAL_WORK: usize = 1 << 16;
/// [`SERIAL_WORK`] within [`with_spinning_workers`].
const SERIAL_WORK_SPINNING: usize = 1 << 14;
/// The minimum work per task: small tiles are handed out together.
const MIN_TASK_WORK: usize = 1 << 13;

/// Runs `f(i)` for `i` in `0..n`, on the pool if `work` (operations of the whole loop) is large
/// enough.
pub(super) fn tiles(n: usize, work: usize, f: impl Fn(usize) + Sync + Send) {
    match parallel_tiles(n, work) {
        Some(tiles) => tiles.for_each(f),
        None => (0..n).for_each(f),
    }
}

/// Like [`tiles`], and returns the results of `f` in order.
pub(super) fn map_tiles<T: Send>(n: usize, work: usize, f: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    match parallel_tiles(n, work) {
        Some(tiles) => tiles.map(f).collect(),
        None => (0..n).map(f).collect(),
    }
}

/// A parallel iterator over `0..n` if sharing the loop is worth its cost.
fn parallel_tiles(n: usize, work: usize) -> Option<impl IndexedParallelIterator<Item = usize>> {
    let together = (n * MIN_TASK_WORK / work.max(1)).max(1);
    let serial = if SPINNING.get() { SERIAL_WORK_SPINNING } else { SERIAL_WORK };
    let worth = n > 1 && work >= serial && rayon::current_num_threads() > 1;
    worth.then(|| (0..n).into_par_iter().with_min_len(together).with_max_len(together))
}

thread_local! {
    /// Whether this thread is inside [`with_spinning_workers`], as the one that runs the
    /// function or as one that waits for it.
    static SPINNING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` while the pool's other threads spin instead of sleeping between its loops, because
/// waking a thread takes as long as a small loop. Inside another call, or on a thread that
/// waits for one, it only runs `f`: two threads that waited for each other would never return.
///
/// The pool's other threads must be idle, and `f` must not enter another pool.
pub fn with_spinning_workers<R>(f: impl FnOnce() -> R) -> R {
    if SPINNING.get() {
        return f();
    }
    let done = AtomicBool::new(false);
    let wait = || {
        if SPINNING.get() {
            return;
        }
        let _on = SpinningFlag::new();
        while !done.load(Ordering::Relaxed) {
            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                // Another process may need the core.
                std::thread::yield_now();
            }
        }
    };
    let _on = SpinningFlag::new();
    rayon::in_place_scope(|scope| {
        if rayon::current_num_threads() > 1 {
            scope.spawn_broadcast(|_, _| wait());
        }
        // It is also dropped if `f` panics; the scope ends when the other threads have stopped.
        let _done = SetOnDrop(&done);
        f()
    })
}

/// Sets [`SPINNING`] on this thread while it lives.
struct SpinningFlag;

impl SpinningFlag {
    fn new() -> Self {
        SPINNING.set(true);
        Self
    }
}

impl Drop for SpinningFlag {
    fn drop(&mut self) {
        SPINNING.set(false);
    }
}

/// Sets the flag when it is dropped.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A pointer that tiles share. Each use must argue that tiles access disjoint parts.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(*mut T);

// SAFETY: it is only a pointer; the users of `at` keep tiles disjoint.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// Uninitialised memory: it must be written before it is read, and not through `slice`.
    fn spare(memory: &mut [std::mem::MaybeUninit<T>]) -> Self {
        Self(memory.as_mut_ptr().cast())
    }

    /// A pointer for reading only.
    pub(super) fn reading(slice: &[T]) -> Self {
        Self(slice.as_ptr().cast_mut())
    }

    /// The pointer to element `offset`.
    pub(super) fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }

    /// The elements `start..start + len` as a slice.
    ///
    /// # Safety
    /// They lie in the slice from which this was made and are initialised, and no other tile
    /// accesses them while the result lives.
    pub(super) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: passed on to the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }

    /// Like [`Shared::slice`], but zeroes the elements first, so they need not be initialised.
    ///
    /// # Safety
    /// As for [`Shared::slice`], and zero bytes are a valid value.
    pub(super) unsafe fn zeroed<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: passed on to the caller.
        unsafe {
            self.0.add(start).write_bytes(0, len);
            self.slice(start, len)
        }
    }
}

/// In tests, fills uninitialised memory with NaNs (or set spikes), so that a missed write is
/// noticed.
fn poison<T>(memory: &mut [std::mem::MaybeUninit<T>]) {
    if cfg!(test) {
        // SAFETY: the bytes lie within the slice; uninitialised memory may hold any bytes.
        unsafe { memory.as_mut_ptr().write_bytes(0xFF, memory.len()) };
    }
}

/// A vector of `len` values that `write` initialises. Zeroing a map first would cost as much as
/// a pass over it.
///
/// # Safety
/// `write` writes all `len` values.
pub(super) unsafe fn vec_from_uninit<T: Copy>(len: usize, write: impl FnOnce(Shared<T>)) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    let spare = &mut values.spare_capacity_mut()[..len];
    poison(spare);
    write(Shared::spare(spare));
    // SAFETY: there is room for `len` values, and the caller guarantees that all are written.
    unsafe { values.set_len(len) };
    values
}

/// One cache line. In vectors of it, no vector load crosses a line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// f32 memory aligned to cache lines.
pub(super) struct Aligned {
    lines: Vec<CacheLine>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        Self { lines: vec![CacheLine([0.0; 16]); len.div_ceil(16)], len }
    }

    /// `len` floats that `write` initialises.
    ///
    /// # Safety
    /// `write` writes all `len` floats.
    pub(super) unsafe fn from_uninit(len: usize, write: impl FnOnce(Shared<f32>)) -> Self {
        let count = len.div_ceil(16);
        let mut lines: Vec<CacheLine> = Vec::with_capacity(count);
        let spare = &mut lines.spare_capacity_mut()[..count];
        poison(spare);
        if let Some(last) = spare.last_mut() {
            last.write(CacheLine([0.0; 16]));
        }
        write(Shared(spare.as_mut_ptr().cast()));
        // SAFETY: there is room for `count` lines, the caller guarantees that their floats are
        // written, and the rest of the last line is zeros.
        unsafe { lines.set_len(count) };
        Self { lines, len }
    }

    /// Makes room for `len` floats of unspecified content.
    fn grow(&mut self, len: usize) {
        if self.lines.len() < len.div_ceil(16) {
            self.lines.resize(len.div_ceil(16), CacheLine([0.0; 16]));
        }
        self.len = len;
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` floats, and `CacheLine` is plain f32s.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` floats of unspecified content. The thread keeps the memory, because
/// mapping fresh pages costs more than a small kernel.
pub(super) fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    // The memory is removed from the list while in use, because `f` may run another tile on
    // this thread or call `scratch` again.
    let mut memory = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Aligned::zeros(0));
    memory.grow(len);
    let result = f(&mut memory);
    SPARE.with_borrow_mut(|spare| spare.push(memory));
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::ThreadPoolBuilder;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn workers_stop_spinning_when_the_function_ends_even_by_a_panic() {
        for threads in [1, 3] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let sum = |n: usize| map_tiles(n, SERIAL_WORK, |i| i).iter().sum::<usize>();
            assert_eq!(pool.install(|| with_spinning_workers(|| sum(100))), 4950);
            let panics =
                catch_unwind(AssertUnwindSafe(|| pool.install(|| with_spinning_workers(|| assert_eq!(sum(4), 0)))));
            assert!(panics.is_err());
            assert_eq!(pool.install(|| with_spinning_workers(|| sum(10))), 45);
            // On each thread at the same time, with nested calls.
            let sums: usize = pool.install(|| {
                (0..20).into_par_iter().map(|_| with_spinning_workers(|| with_spinning_workers(|| sum(10)))).sum()
            });
            assert_eq!(sums, 900);
        }
        assert_eq!(with_spinning_workers(|| map_tiles(10, SERIAL_WORK, |i| i).len()), 10);
    }
}

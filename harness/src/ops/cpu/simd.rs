//! Vector code that is written once and compiled for AVX-512, for AVX2 with FMA and for any
//! machine.

use super::byte::{FLOATS, SET_BITS};
use crate::exit;
use std::sync::atomic::{AtomicU8, Ordering};

/// A vector of f32 lanes. Some methods interpret the bits of the lanes as i32s.
///
/// # Safety
/// A method may only run on a CPU with the implementation's instructions, and must be inlined
/// into a function that enables them. Both hold inside [`SimdKernel::run`] if it is called by
/// [`run`].
pub(super) trait Simd: Copy + Send + Sync + 'static {
    type V: Copy;
    const LANES: usize;
    /// The number of architectural vector registers. Fewer than 16 means that a vector occupies
    /// two registers.
    const REGISTERS: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn splat(x: f32) -> Self::V;
    /// # Safety
    /// `p` is readable for `LANES` floats.
    unsafe fn load(p: *const f32) -> Self::V;
    /// # Safety
    /// `p` is writable for `LANES` floats.
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`, fused if the machine supports it.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// Compacts the eight values at `from`: the values whose bit in `byte` is set come first,
    /// in order; the rest of `to` is unspecified.
    ///
    /// # Safety
    /// `from` is readable for eight values, and `to` is writable for eight.
    #[inline(always)]
    unsafe fn compact(byte: u8, from: *const u16, to: *mut u16) {
        // SAFETY: passed on to the caller.
        let (from, to) = unsafe { (from.cast::<[u16; 8]>().read_unaligned(), to.cast::<[u16; 8]>()) };
        let mut picked = [0; 8];
        for (to, place) in picked.iter_mut().zip(SET_BITS[usize::from(byte)]) {
            *to = from[usize::from(place)];
        }
        // SAFETY: passed on to the caller.
        unsafe { to.write_unaligned(picked) };
    }
    /// Adds lanes that hold i32s, wrapping.
    unsafe fn add_ints(a: Self::V, b: Self::V) -> Self::V;
    /// Subtracts lanes that hold i32s, wrapping.
    unsafe fn sub_ints(a: Self::V, b: Self::V) -> Self::V;
    /// The nearest i32s, ties to even.
    unsafe fn to_ints(x: Self::V) -> Self::V;
    /// Converts lanes that hold i32s to f32s.
    unsafe fn from_ints(x: Self::V) -> Self::V;
    /// `yes` in the lanes in which `x >= bound`, `no` in the others.
    unsafe fn at_least(x: Self::V, bound: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// Writes `LANES` bits, each of which tells whether `x >= bound`.
    ///
    /// # Safety
    /// `to` is writable for `LANES / 8` bytes.
    unsafe fn store_bits(to: *mut u8, x: Self::V, bound: Self::V);
    /// Expands `LANES` bits to 0.0 and 1.0.
    ///
    /// # Safety
    /// `from` is readable for `LANES / 8` bytes.
    unsafe fn load_bits(from: *const u8) -> Self::V;
}

/// The fallback in plain Rust, with 8 lanes.
#[derive(Clone, Copy)]
pub(super) struct Portable;

macro_rules! lanewise {
    ($f:expr, $($x:ident),+) => {{
        let mut out = [0.0; 8];
        for k in 0..8 {
            out[k] = $f($($x[k]),+);
        }
        out
    }};
}

impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    const REGISTERS: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> [f32; 8] {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 8] {
        // SAFETY: passed on to the caller.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 8]) {
        // SAFETY: passed on to the caller.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanewise!(|a: f32, b: f32| a + b, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanewise!(|a: f32, b: f32| a - b, a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        lanewise!(|a: f32, b: f32, c: f32| a * b + c, a, b, c)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanewise!(|a: f32, b: f32| a * b, a, b)
    }
    #[inline(always)]
    unsafe fn add_ints(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanewise!(|a: f32, b: f32| f32::from_bits(a.to_bits().wrapping_add(b.to_bits())), a, b)
    }
    #[inline(always)]
    unsafe fn sub_ints(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanewise!(|a: f32, b: f32| f32::from_bits(a.to_bits().wrapping_sub(b.to_bits())), a, b)
    }
    #[inline(always)]
    unsafe fn to_ints(x: [f32; 8]) -> [f32; 8] {
        lanewise!(|x: f32| f32::from_bits((x.round_ties_even() as i32).cast_unsigned()), x)
    }
    #[inline(always)]
    unsafe fn from_ints(x: [f32; 8]) -> [f32; 8] {
        lanewise!(|x: f32| x.to_bits().cast_signed() as f32, x)
    }
    #[inline(always)]
    unsafe fn at_least(x: [f32; 8], bound: [f32; 8], yes: [f32; 8], no: [f32; 8]) -> [f32; 8] {
        lanewise!(|x: f32, bound: f32, yes: f32, no: f32| if x >= bound { yes } else { no }, x, bound, yes, no)
    }
    #[inline(always)]
    unsafe fn store_bits(to: *mut u8, x: [f32; 8], bound: [f32; 8]) {
        // SAFETY: passed on to the caller.
        unsafe { *to = (0..8).fold(0, |bits, k| bits | (u8::from(x[k] >= bound[k]) << k)) }
    }
    #[inline(always)]
    unsafe fn load_bits(from: *const u8) -> [f32; 8] {
        // SAFETY: passed on to the caller.
        *FLOATS.of(unsafe { *from })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use crate::ops::cpu::byte::{FLOATS, SET_BITS_SHUFFLE};
    use std::arch::x86_64::*;

    macro_rules! x86_simd {
        ($name:ident, $v:ty, $lanes:expr, $registers:expr, $zero:ident $splat:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident $fma:ident, { $($bits:item)* }) => {
            #[derive(Clone, Copy)]
            pub(crate) struct $name;
            // SAFETY of each block: by the trait's contract, the CPU has the instructions and
            // pointers are valid.
            impl Simd for $name {
                type V = $v;
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;
                #[inline(always)]
                unsafe fn zero() -> $v {
                    unsafe { $zero() }
                }
                #[inline(always)]
                unsafe fn splat(x: f32) -> $v {
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(p: *const f32) -> $v {
                    unsafe { $load(p) }
                }
                #[inline(always)]
                unsafe fn store(p: *mut f32, v: $v) {
                    unsafe { $store(p, v) }
                }
                #[inline(always)]
                unsafe fn add(a: $v, b: $v) -> $v {
                    unsafe { $add(a, b) }
                }
                #[inline(always)]
                unsafe fn sub(a: $v, b: $v) -> $v {
                    unsafe { $sub(a, b) }
                }
                #[inline(always)]
                unsafe fn fma(a: $v, b: $v, c: $v) -> $v {
                    unsafe { $fma(a, b, c) }
                }
                #[inline(always)]
                unsafe fn mul(a: $v, b: $v) -> $v {
                    unsafe { $mul(a, b) }
                }
                #[inline(always)]
                unsafe fn compact(byte: u8, from: *const u16, to: *mut u16) {
                    unsafe {
                        let order = _mm_loadu_si128(SET_BITS_SHUFFLE[usize::from(byte)].as_ptr().cast());
                        _mm_storeu_si128(to.cast(), _mm_shuffle_epi8(_mm_loadu_si128(from.cast()), order));
                    }
                }
                $($bits)*
            }
        };
    }

    x86_simd!(Avx2, __m256, 8, 16, _mm256_setzero_ps _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps
        _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_fmadd_ps, {
        #[inline(always)]
        unsafe fn add_ints(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))) }
        }
        #[inline(always)]
        unsafe fn sub_ints(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))) }
        }
        #[inline(always)]
        unsafe fn to_ints(x: __m256) -> __m256 {
            unsafe { _mm256_castsi256_ps(_mm256_cvtps_epi32(x)) }
        }
        #[inline(always)]
        unsafe fn from_ints(x: __m256) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(_mm256_castps_si256(x)) }
        }
        #[inline(always)]
        unsafe fn at_least(x: __m256, bound: __m256, yes: __m256, no: __m256) -> __m256 {
            unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GE_OQ>(x, bound)) }
        }
        #[inline(always)]
        unsafe fn store_bits(to: *mut u8, x: __m256, bound: __m256) {
            unsafe { *to = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x, bound)) as u8 }
        }
        #[inline(always)]
        unsafe fn load_bits(from: *const u8) -> __m256 {
            unsafe { _mm256_loadu_ps(FLOATS.of(*from).as_ptr()) }
        }
    });
    x86_simd!(Avx512, __m512, 16, 32, _mm512_setzero_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps
        _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_fmadd_ps, {
        #[inline(always)]
        unsafe fn add_ints(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
        }
        #[inline(always)]
        unsafe fn sub_ints(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
        }
        #[inline(always)]
        unsafe fn to_ints(x: __m512) -> __m512 {
            unsafe { _mm512_castsi512_ps(_mm512_cvtps_epi32(x)) }
        }
        #[inline(always)]
        unsafe fn from_ints(x: __m512) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(x)) }
        }
        #[inline(always)]
        unsafe fn at_least(x: __m512, bound: __m512, yes: __m512, no: __m512) -> __m512 {
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, bound), no, yes) }
        }
        #[inline(always)]
        unsafe fn store_bits(to: *mut u8, x: __m512, bound: __m512) {
            unsafe { to.cast::<u16>().write_unaligned(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, bound)) }
        }
        #[inline(always)]
        unsafe fn load_bits(from: *const u8) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(from.cast::<u16>().read_unaligned(), _mm512_set1_ps(1.0)) }
        }
    });
}

/// An inner loop that is generic over the vector type. `run` and all functions it calls must be
/// `#[inline(always)]`.
pub(super) trait SimdKernel {
    type Output;
    /// # Safety
    /// The CPU has the instructions of `S`, and the caller enables them.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,bmi1,bmi2,popcnt")]
unsafe fn run_avx512<K: SimdKernel>(kernel: K) -> K::Output {
    // SAFETY: the caller has checked the CPU.
    unsafe { kernel.run::<x86::Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")]
unsafe fn run_avx2<K: SimdKernel>(kernel: K) -> K::Output {
    // SAFETY: the caller has checked the CPU.
    unsafe { kernel.run::<x86::Avx2>() }
}

/// Runs `kernel` with the machine's widest vector whose lanes divide `lanes_divide`.
pub(super) fn run<K: SimdKernel>(kernel: K, lanes_divide: usize) -> K::Output {
    match level() {
        // SAFETY: `level` has detected these features on this CPU.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if lanes_divide.is_multiple_of(16) => unsafe { run_avx512(kernel) },
        // SAFETY: as above; AVX-512 implies AVX2 and FMA here.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx2 => unsafe { run_avx2(kernel) },
        // SAFETY: `Portable` needs no special instructions.
        _ => unsafe { kernel.run::<Portable>() },
    }
}

macro_rules! pin {
    ($name:ident, $doc:expr, $($t:tt)*) => {
        #[doc = $doc]
        #[inline(always)]
        // The pointer is only kept in a register.
        #[allow(clippy::pointers_in_nomem_asm_block)]
        pub(super) fn $name(mut value: $($t)*) -> $($t)* {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: the block contains no instruction.
            unsafe {
                std::arch::asm!("/* {0} */", inout(reg) value, options(pure, nomem, nostack, preserves_flags));
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            let _ = &mut value;
            value
        }
    };
}
pin!(
    pin_word,
    "Returns `value` unchanged. It keeps the compiler from splitting a rotation of the word into a move and a shift.",
    u64
);
pin!(
    pin_row,
    "Returns `value` unchanged. It makes the compiler compute the address once instead of in every load.",
    *const u8
);

/// Prefetches the cache lines of `len` floats from `p` on. `p` need not be valid.
#[inline(always)]
pub(super) fn prefetch(p: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..len).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (p, len);
}

/// The instruction sets for which kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Instructions of every machine.
    Portable = 1,
    /// AVX2 and FMA.
    Avx2 = 2,
    /// AVX-512 F, VL, BW, DQ.
    Avx512 = 3,
}

static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The instructions in use: the CPU's best, detected once, or fewer after [`limit`].
pub(super) fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Portable,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => {
            limit(Level::Avx512);
            level()
        }
    }
}

/// Applies `HARNESS_INSTRUCTIONS`. With the value `portable`, `avx2` or `avx512`, different
/// machines use the same kernels.
///
/// # Errors
/// Exit code 2 for any other word, and for instructions that this CPU does not have.
pub fn limit_by_environment() -> anyhow::Result<()> {
    let Some(wanted) = std::env::var_os("HARNESS_INSTRUCTIONS").filter(|wanted| !wanted.is_empty()) else {
        return Ok(());
    };
    let max_level = match wanted.to_string_lossy().as_ref() {
        "portable" => Level::Portable,
        "avx2" => Level::Avx2,
        "avx512" => Level::Avx512,
        other => {
            let known = "portable, avx2 or avx512";
            return Err(exit::usage(format!(
                "HARNESS_INSTRUCTIONS={other}: expected {known}, or nothing for the CPU's best"
            )));
        }
    };
    limit(max_level);
    if level() != max_level {
        let best = numerics().trim_start_matches("cpu-");
        return Err(exit::usage(format!(
            "HARNESS_INSTRUCTIONS asks for instructions that this CPU lacks; set it to {best} or less, or unset it"
        )));
    }
    Ok(())
}

/// Limits this process to the CPU's best instructions up to `max_level`.
pub fn limit(max_level: Level) {
    LEVEL.store(detect().min(max_level) as u8, Ordering::Relaxed);
}

fn detect() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        if avx2 && avx512 {
            return Level::Avx512;
        }
        if avx2 {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// The name of the arithmetic in result rows. The instruction sets sum in different orders or
/// round differently.
pub fn numerics() -> &'static str {
    match level() {
        Level::Portable => "cpu-portable",
        Level::Avx2 => "cpu-avx2",
        Level::Avx512 => "cpu-avx512",
    }
}

use crate::ops::cpu::conv::fixed_point::FixedPointWeight;
use crate::ops::cpu::conv::forward::spike_list;
use crate::ops::cpu::conv::select::{fires_from_tables, forward_algorithm};
use crate::ops::cpu::conv::tiles::out_channels;
use crate::ops::cpu::conv::{ConvWeightCache, fire, forward_cached};
use crate::ops::cpu::lif::{self, Branch, Folded, LifShape, Reset, Shortcut};
use crate::ops::cpu::parallel::Shared;
use crate::ops::cpu::simd::{Level, level};
use crate::ops::cpu::tests::reference::{self, any_level, limited_level, map, normals, spikes};
use crate::ops::{ConvShape, Input};
use proptest::prelude::*;

/// Shapes for every traversal order: one byte of channels and more, 64 channels, and more than
/// 64 with a remainder; and shapes that are read by columns.
fn shapes() -> impl Strategy<Value = ConvShape> {
    let channels = prop_oneof![1..9usize, 9..64usize, Just(64usize), 65..200usize];
    let geometry = prop_oneof![2 => Just((3, 1, 1)), 3 => (1..8usize, 1..4usize, 0..4usize)];
    reference::shapes((1..4usize, 1..12usize, 1..12usize), (channels, 1..40usize), geometry)
}

/// The sums by tables and by spike lists. They are fixed-point, so they must be equal.
fn both(s: &ConvShape, density: f64) -> [Vec<u32>; 2] {
    let fixed = FixedPointWeight::new(s, &normals(1, s.weight_len()));
    let (_, spikes) = spikes(2, s.images * s.height * s.width, s.c_in, density);
    let sums = |forward: &dyn Fn(Shared<f32>)| {
        let mut out = vec![f32::NAN; s.out_len()];
        forward(Shared::new(&mut out));
        out.iter().map(|x| x.to_bits()).collect()
    };
    [
        sums(&|target| {
            let map = super::WriteMap { target, channels: out_channels(s), scale: Some(&fixed.scale) };
            super::forward(s, &spikes, &super::pack(s, &fixed.weight), map);
        }),
        sums(&|out| spike_list::forward(s, &spikes, &spike_list::pack(s, &fixed.weight), Some(&fixed.scale), out)),
    ]
}

/// A layer of neurons behind a convolution, and their inputs.
struct Layer {
    s: ConvShape,
    l: LifShape,
    spikes: Vec<u8>,
    weight: Vec<f32>,
    coefficients: [Vec<f32>; 4],
    side: Vec<f32>,
    side_spikes: Vec<u8>,
}

impl Layer {
    /// `s.images` is the number of images per time step.
    fn new(mut s: ConvShape, time_steps: usize, reset: Reset, density: f64) -> Self {
        let (positions, channels) = (s.images * s.out_height() * s.out_width(), out_channels(&s));
        s.images *= time_steps;
        let l = LifShape { time_steps, positions, channels, tau: 0.3, v_th: 0.7, reset, detach_reset: false };
        let coefficients = |seed| map(seed, 1, s.c_out);
        Self {
            s,
            l,
            spikes: spikes(2, s.images * s.height * s.width, s.c_in, density).1,
            weight: normals(1, s.weight_len()),
            coefficients: [coefficients(3), coefficients(4), coefficients(5), coefficients(6)],
            side: map(7, time_steps * positions, s.c_out),
            side_spikes: spikes(8, time_steps * positions, s.c_out, 0.3).1,
        }
    }

    fn shortcut(&self, kind: usize) -> Shortcut<'_> {
        let [_, _, scale, shift] = &self.coefficients;
        match kind {
            0 => Shortcut::None,
            1 => Shortcut::Spikes(&self.side_spikes),
            2 => Shortcut::Map(&self.side),
            _ => Shortcut::Branch(Branch { map: &self.side, norm: Folded { scale, shift } }),
        }
    }

    fn norm(&self) -> Folded<'_> {
        Folded { scale: &self.coefficients[0], shift: &self.coefficients[1] }
    }

    fn fires_from_tables(&self, density: f64) -> bool {
        fires_from_tables(&self.s, forward_algorithm(&self.s, density), self.l.time_steps)
    }

    fn fire(&self, kind: usize) -> Vec<u8> {
        fire(
            &self.s,
            &self.spikes,
            (&self.weight, &ConvWeightCache::default()),
            &self.l,
            self.norm(),
            &self.shortcut(kind),
        )
    }

    fn fire_through_a_map(&self, kind: usize) -> Vec<u8> {
        let map = forward_cached(&self.s, Input::Spikes(&self.spikes), &self.weight, &ConvWeightCache::default());
        lif::forward(&self.l, &Branch { map: &map, norm: self.norm() }, &self.shortcut(kind))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn neurons_fire_as_they_do_through_a_map(
        s in shapes(),
        (time_steps, kind, hard) in (1..6usize, 0..4usize, any::<bool>()),
        density in prop_oneof![Just(1.0), 0.1..1.0],
    ) {
        let _level = any_level();
        let layer = Layer::new(s, time_steps, if hard { Reset::Hard } else { Reset::Soft }, density);
        prop_assert_eq!(layer.fire(kind), layer.fire_through_a_map(kind));
    }

    #[test]
    fn tables_and_lists_have_the_same_sums(
        s in shapes(),
        density in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
    ) {
        let _level = any_level();
        let [tables, lists] = both(&s, density);
        prop_assert_eq!(tables, lists);
    }
}

#[test]
fn groups_of_images_and_narrower_instructions_change_nothing() {
    let shape = |(height, width), c_in, images| ConvShape {
        images,
        height,
        width,
        c_in,
        c_out: 24,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    // These have more pixels than one group, in groups of unequal size, with parts of two to
    // eight bytes.
    let parts = [24, 32, 40, 48, 56, 64, 72, 136].map(|c_in| shape((16, 16), c_in, 35));
    // These have groups of one image; `small` has lines without neighbours.
    let large = [shape((91, 91), 16, 2), shape((91, 91), 24, 1)];
    let small = [shape((1, 5), 136, 3), shape((1, 2), 24, 3), shape((2, 2), 72, 3), shape((2, 2), 24, 2049)];
    for s in [shape((32, 32), 8, 9)].into_iter().chain(parts).chain(large).chain(small) {
        for limit in [Level::Portable, Level::Avx2, Level::Avx512] {
            let _level = limited_level(limit);
            let [tables, lists] = both(&s, 0.2);
            assert_eq!(tables, lists, "{s:?}, {:?}", level());
        }
    }
}

#[test]
fn neurons_fire_from_tables_in_unequal_groups_with_any_instructions() {
    let shape = |side, channels, images, stride| ConvShape {
        images,
        height: side,
        width: side,
        c_in: channels,
        c_out: channels,
        kernel: 3,
        stride,
        padding: 1,
    };
    // The second has too many pixels for sums between passes, but a single pass.
    let shapes =
        [shape(32, 8, 3, 1), shape(48, 16, 2, 1), shape(16, 24, 9, 1), shape(16, 64, 35, 2), shape(8, 136, 35, 1)];
    for s in shapes {
        for limit in [Level::Portable, Level::Avx2, Level::Avx512] {
            let _level = limited_level(limit);
            for (kind, reset) in [(0, Reset::Hard), (1, Reset::Hard), (2, Reset::Soft), (3, Reset::Soft)] {
                let layer = Layer::new(s, 4, reset, 0.3);
                assert!(layer.fires_from_tables(0.3), "{s:?}");
                assert_eq!(layer.fire(kind), layer.fire_through_a_map(kind), "{s:?}, {:?}, {kind}", level());
            }
        }
    }
}

#[test]
fn a_map_is_written_first_if_tables_are_slower_or_t_is_too_large() {
    let _level = any_level();
    let s = ConvShape { images: 1, height: 32, width: 32, c_in: 64, c_out: 64, kernel: 3, stride: 1, padding: 1 };
    assert!(Layer::new(s, 8, Reset::Hard, 0.2).fires_from_tables(0.2));
    assert!(!Layer::new(s, 9, Reset::Hard, 0.2).fires_from_tables(0.2));
    assert!(!Layer::new(s, 8, Reset::Hard, 0.001).fires_from_tables(0.001));
    // A single pass leaves no sums in memory.
    let s = ConvShape { c_in: 16, ..s };
    assert!(Layer::new(s, 9, Reset::Hard, 0.2).fires_from_tables(0.2));
}

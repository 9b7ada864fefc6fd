use super::super::super::parallel::Shared;
use super::super::super::simd::{Level, level};
use super::super::super::tests::reference::{self, any_path, limited_path, normals, spikes};
use super::super::{ConvShape, event, exact};
use proptest::prelude::*;

/// Every way to cut the window: one byte of channels and more, 64 channels, more, with a rest of them.
fn shapes() -> impl Strategy<Value = ConvShape> {
    let channels = prop_oneof![1..9usize, 9..64usize, Just(64usize), 65..200usize];
    let geometry = (1..8usize, 1..4usize, 0..4usize);
    reference::shapes((1..4usize, 1..12usize, 1..12usize), (channels, 1..40usize), geometry)
}

/// The sums by tables and by lists: whole numbers, so they must be the same.
fn both(s: &ConvShape, density: f64) -> [Vec<u32>; 2] {
    let whole = exact::whole(s, &normals(1, s.weight_len()));
    let (_, spikes) = spikes(2, s.images * s.height * s.width, s.c_in, density);
    let sums = |forward: &dyn Fn(Shared<f32>)| {
        let mut out = vec![f32::NAN; s.out_len()];
        forward(Shared::new(&mut out));
        out.iter().map(|x| x.to_bits()).collect()
    };
    [
        sums(&|out| super::forward(s, &spikes, &super::pack(s, &whole.weight), Some(&whole.scale), out)),
        sums(&|out| event::forward(s, &spikes, &event::pack(s, &whole.weight), Some(&whole.scale), out)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn tables_and_lists_have_the_same_sums(
        s in shapes(),
        density in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
    ) {
        let _path = any_path();
        let [tables, lists] = both(&s, density);
        prop_assert_eq!(tables, lists);
    }
}

#[test]
fn groups_of_images_and_narrower_instructions_change_nothing() {
    // More pixels than a group has, in groups that are not equal.
    let shape = |side, c_in, images| ConvShape {
        images,
        height: side,
        width: side,
        c_in,
        c_out: 24,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    for s in [shape(32, 8, 9), shape(16, 24, 35), shape(16, 64, 17), shape(8, 136, 67), shape(70, 16, 2)] {
        for limit in [Level::Portable, Level::Avx2, Level::Avx512] {
            let _path = limited_path(limit);
            let [tables, lists] = both(&s, 0.2);
            assert_eq!(tables, lists, "{s:?}, {:?}", level());
        }
    }
}

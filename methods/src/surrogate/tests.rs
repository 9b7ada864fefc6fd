use super::*;
use proptest::prelude::*;

fn all() -> Vec<Surrogate> {
    let mut list = Vec::new();
    for p in [0.01, 0.2, 0.5, 0.8, 1.0, 1.2, 2.0, 3.0, 4.0, 10.0, 100.0] {
        list.push(Surrogate::Dspike(Dspike { temperature: p }));
        list.push(Surrogate::Rectangle(Rectangle { width: p }));
        list.push(Surrogate::Sigmoid(Sigmoid { alpha: p }));
        list.push(Surrogate::Triangle(Triangle { gamma: p }));
        list.push(Surrogate::Arctan(Arctan { alpha: p }));
    }
    list
}

struct At(f32);
impl WithKernel for At {
    type Output = f32;
    fn call<K: Kernel>(self, kernel: K) -> f32 {
        kernel.derivative(self.0)
    }
}

struct All(Vec<f32>);

impl WithKernel for All {
    type Output = Vec<f32>;
    fn call<K: Kernel>(mut self, kernel: K) -> Vec<f32> {
        kernel.derivatives(&mut self.0);
        self.0
    }
}

#[test]
fn the_derivative_is_the_central_difference_of_the_primitive() {
    for s in all() {
        let h = 1e-6 * s.width();
        for i in -40..40 {
            // Away from the edges of the support and the triangle's tip, where the curve has a corner.
            let v = (f64::from(i) + 0.37) / 40.0 * 1.3 * s.half_support().min(4.0 * s.width());
            if (v.abs() - s.half_support()).abs() < 2.0 * h {
                continue;
            }
            let difference = (s.primitive(v + h) - s.primitive(v - h)) / (2.0 * h);
            let error = (difference - s.derivative(v)).abs() / s.peak();
            assert!(error < 1e-8, "{s:?} at {v}: {difference} against {}", s.derivative(v));
        }
    }
}

#[test]
fn every_area_is_one_and_the_derivative_integrates_to_it() {
    for s in all() {
        assert!((s.area() - 1.0).abs() < 1e-9, "{s:?}: {}", s.area());
        let edge = s.half_support().min(2000.0 * s.width());
        // Midpoint rule, refined towards the centre by v = edge·x³.
        let n = 2_000_000;
        let sum: f64 = (0..n)
            .map(|i| {
                let x = (f64::from(i) + 0.5) / f64::from(n) * 2.0 - 1.0;
                s.derivative(edge * x.powi(3)) * 3.0 * edge * x * x * 2.0 / f64::from(n)
            })
            .sum();
        let expected = s.primitive(edge) - s.primitive(-edge);
        assert!((sum - expected).abs() < 1e-5, "{s:?}: {sum} against {expected}");
    }
}

#[test]
fn width_is_where_the_curve_falls_to_half_its_peak_or_ends() {
    for s in all() {
        let half = s.width() / 2.0;
        let at_half = (s.derivative(half) / s.peak() - 0.5).abs() < 1e-9;
        let at_edge = (half - s.half_support()).abs() < 1e-12 && s.derivative(half) > 0.5 * s.peak();
        assert!(at_half || at_edge, "{s:?}: {} of {}", s.derivative(half), s.peak());
    }
}

#[test]
fn dspike_tends_to_the_rectangle_of_width_one_edges_included() {
    let rectangle = Surrogate::Rectangle(Rectangle { width: 1.0 });
    let dspike = Surrogate::Dspike(Dspike { temperature: 0.01 });
    for v in [-0.51, -0.5, -0.3, 0.0, 0.2, 0.5, 0.500_001] {
        assert!((dspike.derivative(v) - rectangle.derivative(v)).abs() < 3e-5, "at {v}");
        let (d, r) = (dspike.with_kernel(At(v as f32)), rectangle.with_kernel(At(v as f32)));
        assert!((d - r).abs() < 3e-5, "f32 at {v}: {d} against {r}");
    }
    assert_eq!(rectangle.derivative(0.5), 1.0);
}

#[test]
fn dspike_has_the_papers_table_of_peaks_and_edges() {
    for (b, peak, edge) in [
        (0.2, 1.0033, 0.9934),
        (1.0, 1.0820, 0.8509),
        (2.0, 1.3130, 0.5514),
        (3.0, 1.6572, 0.2995),
        (5.0, 2.5339, 0.0674),
    ] {
        let s = Surrogate::Dspike(Dspike { temperature: b });
        assert!((s.peak() - peak).abs() < 6e-5 && (s.derivative(0.5) - edge).abs() < 6e-5, "b = {b}");
    }
}

#[test]
fn a_suite_names_a_surrogate_and_stray_keys_are_refused() {
    let read = |text: &str| toml::from_str::<Surrogate>(text);
    assert_eq!(read("name = \"dspike\"\ntemperature = 3.0").unwrap(), Surrogate::Dspike(Dspike { temperature: 3.0 }));
    assert!(read("name = \"dspike\"\ntemprature = 3.0").is_err());
    assert!(read("name = \"dspike\"\ntemperature = 3.0\nwidth = 1.0").is_err());
    assert!(read("name = \"dspyke\"\ntemperature = 3.0").is_err());
}

proptest! {
    #[test]
    fn no_parameter_and_no_membrane_gives_nan(p in 0.01f64..=100.0, v in -1e4f64..1e4) {
        for s in [
            Surrogate::Dspike(Dspike { temperature: p }),
            Surrogate::Rectangle(Rectangle { width: p }),
            Surrogate::Sigmoid(Sigmoid { alpha: p }),
            Surrogate::Triangle(Triangle { gamma: p }),
            Surrogate::Arctan(Arctan { alpha: p }),
        ] {
            let (exact, kernel) = (s.derivative(v), s.with_kernel(At(v as f32)));
            prop_assert!(exact.is_finite() && exact >= 0.0 && kernel.is_finite() && kernel >= 0.0, "{:?} at {}", s, v);
        }
    }

    #[test]
    fn the_f32_kernel_agrees_with_the_definition(p in 0.01f64..=100.0, v in -1.0f64..1.0) {
        for s in [
            Surrogate::Dspike(Dspike { temperature: p }),
            Surrogate::Sigmoid(Sigmoid { alpha: p }),
            Surrogate::Triangle(Triangle { gamma: p }),
            Surrogate::Arctan(Arctan { alpha: p }),
        ] {
            // Both at the rounded v: rounding it is not the kernel's error.
            let exact = s.derivative(f64::from(v as f32));
            let kernel = f64::from(s.with_kernel(At(v as f32)));
            prop_assert!((kernel - exact).abs() <= 2e-5 * exact + 1e-6 * s.peak(), "{:?} at {}: {} against {}", s, v, kernel, exact);
        }
    }

    #[test]
    fn many_derivatives_have_the_bits_of_one(p in 0.01f64..=100.0, v in prop::collection::vec(-2.0f32..2.0, 0..200)) {
        for s in [
            Surrogate::Dspike(Dspike { temperature: p }),
            Surrogate::Rectangle(Rectangle { width: p }),
            Surrogate::Sigmoid(Sigmoid { alpha: p }),
        ] {
            let one: Vec<u32> = v.iter().map(|v| s.with_kernel(At(*v)).to_bits()).collect();
            let all: Vec<u32> = s.with_kernel(All(v.clone())).into_iter().map(f32::to_bits).collect();
            prop_assert_eq!(one, all, "{:?}", s);
        }
    }
}

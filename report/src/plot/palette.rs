//! Colours, dashes and markers. The colours are Okabe and Ito's, the light ones darkened to 3:1 on white; every method
//! also has a marker and a dash of its own, so that a gray print can be read.

use plotters::style::RGBColor;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    #[default]
    Circle,
    Square,
    Up,
    Down,
    Diamond,
    Cross,
    Plus,
    Left,
    Right,
}

impl Shape {
    /// Outline in pixels about the mark's place; crosses are open strokes (see `draw`), the circle has none.
    pub fn outline(self, r: f64) -> Vec<(i32, i32)> {
        let at = |corners: &[(f64, f64)]| {
            corners.iter().map(|(x, y)| ((x * r).round() as i32, (y * r).round() as i32)).collect()
        };
        match self {
            Self::Circle | Self::Cross | Self::Plus => Vec::new(),
            Self::Square => at(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Self::Up => at(&[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)]),
            Self::Down => at(&[(0.0, 1.2), (1.15, -0.9), (-1.15, -0.9)]),
            Self::Diamond => at(&[(0.0, -1.35), (1.15, 0.0), (0.0, 1.35), (-1.15, 0.0)]),
            Self::Left => at(&[(-1.2, 0.0), (0.9, -1.15), (0.9, 1.15)]),
            Self::Right => at(&[(1.2, 0.0), (-0.9, -1.15), (-0.9, 1.15)]),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Style {
    pub colour: RGBColor,
    pub shape: Shape,
    /// An SVG `stroke-dasharray`; empty for a solid line.
    pub dash: &'static str,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: INK, shape: Shape::Circle, dash: "" }
    }
}

pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const GRAY: RGBColor = RGBColor(0x76, 0x76, 0x76);
pub(crate) const GRID: RGBColor = RGBColor(0xE4, 0xE4, 0xE4);
pub(crate) const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
const SKY: RGBColor = RGBColor(0x2F, 0x93, 0xCF);
const GREEN: RGBColor = RGBColor(0x00, 0x8F, 0x68);
const VERMILION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const ORANGE: RGBColor = RGBColor(0xC2, 0x7C, 0x00);
const PURPLE: RGBColor = RGBColor(0xB8, 0x5A, 0x8F);
const VIOLET: RGBColor = RGBColor(0x78, 0x5E, 0xF0);

/// The suite's methods look alike in every report; others take what is left, in order.
const KNOWN: [(&str, Style); 10] = [
    ("dspike", Style { colour: BLUE, shape: Shape::Circle, dash: "" }),
    ("dspike-no-fdg", Style { colour: SKY, shape: Shape::Square, dash: "7 3" }),
    ("dspike-no-fdg-b3", Style { colour: GREEN, shape: Shape::Up, dash: "2 3" }),
    ("dspike-no-tit", Style { colour: PURPLE, shape: Shape::Down, dash: "8 3 2 3" }),
    ("dspike-equal-epochs", Style { colour: VIOLET, shape: Shape::Diamond, dash: "12 4" }),
    ("rectangle", Style { colour: VERMILION, shape: Shape::Plus, dash: "" }),
    ("rectangle-no-tit", Style { colour: ORANGE, shape: Shape::Left, dash: "5 5" }),
    ("sigmoid", Style { colour: INK, shape: Shape::Cross, dash: "" }),
    ("sigmoid-no-tit", Style { colour: GRAY, shape: Shape::Right, dash: "3 2" }),
    ("ann", Style { colour: GRAY, shape: Shape::Square, dash: "1 4" }),
];

/// The style of a method; `place` is its place among the report's methods, for names that are not [`KNOWN`].
pub(crate) fn style(method: &str, place: usize) -> Style {
    let known = KNOWN.iter().find(|(name, _)| *name == method);
    known.unwrap_or(&KNOWN[place % (KNOWN.len() - 1)]).1
}

/// Light to dark over 0..=1, for an ordered quantity such as T.
pub(crate) fn ramp(place: f64) -> RGBColor {
    let (light, dark) = ((0x5B, 0xB4, 0xE5), (0x0B, 0x35, 0x66));
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * place.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(light.0, dark.0), mix(light.1, dark.1), mix(light.2, dark.2))
}

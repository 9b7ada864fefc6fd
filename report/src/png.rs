//! Plots as PNG, for papers and slides that cannot take vectors. The font is compiled in, so that every machine draws
//! the same picture, one without fonts included.

use std::sync::Arc;

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Pixels a plot is wide: a column of 8.5 cm at 450 dpi.
const WIDTH: f32 = 1500.0;

/// Draws SVG with one font.
pub(crate) struct Painter {
    options: Options<'static>,
}

impl Painter {
    pub fn new() -> Result<Self> {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
        let family = fonts.faces().next().and_then(|face| Some(face.families.first()?.0.clone()));
        fonts.set_sans_serif_family(family.context("the built-in font has no family name")?);
        let options = Options { fontdb: Arc::new(fonts), font_family: "sans-serif".into(), ..Options::default() };
        Ok(Self { options })
    }

    pub fn png(&self, svg: &str) -> Result<Vec<u8>> {
        let tree = Tree::from_str(svg, &self.options).context("reading a plot")?;
        let scale = WIDTH / tree.size().width();
        let height = (tree.size().height() * scale).ceil() as u32;
        let mut pixels = Pixmap::new(WIDTH as u32, height).context("a plot without a size")?;
        resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
        pixels.encode_png().context("writing a PNG")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_becomes_a_picture_with_text() {
        let text = |text: &str| {
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 50 20\" width=\"50\" height=\"20\">\
                 <rect width=\"50\" height=\"20\" fill=\"#fff\"/><text x=\"2\" y=\"15\" font-family=\"sans-serif\" \
                 font-size=\"12\">{text}</text></svg>"
            )
        };
        let painter = Painter::new().unwrap();
        let (full, empty) = (painter.png(&text("± − µ T")).unwrap(), painter.png(&text("")).unwrap());
        assert!(full.starts_with(b"\x89PNG"));
        assert_ne!(full, empty, "the text was not drawn");
    }
}

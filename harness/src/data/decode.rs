//! JPEG and PNG files to RGB, as torchvision's `ImageFolder` reads them: by content whatever the name says, alpha
//! dropped, gray and CMYK converted, EXIF orientation ignored.

use anyhow::Result;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::image::Image;
use crate::exit::data;

/// Largest width and height read, in pixels: keeps a damaged header from asking for all memory.
const LARGEST: usize = 20_000;
/// What a header may claim before memory is given to it (300 MB; ImageNet's largest image is near 60 million).
const MOST_PIXELS: usize = 100_000_000;

/// Decodes a file's bytes; `name` is for the errors (exit 3).
pub(crate) fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    decode_within(bytes, name, MOST_PIXELS)
}

/// As [`decode`], of at most so many pixels.
pub(crate) fn decode_within(bytes: &[u8], name: &str, most_pixels: usize) -> Result<Image> {
    let image = match bytes {
        [] => Err("it is empty".into()),
        [0xff, 0xd8, ..] => decode_jpeg(bytes, most_pixels),
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes, most_pixels),
        // ImageNet has no others, and each more decoder is one more to trust (image-webp 0.2.4 panics: corpus, `webp-sum`).
        _ => Err("it is neither JPEG nor PNG".into()),
    };
    image.map_err(|what| {
        data(format!("{name} ({} bytes) cannot be read as an image: {what}; fetch it again or remove it", bytes.len()))
    })
}

/// A file that breaks a rule but is whole to its end marker is read, as libjpeg reads it; a cut one is refused.
fn decode_jpeg(bytes: &[u8], most_pixels: usize) -> Result<Image, String> {
    if !has_end(bytes) {
        return Err("it ends without its end marker: it is cut off".into());
    }
    decode_jpeg_with(bytes, most_pixels, true).or_else(|_| decode_jpeg_with(bytes, most_pixels, false))
}

/// Whether the end marker FF D9 follows the start of the scan. Segments are skipped by their lengths: the thumbnail in
/// one has an end marker of its own.
fn has_end(bytes: &[u8]) -> bool {
    let mut scan = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(scan..scan + 4) {
        if marker == 0xda {
            break;
        }
        scan += if marker == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
    }
    // From the end: that is where it is, but for trailing bytes.
    bytes.get(scan..).is_some_and(|rest| rest.windows(2).rev().any(|pair| pair == [0xff, 0xd9]))
}

fn decode_jpeg_with(bytes: &[u8], most_pixels: usize, strict: bool) -> Result<Image, String> {
    let options = DecoderOptions::default().set_strict_mode(strict).set_max_width(LARGEST).set_max_height(LARGEST);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    if decoder.dimensions().is_some_and(|(width, height)| width * height > most_pixels) {
        return Err(format!("it claims more than {most_pixels} pixels"));
    }
    let inks = matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK));
    let out = if inks { ColorSpace::CMYK } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("it has no dimensions")?;
    let pixels = if inks { pixels.chunks_exact(4).flat_map(cmyk_to_rgb).collect() } else { pixels };
    if pixels.len() != width * height * 3 {
        return Err(format!("{} bytes of pixels for {width}×{height}", pixels.len()));
    }
    Ok(Image { width, height, pixels })
}

/// Pillow's conversion of inks stored inverted, as Adobe does (255 = no ink).
fn cmyk_to_rgb(inks: &[u8]) -> [u8; 3] {
    let black = i32::from(inks[3]);
    [0, 1, 2].map(|c| {
        let product = (255 - i32::from(inks[c])) * black + 128;
        (black - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}

fn decode_png(bytes: &[u8], most_pixels: usize) -> Result<Image, String> {
    let mut reader = ::image::ImageReader::with_format(std::io::Cursor::new(bytes), ::image::ImageFormat::Png);
    let mut limits = ::image::Limits::default();
    limits.max_image_width = Some(LARGEST as u32);
    limits.max_image_height = Some(LARGEST as u32);
    limits.max_alloc = Some(4 * most_pixels as u64);
    reader.limits(limits);
    let decoded = reader.decode().map_err(|error| error.to_string())?.into_rgb8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Image { width, height, pixels: decoded.into_raw() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::exit::{Code, code_of};

    /// Values of Pillow (libjpeg-turbo). Other decoders may differ by a few levels a pixel, and more in CMYK.
    #[test]
    fn every_shared_image_decodes_as_pillow_decodes_it_or_is_refused() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/imagenet");
        let Ok(expected) = std::fs::read(root.join("expected.json")) else {
            println!("every_shared_image_decodes_as_pillow_decodes_it_or_is_refused: skipped, no shared data");
            return;
        };
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        for (name, expected) in expected.as_object().unwrap() {
            let decoded = decode(&std::fs::read(root.join(name)).unwrap(), name);
            if expected["pillow_error"].is_string() {
                let error = decoded.unwrap_err();
                assert!(code_of(&error) == Code::Data && error.to_string().contains(name), "{error}");
                continue;
            }
            let image = decoded.unwrap();
            assert_eq!(expected["size_w_h"], serde_json::json!([image.width, image.height]), "{name}");
            let (by_pixel, by_mean) = if expected["mode"] == "CMYK" { (8.0, 1.0) } else { (3.0, 0.5) };
            let centre = (image.height / 2 * image.width + image.width / 2) * 3;
            for c in 0..3 {
                let sum: f64 = image.pixels.iter().skip(c).step_by(3).map(|&level| f64::from(level)).sum();
                for (what, ours, tolerance) in [
                    ("mean_rgb", sum / (image.width * image.height) as f64, by_mean),
                    ("first_pixel_rgb", image.pixels[c].into(), by_pixel),
                    ("centre_pixel_rgb", image.pixels[centre + c].into(), by_pixel),
                ] {
                    let theirs = expected[what][c].as_f64().unwrap();
                    assert!((ours - theirs).abs() <= tolerance, "{name}: {what}[{c}] is {ours}, not {theirs}");
                }
            }
        }
    }

    #[test]
    fn every_cut_of_a_jpeg_is_refused_or_read_without_a_panic() {
        let mut jpeg = Vec::new();
        let pixels: Vec<u8> = (0..40 * 24 * 3).map(|i| (i * 37 % 251) as u8).collect();
        ::image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
            .encode(&pixels, 40, 24, ::image::ExtendedColorType::Rgb8)
            .unwrap();
        assert!(decode(&jpeg, "a").is_ok());
        for cut in 0..jpeg.len() {
            assert!(decode(&jpeg[..cut], "a").is_err(), "cut at byte {cut}");
        }
        for at in 0..jpeg.len() {
            let mut flipped = jpeg.clone();
            flipped[at] ^= 0x55;
            let _ = decode(&flipped, "a");
        }
    }
}

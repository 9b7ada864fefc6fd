//! The NPY format, version 1.0, for the one array type that holds predictions.
//!
//! Layout: the magic bytes, the version, the header's length (16 bits, little endian), the header (a Python dict
//! literal, padded with spaces and ended by a newline), and 5 bytes per image.
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use super::Predictions;

const MAGIC: &[u8] = b"\x93NUMPY";
const VERSION: [u8; 2] = [1, 0];
/// Magic bytes, version and header length.
const PREFIX: usize = 10;
/// `<u2`, `<u2` and `|b1`, without padding between them.
const BYTES_PER_IMAGE: usize = 5;
/// NumPy pads the header so that the data starts at a multiple of this.
const ALIGNMENT: usize = 64;
/// NumPy leaves room for a number of images with this many digits, so that a file can grow in place.
const COUNT_DIGITS: usize = 21;
/// The header in front of the number of images, token by token. `numpy.save` always writes the keys in this order.
/// A choice of two tokens is separated by a tab: NumPy writes the boolean type as `'|b1'`, and also reads `'?'`.
const BEFORE_COUNT: &str = "{ 'descr' : [ ( 'label' , '<u2' ) , ( 'predicted' , '<u2' ) , ( 'right' , '|b1'\t'?' ) ] , \
                            'fortran_order' : False , 'shape' : (";
/// The header behind the number of images.
const AFTER_COUNT: &str = ", ) , }";

pub(super) fn write(predictions: &Predictions) -> Vec<u8> {
    let n = predictions.n_images();
    let mut header = format!(
        "{{'descr': [('label', '<u2'), ('predicted', '<u2'), ('right', '|b1')], 'fortran_order': False, \
         'shape': ({n},), }}"
    );
    header.extend(std::iter::repeat_n(' ', COUNT_DIGITS.saturating_sub(n.to_string().len())));
    let unpadded = PREFIX + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    // The header always has 182 bytes, which 16 bits can express.
    let mut bytes = [MAGIC, &VERSION, &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    bytes.reserve(n * BYTES_PER_IMAGE);
    for ((label, predicted), right) in predictions.label.iter().zip(&predictions.predicted).zip(&predictions.right) {
        bytes.extend(label.to_le_bytes());
        bytes.extend(predicted.to_le_bytes());
        bytes.push(u8::from(*right));
    }
    bytes
}

pub(super) fn parse(bytes: &[u8]) -> Result<Predictions, String> {
    let start = data_start(bytes)?;
    let (header, data) = bytes.split_at(start);
    let n = Header { bytes: header, at: PREFIX }.images()?;
    check_length(n, start, bytes.len())?;
    let mut predictions = Predictions::default();
    for (index, image) in data.chunks_exact(BYTES_PER_IMAGE).enumerate() {
        let &[label_low, label_high, predicted_low, predicted_high, right] = image else { continue };
        if right > 1 {
            let at = start + index * BYTES_PER_IMAGE + 4;
            return Err(format!("byte {at}: expected 0 or 1 as `right` of image {index}, found {right}"));
        }
        predictions.label.push(u16::from_le_bytes([label_low, label_high]));
        predictions.predicted.push(u16::from_le_bytes([predicted_low, predicted_high]));
        predictions.right.push(right == 1);
    }
    Ok(predictions)
}

/// Checks everything in front of the header's text, and returns the byte at which the data starts.
fn data_start(bytes: &[u8]) -> Result<usize, String> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else {
        return Err(format!("byte {}: expected the {PREFIX} bytes that start an NPY file, found its end", bytes.len()));
    };
    let (magic, prefix) = prefix.split_at(MAGIC.len());
    if let Some(at) = magic.iter().zip(MAGIC).position(|(found, expected)| found != expected) {
        return Err(format!("byte {at}: expected the mark of an NPY file, found {:#04x}", magic[at]));
    }
    let (version, length) = prefix.split_at(VERSION.len());
    if version != VERSION {
        return Err(format!("byte 6: expected version 1.0 of the NPY format, found {}.{}", version[0], version[1]));
    }
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    if length > rest.len() {
        return Err(format!("byte {}: expected a header of {length} bytes, found the end of the file", bytes.len()));
    }
    Ok(PREFIX + length)
}

/// The number of images comes from the header, so it is checked against the file before anything relies on it.
fn check_length(n: usize, start: usize, length: usize) -> Result<(), String> {
    let expected = n.checked_mul(BYTES_PER_IMAGE).and_then(|data| data.checked_add(start));
    match expected {
        Some(expected) if expected == length => Ok(()),
        Some(expected) if expected < length => {
            Err(format!("byte {expected}: expected the end of the file behind {n} images, found more bytes"))
        }
        _ => Err(format!(
            "byte {length}: expected {n} images of {BYTES_PER_IMAGE} bytes behind the header, found the end of the file"
        )),
    }
}

/// Reads the header's text token by token; `at` counts from the start of the file.
struct Header<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Header<'_> {
    /// Reads the whole header, and returns the number of images that it states.
    fn images(mut self) -> Result<usize, String> {
        self.tokens(BEFORE_COUNT)?;
        let n = self.count()?;
        self.tokens(AFTER_COUNT)?;
        self.skip_spaces();
        match &self.bytes[self.at..] {
            b"\n" => Ok(n),
            _ => Err(self.expected("spaces and then one newline at the end of the header")),
        }
    }

    fn tokens(&mut self, tokens: &str) -> Result<(), String> {
        for choice in tokens.split(' ') {
            self.skip_spaces();
            let rest = &self.bytes[self.at..];
            let found = choice.split('\t').find(|token| rest.starts_with(token.as_bytes()));
            self.at += found.ok_or_else(|| self.expected(&format!("`{}`", choice.replace('\t', "` or `"))))?.len();
        }
        Ok(())
    }

    fn count(&mut self) -> Result<usize, String> {
        self.skip_spaces();
        let digits: String = self.bytes[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .map(|&byte| char::from(byte))
            .collect();
        let n = digits.parse().map_err(|_| self.expected("the number of images"))?;
        self.at += digits.len();
        Ok(n)
    }

    fn skip_spaces(&mut self) {
        self.at += self.bytes[self.at..].iter().take_while(|&&byte| byte == b' ').count();
    }

    fn expected(&self, expected: &str) -> String {
        let found = self.bytes[self.at..]
            .first()
            .map_or_else(|| "the end of the header".into(), |&byte| format!("`{}`", std::ascii::escape_default(byte)));
        format!("byte {}: expected {expected} in the header, found {found}", self.at)
    }
}

//! Every reader of what comes from outside, as one function of bytes: the targets of `fuzz/` and of its short form in
//! `cargo test`. A target may refuse its bytes, but not panic, leave its folder, or take memory without bound.

use crate::cell::{Overrides, cells};
use crate::data::cifar::Format;
use crate::data::frames::Framing;
use crate::data::image_dataset::Pixels;
use crate::data::{DatasetName, Integration, Resize, aedat, decode, image_index, unpack};
use crate::model::config::{Architecture, NetworkConfig, Norm};
use crate::model::network::{Network, Neuron};
use crate::parity::dump::Dump;
use crate::suite::Suite;
use crate::train::State;
use methods::lif::{Lif, Reset};
use report::published::Published;
use report::record::{CurvePoint, Record, read_each_of};
use safetensors::SafeTensors;
use std::ffi::OsStr;
use std::io::Cursor;
use std::path::Path;
use std::sync::OnceLock;

/// A reader under test.
pub type Target = fn(&[u8]);

/// All of them, by the names of their fuzz targets.
pub const TARGETS: [(&str, Target); 9] = [
    ("aedat", aedat),
    ("cifar", cifar),
    ("suite", suite),
    ("published", published),
    ("rows", rows),
    ("checkpoint", checkpoint),
    ("archive", archive),
    ("image", image),
    ("image_folder", image_folder),
];

/// An AEDAT 2.0 recording, and frames of its events.
pub fn aedat(bytes: &[u8]) {
    let Ok(recording) = aedat::read(bytes, "fuzz.aedat") else { return };
    let again = aedat::read(&aedat::write(&recording.events, &[]), "again.aedat").expect("what is written is read");
    assert_eq!(again.events, recording.events);
    // One framing a recording, for speed; its number of events chooses.
    let n = recording.events.len();
    let integration = [Integration::Number, Integration::Time][n % 2];
    let (size, resize) = [(32, Some(Resize::Average)), (48, Some(Resize::Nearest)), (128, None)][n / 2 % 3];
    let framing = Framing { time_steps: 1 + n / 6 % 3, integration, size, resize };
    if let Ok(frames) = framing.build(&recording.events, "fuzz.aedat") {
        assert_eq!(frames.len(), framing.stored_len());
    }
}

/// A CIFAR-10 and a CIFAR-100 batch.
pub fn cifar(bytes: &[u8]) {
    for dataset in [DatasetName::Cifar10, DatasetName::Cifar100] {
        let mut pixels = Pixels::default();
        if Format::of(dataset).parse("fuzz.bin", bytes, &mut pixels).is_ok() {
            assert!(pixels.labels.iter().all(|&label| usize::from(label) < dataset.classes()));
            assert_eq!(pixels.images.len(), pixels.labels.len() * 3072);
        }
    }
}

/// A suite, and its cells.
pub fn suite(bytes: &[u8]) {
    let Ok(suite) = std::str::from_utf8(bytes).map_err(drop).and_then(|text| Suite::parse(text).map_err(drop)) else {
        return;
    };
    let list = cells(&suite, &Overrides::default(), "cpu-f32").expect("a suite that is valid has cells");
    assert!(list.iter().all(|cell| cell.id.len() <= 200 && Path::new(&cell.id).components().count() == 1));
}

/// Published numbers.
pub fn published(bytes: &[u8]) {
    let _ = std::str::from_utf8(bytes).map(Published::parse);
}

/// `rows.csv` and `curves.csv`.
pub fn rows(bytes: &[u8]) {
    let _ = read_each_of(Cursor::new(bytes), Path::new("rows.csv"), |_: Record| Ok(()));
    let _ = read_each_of(Cursor::new(bytes), Path::new("curves.csv"), |_: CurvePoint| Ok(()));
}

/// A network of one parameter and one norm, so that a checkpoint of it is short.
fn network() -> Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    let make = || {
        let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
        let architecture = Architecture::Resnet18Plain;
        let config = NetworkConfig { architecture, width: 1, norm: Norm::Bn, neuron, imagenet_stem: false };
        let mut network = Network::new(&config, Neuron::Lif(neuron), 3, 10, 0).expect("a network of width 1");
        network.layout.layers.clear();
        network.layout.params.drain(..network.params.len() - 1);
        network.params.drain(..network.params.len() - 1);
        network.layout.running.truncate(1);
        network.running.truncate(1);
        network
    };
    NETWORK.get_or_init(make).clone()
}

/// A checkpoint, with its checksum and (what mutations would else never reach) without; a reference dump.
pub fn checkpoint(bytes: &[u8]) {
    let _ = State::parse(bytes, network(), None);
    let _ = Dump::parse(bytes);
    let Ok(tensors) = SafeTensors::deserialize(bytes) else { return };
    let progress = SafeTensors::read_metadata(bytes).ok().and_then(|(_, m)| m.metadata().clone()?.remove("progress"));
    let _ = State::fill(network(), &tensors, &progress.unwrap_or_default());
}

/// An archive: the first byte chooses the format.
pub fn archive(bytes: &[u8]) {
    const CAP: u64 = 1 << 16;
    let Some((kind, rest)) = bytes.split_first() else { return };
    let name = ["fuzz.tar", "fuzz.tar.gz", "fuzz.zip"][usize::from(*kind) % 3];
    let outside = tempfile::tempdir().expect("a temporary folder");
    let folder = outside.path().join("inside");
    std::fs::create_dir(&folder).expect("a new folder");
    let _ = unpack::unpack_from(Cursor::new(rest), name.into(), CAP, &folder);
    let mut bytes_out = 0;
    for entry in walkdir::WalkDir::new(outside.path()).min_depth(1).into_iter().filter_map(Result::ok) {
        assert!(entry.path().starts_with(&folder), "{} is outside", entry.path().display());
        assert!(entry.file_type().is_dir() || entry.file_type().is_file(), "{} is special", entry.path().display());
        bytes_out += entry.metadata().map_or(0, |m| if m.is_file() { m.len() } else { 0 });
    }
    assert!(bytes_out <= CAP);
}

/// An image file.
pub fn image(bytes: &[u8]) {
    const MOST_PIXELS: usize = 64 * 64;
    if let Ok(image) = decode::decode_within(bytes, "fuzz.jpg", MOST_PIXELS) {
        assert_eq!(image.pixels.len(), image.width * image.height * 3);
    }
}

/// A folder of validation images (names up to the first empty line) with the devkit's labels (what follows).
pub fn image_folder(bytes: &[u8]) {
    let classes = ["n01440764", "n01443537"].map(String::from);
    let split = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let Ok(text) = std::str::from_utf8(bytes.get(split + 2..).unwrap_or_default()) else { return };
    let Ok(labels) = image_index::labels(text, Path::new("labels.txt")) else { return };
    let val = Path::new("val");
    let images: Vec<_> = bytes[..split].split(|byte| *byte == b'\n').map(|name| val.join(file_name(name))).collect();
    let sizes = (0..).map(|i| i * 1_000_000_000);
    if let Ok(files) = image_index::label_flat(images.iter().cloned().zip(sizes), &labels, val, &classes) {
        assert!(files.len() > 0 && files.len() <= images.len());
        assert!((0..files.len()).all(|i| files.label(i) < classes.len() && images.contains(&val.join(files.path(i)))));
    }
}

#[cfg(unix)]
fn file_name(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

#[cfg(not(unix))]
fn file_name(bytes: &[u8]) -> &OsStr {
    OsStr::new(std::str::from_utf8(bytes).unwrap_or("not-utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_checkpoint_is_whole_and_no_flipped_byte_of_it_passes_for_another_state() {
        for bytes in [
            &include_bytes!("../../fuzz/corpus/checkpoint/whole")[..],
            include_bytes!("../../fuzz/corpus/checkpoint/whole-curves"),
        ] {
            let whole = State::parse(bytes, network(), Some("0")).unwrap();
            for (at, mask) in (0..bytes.len()).flat_map(|at| [1, 2, 0x80, 0xff].map(|mask| (at, mask))) {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= mask;
                if let Ok(state) = State::parse(&flipped, network(), None) {
                    assert_eq!(state.progress, whole.progress, "byte {at} ^ {mask:#04x}");
                    assert_eq!(format!("{:?}", state.network.running), format!("{:?}", whole.network.running));
                }
            }
        }
    }
}

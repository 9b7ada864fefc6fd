use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::stats::{Dominant, mcnemar};

/// Made by NumPy 2.4.6:
/// ```text
/// python3 -c "import numpy as np; np.save('predictions.npy', np.array([(3, 3, True), (0, 1, False), (9, 9, True),
///   (65535, 2, False), (7, 7, True)], dtype=[('label', '<u2'), ('predicted', '<u2'), ('right', '?')]))"
/// ```
const BY_NUMPY: &[u8] = include_bytes!("../../tests/fixtures/predictions.npy");
/// Where its data starts.
const DATA: usize = 192;

fn five() -> Predictions {
    Predictions {
        label: vec![3, 0, 9, 65535, 7],
        predicted: vec![3, 1, 9, 2, 7],
        right: vec![true, false, true, false, true],
    }
}

/// Predictions for these labels; a wrong answer is the next class.
fn answers(label: &[u16], right: &[bool]) -> Predictions {
    let predicted = label.iter().zip(right).map(|(&label, &right)| label + u16::from(!right)).collect();
    Predictions { label: label.to_vec(), predicted, right: right.to_vec() }
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("predictions.npy");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// NumPy's file with one text of its header replaced by another one of the same length.
fn with_header(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = BY_NUMPY.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let mut bytes = BY_NUMPY.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[track_caller]
fn fails(bytes: &[u8], expected: &str) {
    let error = Predictions::from_npy(bytes).unwrap_err();
    assert!(error.contains(expected), "{error}\ndoes not contain\n{expected}");
}

#[test]
fn a_file_by_numpy_is_read_and_written_byte_for_byte() {
    let (_folder, path) = file(BY_NUMPY);
    assert_eq!(Predictions::read(&path).unwrap(), Some(five()));
    assert_eq!(five().to_npy(), BY_NUMPY);
}

#[test]
fn other_spellings_of_the_same_header_are_read() {
    for (from, to) in [("'|b1')], 'fortran", "'?')],   'fortran"), ("'shape': (5,), }  ", "'shape':( 5 ,),  }")] {
        assert_eq!(Predictions::from_npy(&with_header(from, to)), Ok(five()));
    }
}

#[test]
fn an_absent_file_is_none_and_a_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Predictions::read(&folder.path().join("predictions.npy")).unwrap(), None);
    assert!(Predictions::read(folder.path()).is_err());
}

#[test]
fn a_damaged_file_names_file_byte_expectation_and_remedy() {
    let mut bytes = BY_NUMPY.to_vec();
    bytes[DATA + 9] = 2;
    let (_folder, path) = file(&bytes);
    let error = format!("{:#}", Predictions::read(&path).unwrap_err());
    for part in [&*path.display().to_string(), "byte 201", "expected 0 or 1 as `right` of image 1, found 2", "delete"] {
        assert!(error.contains(part), "{error}\ndoes not contain\n{part}");
    }
}

#[test]
fn every_departure_from_the_format_names_its_byte() {
    fails(b"", "byte 0: expected the 10 bytes");
    fails(&BY_NUMPY[..7], "byte 7: expected the 10 bytes");
    fails(b"\x93NUMPX\x01\x00\x00\x00", "byte 5: expected the mark of an NPY file, found 0x58");
    fails(b"\x93NUMPY\x02\x00\x00\x00", "byte 6: expected version 1.0 of the NPY format, found 2.0");
    fails(&BY_NUMPY[..100], "byte 100: expected a header of 182 bytes, found the end");
    fails(b"\x93NUMPY\x01\x00\x00\x00", "byte 10: expected `{` in the header, found the end of the header");
    fails(&with_header("'<u2'", "'<i2'"), "byte 31: expected `'<u2'` in the header");
    fails(&with_header("'label'", "'lable'"), "byte 22: expected `'label'`");
    fails(&with_header("'|b1'", "'|i1'"), "expected `'|b1'` or `'?'` in the header");
    fails(&with_header("False", "True "), "expected `False`");
    fails(&with_header("(5,)", "(-5)"), "expected the number of images in the header, found `-`");
    fails(&with_header("(5,), }  ", "(5,), } x"), "expected spaces and then one newline");
    fails(&with_header("(5,), }  ", "(5,5), } "), "expected `)`");
}

#[test]
fn the_number_of_images_must_fit_the_file() {
    fails(&with_header("(5,)", "(4,)"), "byte 212: expected the end of the file behind 4 images");
    fails(&with_header("(5,)", "(6,)"), "byte 217: expected 6 images of 5 bytes");
    fails(&BY_NUMPY[..BY_NUMPY.len() - 1], "byte 216: expected 5 images of 5 bytes");
    let longer = [BY_NUMPY, &[0]].concat();
    fails(&longer, "byte 217: expected the end of the file behind 5 images, found more bytes");
    // Five times this number is 26 modulo 2⁶⁴, and 26 bytes follow the header.
    let header = with_header(&format!("(5,), }}{:19}", ""), "(14757395258967641298,), }");
    fails(&[&header[..], &[0]].concat(), "byte 218: expected 14757395258967641298 images");
    // This number itself does not fit 64 bits.
    fails(&with_header(&format!("(5,), }}{:19}", ""), "(99999999999999999999,), }"), "expected the number of images");
}

#[test]
fn accuracy_counts_what_the_cell_counted_as_right() {
    assert_eq!(five().accuracy(), Some(0.6));
    assert_eq!(Predictions::default().accuracy(), None);
    let not_finite = Predictions { label: vec![1], predicted: vec![0], right: vec![true] };
    assert_eq!(not_finite.accuracy(), Some(1.0));
}

#[test]
fn classes_come_in_ascending_order_with_wilson_intervals() {
    let predictions = answers(&[2, 0, 2, 2, 0], &[true, false, false, true, false]);
    let classes = predictions.per_class();
    let counts: Vec<_> = classes.iter().map(|class| (class.class, class.right, class.n)).collect();
    assert_eq!(counts, [(0, 0, 2), (2, 2, 3)]);
    assert_eq!(classes[1].interval, wilson(2, 3, 0.95).unwrap());
    assert!(Predictions::default().per_class().is_empty());
}

#[test]
fn confusions_are_ordered_by_count_and_leave_the_diagonal_out() {
    let label = vec![1, 5, 5, 0, 1, 3, 5, 0];
    let predicted = vec![2, 4, 4, 9, 0, 3, 4, 9];
    let right = label.iter().zip(&predicted).map(|(label, predicted)| label == predicted).collect();
    let predictions = Predictions { label, predicted, right };
    assert_eq!(predictions.confusion(), [(5, 4, 3), (0, 9, 2), (1, 0, 1), (1, 2, 1)]);
}

#[test]
fn pairs_are_counted_seed_by_seed_and_averaged_image_by_image() {
    let label = [0, 1, 2, 3];
    let a = [answers(&label, &[true, true, true, false]), answers(&label, &[true, true, false, false])];
    let b = [answers(&label, &[true, false, false, true]), answers(&label, &[true, false, false, false])];
    let paired = paired(&a, &b).unwrap();
    assert_eq!(paired.differences, [0.0, 1.0, 0.5, -0.5]);
    let counts: Vec<_> = paired.seeds.iter().map(|seed| (seed.only_a, seed.only_b, seed.difference, seed.p)).collect();
    assert_eq!(counts, [(2, 1, 0.25, mcnemar(2, 1)), (1, 0, 0.25, 1.0)]);
    let images = paired.over_images.unwrap();
    assert_eq!((images.n_images, images.difference), (4, 0.25));
    assert_eq!(
        images.difference,
        a.iter().zip(&b).map(|(a, b)| a.accuracy().unwrap() - b.accuracy().unwrap()).sum::<f64>() / 2.0
    );
    // Variance of 0, 1, 0.5, −0.5: (0.0625 + 0.5625 + 0.0625 + 0.5625)/3 = 1.25/3.
    assert!((images.standard_error - (1.25f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
    assert_eq!((paired.standard_error_of_seeds, paired.dominant), (Some(0.0), Some(Dominant::Images)));
}

#[test]
fn one_seed_has_no_error_over_seeds() {
    let of = |right| [answers(&[0, 1], right)];
    let paired = paired(&of(&[true, true]), &of(&[true, false])).unwrap();
    assert_eq!((paired.seeds.len(), paired.standard_error_of_seeds, paired.dominant), (1, None, None));
    assert!(paired.over_images.is_some());
}

#[test]
fn predictions_of_other_images_are_a_sentence() {
    let of = |label: &[u16]| answers(label, &vec![true; label.len()]);
    let error = |a: &[Predictions], b: &[Predictions]| paired(a, b).unwrap_err();
    let other = error(&[of(&[3, 4]), of(&[3, 4])], &[of(&[3, 4]), of(&[4, 3])]);
    let expected = "predictions 2 of 2 of B belong to other test images than predictions 1 of A: image 0 (counted from \
                    0) has label 3 in one and 4 in the other";
    assert!(other.contains(expected), "{other}");
    assert!(error(&[of(&[3, 4]), of(&[4, 4])], &[of(&[3, 4]), of(&[3, 4])]).contains("predictions 2 of 2 of A"));
    assert!(error(&[of(&[3])], &[of(&[3, 4])]).contains("there are 1 images in one and 2 in the other"));
    assert!(error(&[of(&[3])], &[]).contains("A has the predictions of 1 seeds and B of 0"));
    assert!(error(&[], &[]).contains("share no seed"));
    assert!(error(&[of(&[])], &[of(&[])]).contains("hold no image"));
}

proptest! {
    #[test]
    fn written_predictions_are_read_back(images in prop::collection::vec(any::<(u16, u16, bool)>(), 0..300)) {
        let mut predictions = Predictions::default();
        for (label, predicted, right) in images {
            predictions.label.push(label);
            predictions.predicted.push(predicted);
            predictions.right.push(right);
        }
        let bytes = predictions.to_npy();
        prop_assert_eq!((bytes.len() - 5 * predictions.n_images()) % 64, 0);
        prop_assert_eq!(Predictions::from_npy(&bytes), Ok(predictions));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let behind_magic = [b"\x93NUMPY\x01\x00", &bytes[..]].concat();
        for bytes in [bytes, behind_magic] {
            let message = Predictions::from_npy(&bytes).unwrap_err();
            prop_assert!(message.starts_with("byte "), "{}", message);
        }
    }

    /// A mutated file is either an error, or holds as many images as its length allows.
    #[test]
    fn no_mutation_panics_or_invents_images(
        changes in prop::collection::vec((0..BY_NUMPY.len(), any::<u8>()), 1..6),
        length in 0..=BY_NUMPY.len(),
        digits in "[0-9]{1,25}",
    ) {
        let mut bytes = BY_NUMPY.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let claimed = with_header(&format!("(5,), }}{:25}", ""), &format!("{:32}", format!("({digits},), }}")));
        for bytes in [&bytes[..], &bytes[..length], &claimed] {
            if let Ok(predictions) = Predictions::from_npy(bytes) {
                prop_assert!(predictions.n_images() * 5 < bytes.len());
                prop_assert_eq!(predictions.n_images(), predictions.right.len());
            }
        }
    }
}

#[test]
fn an_id_that_is_no_plain_file_name_leads_nowhere() {
    let dir = Path::new("results");
    assert_eq!(path_of(dir, "a-s0"), Some(PathBuf::from("results/cells/a-s0/predictions.npy")));
    for id in ["", ".", "..", "../x", "/etc", "a/b", "a\\b", "a/", "./a", "a\0", &"x".repeat(256)] {
        assert_eq!(path_of(dir, id), None, "{id:?}");
    }
}

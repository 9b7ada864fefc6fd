//! ImageNet's folders: order, labels, and what is refused.

use crate::shared;
use std::path::Path;

use harness::data::{Batches, DataConfig, Dataset, Draw, Split, open};
use harness::exit::{Code, code_of};

fn config(size: usize, limit: &str) -> DataConfig {
    let augment = "augment = ['random-resized-crop', 'flip']";
    toml::from_str(&format!("dataset = 'imagenet'\nsplit = 'official'\nsize = {size}\n{augment}\n{limit}")).unwrap()
}

/// A 9×8 image of one gray level (PNG, whatever the name says).
fn image(level: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(9, 8, image::Rgb([level; 3])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Two classes, two training images and one validation image each.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (class, level) in [("n02119789", 200), ("n01440764", 10)] {
        put(dir.path(), &format!("train/{class}/b.JPEG"), &image(level + 1));
        put(dir.path(), &format!("train/{class}/a.png"), &image(level));
        put(dir.path(), &format!("train/{class}/notes.txt"), b"not an image");
        put(dir.path(), &format!("val/{class}/v.jpeg"), &image(level + 2));
    }
    dir
}

fn refusal(dir: &Path) -> String {
    let error = open(&config(8, ""), None, Some(dir), None).err().unwrap();
    assert_eq!(code_of(&error), Code::Data, "{error}");
    error.to_string()
}

fn red(data: &dyn Dataset, split: Split, index: usize) -> u8 {
    let mut out = vec![0.0; data.input().sample_len()];
    data.sample(split, index, None, &mut out).unwrap();
    ((out[0] * 0.229 + 0.485) * 255.0).round() as u8
}

#[test]
fn classes_and_files_are_in_order_of_name() {
    let dir = folder();
    let data = open(&config(8, ""), None, Some(dir.path()), None).unwrap();
    let train: Vec<_> = (0..4).map(|i| (data.label(Split::Train, i), red(&*data, Split::Train, i))).collect();
    assert_eq!(train, [(0, 10), (0, 11), (1, 200), (1, 201)]);
    let test: Vec<_> = (0..2).map(|i| (data.label(Split::Test, i), red(&*data, Split::Test, i))).collect();
    assert_eq!(test, [(0, 12), (1, 202)]);
    let limited = open(&config(8, "limit = 2"), None, Some(dir.path()), None).unwrap();
    let train: Vec<_> = (0..2).map(|i| (limited.label(Split::Train, i), red(&*limited, Split::Train, i))).collect();
    assert_eq!(train, [(0, 10), (1, 200)], "a limit takes classes in turn");
    assert_ne!(data.protocol_id(), limited.protocol_id());
}

#[test]
fn a_flat_validation_folder_takes_the_devkits_labels() {
    let dir = folder();
    std::fs::remove_dir_all(dir.path().join("val")).unwrap();
    // Devkit ids: 1 = n02119789, 449 = n01440764, 2 = a class that the training folder lacks.
    for (number, level) in [(1, 31), (2, 32), (3, 33), (4, 34)] {
        put(dir.path(), &format!("val/ILSVRC2012_val_{number:08}.JPEG"), &image(level));
    }
    assert!(refusal(dir.path()).contains("ILSVRC2012_validation_ground_truth.txt"));
    let truth = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt";
    put(dir.path(), truth, b"449\n1\n2\n449\n");
    let data = open(&config(8, ""), None, Some(dir.path()), None).unwrap();
    let test: Vec<_> = (0..3).map(|i| (data.label(Split::Test, i), red(&*data, Split::Test, i))).collect();
    assert_eq!((test, data.len(Split::Test)), (vec![(0, 31), (1, 32), (0, 34)], 3));
    put(dir.path(), truth, b"449\n1001\n");
    assert!(refusal(dir.path()).contains("ground_truth.txt line 2: `1001` is not an id"));
    put(dir.path(), truth, b"449\n");
    assert!(refusal(dir.path()).contains("`ILSVRC2012_val_00000002.JPEG` is not"));
}

#[test]
fn broken_folders_are_refused_with_the_path() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("train/n03000000")).unwrap();
    assert!(refusal(dir.path()).contains("train/n03000000 holds no images"));
    std::fs::remove_dir(dir.path().join("train/n03000000")).unwrap();
    put(dir.path(), "val/n04000000/a.png", &image(1));
    assert!(refusal(dir.path()).contains("val has a class `n04000000` that the training folder lacks"));
    std::fs::remove_dir_all(dir.path().join("val")).unwrap();
    assert!(refusal(dir.path()).contains("val cannot be read"));
    std::fs::remove_dir_all(dir.path().join("train")).unwrap();
    std::fs::create_dir(dir.path().join("train")).unwrap();
    assert!(refusal(dir.path()).contains("train holds 0 class folders"));
}

#[test]
fn a_damaged_image_is_refused_when_it_is_read() {
    let dir = folder();
    put(dir.path(), "val/n01440764/v.jpeg", b"");
    let data = open(&config(8, ""), None, Some(dir.path()), None).unwrap();
    let error = data.sample(Split::Test, 0, None, &mut [0.0; 192]).unwrap_err();
    assert_eq!(code_of(&error), Code::Data);
    assert!(error.to_string().contains("val/n01440764/v.jpeg (0 bytes)"), "{error}");
}

#[test]
fn a_damaged_image_ends_its_batch_with_its_error_and_not_the_reader_s_wait() {
    let dir = folder();
    put(dir.path(), "train/n02119789/a.png", b"not an image");
    let data = open(&config(8, ""), None, Some(dir.path()), None).unwrap();
    for workers in [0, 2] {
        let batches = Batches::new(data.clone(), Split::Train, vec![0, 1, 2, 3], 2, None, workers, 0);
        let results: Vec<Result<usize, String>> =
            batches.map(|batch| batch.map(|batch| batch.len).map_err(|error| error.to_string())).collect();
        assert_eq!(results[0], Ok(2));
        assert!(results[1].as_ref().unwrap_err().contains("a.png (12 bytes)"), "{results:?}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles_and_names_must_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder();
    let class = dir.path().join("train/n01440764");
    std::os::unix::fs::symlink(&class, class.join("circle")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("train/n02119789/a.png"), class.join("c.png")).unwrap();
    let data = open(&config(8, ""), None, Some(dir.path()), None).unwrap();
    assert_eq!((data.len(Split::Train), red(&*data, Split::Train, 2)), (5, 200));
    std::fs::write(class.join(std::ffi::OsStr::from_bytes(b"z\xff.png")), image(1)).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("is not UTF-8 at its byte 11"), "{message}");
}

#[test]
fn the_shared_tiny_images_open_and_augmentation_repeats() {
    let test = "the_shared_tiny_images_open_and_augmentation_repeats";
    let Some(root) = shared(test, "imagenet/tiny64") else { return };
    let data = open(&config(48, ""), None, Some(&root), None).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test), data.classes()), (1000, 200, 10));
    let draw = |epoch| {
        let mut out = vec![0.0; data.input().sample_len()];
        data.sample(Split::Train, 17, Some(Draw { seed: 1, epoch }), &mut out).unwrap();
        out
    };
    assert_eq!(draw(0), draw(0));
    assert_ne!(draw(0), draw(1));
}

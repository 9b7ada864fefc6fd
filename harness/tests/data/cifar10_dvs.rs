//! CIFAR10-DVS: the folder, the frames, and the cache of frames.

use crate::shared;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harness::data::aedat::{Event, write};
use harness::data::{DataConfig, Dataset, DatasetName, Split, catalog, open, protocol_as_read};
use harness::exit::{Code, code_of};
use sha2::{Digest, Sha256};

const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

fn config(size: usize, rest: &str) -> DataConfig {
    toml::from_str(&format!(
        "dataset = 'cifar10-dvs'\nsplit = 'last100'\nintegration = 'number'\nsize = {size}\n{rest}\n\
         augment = ['flip', 'roll5']"
    ))
    .unwrap()
}

/// A recording whose `n` events all lie on column `x` (and rows 0, 1, …), ON and OFF in turn.
fn recording(x: u8, n: u32) -> Vec<u8> {
    let events: Vec<Event> = (0..n).map(|i| Event::new(i * 10, x, (i % 128) as u8, i % 2 == 0)).collect();
    write(&events, &["a test"])
}

/// Three recordings a class; column = 10 · number + class.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (label, class) in CLASSES.iter().enumerate() {
        let folder = dir.path().join("cifar10-dvs").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for n in 0..3 {
            let bytes = recording((10 * n + label) as u8, 64);
            std::fs::write(folder.join(format!("cifar10_{class}_{n}.aedat")), bytes).unwrap();
        }
    }
    dir
}

fn samples(data: &Arc<dyn Dataset>) -> Vec<Vec<f32>> {
    [Split::Train, Split::Test]
        .into_iter()
        .flat_map(|split| (0..data.len(split)).map(move |i| (split, i)))
        .map(|(split, i)| {
            let mut out = vec![f32::NAN; data.input().sample_len()];
            data.sample(split, i, None, &mut out).unwrap();
            out
        })
        .collect()
}

fn open_in(dir: &Path, cache: Option<&Path>) -> Arc<dyn Dataset> {
    open(&config(128, ""), Some(2), Some(dir), cache).unwrap()
}

fn cache_files(cache: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn recordings_become_frames_of_their_class_in_order() {
    let dir = folder();
    let data = open_in(dir.path(), None);
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (20, 10));
    let frames = &samples(&data)[5]; // class 2 (bird), number 1: column 12
    assert_eq!(data.label(Split::Train, 5), 2);
    let at = |t: usize, y: usize, x: usize, c: usize| frames[((t * 128 + y) * 128 + x) * 2 + c];
    // 64 events: 32 a frame; rows 0–31 in the first, 32–63 in the second; even rows ON (channel 1).
    assert_eq!(
        [at(0, 4, 12, 1), at(0, 4, 12, 0), at(0, 5, 12, 0), at(1, 40, 12, 1), at(0, 40, 12, 1)],
        [1.0, 0.0, 1.0, 1.0, 0.0]
    );
    assert_eq!(frames.iter().sum::<f32>(), 64.0);
}

#[test]
fn a_cache_gives_the_same_frames_and_hash_and_is_used_again() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    let plain = open_in(dir.path(), None);
    let first = open_in(dir.path(), Some(cache.path()));
    let files = cache_files(cache.path());
    assert_eq!(files.len(), 1);
    let made = std::fs::metadata(&files[0]).unwrap().modified().unwrap();
    let second = open_in(dir.path(), Some(cache.path()));
    assert_eq!(std::fs::metadata(&files[0]).unwrap().modified().unwrap(), made, "not made anew");
    for other in [&first, &second] {
        assert_eq!((other.data_hash(), samples(other)), (plain.data_hash(), samples(&plain)));
    }
    let other_parameters = open(&config(128, ""), Some(4), Some(dir.path()), Some(cache.path())).unwrap();
    assert_eq!((other_parameters.input().time_steps, cache_files(cache.path()).len()), (Some(4), 2));
    assert_eq!(other_parameters.data_hash(), plain.data_hash(), "a hash of the recordings, whatever T is");
}

/// Notes in `folder` that `data fetch` unpacked its recordings from the official archives.
fn mark_as_fetched(folder: &Path) {
    let entries = catalog::parse(include_str!("../../../suites/mirrors.toml")).unwrap();
    let official = entries.iter().find(|entry| entry.name == DatasetName::Cifar10Dvs).unwrap();
    for archive in &official.archives {
        std::fs::write(folder.join(format!(".{}.unpacked", archive.file)), format!("{}\n", archive.md5)).unwrap();
    }
    let list = CLASSES.iter().flat_map(|class| (0..3).map(move |n| format!("{class}/cifar10_{class}_{n}.aedat")));
    let line = |file: String| {
        let sum: String = Sha256::digest(std::fs::read(folder.join(&file)).unwrap())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{sum}  {file}\n")
    };
    std::fs::write(folder.join("SHA256SUMS"), list.map(line).collect::<String>()).unwrap();
}

#[test]
fn recordings_are_verified_while_each_is_the_one_that_was_unpacked() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    let folder = dir.path().join("cifar10-dvs");
    let verified = || {
        let cached = open_in(dir.path(), Some(cache.path())).verified();
        assert_eq!(open_in(dir.path(), Some(cache.path())).verified(), cached, "from the cache");
        assert_eq!(open_in(dir.path(), None).verified(), cached, "without a cache");
        cached
    };
    assert!(!verified(), "nobody knows where they are from");
    mark_as_fetched(&folder);
    assert!(verified());
    let data = open_in(dir.path(), None);
    let declared = data.protocol_id();
    assert_eq!(protocol_as_read(declared, DatasetName::Cifar10Dvs, &*data), declared);

    let marker = folder.join(".ship.zip.unpacked");
    let whole = std::fs::read(&marker).unwrap();
    std::fs::remove_file(&marker).unwrap();
    assert!(!verified(), "a list without its archives");
    std::fs::write(&marker, whole).unwrap();
    assert!(verified());

    let file = folder.join("ship/cifar10_ship_1.aedat");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, recording(99, 66)).unwrap();
    assert!(!verified(), "one was replaced");
    let data = open_in(dir.path(), None);
    let read = protocol_as_read(data.protocol_id(), DatasetName::Cifar10Dvs, &*data);
    assert!(read.starts_with("cifar10-dvs/last100;unverified:train=20,test=10;equal-number;"), "{read}");
    std::fs::write(&file, whole).unwrap();
    assert!(verified());
    std::fs::write(folder.join("ship/cifar10_ship_3.aedat"), recording(99, 66)).unwrap();
    assert!(!verified(), "one was added, which moves the split");
}

#[test]
fn a_cut_or_damaged_cache_is_made_anew() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    let expected = samples(&open_in(dir.path(), Some(cache.path())));
    let file = &cache_files(cache.path())[0];
    let whole = std::fs::read(file).unwrap();
    let mut flipped = whole.clone();
    flipped[5000] ^= 1;
    for broken in [&whole[..whole.len() / 2], &[], &flipped] {
        std::fs::write(file, broken).unwrap();
        assert_eq!(samples(&open_in(dir.path(), Some(cache.path()))), expected);
        assert_eq!(std::fs::read(file).unwrap(), whole);
    }
}

#[test]
fn a_replaced_recording_is_noticed_and_a_failed_build_leaves_no_cache() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    let before = open_in(dir.path(), Some(cache.path())).data_hash().to_string();
    let file = dir.path().join("cifar10-dvs/ship/cifar10_ship_1.aedat");
    std::fs::write(&file, recording(99, 66)).unwrap();
    assert_ne!(open_in(dir.path(), Some(cache.path())).data_hash(), before);
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() - 3]).unwrap();
    let files = cache_files(cache.path());
    let error = open(&config(128, ""), Some(2), Some(dir.path()), Some(cache.path())).err().unwrap();
    assert_eq!(code_of(&error), Code::Data);
    assert!(error.to_string().contains("cifar10_ship_1.aedat is cut off: 5 bytes"), "{error}");
    assert_eq!(cache_files(cache.path()), files, "nothing half-written stays");
}

#[test]
fn broken_folders_are_refused_by_name() {
    let dir = folder();
    let refusal = || {
        let error = open(&config(128, ""), Some(2), Some(dir.path()), None).err().unwrap();
        assert_eq!(code_of(&error), Code::Data);
        error.to_string()
    };
    let cat = dir.path().join("cifar10-dvs/cat");
    std::fs::write(cat.join("cifar10_dog_9.aedat"), recording(0, 9)).unwrap();
    assert!(refusal().contains("cifar10_dog_9.aedat: expected the name cifar10_cat_<number>.aedat"));
    std::fs::rename(cat.join("cifar10_dog_9.aedat"), cat.join("cifar10_cat_9.aedat4")).unwrap();
    assert!(refusal().contains("AEDAT 4 edition"));
    std::fs::remove_file(cat.join("cifar10_cat_9.aedat4")).unwrap();
    std::fs::write(cat.join("cifar10_cat_1.aedat"), recording(0, 1)).unwrap();
    assert!(refusal().contains("cifar10_cat_1.aedat holds 1 events, too few for 2 frames"));
    std::fs::remove_dir_all(&cat).unwrap();
    std::fs::create_dir(&cat).unwrap();
    assert!(refusal().contains("cat holds no recordings"));
}

#[cfg(unix)]
#[test]
fn an_unwritable_cache_is_exit_74() {
    let dir = folder();
    let error = open(&config(128, ""), Some(2), Some(dir.path()), Some(Path::new("/proc/none"))).err().unwrap();
    assert_eq!(code_of(&error), Code::Io, "{error}");
}

#[test]
fn the_shared_streams_open_at_48_by_48() {
    let layout = "events/simulated_cifar10dvs_layout";
    let Some(root) = shared("the_shared_streams_open_at_48_by_48", layout) else { return };
    let config = config(48, "resize = 'nearest'\nper-frame-max = true");
    let data = open(&config, Some(10), Some(&root), None).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (10, 10));
    assert!(samples(&data).concat().iter().all(|value| (0.0..=1.0).contains(value)));
}

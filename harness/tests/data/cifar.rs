//! CIFAR files, whole and broken.

use crate::{BATCHES, shared};
use std::path::{Path, PathBuf};

use harness::data::{DataConfig, DatasetName, Split, open, protocol_as_read};
use harness::exit::{Code, code_of};

fn config(dataset: &str) -> DataConfig {
    toml::from_str(&format!("dataset = '{dataset}'\nsplit = 'official'\nsize = 32\naugment = []")).unwrap()
}

/// `n` records of CIFAR-10 whose pixels all differ, with labels 0, 1, 2, …
fn records(n: usize, label_bytes: usize) -> Vec<u8> {
    (0..n)
        .flat_map(|i| {
            [vec![(i % 10) as u8; label_bytes], (0..3072).map(|p| ((p * 7 + i) % 251) as u8).collect()].concat()
        })
        .collect()
}

/// A data folder with CIFAR-10 batches of two records.
fn cifar10() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cifar-10-batches-bin");
    std::fs::create_dir(&folder).unwrap();
    BATCHES.iter().for_each(|name| std::fs::write(folder.join(name), records(2, 1)).unwrap());
    (dir, folder)
}

fn refusal(dataset: &str, dir: &Path) -> String {
    let error = open(&config(dataset), None, Some(dir), None).err().unwrap();
    assert_eq!(code_of(&error), Code::Data, "{error}");
    error.to_string()
}

#[test]
fn an_archive_reads_as_the_folder_in_it() {
    let (dir, folder) = cifar10();
    let from_folder = open(&config("cifar10"), None, Some(dir.path()), None).unwrap();
    let packed = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(packed.path().join("cifar-10-binary.tar.gz")).unwrap();
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    tar.append_dir_all("cifar-10-batches-bin", &folder).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let from_archive = open(&config("cifar10"), None, Some(packed.path()), None).unwrap();
    assert_eq!(from_archive.len(Split::Train), 10);
    assert_eq!(from_archive.data_hash(), from_folder.data_hash());
    for data in [&from_archive, &from_folder] {
        assert!(!data.verified());
        assert!(data.protocol_id().starts_with("cifar10/official;md5:c32a1d4ab5d03f1284b67883e8d87530;"));
        let read = protocol_as_read(data.protocol_id(), DatasetName::Cifar10, &**data);
        assert_eq!(read, "cifar10/official;unverified:train=10,test=2;size=32;augment=none;selection=last");
    }

    let archive = packed.path().join("cifar-10-binary.tar.gz");
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal("cifar10", packed.path()).contains("is cut off or not a .tar.gz"));
}

#[test]
fn broken_batches_are_refused_with_the_file_and_the_byte() {
    let (dir, folder) = cifar10();
    let good = records(2, 1);
    let mut label = good.clone();
    label[3073] = 10;
    for (bytes, expected) in [
        (&good[..5000], "data_batch_3.bin has 5000 bytes: 1 records of 3073 and 1927 bytes after byte 3073"),
        (&[], "data_batch_3.bin has 0 bytes"),
        (&label, "data_batch_3.bin: label 10 at byte 3073 (record 1) is not in 0..10"),
    ] {
        std::fs::write(folder.join("data_batch_3.bin"), bytes).unwrap();
        let message = refusal("cifar10", dir.path());
        assert!(message.contains(expected), "{message}");
    }
    std::fs::remove_file(folder.join("data_batch_3.bin")).unwrap();
    assert!(refusal("cifar10", dir.path()).contains("data_batch_3.bin cannot be read"));
}

#[test]
fn cifar100_takes_the_second_label_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut train = records(3, 2);
    train[1] = 99;
    std::fs::write(dir.path().join("train.bin"), &train).unwrap();
    std::fs::write(dir.path().join("test.bin"), records(1, 2)).unwrap();
    let data = open(&config("cifar100"), None, Some(dir.path()), None).unwrap();
    let labels: Vec<usize> = (0..3).map(|i| data.label(Split::Train, i)).collect();
    assert_eq!((labels, data.classes()), (vec![99, 1, 2], 100));
    train[3075] = 100;
    std::fs::write(dir.path().join("train.bin"), &train).unwrap();
    assert!(refusal("cifar100", dir.path()).contains("label 100 at byte 3075 (record 1)"));
}

#[test]
fn the_shared_cifar100_is_that_of_its_expected_values() {
    let test = "the_shared_cifar100_is_that_of_its_expected_values";
    let Some(folder) = shared(test, "cifar100-subset") else { return };
    let data = open(&config("cifar100"), None, Some(&folder), None).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (5000, 1000));
    let labels = |split, n| (0..n).map(|i| data.label(split, i)).collect::<Vec<_>>();
    assert_eq!(labels(Split::Train, 5), [19, 29, 0, 11, 1]);
    assert_eq!(labels(Split::Test, 10), [49, 33, 72, 51, 71, 92, 15, 14, 23, 0]);
}

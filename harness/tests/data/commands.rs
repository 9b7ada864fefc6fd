//! `data verify|inspect|list|path` by what they print.

use crate::{BATCHES, printed, shared};

use harness::data::DatasetName;
use harness::data::aedat::{self, Event};
use harness::data::commands::{inspect, list, path, verify};
use harness::exit::{Code, code_of};
use sha2::{Digest, Sha256};

#[test]
fn verify_names_each_bad_file_and_passes_the_embedded_set() {
    let (out, error) = printed(|out| verify(DatasetName::SignDigits, None, out));
    assert!(error.is_none() && out.contains("2 files are good"), "{out}");
    let dir = tempfile::tempdir().unwrap();
    for name in BATCHES {
        std::fs::write(dir.path().join(name), [7; 3073]).unwrap();
    }
    let (out, error) = printed(|out| verify(DatasetName::Cifar10, Some(dir.path()), out));
    let error = error.unwrap();
    assert_eq!(code_of(&error), Code::Data);
    assert!(error.to_string().contains("6 of 6 files are bad"), "{error}");
    assert!(BATCHES.iter().all(|name| out.contains(name)) && out.contains("the official file 30730000"), "{out}");
}

#[test]
fn verify_reads_every_recording_and_its_sum() {
    let dir = tempfile::tempdir().unwrap();
    let events = [Event::new(5, 1, 2, true); 9];
    let mut sums = String::new();
    for n in 0..3 {
        let bytes = aedat::write(&events, &[]);
        let name = format!("ship/cifar10_ship_{n}.aedat");
        std::fs::create_dir_all(dir.path().join("ship")).unwrap();
        sums += &format!(
            "{}  {name}\n",
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        );
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    std::fs::write(dir.path().join("SHA256SUMS"), sums).unwrap();
    let mut other = events;
    other[8] = Event::new(5, 1, 3, true);
    std::fs::write(dir.path().join("ship/cifar10_ship_1.aedat"), aedat::write(&other, &[])).unwrap();
    let (out, error) = printed(|out| verify(DatasetName::Cifar10Dvs, Some(dir.path()), out));
    assert!(error.unwrap().to_string().contains("9998 of 10000 files are bad"));
    let ship: Vec<&str> = out.lines().filter(|line| line.contains("cifar10_ship_")).take(2).collect();
    assert!(ship[0].contains("cifar10_ship_1.aedat: its SHA-256 is") && ship[1].contains("cifar10_ship_3"), "{ship:?}");
}

#[test]
fn inspect_gives_the_expected_counts_as_json() {
    let test = "inspect_gives_the_expected_counts_as_json";
    let Some(root) = shared(test, "") else { return };
    let json = |path: &str| {
        let (out, error) = printed(|out| inspect(&root.join(path), true, out));
        assert!(error.is_none() && out.lines().count() == 1, "{error:?}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    let events = json("events/odd/bit15_set_2000_records.aedat");
    assert_eq!(
        (&events["events"], &events["special"], &events["header_bytes"]),
        (&1963.into(), &37.into(), &185.into())
    );
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("cifar_expected.json")).unwrap()).unwrap();
    for (folder, file, set) in [
        ("cifar10-subset/cifar-10-batches-bin", "data_batch_3.bin", "cifar10-subset"),
        ("cifar100-subset/cifar-100-binary", "test.bin", "cifar100-subset"),
    ] {
        let found = json(&format!("{folder}/{file}"));
        let expected = &expected[set][file];
        assert_eq!(found["records"], expected["records"]);
        let histogram = expected.get("label_histogram").or(expected.get("fine_label_histogram")).unwrap();
        assert_eq!(found["histogram"], *histogram, "{file}");
    }
}

#[test]
fn list_and_path_say_what_is_here() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("imagenet/train")).unwrap();
    let (out, _) = printed(|out| list(Some(dir.path()), true, out));
    let sets: serde_json::Value = serde_json::from_str(&out).unwrap();
    let here: Vec<_> = sets.as_array().unwrap().iter().map(|set| set["here"].as_str().unwrap_or("-")).collect();
    let imagenet = dir.path().join("imagenet");
    assert_eq!(here, ["embedded", "embedded", "-", "-", imagenet.to_str().unwrap(), "-"]);
    let (out, _) = printed(|out| list(None, false, out));
    assert!(out.contains("cifar10-dvs") && out.contains("8.4 GB") && out.contains("Apache-2.0"), "{out}");
    let (out, _) = printed(|out| path(DatasetName::ImageNet, Some(dir.path()), out));
    assert_eq!(out.trim(), imagenet.to_str().unwrap());
    let (_, error) = printed(|out| path(DatasetName::Cifar10Dvs, Some(dir.path()), out));
    assert_eq!(code_of(&error.unwrap()), Code::Data);
}

#[test]
fn inspect_refuses_what_it_cannot_read_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, expected) in [
        ("data_batch_1.bin", &[7; 3000][..], "3000 bytes after byte 0"),
        ("train.bin", &[0; 3073], "0 records of 3074 and 3073 bytes"),
        ("other.bin", &[0; 15], "N-MNIST"),
        ("other.bin", &[0; 16], "unknown format"),
        ("a.aedat", b"#!AER-DAT4.0\r\n", "is AEDAT 4.0"),
        ("a.aedat", b"", "is empty"),
    ] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let (out, error) = printed(|out| inspect(&dir.path().join(name), true, out));
        let error = error.unwrap();
        assert!(out.is_empty() && code_of(&error) == Code::Data);
        assert!(error.to_string().contains(expected) && error.to_string().contains(name), "{error}");
    }
    let (_, error) = printed(|out| inspect(&dir.path().join("absent.aedat"), true, out));
    assert_eq!(code_of(&error.unwrap()), Code::Data);
}

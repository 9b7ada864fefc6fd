//! What is known of each data set beforehand: where it lies in a data folder, its declared checksums, how to get it.

use std::path::{Path, PathBuf};

use super::DatasetName;

/// The checksum the protocol id carries: of the official archive, or of the embedded pixels.
pub(super) fn declared_checksum(dataset: DatasetName) -> String {
    match dataset {
        DatasetName::SignDigits | DatasetName::SignDigitsDvs => "sha256:a69ded15f866dbe1",
        DatasetName::Cifar10 => "md5:c32a1d4ab5d03f1284b67883e8d87530",
        DatasetName::Cifar100 => "md5:03b5dce01913d631647c71ecec9e9cb8",
        DatasetName::ImageNet => "md5:1d675b47d978889d74fa0da5fadfb00e",
        DatasetName::Cifar10Dvs => "unchecked",
    }
    .into()
}

/// What lies in a data folder, in words.
pub(super) fn layout(dataset: DatasetName) -> &'static str {
    match dataset {
        DatasetName::SignDigits | DatasetName::SignDigitsDvs => "nothing (it is embedded)",
        DatasetName::Cifar10 => "`cifar-10-batches-bin/` or `cifar-10-binary.tar.gz`",
        DatasetName::Cifar100 => "`cifar-100-binary/` or `cifar-100-binary.tar.gz`",
        DatasetName::ImageNet => "`imagenet/train/<wnid>/` and `imagenet/val/`",
        DatasetName::Cifar10Dvs => "`cifar10-dvs/<class>/cifar10_<class>_<n>.aedat`",
    }
}

/// The next step for someone who lacks it.
pub(super) fn how_to_get(dataset: DatasetName) -> String {
    match dataset {
        DatasetName::ImageNet => "`harness data fetch imagenet` says how to get it by hand".into(),
        other => format!("`harness data fetch {other}` gets it"),
    }
}

/// Where the data set lies in a data folder, or in the folder itself; `None` if it is not there (or embedded).
pub fn locate(dataset: DatasetName, data_dir: &Path) -> Option<PathBuf> {
    let folders: &[&str] = match dataset {
        DatasetName::SignDigits | DatasetName::SignDigitsDvs => return None,
        DatasetName::Cifar10 => &["cifar-10-batches-bin", "cifar-10-binary.tar.gz", ""],
        DatasetName::Cifar100 => &["cifar-100-binary", "cifar-100-binary.tar.gz", ""],
        DatasetName::ImageNet => &["imagenet", "ILSVRC2012", ""],
        DatasetName::Cifar10Dvs => &["cifar10-dvs", "CIFAR10DVS", ""],
    };
    folders.iter().map(|name| data_dir.join(name)).find(|path| holds(dataset, path))
}

fn holds(dataset: DatasetName, path: &Path) -> bool {
    match dataset {
        DatasetName::SignDigits | DatasetName::SignDigitsDvs => false,
        _ if path.extension().is_some_and(|extension| extension == "gz") => path.is_file(),
        DatasetName::Cifar10 => path.join("data_batch_1.bin").is_file() || path.join("test_batch.bin").is_file(),
        DatasetName::Cifar100 => path.join("train.bin").is_file() || path.join("test.bin").is_file(),
        DatasetName::ImageNet => path.join("train").is_dir(),
        DatasetName::Cifar10Dvs => path.join("airplane").is_dir(),
    }
}

//! Indexes of image folders, small enough for 1.3 million files: paths lie end to end in one string.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Result;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::exit::data;

/// What torchvision's `ImageFolder` takes for an image, in any case.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];
/// WordNet ids of ILSVRC2012, one a line in the order of the devkit's ids 1 to 1000.
const DEVKIT_SYNSETS: &str = include_str!("../../data/ilsvrc2012-synsets.txt");
/// The devkit's labels of the validation images: line i is the id (1–1000) of image i.
const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";

/// Image files in order, with their classes: about 45 bytes a file for ImageNet.
#[derive(Default)]
pub(crate) struct Files {
    /// Relative paths, end to end.
    paths: String,
    /// Where each path ends.
    ends: Vec<u32>,
    labels: Vec<u16>,
    /// File sizes in bytes, so that a hash of the index notices a file cut off.
    sizes: Vec<u32>,
}

impl Files {
    fn push(&mut self, path: &str, label: usize, size: u64) -> Result<()> {
        self.paths.push_str(path);
        let end = u32::try_from(self.paths.len()).map_err(|_| data("the paths of an image folder exceed 4 GiB"))?;
        self.ends.push(end);
        self.labels.push(label as u16);
        self.sizes.push(u32::try_from(size).unwrap_or(u32::MAX));
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn label(&self, index: usize) -> usize {
        self.labels[index].into()
    }

    /// The path relative to the split's folder.
    pub fn path(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.paths[start..self.ends[index] as usize]
    }

    /// Feeds every path, label and size to a hash.
    pub fn hash_into(&self, hasher: &mut Sha256) {
        hasher.update((self.len() as u64).to_le_bytes());
        for index in 0..self.len() {
            hasher.update(self.path(index));
            hasher.update([0]);
            hasher.update(self.labels[index].to_le_bytes());
            hasher.update(self.sizes[index].to_le_bytes());
        }
    }
}

/// An entry's path below `root` as text; a name that is not UTF-8 is refused with the byte.
fn relative<'a>(path: &'a Path, root: &Path) -> Result<&'a str> {
    let below = path.strip_prefix(root).unwrap_or(path);
    std::str::from_utf8(below.as_os_str().as_encoded_bytes()).map_err(|error| {
        let (folder, byte) = (root.display(), error.valid_up_to());
        data(format!("{folder}: the name `{}` is not UTF-8 at its byte {byte}; rename it", below.display()))
    })
}

/// Indexes `root/<class>/**/<image>`: classes are the folders in order of name (or `known` ones), files in order of name.
/// Links are followed, but not in circles. Refuses a folder without images and a class that is not known.
pub(crate) fn index_folders(root: &Path, known: Option<&[String]>) -> Result<(Vec<String>, Files)> {
    let mut classes = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).min_depth(1).max_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| data(format!("{} cannot be read: {error}", root.display())))?;
        if entry.file_type().is_dir() {
            classes.push(relative(entry.path(), root)?.to_string());
        }
    }
    if classes.is_empty() || classes.len() > usize::from(u16::MAX) {
        let n = classes.len();
        return Err(data(format!("{} holds {n} class folders; expected one a class (n01440764, …)", root.display())));
    }
    let mut files = Files::default();
    for (position, class) in classes.iter().enumerate() {
        let label = match known {
            None => position,
            Some(known) => known.binary_search(class).map_err(|_| {
                data(format!("{} has a class `{class}` that the training folder lacks", root.display()))
            })?,
        };
        let before = files.len();
        index_class(root, class, label, &mut files)?;
        if files.len() == before {
            return Err(data(format!("{} holds no images; remove the folder or fill it", root.join(class).display())));
        }
    }
    Ok((classes, files))
}

fn index_class(root: &Path, class: &str, label: usize, files: &mut Files) -> Result<()> {
    for entry in WalkDir::new(root.join(class)).follow_links(true).sort_by_file_name() {
        let entry = match entry {
            Err(error) if error.loop_ancestor().is_some() => {
                tracing::warn!("{error}; the link is not followed");
                continue;
            }
            other => other.map_err(|error| data(format!("{} cannot be read: {error}", root.display())))?,
        };
        if entry.file_type().is_file() && is_image(entry.path()) {
            let size = entry.metadata().map_err(|error| data(format!("{} cannot be read: {error}", root.display())))?;
            files.push(relative(entry.path(), root)?, label, size.len())?;
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// Indexes a flat `val/ILSVRC2012_val_<8 digits>.JPEG` by the devkit's labels. Images of classes that `classes` (the
/// training folders, sorted) lacks are left out, with a warning.
pub(crate) fn index_flat_val(root: &Path, val: &Path, classes: &[String]) -> Result<Files> {
    let path = ground_truth(root, val)?;
    let text =
        std::fs::read_to_string(&path).map_err(|error| data(format!("{} cannot be read: {error}", path.display())))?;
    let refuse = |error: walkdir::Error| data(format!("{} cannot be read: {error}", val.display()));
    let mut images = Vec::new();
    for entry in WalkDir::new(val).follow_links(true).max_depth(1).sort_by_file_name() {
        let entry = entry.map_err(refuse)?;
        if entry.file_type().is_file() {
            images.push((entry.path().to_path_buf(), entry.metadata().map_err(refuse)?.len()));
        }
    }
    label_flat(images, &labels(&text, &path)?, val, classes)
}

/// The files of `val` (path, size) that are images of `classes`, with the classes; line i of `truth` is image i's.
pub(crate) fn label_flat(
    images: impl IntoIterator<Item = (PathBuf, u64)>,
    truth: &[&str],
    val: &Path,
    classes: &[String],
) -> Result<Files> {
    let mut files = Files::default();
    let mut left_out = 0;
    for (path, size) in images {
        if !is_image(&path) {
            continue;
        }
        let name = relative(&path, val)?;
        let number =
            name.strip_prefix("ILSVRC2012_val_").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        let label = number.and_then(|number| truth.get(number.checked_sub(1)?)).ok_or_else(|| {
            data(format!(
                "{}: `{name}` is not ILSVRC2012_val_<number>.JPEG with a number in 1..={}; \
                 sort the images into class folders or restore their names",
                val.display(),
                truth.len()
            ))
        })?;
        match classes.binary_search_by(|class| class.as_str().cmp(label)) {
            Ok(class) => files.push(name, class, size)?,
            Err(_) => left_out += 1,
        }
    }
    if left_out > 0 {
        tracing::warn!("{}: {left_out} images of classes without a training folder are left out", val.display());
    }
    if files.len() == 0 {
        return Err(data(format!("{} holds no images of the training folder's classes", val.display())));
    }
    Ok(files)
}

/// The devkit's file of labels.
fn ground_truth(root: &Path, val: &Path) -> Result<PathBuf> {
    let places = ["", "val", "data", "ILSVRC2012_devkit_t12/data", "devkit/data"];
    places.iter().map(|place| root.join(place).join(GROUND_TRUTH)).find(|path| path.is_file()).ok_or_else(|| {
        data(format!(
            "{} has no class folders, and {GROUND_TRUTH} (from ILSVRC2012_devkit_t12.tar.gz) is not in {}; put it there",
            val.display(),
            root.display()
        ))
    })
}

/// WordNet ids of the validation images, from the text of the devkit's file `path`.
pub(crate) fn labels(text: &str, path: &Path) -> Result<Vec<&'static str>> {
    static SYNSETS: LazyLock<Vec<&str>> = LazyLock::new(|| DEVKIT_SYNSETS.lines().collect());
    let synset = |(line, id): (usize, &str)| {
        let known = id.trim().parse::<usize>().ok().and_then(|id| SYNSETS.get(id.checked_sub(1)?).copied());
        known.ok_or_else(|| {
            let line = line + 1;
            data(format!("{} line {line}: `{id}` is not an id in 1..=1000; take the devkit's own file", path.display()))
        })
    };
    text.lines().enumerate().map(synset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_of_imagenet_is_indexed_in_far_less_than_300_mb() {
        let mut files = Files::default();
        for i in 0..1_281_167 {
            files.push(&format!("n{:08}/n{:08}_{}.JPEG", i / 1300, i / 1300, i % 30_000), i / 1300, 110_000).unwrap();
        }
        let bytes = files.paths.capacity()
            + files.ends.capacity() * size_of::<u32>()
            + files.labels.capacity() * size_of::<u16>()
            + files.sizes.capacity() * size_of::<u32>();
        assert!(bytes < 150_000_000, "{bytes} bytes");
        assert_eq!((files.path(1_281_166), files.label(1_281_166)), ("n00000985/n00000985_21166.JPEG", 985));
        assert_eq!(files.path(0), "n00000000/n00000000_0.JPEG");
    }
}

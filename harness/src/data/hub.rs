//! CIFAR-10 from a hub, through candle-datasets: its images come transposed and are turned back here.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};

const SIZE: usize = 32;

/// CIFAR records (label, then R, G and B planes) from candle-datasets' tensors: images `[N, 3, W, H]` in [0, 1] (its
/// `load()` exchanges height and width: it permutes `[N, H, W, 3]` by (0, 3, 2, 1)), labels `[N]`.
fn to_records(images: &Tensor, labels: &Tensor) -> Result<Vec<u8>> {
    let (n, ..) = images.dims4()?;
    ensure!(
        images.dims() == [n, 3, SIZE, SIZE] && labels.dims() == [n],
        "images {:?}, labels {:?}",
        images.dims(),
        labels.dims()
    );
    let upright = images.transpose(2, 3)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let labels = labels.to_dtype(DType::U8)?.to_vec1::<u8>()?;
    let record = |(label, image): (u8, &[f32])| -> Vec<u8> {
        std::iter::once(label).chain(image.iter().map(|value| (value * 255.0).round() as u8)).collect()
    };
    Ok(labels.into_iter().zip(upright.chunks_exact(3 * SIZE * SIZE)).flat_map(record).collect())
}

/// Writes the official binary files into `folder`.
#[cfg(feature = "hub")]
pub(super) fn fetch(folder: &std::path::Path) -> Result<()> {
    use crate::exit::data;
    let loaded = candle_datasets::vision::cifar::load()
        .map_err(|error| data(format!("CIFAR-10 could not be fetched from the hub: {error}")))?;
    let train = to_records(&loaded.train_images, &loaded.train_labels)?;
    let test = to_records(&loaded.test_images, &loaded.test_labels)?;
    let batch = train.len().div_ceil(5).max(1);
    for (i, records) in train.chunks(batch).enumerate() {
        std::fs::write(folder.join(format!("data_batch_{}.bin", i + 1)), records)?;
    }
    Ok(std::fs::write(folder.join("test_batch.bin"), test)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn an_asymmetric_image_comes_back_upright() {
        // Level of (row y, column x, channel c): no symmetry between any two axes.
        let level = |y: usize, x: usize, c: usize| (y * 7 + x * 3 + c * 11) as u8;
        let decoded: Vec<u8> =
            (0..32).flat_map(|y| (0..32).flat_map(move |x| (0..3).map(move |c| level(y, x, c)))).collect();
        // As candle-datasets 0.11.1 does with an image decoded to [H, W, 3].
        let images = Tensor::from_vec(decoded, (1, 32, 32, 3), &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        let images = (images.permute((0, 3, 2, 1)).unwrap() / 255.0).unwrap();
        let labels = Tensor::from_vec(vec![7u8], 1, &Device::Cpu).unwrap();
        let expected: Vec<u8> = std::iter::once(7)
            .chain((0..3).flat_map(|c| (0..32).flat_map(move |y| (0..32).map(move |x| level(y, x, c)))))
            .collect();
        assert_eq!(to_records(&images, &labels).unwrap(), expected);
    }
}

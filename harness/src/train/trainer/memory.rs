//! Where a card's memory runs out: fewer images at once, the same batch.

use super::Job;
use crate::exit::{self, Code};
use crate::ops::cuda::{is_out_of_memory, reason};
use anyhow::Result;

/// Attempts a work with `images` at once; each time that memory runs out, with half of them. The result, and the number that
/// went through.
///
/// # Errors
/// Any other error as it is; exit 20 where there is no memory for a single image.
pub fn halving<R>(images: usize, mut attempt: impl FnMut(usize) -> Result<R>) -> Result<(R, usize)> {
    let mut images = images;
    loop {
        match attempt(images) {
            Err(error) if is_out_of_memory(&error) && images > 1 => images = images.div_ceil(2),
            Err(error) if is_out_of_memory(&error) => {
                return Err(exit::failure(
                    Code::CellFailed,
                    format!(
                        "the card's memory ran out on the least that can be computed of this network at once ({}); take a \
                         larger card, one that no other program uses, or a smaller width",
                        reason(&error)
                    ),
                ));
            }
            result => return result.map(|result| (result, images)),
        }
    }
}

impl Job<'_> {
    /// [`halving`], but where processes compute in step: none of them may take other parts than the rest.
    pub(super) fn fitting<R>(&self, images: usize, mut attempt: impl FnMut(usize) -> Result<R>) -> Result<(R, usize)> {
        if self.ranks.size() == 1 {
            return halving(images, attempt);
        }
        let advice =
            || format!("{images} images at once do not fit a card's memory; take more --shards, or --max-memory");
        let ended = attempt(images).map_err(|error| match is_out_of_memory(&error) {
            true => exit::failure(Code::CellFailed, format!("{} ({})", advice(), reason(&error))),
            false => error,
        });
        ended.map(|result| (result, images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn out_of_memory() -> anyhow::Error {
        anyhow!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").context("a step")
    }

    #[test]
    fn a_batch_is_halved_until_it_fits() {
        let mut tried = Vec::new();
        let result = halving(100, |images| {
            tried.push(images);
            if images > 13 { Err(out_of_memory()) } else { Ok(7) }
        });
        assert_eq!(result.unwrap(), (7, 13));
        assert_eq!(tried, [100, 50, 25, 13]);
    }

    #[test]
    fn one_image_too_many_is_a_sentence_and_other_errors_are_not_tried_again() {
        let error = halving::<()>(3, |_| Err(out_of_memory())).unwrap_err();
        assert_eq!(exit::code_of(&error), Code::CellFailed);
        assert!(error.to_string().contains("the least that can be computed"), "{error:#}");
        let mut tries = 0;
        let other = halving::<()>(8, |_| {
            tries += 1;
            Err(anyhow!("CUDA_ERROR_ILLEGAL_ADDRESS"))
        });
        assert!(other.unwrap_err().to_string().contains("ILLEGAL") && tries == 1);
    }
}

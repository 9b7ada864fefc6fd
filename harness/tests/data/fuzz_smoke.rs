//! The fuzz targets on the stable compiler, for some seconds: every committed input as it is, and mutations of it.
use harness::fuzzing::TARGETS;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::path::Path;

/// One of the mutations of a coverage-guided fuzzer, without the guidance.
fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let mut below = |n: usize| random.next_u64() as usize % n.max(1);
    let at = below(bytes.len() + 1);
    match below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << below(8),
        1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'-'][below(8)],
        2 => bytes.insert(at, below(256) as u8),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..(at + below(32)).min(bytes.len()))),
        5 => {
            let piece = bytes[at..(at + below(64)).min(bytes.len())].to_vec();
            let to = below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        _ => {
            let number = [b"0".as_slice(), b"-1", b"nan", b"1e999", b"18446744073709551616", b"4294967296"][below(6)];
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            bytes.splice(at..at + digits, number.iter().copied());
        }
    }
}

#[test]
fn no_reader_panics_on_the_corpus_or_its_mutations() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in TARGETS {
        let mut seeds: Vec<_> =
            std::fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(seeds.len() >= 3, "{name} has {} inputs", seeds.len());
        let rounds = if matches!(name, "archive" | "image_folder" | "suite") { 60 } else { 300 };
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for seed in seeds {
            let seed = std::fs::read(seed).unwrap();
            target(&seed);
            for _ in 0..rounds {
                let mut bytes = seed.clone();
                for _ in 0..1 + random.next_u64() % 4 {
                    mutate(&mut bytes, &mut random);
                }
                target(&bytes);
            }
        }
    }
}

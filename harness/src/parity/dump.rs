//! A reference dump: a safetensors file with its metadata.

use crate::exit;
use anyhow::{Context, Result, bail, ensure};
use methods::surrogate::{Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle};
use safetensors::tensor::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Dumps have some hundred tensors, named in a header of some ten kilobytes.
const LARGEST_HEADER: u64 = 8 << 20;

/// Tensors as f64 (every stored type fits), with shapes.
pub struct Dump {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    metadata: HashMap<String, String>,
}

/// One surrogate of a dump: `dspike_3_detach0/…`.
pub struct Variant {
    /// The prefix of its keys, without the slash.
    pub prefix: String,
    /// The surrogate.
    pub surrogate: Surrogate,
    /// Whether the gradient stops at the reset's spike.
    pub detach_reset: bool,
}

impl Dump {
    /// Reads a dump.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(anyhow::Error::from).and_then(|bytes| Self::parse(&bytes));
        bytes.map_err(|error| {
            let path = path.display();
            exit::data(format!("{path}: {error:#}; expected a safetensors dump (see harness/tests/fixtures/README.md)"))
        })
    }

    /// Parses a dump's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let claimed = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
        ensure!(claimed <= LARGEST_HEADER, "its header claims {claimed} bytes; the file is damaged");
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
            let values = widen(view.dtype(), view.data()).with_context(|| format!("tensor `{name}`"))?;
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Ok(Self { tensors, metadata })
    }

    /// A tensor's shape and values.
    pub fn tensor(&self, name: &str) -> Result<(&[usize], &[f64])> {
        let (shape, values) = self.tensors.get(name).with_context(|| format!("the dump has no tensor `{name}`"))?;
        Ok((shape, values))
    }

    /// A tensor's values.
    pub fn values(&self, name: &str) -> Result<&[f64]> {
        Ok(self.tensor(name)?.1)
    }

    /// A tensor's values in f32 (exact for those stored so).
    pub fn f32s(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.values(name)?.iter().map(|v| *v as f32).collect())
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Metadata, or `default` where the key is absent.
    pub fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.metadata.get(key).map_or(default, String::as_str)
    }

    /// What the metadata's name stands for; the first of `known` where the key is absent.
    pub fn one_of<T: Copy>(&self, key: &str, known: &[(&str, T)]) -> Result<T> {
        let Some(text) = self.metadata.get(key) else { return Ok(known[0].1) };
        let found = known.iter().find(|(name, _)| name == text).map(|(_, value)| *value);
        found.with_context(|| {
            format!("the dump's `{key}` is `{text}`{}", exit::nearest(text, known.iter().map(|(name, _)| *name)))
        })
    }

    /// A whole number from 1 to 4096 in the metadata.
    pub fn whole(&self, key: &str) -> Result<usize> {
        let number = self.number(key)?;
        ensure!(
            (1.0..=4096.0).contains(&number) && number.fract() == 0.0,
            "the dump's `{key}` is {number}, but it must be a whole number from 1 to 4096"
        );
        Ok(number as usize)
    }

    /// A number from the metadata.
    pub fn number(&self, key: &str) -> Result<f64> {
        let text = self.metadata.get(key).with_context(|| format!("the dump's metadata has no `{key}`"))?;
        text.parse().with_context(|| format!("the dump's `{key}` is `{text}`, not a number"))
    }

    /// `(2, 2, 2, 2)` as numbers.
    pub fn stages(&self) -> Result<Vec<usize>> {
        let text = self.text("stages", "(2, 2, 2, 2)");
        let parts = text.trim_matches(['(', ')', '[', ']']).split(',').map(str::trim).filter(|part| !part.is_empty());
        let stages: Vec<usize> =
            parts.map(str::parse).collect::<Result<_, _>>().with_context(|| format!("stages `{text}`"))?;
        ensure!(
            !stages.is_empty() && stages.len() <= 8 && stages.iter().all(|n| (1..=64).contains(n)),
            "the dump's `stages` is `{text}`, but it must be up to eight numbers of blocks, e.g. (2, 2, 2, 2)"
        );
        Ok(stages)
    }

    /// The surrogates whose keys start with `<kind>_<p>` and hold `what`; at least one.
    pub fn variants(&self, what: &str) -> Result<Vec<Variant>> {
        let mut list: Vec<Variant> = Vec::new();
        for name in self.names().filter_map(|name| name.strip_suffix(what)) {
            let prefix = name.trim_end_matches('/').to_string();
            let (surrogate, detach) = match prefix.split_once("_detach").or_else(|| prefix.split_once("/detach")) {
                Some((surrogate, detach)) => (surrogate, detach),
                None => (prefix.as_str(), "0"),
            };
            let surrogate = surrogate_named(surrogate)?;
            ensure!(matches!(detach, "0" | "1"), "`{name}`: expected detach0 or detach1");
            list.push(Variant { surrogate, detach_reset: detach == "1", prefix });
        }
        ensure!(!list.is_empty(), "the dump has no tensor `<surrogate>…{what}`");
        Ok(list)
    }
}

/// `dspike_3`, `rect_0.5` …
pub fn surrogate_named(name: &str) -> Result<Surrogate> {
    let (kind, parameter) =
        name.rsplit_once('_').with_context(|| format!("`{name}` is no surrogate: expected kind_parameter"))?;
    let p: f64 = parameter.parse().with_context(|| format!("`{name}`: `{parameter}` is not a number"))?;
    let surrogate = match kind {
        "dspike" => Surrogate::Dspike(Dspike { temperature: p }),
        "rect" | "rectangle" => Surrogate::Rectangle(Rectangle { width: p }),
        "sigmoid" => Surrogate::Sigmoid(Sigmoid { alpha: p }),
        "triangle" => Surrogate::Triangle(Triangle { gamma: p }),
        "arctan" => Surrogate::Arctan(Arctan { alpha: p }),
        _ => bail!("`{kind}` is no surrogate of this harness: dspike, rect, sigmoid, triangle, arctan"),
    };
    surrogate.validate()?;
    Ok(surrogate)
}

fn widen(dtype: Dtype, data: &[u8]) -> Result<Vec<f64>> {
    Ok(match dtype {
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        Dtype::U8 => data.iter().map(|b| f64::from(*b)).collect(),
        other => bail!("its type {other:?} is not used in dumps"),
    })
}

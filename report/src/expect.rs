//! Values that columns of `rows.csv` must have, as `suites/published.toml` states them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::record::{Record, is_identity};

/// Two numbers of this relative distance agree: both were written as decimal text.
const RELATIVE: f64 = 1e-9;
/// Columns that a training produces but that say on what it ran.
const COUNTS: [&str; 2] = ["train_samples", "test_samples"];
/// Columns that have a key or a rule of their own, or that are names only.
const ELSEWHERE: [&str; 5] = ["dataset", "protocol_id", "train_time_steps", "eval_time_steps", "method"];

/// Columns and their values.
#[derive(Clone, Debug, Default)]
pub struct Expect(BTreeMap<String, Expected>);

/// One value, or a list of allowed values.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a number, text, true or false, or a list of these")]
pub enum Expected {
    /// The only one.
    One(Scalar),
    /// Any of them.
    Any(Vec<Scalar>),
}

/// A value of a column.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Flag(bool),
    Number(f64),
    Text(String),
}

impl Expect {
    /// Whether a column is among them.
    pub fn has(&self, column: &str) -> bool {
        self.0.contains_key(column)
    }

    /// The value of a column.
    pub fn get(&self, column: &str) -> Option<&Expected> {
        self.0.get(column)
    }

    /// All columns, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Expected)> {
        self.0.iter().map(|(column, expected)| (column.as_str(), expected))
    }
}

impl Expected {
    /// Whether a row's value is one of those expected. A blank field (null) never is.
    pub fn admits(&self, value: &Value) -> bool {
        match self {
            Self::One(scalar) => scalar.is(value),
            Self::Any(scalars) => scalars.iter().any(|scalar| scalar.is(value)),
        }
    }

    /// Whether a row's value is a number below every one of those expected.
    pub fn is_above(&self, value: &Value) -> bool {
        let scalars = match self {
            Self::One(scalar) => std::slice::from_ref(scalar),
            Self::Any(scalars) => scalars,
        };
        let above =
            |scalar: &Scalar| matches!((scalar, value.as_f64()), (Scalar::Number(n), Some(value)) if value < *n);
        scalars.iter().all(above)
    }

    /// As JSON: a value or a list.
    pub fn to_json(&self) -> Value {
        match self {
            Self::One(scalar) => scalar.to_json(),
            Self::Any(scalars) => scalars.iter().map(Scalar::to_json).collect(),
        }
    }
}

impl Scalar {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Flag(wanted), Value::Bool(value)) => wanted == value,
            (Self::Number(wanted), Value::Number(value)) => {
                value.as_f64().is_some_and(|value| (value - wanted).abs() <= RELATIVE * wanted.abs().max(value.abs()))
            }
            (Self::Text(wanted), Value::String(value)) => wanted == value,
            _ => false,
        }
    }

    fn to_json(&self) -> Value {
        /// Up to here an f64 holds every whole number.
        const WHOLE: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Flag(flag) => (*flag).into(),
            Self::Number(n) if n.fract() == 0.0 && n.abs() < WHOLE => (*n as i64).into(),
            Self::Number(n) => (*n).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }
}

/// Columns that can be expected; checked while the file is read, so that the error has the key's place in it.
impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Columns)
    }
}

struct Columns;

impl<'de> Visitor<'de> for Columns {
    type Value = Expect;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of columns of rows.csv and their values")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Expect, M::Error> {
        let mut expect = BTreeMap::new();
        while let Some(Column(column)) = map.next_key()? {
            expect.insert(column, map.next_value()?);
        }
        Ok(Expect(expect))
    }
}

struct Column(String);

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        match can_be_expected(&name) {
            true => Ok(Self(name)),
            false => Err(D::Error::custom(format!(
                "`{name}` is no column of rows.csv that says what an experiment is; results/README.md lists them \
                 (data set, protocol and time steps have keys of their own)"
            ))),
        }
    }
}

fn can_be_expected(column: &str) -> bool {
    let says_what = is_identity(column) || COUNTS.contains(&column);
    says_what && !ELSEWHERE.contains(&column) && Record::columns().contains(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_as_numbers_and_text_exactly() {
        let expect: Expect =
            toml::from_str("lr = 0.01\nwidth = 64\ntit = true\nnorm = [\"bn\", \"tdbn\"]\nepochs = [300, 50]").unwrap();
        let admits = |column: &str, value: Value| expect.get(column).unwrap().admits(&value);
        assert!(admits("lr", 0.010_000_000_000_1.into()) && !admits("lr", 0.010_001.into()));
        assert!(admits("width", 64.into()) && admits("width", 64.0.into()) && !admits("width", "64".into()));
        assert!(admits("tit", true.into()) && !admits("tit", "true".into()) && !admits("tit", 1.into()));
        assert!(admits("norm", "tdbn".into()) && !admits("norm", "tdBN".into()));
        assert!(admits("epochs", 50.into()) && !admits("epochs", 49.into()));
        assert!(!admits("lr", Value::Null), "not recorded is not equal");
        assert_eq!(expect.get("epochs").unwrap().to_json().to_string(), "[300,50]");
        assert_eq!(expect.get("lr").unwrap().to_json().to_string(), "0.01");
    }

    #[test]
    fn smaller_means_smaller_than_all_that_is_expected() {
        let expect: Expect = toml::from_str("epochs = [300, 50]\nloss = \"tet\"").unwrap();
        let epochs = expect.get("epochs").unwrap();
        assert!(epochs.is_above(&49.into()) && !epochs.is_above(&50.into()) && !epochs.is_above(&Value::Null));
        assert!(!expect.get("loss").unwrap().is_above(&"a".into()));
    }
}

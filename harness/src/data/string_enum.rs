//! Enums that a suite's TOML and the command line name by strings.

/// Declares an enum whose variants have one fixed name each: `FromStr` (an unknown name is answered with the nearest
/// right one), `Display`, serde as that string, and `ALL`.
macro_rules! named {
    ($(#[$meta:meta])* $kind:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $kind { $($(#[$doc])* $variant,)+ }

        impl $kind {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in files and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl std::str::FromStr for $kind {
            type Err = anyhow::Error;

            fn from_str(name: &str) -> anyhow::Result<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name).ok_or_else(|| {
                    let known = Self::ALL.iter().map(|value| value.as_str());
                    $crate::exit::usage(format!(
                        "unknown {} `{name}`{}", $what, $crate::exit::nearest(name, known)
                    ))
                })
            }
        }

        $crate::data::string_enum::string_serde!($kind);
    };
}

/// `Display` by `as_str`-like formatting and the conversions that `#[serde(try_from = "String", into = "String")]` needs.
macro_rules! string_serde {
    ($kind:ident) => {
        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str().as_ref())
            }
        }

        impl TryFrom<String> for $kind {
            type Error = anyhow::Error;

            fn try_from(name: String) -> anyhow::Result<Self> {
                name.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    };
}

pub(crate) use {named, string_serde};

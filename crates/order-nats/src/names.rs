//! Names on the broker, checked when they are read, so that no request can fail for a malformed one later.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// The name of a stream or of a consumer: 1 to 128 of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NatsName(String);

/// Why a text is not a [`NatsName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 of A-Z a-z 0-9 _ -")]
pub struct NatsNameError;

impl NatsName {
    /// Checks `text` and takes it as a name.
    pub fn new(text: &str) -> Result<Self, NatsNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(NatsName(text.to_owned()))
        } else {
            Err(NatsNameError)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A subject that messages can be published to: words joined by dots, without wildcards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NatsSubject(String);

/// Why a text is not a [`NatsSubject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be words joined by dots, as in `shop.orders`, without spaces or the wildcards * and >, and not begin with `$` or `_`"
)]
pub struct NatsSubjectError;

impl NatsSubject {
    /// Checks `text` and takes it as a subject.
    pub fn new(text: &str) -> Result<Self, NatsSubjectError> {
        let word = |word: &str| {
            !word.is_empty()
                && !word.contains(['*', '>'])
                && word.chars().all(|it| !it.is_whitespace() && !it.is_control())
        };
        // What begins with `$` or `_` is the broker's own.
        let ours = !text.starts_with(['$', '_']) && text.len() <= 255;
        if ours && text.split('.').all(word) {
            Ok(NatsSubject(text.to_owned()))
        } else {
            Err(NatsSubjectError)
        }
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `pattern`, which may hold the wildcards `*` and `>`, takes in this subject.
    pub(crate) fn is_matched_by(&self, pattern: &str) -> bool {
        let mut words = self.0.split('.');
        for expected in pattern.split('.') {
            match (expected, words.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (expected, Some(word)) if expected == word => {}
                _ => return false,
            }
        }
        words.next().is_none()
    }
}

macro_rules! checked_text {
    ($($type:ident or $error:ident),+) => {
        $(
            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl FromStr for $type {
                type Err = $error;

                fn from_str(text: &str) -> Result<Self, Self::Err> {
                    Self::new(text)
                }
            }

            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
                }
            }
        )+
    };
}

checked_text!(NatsName or NatsNameError, NatsSubject or NatsSubjectError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_broker_takes() {
        for good in ["ORDERS", "order-tracker", "a_1"] {
            assert!(NatsName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "*", "a>", "a/b", "ä", &"x".repeat(129)] {
            assert!(NatsName::new(bad).is_err(), "{bad}");
        }
        for good in ["orders", "shop.orders", "shop.ä.1"] {
            assert!(NatsSubject::new(good).is_ok(), "{good}");
        }
        for bad in [
            "", ".", "a.", ".a", "a..b", "a.*", "orders.>", "a b", "a\n", "$JS.API", "_INBOX.x",
        ] {
            assert!(NatsSubject::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_take_in_what_the_broker_lets_them() {
        let subject = NatsSubject::new("shop.orders.new").unwrap();
        for pattern in [
            "shop.orders.new",
            ">",
            "shop.>",
            "shop.orders.>",
            "*.*.*",
            "shop.*.new",
        ] {
            assert!(subject.is_matched_by(pattern), "{pattern}");
        }
        for pattern in [
            "",
            "shop",
            "shop.orders",
            "*.*",
            "shop.orders.new.>",
            "shop.orders.new.*",
            "x.>",
            "shop.orders.old",
        ] {
            assert!(!subject.is_matched_by(pattern), "{pattern}");
        }
    }
}

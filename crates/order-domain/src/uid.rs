//! The name of an order.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::Text;

/// The name of an order: 1 to 64 of `A-Z a-z 0-9 . _ -`, not `.` or `..`, so that it stands in a path as it is.
///
/// One of up to 24 bytes takes no memory elsewhere, and is cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderUid(Text);

/// Why a text is not an [`OrderUid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 . _ - and neither `.` nor `..`")]
pub struct OrderUidError;

impl OrderUid {
    /// The most bytes a uid may have.
    pub const MAX_LEN: usize = 64;

    /// Checks `text` and takes it as a uid.
    pub fn new(text: &str) -> Result<Self, OrderUidError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(allowed);
        if !fits || text == "." || text == ".." {
            return Err(OrderUidError);
        }
        Ok(OrderUid(text.into()))
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OrderUid {
    type Err = OrderUidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl AsRef<str> for OrderUid {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for OrderUid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_stands_in_a_path_as_it_is() {
        for good in ["a", "b563feb7b2b84b6test", "A.b_c-9", "...", "-", &"x".repeat(64)] {
            assert_eq!(
                OrderUid::new(good).map(|uid| uid.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "a%20", &"x".repeat(65)] {
            assert_eq!(OrderUid::new(bad), Err(OrderUidError), "{bad:?}");
        }
    }
}

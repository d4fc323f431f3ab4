//! Which orders are asked for, and from where on.

use std::fmt;
use std::str::FromStr;

use crate::{OrderUid, UtcDateTime, limits};

/// A text by which orders are searched: 1 to 256 bytes without NUL, as every stored one is. It is compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchText(String);

/// Why a text is not a [`SearchText`]: no order can have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {} bytes without NUL", limits::SEARCHABLE_TEXT_BYTES)]
pub struct SearchTextError;

impl SearchText {
    /// Checks `text` and takes it.
    pub fn new(text: impl Into<String>) -> Result<Self, SearchTextError> {
        let text = text.into();
        if (1..=limits::SEARCHABLE_TEXT_BYTES).contains(&text.len()) && !text.contains('\0') {
            Ok(SearchText(text))
        } else {
            Err(SearchTextError)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SearchText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SearchText {
    type Err = SearchTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// What an order must have to be listed. `None` is anything; all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named as those of an order")]
pub struct OrderFilter {
    pub track_number: Option<SearchText>,
    pub customer_id: Option<SearchText>,
    /// The payment's.
    pub transaction: Option<SearchText>,
}

/// Where an order stands in every list: by its date, then by its uid.
///
/// A list runs from the greatest place to the least. No two orders share one, so that a page can begin after the last order of
/// the page before, whatever was stored meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the fields are named as those of an order")]
pub struct OrderPlace {
    pub date_created: UtcDateTime,
    pub order_uid: OrderUid,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderQuery {
    /// Only orders that fit.
    pub filter: OrderFilter,
    /// Only orders after this place, which is the last of the page before; `None` for the first page.
    pub after: Option<OrderPlace>,
    /// At most so many.
    pub limit: usize,
    /// At most so many bytes of JSON, but one order in any case.
    pub max_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_text_is_one_that_an_order_can_have() {
        for good in ["a", "WBILMTESTTRACK", " ", "ünï \u{1}%_'", &"x".repeat(256)] {
            assert_eq!(
                SearchText::new(good).map(|it| it.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in ["", "a\0b", &"x".repeat(257), &"é".repeat(129)] {
            assert_eq!(bad.parse::<SearchText>(), Err(SearchTextError), "{bad:?}");
        }
    }

    #[test]
    fn the_date_leads_and_the_uid_breaks_ties() {
        let place = |micros, uid| OrderPlace {
            date_created: UtcDateTime::from_unix_micros(micros).expect("near 1970"),
            order_uid: OrderUid::new(uid).expect("a good uid"),
        };
        assert!(place(2, "a") > place(1, "b"));
        assert!(place(1, "b") > place(1, "a"));
        assert!(place(1, "a") > place(1, "Z"), "byte by byte");
    }
}

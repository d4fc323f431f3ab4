//! The query of a request, read strictly: what is not understood is refused by name, not passed over.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::problem::{Problem, ProblemKind};

/// The parameters of a query, each at most once.
#[derive(Debug)]
pub(crate) struct Query {
    given: Vec<(&'static str, String)>,
}

/// What is wrong with a query: names the parameter, and says what it must be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueryFault(String);

impl Query {
    /// Reads a query that may have these parameters.
    pub(crate) fn read(query: &str, known: &'static [&'static str]) -> Result<Self, QueryFault> {
        let mut given: Vec<(&str, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| bad("a parameter", "must be UTF-8"))?;
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                let known = known.join("`, `");
                return Err(bad(
                    &shortened(&name),
                    format!("is not known here; there are `{known}`"),
                ));
            };
            if given.iter().any(|(known, _)| *known == name) {
                return Err(bad(name, "must not be given twice"));
            }
            let value = decode(value).ok_or_else(|| bad(name, "must be UTF-8"))?;
            given.push((name, value.into_owned()));
        }
        Ok(Query { given })
    }

    /// A parameter as it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let mut given = self.given.iter();
        given
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter as what it stands for.
    pub(crate) fn parse<T>(&self, name: &str) -> Result<Option<T>, QueryFault>
    where
        T: FromStr<Err: Display>,
    {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|error| bad(name, error))
    }
}

fn bad(name: &str, fault: impl Display) -> QueryFault {
    QueryFault(format!("`{name}` {fault}"))
}

impl From<QueryFault> for Problem {
    fn from(QueryFault(fault): QueryFault) -> Self {
        Problem::new(ProblemKind::BadQuery).with_detail(fault)
    }
}

/// As HTML forms and every client encode it: a plus is a space.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(text.into());
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned().into())
}

/// Enough of a caller's text to know it again.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(32) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["name", "limit"];

    #[test]
    fn values_are_decoded() {
        let query = Query::read("name=a%20b+c%2B%C3%A4&&limit=5&", KNOWN).unwrap();
        assert_eq!(query.text("name"), Some("a b c+ä"));
        assert_eq!(query.parse::<u8>("limit").unwrap(), Some(5));
        let query = Query::read("", KNOWN).unwrap();
        assert_eq!(
            (query.text("name"), query.parse::<u8>("limit").unwrap()),
            (None, None)
        );
        assert_eq!(Query::read("name", KNOWN).unwrap().text("name"), Some(""));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let detail = |query: &str| {
            let read = Query::read(query, KNOWN).and_then(|query| query.parse::<u8>("limit"));
            read.unwrap_err().0
        };
        assert_eq!(
            detail("nam=x"),
            "`nam` is not known here; there are `name`, `limit`"
        );
        assert_eq!(detail("name=x&name=x"), "`name` must not be given twice");
        assert_eq!(detail("name=%FF"), "`name` must be UTF-8");
        assert_eq!(detail("%FF=x"), "`a parameter` must be UTF-8");
        assert!(detail("limit=x").starts_with("`limit` "));
        assert!(detail(&"ä".repeat(1_000)).len() < 150);
    }
}

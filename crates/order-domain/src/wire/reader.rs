//! JSON text read straight into values, for the first pass.
//!
//! A message is for the most part short strings and numbers under known names. They are taken from the text as they stand, in less
//! time than a general deserializer needs. What is rare is left to serde_json: strings with escapes, and values that are read over.

use std::borrow::Cow;

use serde::de::{Deserialize, IgnoredAny};
use serde_json::value::RawValue;

use super::json::plain_len;
use super::schema::{Field, row_of};

/// The text is not as it should be. The second pass finds out where, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GiveUp;

/// A place in a JSON text.
pub(super) struct Reader<'de> {
    text: &'de str,
    at: usize,
}

impl<'de> Reader<'de> {
    /// The beginning of this text.
    pub(super) fn new(text: &'de str) -> Self {
        Reader { text, at: 0 }
    }

    /// Reads an object: `each` is called with the row of every field that is in the table, and reads its value. The others are read
    /// over, and counted as `unknown` unless they are to be `ignored`.
    pub(super) fn object(
        &mut self,
        fields: &[Field],
        ignored: &[&str],
        unknown: &mut u32,
        mut each: impl FnMut(&mut Self, usize, &mut u32) -> Result<(), GiveUp>,
    ) -> Result<(), GiveUp> {
        // Most messages have their fields in the order of the table, so that a field is looked for there first.
        let mut next = 0;
        self.sequence(b'{', b'}', |reader| {
            let is_next = |field: &Field| {
                reader.take_name(field.name) || field.other_names.iter().any(|name| reader.take_name(name))
            };
            let row = if fields.get(next).is_some_and(is_next) {
                Some(next)
            } else {
                let name = reader.string()?;
                reader.expect(b':')?;
                let row = row_of(fields, &name);
                if row.is_none() && !ignored.contains(&&*name) {
                    *unknown += 1;
                }
                row
            };
            match row {
                Some(row) => {
                    next = row + 1;
                    each(reader, row, unknown)
                }
                None => reader.skip(),
            }
        })
    }

    /// Reads an array: `each` reads every element.
    pub(super) fn array(&mut self, each: impl FnMut(&mut Self) -> Result<(), GiveUp>) -> Result<(), GiveUp> {
        self.sequence(b'[', b']', each)
    }

    fn sequence(
        &mut self,
        begin: u8,
        end: u8,
        mut each: impl FnMut(&mut Self) -> Result<(), GiveUp>,
    ) -> Result<(), GiveUp> {
        self.expect(begin)?;
        if self.peek() == Some(end) {
            return self.expect(end);
        }
        loop {
            each(self)?;
            if self.peek() == Some(end) {
                return self.expect(end);
            }
            self.expect(b',')?;
        }
    }

    /// Reads `null` if that is next.
    pub(super) fn null(&mut self) -> bool {
        let is_null = self.peek() == Some(b'n') && self.text[self.at..].starts_with("null");
        if is_null {
            self.at += "null".len();
        }
        is_null
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<Cow<'de, str>, GiveUp> {
        match self.plain_string() {
            Some(json) => Ok(Cow::Borrowed(&json[1..json.len() - 1])),
            None => self.other().map(Cow::Owned),
        }
    }

    /// Reads a value that is neither object nor array, as it stands in the text.
    pub(super) fn scalar(&mut self) -> Result<&'de str, GiveUp> {
        match self.plain_string().or_else(|| self.plain_number()) {
            Some(json) => Ok(json),
            None => self.other().map(RawValue::get),
        }
    }

    /// Reads over any value.
    pub(super) fn skip(&mut self) -> Result<(), GiveUp> {
        self.other().map(|IgnoredAny| ())
    }

    /// Makes sure that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), GiveUp> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(GiveUp),
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Reads this name and its colon if they are next, as they are written without escapes.
    fn take_name(&mut self, name: &str) -> bool {
        self.peek();
        let rest = self.text.as_bytes()[self.at..].strip_prefix(b"\"");
        let rest = rest.and_then(|rest| rest.strip_prefix(name.as_bytes()));
        let is_next = rest.is_some_and(|rest| rest.starts_with(b"\":"));
        if is_next {
            self.at += name.len() + 3;
        }
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), GiveUp> {
        if self.peek() != Some(byte) {
            return Err(GiveUp);
        }
        self.at += 1;
        Ok(())
    }

    /// A string without escapes, with its quotes, if that is next.
    fn plain_string(&mut self) -> Option<&'de str> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let len = plain_len(&self.text.as_bytes()[self.at + 1..]);
        let json = self.text[self.at..].get(..len + 2)?;
        (json.as_bytes()[len + 1] == b'"').then(|| {
            self.at += json.len();
            json
        })
    }

    /// A number without exponent, if that is next.
    fn plain_number(&mut self) -> Option<&'de str> {
        self.peek()?;
        let rest = &self.text[self.at..];
        let bytes = rest.as_bytes();
        let digits = |from: usize| {
            bytes[from..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let start = usize::from(bytes[0] == b'-');
        let whole = digits(start);
        if whole == 0 || (whole > 1 && bytes[start] == b'0') {
            return None;
        }
        let mut len = start + whole;
        if bytes.get(len) == Some(&b'.') {
            let fraction = digits(len + 1);
            if fraction == 0 {
                return None;
            }
            len += 1 + fraction;
        }
        if matches!(bytes.get(len), Some(b'e' | b'E')) {
            return None;
        }
        self.at += len;
        Some(&rest[..len])
    }

    /// Any value, by serde_json.
    fn other<T: Deserialize<'de>>(&mut self) -> Result<T, GiveUp> {
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            _ => Err(GiveUp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Delivery;
    use crate::wire::object::Object;

    #[test]
    fn scalars_are_read_as_they_stand_in_the_text() {
        for scalar in [
            r#""""#,
            r#""of some length, with ünïcode 🚚""#,
            r#""\"\u0041\n""#,
            "0",
            "-0",
            "120",
            "-1.50",
            "0.0",
            "1e5",
            "1.5E-5",
            "true",
        ] {
            for (before, after) in [("", ""), (" \n\r\t", " "), ("", ","), ("", "}")] {
                let text = format!("{before}{scalar}{after}");
                let mut reader = Reader::new(&text);
                assert_eq!(reader.scalar(), Ok(scalar), "{text:?}");
                assert_eq!(reader.at, before.len() + scalar.len(), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_no_json_is_given_up() {
        for text in [
            "",
            " ",
            "\"",
            "\"a",
            "\"a\n\"",
            "\"\u{1f}\"",
            r#""\"#,
            r#""\x""#,
            r#""\u12""#,
            "-",
            "+1",
            ".5",
            "nul",
        ] {
            assert_eq!(Reader::new(text).scalar(), Err(GiveUp), "{text:?}");
        }
        // What comes behind a number is looked at by whoever asked for it.
        for text in [
            "[01]", "[1.]", "[1.e5]", "[1x]", "[1 2]", "[1,]", "[,1]", "[1", "[", "1]", "{]",
        ] {
            let read = Reader::new(text).array(|reader| reader.scalar().map(drop));
            assert_eq!(read, Err(GiveUp), "{text:?}");
        }
        for text in [
            r#"{"a":1,}"#,
            r#"{"a"}"#,
            r#"{"a" 1}"#,
            "{a:1}",
            "{1:1}",
            r#"{"a":1"#,
            r#"{"\ud800":1}"#,
        ] {
            let read = Reader::new(text).object(&[], &[], &mut 0, |_, _, _| Ok(()));
            assert_eq!(read, Err(GiveUp), "{text:?}");
        }
    }

    #[test]
    fn fields_are_found_in_their_rows() {
        let text = r#" { "email": 1, "e":[{"name":null},"]"], "name" : 2,"phone":3,
            "na\u006de":4, "\u0069":5, "Zip":6 ,"i":7,"zip"
            :8 } "#;
        let (mut reader, mut unknown) = (Reader::new(text), 0);
        let mut seen = Vec::new();
        let read = reader.object(Delivery::FIELDS, &["i"], &mut unknown, |reader, row, _| {
            seen.push((Delivery::FIELDS[row].name, reader.scalar()?));
            Ok(())
        });
        assert_eq!((read, reader.end(), unknown), (Ok(()), Ok(()), 2));
        let expected = [
            ("email", "1"),
            ("name", "2"),
            ("phone", "3"),
            ("name", "4"),
            ("zip", "8"),
        ];
        assert_eq!(seen, expected);
    }
}

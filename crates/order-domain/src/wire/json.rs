//! The JSON below the wire format: what a raw value is, the fields of a raw object, and how values are written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What kind of value this JSON text is, in words that fit after "is".
pub(super) fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

/// The text that a JSON string stands for.
///
/// # Errors
///
/// It has an escape that stands for half a character: the one thing that a raw value may have and a text may not.
pub(super) fn unescape(json: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(json).map(Cow::Owned),
    }
}

/// The name of a field, borrowed from the message unless it was written with escapes.
pub(super) struct Name<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        from.deserialize_str(NameVisitor)
    }
}

/// Calls `each` for every field of this JSON object, in the order of the text.
///
/// # Errors
///
/// The text is not JSON; what stands before the break has been seen by then.
pub(super) fn for_each_field<'de>(
    json: &'de str,
    each: impl FnMut(&str, &'de RawValue),
) -> Result<(), serde_json::Error> {
    struct FieldsVisitor<F>(F);

    impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for FieldsVisitor<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<Name<'de>>()? {
                (self.0)(&name.0, map.next_value()?);
            }
            Ok(())
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(FieldsVisitor(each))?;
    deserializer.end()
}

/// The first elements of this JSON array, at most so many, and how many it has in all.
///
/// # Errors
///
/// The text is not a JSON array.
pub(super) fn first_elements(json: &str, most: usize) -> Result<(Vec<&RawValue>, usize), serde_json::Error> {
    struct ElementsVisitor(usize);

    impl<'de> Visitor<'de> for ElementsVisitor {
        type Value = (Vec<&'de RawValue>, usize);

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
            let mut first = Vec::new();
            let mut len = 0;
            while let Some(element) = elements.next_element()? {
                len += 1;
                if len <= self.0 {
                    first.push(element);
                }
            }
            Ok((first, len))
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(json);
    let elements = deserializer.deserialize_seq(ElementsVisitor(most))?;
    deserializer.end()?;
    Ok(elements)
}

/// How many bytes, from the first on, stand in a JSON string as they are.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    // Eight at a time: subtracting one borrows into the highest bit of a byte that is zero, and of no byte before it.
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST_BITS: u64 = ONES << 7;
    let is_below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHEST_BITS;
    let is = |word: u64, byte: u8| is_below(word ^ (ONES * u64::from(byte)), 1);

    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = is_below(word, 0x20) | is(word, b'"') | is(word, b'\\');
        if special != 0 {
            return 8 * index + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, ..0x20 | b'"' | b'\\');
    bytes.len() - rest.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// Writes a JSON string as serde_json does: only what must be escaped is.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else {
            break;
        };
        rest = after;
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            _ => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 0xf)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
}

/// Writes a decimal: `digits`, with a point before the last `scale` of them.
pub(super) fn write_decimal(digits: i64, scale: u32, out: &mut Vec<u8>) {
    // The digits are made from the last to the first: 19 at most, a point, a leading zero and a sign.
    let mut buffer = [0_u8; 24];
    let mut start = buffer.len();
    let mut put = |byte: u8| {
        start -= 1;
        buffer[start] = byte;
    };
    let mut rest = digits.unsigned_abs();
    let mut place = 0;
    while rest > 0 || place <= scale {
        if place == scale && scale > 0 {
            put(b'.');
        }
        put(b'0' + (rest % 10) as u8);
        rest /= 10;
        place += 1;
    }
    if digits < 0 {
        put(b'-');
    }
    out.extend_from_slice(&buffer[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_serde_json_writes_them() {
        let every_escape: String = (0..=0x9f).filter_map(char::from_u32).collect();
        for text in [
            "",
            "plain",
            "ünï — 漢字 🚚",
            "\u{2028}\u{feff}",
            "\\\"",
            &every_escape,
        ] {
            let mut out = Vec::new();
            write_string(text, &mut out);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                serde_json::to_string(text).unwrap()
            );
        }
    }

    #[test]
    fn plain_bytes_end_at_the_first_that_must_be_escaped() {
        let plain: Vec<u8> = (0x20..=0xff).filter(|byte| !b"\"\\".contains(byte)).collect();
        for byte in (0..0x20).chain(*b"\"\\") {
            for len in 0..plain.len() {
                let mut bytes = plain.clone();
                assert_eq!(plain_len(&bytes[..len]), len);
                bytes[len] = byte;
                assert_eq!(plain_len(&bytes), len, "{byte:#x}");
                // Also where the next is one, too.
                bytes.insert(len + 1, 0);
                assert_eq!(plain_len(&bytes), len, "{byte:#x}");
            }
        }
    }

    #[test]
    fn decimals_are_written_in_full() {
        for (digits, scale, written) in [
            (0, 0, "0"),
            (7, 0, "7"),
            (-1505, 1, "-150.5"),
            (1, 4, "0.0001"),
            (-12, 2, "-0.12"),
            (i64::MAX, 0, "9223372036854775807"),
            (i64::MIN, 0, "-9223372036854775808"),
            (i64::MIN, 4, "-922337203685477.5808"),
        ] {
            let mut out = Vec::new();
            write_decimal(digits, scale, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), written);
        }
    }
}

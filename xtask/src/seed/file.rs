//! Messages from a file.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use order_domain::parse;
use serde_json::value::RawValue;
use xtask::orders::{Expected, Message};

/// Reads a file, or standard input for `-`, as a whole, and cuts it into messages.
///
/// # Errors
///
/// Where it cannot be read, or holds nothing.
pub(super) fn read(path: &Path) -> Result<Vec<Message>> {
    let shown = path.display();
    let mut content = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .read_to_end(&mut content)
            .context("cannot read standard input")?;
    } else {
        content = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    }
    ensure!(!content.trim_ascii().is_empty(), "there is nothing in {shown}");
    let has_lines = path
        .extension()
        .is_some_and(|end| end == "jsonl" || end == "ndjson");
    Ok(cut(&content.into(), has_lines).into_iter().map(message).collect())
}

/// The documents of a file, each byte for byte as it stands there.
///
/// The elements of an array, which can be no order itself; one document; or lines, where the whole is no JSON and a line is.
/// What is none of these is one message still: whoever publishes a broken order wants to see what becomes of it.
fn cut(content: &Bytes, has_lines: bool) -> Vec<Bytes> {
    let text = str::from_utf8(content).unwrap_or_default();
    if !has_lines {
        if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) {
            return elements
                .iter()
                .map(|element| content.slice_ref(element.get().as_bytes()))
                .collect();
        }
        let is_object =
            |line: &[u8]| line.starts_with(b"{") && serde_json::from_slice::<&RawValue>(line).is_ok();
        let is_one = serde_json::from_str::<&RawValue>(text).is_ok();
        if is_one
            || !content
                .split(|byte| *byte == b'\n')
                .any(|line| is_object(line.trim_ascii_end()))
        {
            return vec![content.slice_ref(without_line_end(content))];
        }
    }
    let lines = content
        .split_inclusive(|byte| *byte == b'\n')
        .map(without_line_end);
    lines
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| content.slice_ref(line))
        .collect()
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn message(payload: Bytes) -> Message {
    let expected = match parse(&payload) {
        Ok(parsed) => Expected::Served {
            uid: parsed.order.order_uid.clone(),
            json: parsed.order.json().clone(),
            update: false,
        },
        Err(_) => Expected::Refused(None),
    };
    Message { payload, expected }
}

#[cfg(test)]
mod tests {
    use order_domain::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER};

    use super::*;

    fn pieces(content: &str, has_lines: bool) -> Vec<String> {
        let pieces = cut(&Bytes::copy_from_slice(content.as_bytes()), has_lines);
        pieces
            .iter()
            .map(|piece| String::from_utf8(piece.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn one_document_stays_as_it_is_less_its_last_newline() {
        let pretty = "\u{20}{\n  \"a\": 1,\n  \"b\": [\n{}\n]\n}\r\n";
        assert_eq!(pieces(pretty, false), [&pretty[..pretty.len() - 2]]);
        assert_eq!(pieces("{}\n\n", false), ["{}\n"]);
        assert_eq!(pieces("{\"a\":", false), ["{\"a\":"]);
        assert_eq!(pieces("", false), [""]);
        let not_text = Bytes::from_static(b"\xff\n{}x");
        assert_eq!(cut(&not_text, false), [not_text]);
    }

    #[test]
    fn lines_are_messages_also_the_broken_ones() {
        assert_eq!(
            pieces("{\"a\":1}\r\n\n{\"a\":\n {}\n", false),
            ["{\"a\":1}", "{\"a\":", " {}"]
        );
        assert_eq!(pieces("nothing\nhere\n", true), ["nothing", "here"]);
        assert_eq!(cut(&Bytes::from_static(b"\xff\n{}"), false).len(), 2);
    }

    #[test]
    fn the_elements_of_an_array_are_messages() {
        assert_eq!(pieces("[ {\"a\": 1.50},\n{}]\n", false), ["{\"a\": 1.50}", "{}"]);
    }

    #[test]
    fn a_message_is_known_by_what_is_served() {
        for sample in [CANONICAL_ORDER, CAMEL_CASE_ORDER] {
            let read = message(Bytes::from_static(sample));
            let Expected::Served { json, .. } = &read.expected else {
                panic!("a sample is an order")
            };
            assert_eq!(parse(json).unwrap().order, parse(sample).unwrap().order);
            assert_eq!(read.payload, sample);
        }
        assert_eq!(
            message(Bytes::from_static(b"{}")).expected,
            Expected::Refused(None)
        );
    }
}

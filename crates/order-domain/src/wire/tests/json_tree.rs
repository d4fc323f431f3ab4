//! JSON as a tree that keeps every leaf's text and every name's spelling, so that a test can change one thing and no other.

use std::fmt;

use serde_json::value::RawValue;

/// The fields of an object: the names as they are written, quotes included, and the values.
pub(super) type Fields = Vec<(String, Json)>;

/// A JSON value.
#[derive(Debug, Clone)]
pub(super) enum Json {
    /// Any text, meant to be a value.
    Leaf(String),
    /// The elements.
    Array(Vec<Json>),
    /// The fields.
    Object(Fields),
}

impl Json {
    /// Reads what is known to be JSON.
    pub(super) fn read(message: &[u8]) -> Json {
        let text = str::from_utf8(message).unwrap();
        match text.as_bytes()[0] {
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap();
                Json::Array(
                    elements
                        .iter()
                        .map(|element| Json::read(element.get().as_bytes()))
                        .collect(),
                )
            }
            b'{' => {
                let mut fields = Vec::new();
                crate::wire::json::for_each_field(text, |name, value| {
                    fields.push((format!("\"{name}\""), Json::read(value.get().as_bytes())));
                })
                .unwrap();
                Json::Object(fields)
            }
            _ => Json::Leaf(text.to_owned()),
        }
    }

    /// How many values there are, this one included.
    pub(super) fn len(&self) -> usize {
        1 + match self {
            Json::Leaf(_) => 0,
            Json::Array(elements) => elements.iter().map(Json::len).sum(),
            Json::Object(fields) => fields.iter().map(|(_, value)| value.len()).sum(),
        }
    }

    /// Calls `change` with the value that stands at `node`, counted from the root as 0 in the order of the text.
    pub(super) fn visit(&mut self, node: usize, change: &mut dyn FnMut(&mut Json)) {
        if node == 0 {
            return change(self);
        }
        let mut before = 1;
        let children: Vec<&mut Json> = match self {
            Json::Leaf(_) => Vec::new(),
            Json::Array(elements) => elements.iter_mut().collect(),
            Json::Object(fields) => fields.iter_mut().map(|(_, value)| value).collect(),
        };
        for child in children {
            let len = child.len();
            if (before..before + len).contains(&node) {
                return child.visit(node - before, change);
            }
            before += len;
        }
    }

    /// Calls `change` with the fields among which the value at `node` stands, and its place; not at all where it stands elsewhere.
    pub(super) fn visit_field(&mut self, node: usize, change: &mut dyn FnMut(&mut Fields, usize)) {
        let mut before = 1;
        match self {
            Json::Leaf(_) => {}
            Json::Array(elements) => {
                for element in elements {
                    let len = element.len();
                    if (before..before + len).contains(&node) {
                        return element.visit_field(node - before, change);
                    }
                    before += len;
                }
            }
            Json::Object(fields) => {
                for at in 0..fields.len() {
                    let len = fields[at].1.len();
                    if before == node {
                        return change(fields, at);
                    }
                    if (before..before + len).contains(&node) {
                        return fields[at].1.visit_field(node - before, change);
                    }
                    before += len;
                }
            }
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Leaf(text) => f.write_str(text),
            Json::Array(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    write!(f, "{separator}{element}")?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    write!(f, "{separator}{name}:{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

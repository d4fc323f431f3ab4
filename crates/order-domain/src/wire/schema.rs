//! What the wire format consists of, as data: for whoever describes it to others, in a JSON Schema or on a page.

/// A field of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its canonical name.
    pub name: &'static str,
    /// The other names under which it is read.
    pub other_names: &'static [&'static str],
    /// Whether it must be given; a required text may not be empty either.
    pub required: bool,
    /// What its values are.
    pub kind: FieldKind,
}

/// The row of the field that is read under this name.
pub(super) fn row_of(fields: &[Field], name: &str) -> Option<usize> {
    fields
        .iter()
        .position(|field| field.name == name || field.other_names.contains(&name))
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// An [`OrderUid`](crate::OrderUid).
    Uid,
    /// A string without NUL.
    Text {
        /// The most bytes it may have in UTF-8.
        max_bytes: usize,
    },
    /// An [`Amount`](crate::Amount).
    Amount,
    /// A signed integer.
    Integer {
        /// How many bits it has.
        bits: u32,
    },
    /// A [`UtcDateTime`](crate::UtcDateTime).
    DateTime,
    /// A 64-bit integer that counts seconds since the Unix epoch; RFC 3339 is read too.
    UnixSeconds,
    /// An object.
    Object {
        /// Its fields, in the canonical order.
        fields: &'static [Field],
    },
    /// An array of objects.
    List {
        /// The fields of each object, in the canonical order.
        fields: &'static [Field],
        /// The most objects it may have.
        max_len: usize,
    },
}

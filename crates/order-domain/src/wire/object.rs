//! Objects as tables of fields, and what follows from such a table: both passes, the rules and the writer.

use serde_json::value::RawValue;

use super::fault::{FaultList, Place};
use super::json::for_each_field;
use super::kind::{Inspection, Kind};
use super::reader::{GiveUp, Reader};
use super::schema::{Field, row_of};

/// An object of the wire format. [`object!`] writes the implementation from a table.
pub(super) trait Object: Sized {
    /// The table, in the canonical order.
    const FIELDS: &'static [Field];

    /// The first pass.
    fn read(reader: &mut Reader<'_>, unknown: &mut u32) -> Result<Self, GiveUp>;

    /// The second pass, over the object's text.
    fn inspect(json: &str, place: &Place<'_>, seen: &mut Inspection) -> Option<Self>;

    /// The rules of all fields.
    fn check(&self, place: &Place<'_>, faults: &mut FaultList);

    /// Writes the object as canonical JSON.
    fn write(&self, out: &mut Vec<u8>);
}

/// Whether a field must be given. The two implementations are the words of the table.
pub(super) trait Presence<T> {
    const REQUIRED: bool;

    /// The value of a field that was given or not; `None` if it is missing.
    fn settle(given: Option<T>) -> Option<T>;
}

/// The field must be given.
pub(super) struct Required;
/// The field is its type's default where it is not given.
pub(super) struct Optional;

impl<T> Presence<T> for Required {
    const REQUIRED: bool = true;

    fn settle(given: Option<T>) -> Option<T> {
        given
    }
}

impl<T: Default> Presence<T> for Optional {
    const REQUIRED: bool = false;

    fn settle(given: Option<T>) -> Option<T> {
        Some(given.unwrap_or_default())
    }
}

/// A field as the second pass finds it in an object.
#[derive(Clone, Copy, Default)]
pub(super) struct Given<'de> {
    /// How often it is given, null included.
    pub(super) times: u32,
    /// What was given last.
    pub(super) value: Option<&'de RawValue>,
}

/// The fields of an object's text, one for each row of the table, and how many are not in it.
///
/// The last is the error at which the text stops being JSON; the fields before it have been read.
pub(super) fn gather<'de>(
    json: &'de str,
    fields: &[Field],
    ignored: &[&str],
) -> (Vec<Given<'de>>, u32, Result<(), serde_json::Error>) {
    let mut given = vec![Given::default(); fields.len()];
    let mut unknown = 0;
    let end = for_each_field(json, |name, value| match row_of(fields, name) {
        Some(row) => {
            given[row].times += 1;
            given[row].value = Some(value);
        }
        None if ignored.contains(&name) => {}
        None => unknown += 1,
    });
    (given, unknown, end)
}

/// The second pass over one field.
pub(super) fn inspect_field<K: Kind, P: Presence<K::Value>>(
    given: Given<'_>,
    place: &Place<'_>,
    seen: &mut Inspection,
) -> Option<K::Value> {
    let value = match given {
        Given { times: 0 | 1, value } => value.map(RawValue::get).filter(|json| *json != "null"),
        Given { times, .. } => {
            let times = if times == 2 {
                "twice".to_owned()
            } else {
                format!("{times} times")
            };
            seen.faults.add(place, format!("is given {times}"));
            return None;
        }
    };
    match value {
        Some(json) => K::inspect(json, P::REQUIRED, place, seen),
        None => {
            let value = P::settle(None);
            if value.is_none() {
                seen.faults.add(place, "is missing");
            }
            value
        }
    }
}

/// Implements [`Object`] for a struct from the table of its fields: `name | other names: Presence Kind`.
///
/// Since both passes, the rules and the writer come from the one table, they cannot disagree about it.
macro_rules! object {
    (
        $type:ident, ignoring $ignored:expr,
        $($field:ident $(| $other:ident)*: $presence:ident $kind:ty,)+
    ) => {
        impl Object for $type {
            const FIELDS: &'static [Field] = &[
                $(Field {
                    name: stringify!($field),
                    other_names: &[$(stringify!($other)),*],
                    required: <$presence as Presence<<$kind as Kind>::Value>>::REQUIRED,
                    kind: <$kind as Kind>::KIND,
                },)+
            ];

            fn read(reader: &mut Reader<'_>, unknown: &mut u32) -> Result<Self, GiveUp> {
                #[expect(non_camel_case_types, reason = "they are the names of the fields")]
                enum Row {
                    $($field,)+
                }

                $(let mut $field = None;)+
                reader.object(Self::FIELDS, $ignored, unknown, |reader, row, unknown| {
                    $(if row == Row::$field as usize {
                        if $field.is_some() {
                            return Err(GiveUp);
                        }
                        $field = Some(<$kind as Kind>::read(reader, unknown)?);
                    })+
                    Ok(())
                })?;
                Ok($type {
                    $($field: $presence::settle($field.flatten()).ok_or(GiveUp)?,)+
                })
            }

            fn inspect(json: &str, place: &Place<'_>, seen: &mut Inspection) -> Option<Self> {
                let (given, unknown, end) = gather(json, Self::FIELDS, $ignored);
                seen.unknown_fields += unknown;
                if end.is_err() {
                    // The text as a whole is JSON; what remains are names with an escape of half a character.
                    seen.faults.add(place, "must have names of Unicode text, has an escape of half a character");
                    return None;
                }
                let mut given = given.into_iter();
                $(
                    let $field = inspect_field::<$kind, $presence>(
                        given.next().unwrap_or_default(),
                        &Place::Field(place, stringify!($field)),
                        seen,
                    );
                )+
                Some($type { $($field: $field?,)+ })
            }

            fn check(&self, place: &Place<'_>, faults: &mut FaultList) {
                $(
                    <$kind as Kind>::check(
                        &self.$field,
                        <$presence as Presence<<$kind as Kind>::Value>>::REQUIRED,
                        &Place::Field(place, stringify!($field)),
                        faults,
                    );
                )+
            }

            fn write(&self, out: &mut Vec<u8>) {
                let start = out.len();
                $(
                    out.extend_from_slice(concat!(",\"", stringify!($field), "\":").as_bytes());
                    <$kind as Kind>::write(&self.$field, out);
                )+
                // Each field wrote a comma before itself; the first one is the object's beginning.
                out[start] = b'{';
                out.push(b'}');
            }
        }
    };
}
pub(super) use object;

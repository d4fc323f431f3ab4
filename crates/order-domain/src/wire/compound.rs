//! The kinds of values that hold others: an object, and an array of objects.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::fault::{FaultList, Place};
use super::json::first_elements;
use super::kind::{Inspection, Kind, Seed, wrong_kind};
use super::object::Object;
use super::schema::FieldKind;

/// An object within an order.
pub(super) struct Nested<T>(PhantomData<T>);

impl<T: Object> Kind for Nested<T> {
    type Value = T;
    const KIND: FieldKind = FieldKind::Object { fields: T::FIELDS };

    fn read<'de, D: Deserializer<'de>>(from: D, unknown: &mut u32) -> Result<Option<T>, D::Error> {
        struct ObjectVisitor<'a, T>(&'a mut u32, PhantomData<T>);

        impl<'de, T: Object> Visitor<'de> for ObjectVisitor<'_, T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
                T::read(map, self.0).map(Some)
            }

            fn visit_unit<E>(self) -> Result<Option<T>, E> {
                Ok(None)
            }
        }

        from.deserialize_any(ObjectVisitor(unknown, PhantomData))
    }

    fn inspect(json: &str, _required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<T> {
        if json.starts_with('{') {
            T::inspect(json, place, seen)
        } else {
            seen.faults.add(place, wrong_kind("an object", json));
            None
        }
    }

    fn check(value: &T, _required: bool, place: &Place<'_>, faults: &mut FaultList) {
        value.check(place, faults);
    }

    fn write(value: &T, out: &mut Vec<u8>) {
        value.write(out);
    }
}

/// An array of objects, at most so many.
pub(super) struct List<T, const MAX_LEN: usize>(PhantomData<T>);

impl<T: Object, const MAX_LEN: usize> List<T, MAX_LEN> {
    fn check_len(len: usize, place: &Place<'_>, faults: &mut FaultList) {
        if len > MAX_LEN {
            faults.add(place, format!("must have at most {MAX_LEN} elements, has {len}"));
        }
    }
}

impl<T: Object, const MAX_LEN: usize> Kind for List<T, MAX_LEN> {
    type Value = Vec<T>;
    const KIND: FieldKind = FieldKind::List {
        fields: T::FIELDS,
        max_len: MAX_LEN,
    };

    fn read<'de, D: Deserializer<'de>>(from: D, unknown: &mut u32) -> Result<Option<Vec<T>>, D::Error> {
        struct ListVisitor<'a, T, const MAX_LEN: usize>(&'a mut u32, PhantomData<T>);

        impl<'de, T: Object, const MAX_LEN: usize> Visitor<'de> for ListVisitor<'_, T, MAX_LEN> {
            type Value = Option<Vec<T>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Option<Vec<T>>, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element_seed(Seed::<Nested<T>>::new(&mut *self.0))? {
                    // One too many ends the pass, so that a message of a million costs no more memory than the limit.
                    if list.len() == MAX_LEN {
                        return Err(A::Error::custom("too many elements"));
                    }
                    list.push(element.ok_or_else(|| A::Error::custom("a null element"))?);
                }
                Ok(Some(list))
            }

            fn visit_unit<E>(self) -> Result<Option<Vec<T>>, E> {
                Ok(None)
            }
        }

        from.deserialize_any(ListVisitor::<T, MAX_LEN>(unknown, PhantomData))
    }

    fn inspect(json: &str, _required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<Vec<T>> {
        if !json.starts_with('[') {
            seen.faults.add(place, wrong_kind("an array", json));
            return None;
        }
        let (elements, len) = first_elements(json, MAX_LEN).ok()?;
        Self::check_len(len, place, &mut seen.faults);
        let mut list = Some(Vec::with_capacity(elements.len()));
        for (index, element) in elements.iter().enumerate() {
            let element = Nested::<T>::inspect(element.get(), true, &Place::Element(place, index), seen);
            // One bad element spoils the list, but the others are looked at all the same.
            list = list.zip(element).map(|(mut list, element)| {
                list.push(element);
                list
            });
        }
        list
    }

    fn check(list: &Vec<T>, _required: bool, place: &Place<'_>, faults: &mut FaultList) {
        Self::check_len(list.len(), place, faults);
        for (index, element) in list.iter().take(MAX_LEN).enumerate() {
            element.check(&Place::Element(place, index), faults);
        }
    }

    fn write(list: &Vec<T>, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, element) in list.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            element.write(out);
        }
        out.push(b']');
    }
}

//! The kinds of values that hold others: an object, and an array of objects.

use std::marker::PhantomData;

use super::fault::{FaultList, Place};
use super::json::first_elements;
use super::kind::{Inspection, Kind, wrong_kind};
use super::object::Object;
use super::reader::{GiveUp, Reader};
use super::schema::FieldKind;

/// An object within an order.
pub(super) struct Nested<T>(PhantomData<T>);

impl<T: Object> Kind for Nested<T> {
    type Value = T;
    const KIND: FieldKind = FieldKind::Object { fields: T::FIELDS };

    fn read(reader: &mut Reader<'_>, unknown: &mut u32) -> Result<Option<T>, GiveUp> {
        if reader.null() {
            return Ok(None);
        }
        T::read(reader, unknown).map(Some)
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

    fn read(reader: &mut Reader<'_>, unknown: &mut u32) -> Result<Option<Vec<T>>, GiveUp> {
        if reader.null() {
            return Ok(None);
        }
        let mut list = Vec::new();
        reader.array(|reader| {
            // One too many ends the pass, so that a message of a million costs no more memory than the limit.
            if list.len() == MAX_LEN {
                return Err(GiveUp);
            }
            list.push(T::read(reader, unknown)?);
            Ok(())
        })?;
        Ok(Some(list))
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

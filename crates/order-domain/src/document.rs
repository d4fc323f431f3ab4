//! An order rendered once, as the cache holds it and HTTP sends it.

use bytes::Bytes;

use crate::{OrderParts, OrderUid, Revision, render};

/// An order rendered once: its uid, its revision and its canonical JSON as shared bytes.
///
/// Cloning is cheap: the bytes are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDocument {
    /// The order's name.
    pub uid: OrderUid,
    /// Which version these bytes are.
    pub revision: Revision,
    /// The canonical JSON.
    pub json: Bytes,
}

impl OrderDocument {
    /// Renders what a repository read back.
    ///
    /// The parts were checked when they were stored and are not checked again, so that a row someone mended by hand can
    /// still be read.
    pub fn from_stored(parts: &OrderParts, revision: Revision) -> Self {
        OrderDocument {
            uid: parts.order_uid.clone(),
            revision,
            json: render(parts),
        }
    }

    /// What the document weighs in memory, in bytes: its JSON, its uid and the structs that hold them.
    pub fn weight(&self) -> usize {
        self.json.len() + self.uid.as_str().len() + size_of::<Self>()
    }
}

//! What is wrong with a message, and where.

use std::borrow::Cow;
use std::fmt;

use crate::OrderUid;

/// The most faults that are listed; of further ones only their number is told.
const LISTED: usize = 100;
/// The most faults that stand in the one line of [`Faults`]' `Display`.
const LISTED_IN_LINE: usize = 20;

/// Why a value is at fault, in words.
pub(super) type Reason = Cow<'static, str>;

/// One fault of a message: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer (RFC 6901), in the canonical spelling; empty for the message as a whole.
    pub pointer: String,
    /// Why, in words. Names rules and kinds, never the value found: it may be personal.
    pub reason: String,
}

/// All faults of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// The faults, in the order of the canonical fields. Of very many only the first hundred, and then one that says how
    /// many more there are.
    pub faults: Vec<Fault>,
    /// Which order the message means, where that could be read.
    pub order_uid: Option<OrderUid>,
    /// Whether the message is not even JSON, so that nothing else could be said of it.
    pub not_json: bool,
}

impl std::error::Error for Faults {}

/// `/payment is missing`, or `the message must be …`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() {
            "the message"
        } else {
            &self.pointer
        };
        write!(f, "{place} {}", self.reason)
    }
}

/// One line, as it stands in a dead letter and in a log: no value of the message is in it.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().take(LISTED_IN_LINE).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        if self.faults.len() > LISTED_IN_LINE {
            f.write_str("; and more")
        } else {
            Ok(())
        }
    }
}

/// A place in a message, kept on the stack while the message is walked and written down only for a fault.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The message as a whole.
    Root,
    /// A field of an object, in the canonical spelling.
    Field(&'a Place<'a>, &'static str),
    /// An element of an array.
    Element(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => Ok(()),
            // No name of ours holds a `~` or `/`, which alone would need to be escaped.
            Place::Field(parent, name) => write!(f, "{parent}/{name}"),
            Place::Element(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// Collects faults, and beyond a limit only counts them.
#[derive(Default)]
pub(super) struct FaultList {
    listed: Vec<Fault>,
    more: usize,
    not_json: bool,
}

impl FaultList {
    /// Adds a fault.
    pub(super) fn add(&mut self, place: &Place<'_>, reason: impl Into<Reason>) {
        if self.listed.len() < LISTED {
            self.listed.push(Fault {
                pointer: place.to_string(),
                reason: reason.into().into_owned(),
            });
        } else {
            self.more += 1;
        }
    }

    /// Adds that the message as a whole is not JSON.
    pub(super) fn add_not_json(&mut self, reason: impl Into<Reason>) {
        self.not_json = true;
        self.add(&Place::Root, reason);
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The faults, as those of a message about this order.
    pub(super) fn into_faults(self, order_uid: Option<OrderUid>) -> Faults {
        let mut faults = self.listed;
        if self.more > 0 {
            faults.push(Fault {
                pointer: String::new(),
                reason: format!("has {} more faults", self.more),
            });
        }
        Faults {
            faults,
            order_uid,
            not_json: self.not_json,
        }
    }
}

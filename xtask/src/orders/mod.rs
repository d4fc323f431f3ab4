//! Orders to try the service with: realistic, varied, and the same for the same seed.
//!
//! [`OrderGenerator`] gives messages one after another, each with what must become of it, for whoever publishes them and
//! checks the service afterwards: `seed`, and the tasks that load, break and measure it.

use std::collections::HashMap;

use bytes::Bytes;
use order_domain::{FieldKind, ORDER_FIELDS, Order, OrderParts, OrderUid};

mod bad;
mod dice;
mod shop;
mod words;

pub use bad::BadKind;
pub use dice::Dice;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The body.
    pub payload: Bytes,
    /// What must become of it.
    pub expected: Expected,
}

/// What must become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It is stored and served, unless a newer version of the order takes its place.
    Served {
        /// Which order it is.
        uid: OrderUid,
        /// What is served: the canonical JSON, whatever spelling the message has.
        json: Bytes,
        /// Whether it is a later version of an order that was given before.
        update: bool,
    },
    /// It becomes a dead letter. The kind is known where the message was made bad on purpose.
    Refused(Option<BadKind>),
}

/// What the generator mixes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mix {
    /// How many of a hundred messages are bad.
    pub bad_percent: f64,
    /// How many of a hundred messages are new versions of earlier orders.
    pub update_percent: f64,
    /// How they are spelled.
    pub spelling: Spelling,
}

/// How the fields of a message are spelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Spelling {
    /// snake_case, as the service writes them.
    #[default]
    Canonical,
    /// camelCase, as the Go service does.
    Camel,
}

/// Gives messages without end, the same ones for the same seed and mix.
///
/// Each order can be made again from its number alone, so an earlier one that is to get a new version need not be kept:
/// memory grows by eight bytes an order, and not at all without updates.
#[derive(Debug)]
pub struct OrderGenerator {
    seed: u64,
    mix: Mix,
    next: u64,
    earlier: Vec<u64>,
    camel_case: HashMap<&'static str, &'static str>,
}

impl OrderGenerator {
    /// Begins the row of messages that this seed and this mix give.
    pub fn new(seed: u64, mix: Mix) -> OrderGenerator {
        let camel_case = match mix.spelling {
            Spelling::Canonical => HashMap::new(),
            Spelling::Camel => camel_case_names(),
        };
        OrderGenerator {
            seed,
            mix,
            next: 0,
            earlier: Vec::new(),
            camel_case,
        }
    }

    /// The uid of the order with this number: that of the message with this number, if it is a new order.
    pub fn uid(&self, number: u64) -> OrderUid {
        const ENDINGS: &[&str] = &["", "test", "-web", "_app", ".v2", "TEST"];
        // The steps of SplitMix64 can all be undone: different numbers never give the same uid.
        let mut mixed = number.wrapping_add(Dice::new(self.seed, u64::MAX).number());
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let ending = ENDINGS[(mixed % ENDINGS.len() as u64) as usize];
        OrderUid::new(&format!("{mixed:016x}{ending}")).expect("hexadecimal digits and an ending of ours")
    }

    /// The order with this number, in its first version.
    pub fn order(&self, number: u64) -> Order {
        // Two rows of choices a number: one for the order, one for the message.
        let parts = shop::new_order(self.uid(number), &mut Dice::new(self.seed, 2 * number + 1));
        checked(parts)
    }

    fn message(&mut self, number: u64) -> Message {
        let mut dice = Dice::new(self.seed, 2 * number);
        if dice.percent(self.mix.bad_percent) {
            let kind = BadKind::any(&mut dice);
            let payload = kind.spoil(self.order(number), &mut dice).into();
            return Message {
                payload,
                expected: Expected::Refused(Some(kind)),
            };
        }
        // A bad message has taken its share of all hundred already.
        let update = dice.percent(self.mix.update_percent * 100.0 / (100.0 - self.mix.bad_percent));
        if update && !self.earlier.is_empty() {
            let mut parts = self.order(*dice.pick(&self.earlier)).into_parts();
            shop::change_order(&mut parts, number, &mut dice);
            return self.served(checked(parts), true);
        }
        if self.mix.update_percent > 0.0 {
            self.earlier.push(number);
        }
        self.served(self.order(number), false)
    }

    fn served(&self, order: Order, update: bool) -> Message {
        let json = order.json().clone();
        let payload = match self.mix.spelling {
            Spelling::Canonical => json.clone(),
            Spelling::Camel => self.in_camel_case(&json),
        };
        Message {
            payload,
            expected: Expected::Served {
                uid: order.order_uid.clone(),
                json,
                update,
            },
        }
    }

    /// The same order in the other spelling.
    fn in_camel_case(&self, json: &[u8]) -> Bytes {
        let mut renamed = Vec::with_capacity(json.len());
        // What stands between two quotes before a colon is a name. A quote within a text has a backslash before it, and then
        // what is looked up ends in that and is not in the table.
        let mut rest = json;
        while let Some(colon) = rest.iter().position(|byte| *byte == b':') {
            let (head, tail) = rest.split_at(colon);
            let name = head.strip_suffix(b"\"").and_then(|head| {
                let start = head.iter().rposition(|byte| *byte == b'"')? + 1;
                let renamed = self.camel_case.get(str::from_utf8(&head[start..]).ok()?)?;
                Some((start, *renamed))
            });
            match name {
                Some((start, name)) => {
                    renamed.extend_from_slice(&head[..start]);
                    renamed.extend_from_slice(name.as_bytes());
                    renamed.extend_from_slice(b"\":");
                }
                None => renamed.extend_from_slice(&rest[..=colon]),
            }
            rest = &tail[1..];
        }
        renamed.extend_from_slice(rest);
        renamed.into()
    }
}

impl Iterator for OrderGenerator {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let number = self.next;
        self.next += 1;
        Some(self.message(number))
    }
}

fn checked(parts: OrderParts) -> Order {
    Order::new(parts).unwrap_or_else(|faults| panic!("the generator made a bad order: {faults}"))
}

/// The other names of the fields, from the table of the wire format.
fn camel_case_names() -> HashMap<&'static str, &'static str> {
    let mut names = HashMap::new();
    let mut tables = vec![ORDER_FIELDS];
    while let Some(fields) = tables.pop() {
        for field in fields {
            names.extend(field.other_names.first().map(|other| (field.name, *other)));
            if let FieldKind::Object { fields } | FieldKind::List { fields, .. } = field.kind {
                tables.push(fields);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests;

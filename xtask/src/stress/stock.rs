//! The orders that are published and asked for: realistic, any number of them, and cheap enough not to be the limit.

use anyhow::Result;
use bytes::Bytes;
use order_domain::OrderUid;
use xtask::orders::{Mix, OrderGenerator};

/// How many different orders there are, but for their uids.
const TEMPLATES: u64 = 2_000;
/// What canonical JSON begins with.
const BEFORE_UID: &[u8] = b"{\"order_uid\":\"";

/// Orders by their numbers, the same ones for the same seed.
///
/// Making an order takes as long as publishing it. So a few thousand are made in advance, and every order is one of them under a
/// uid of its own: it is canonical JSON, and what is served is these bytes.
#[derive(Debug)]
pub(crate) struct Stock {
    orders: OrderGenerator,
    templates: Vec<Template>,
}

#[derive(Debug)]
struct Template {
    /// All that comes after the uid.
    rest: Bytes,
    items: u64,
}

impl Stock {
    /// That of a seed.
    ///
    /// # Errors
    ///
    /// Where canonical JSON does not begin as it should.
    pub(crate) fn new(seed: u64) -> Result<Stock> {
        let orders = OrderGenerator::new(seed, Mix::default());
        let template = |number| {
            let order = orders.order(number);
            let json = order.json();
            let before = BEFORE_UID.len() + order.order_uid.as_str().len();
            anyhow::ensure!(json.starts_with(BEFORE_UID), "canonical JSON begins with the uid");
            Ok(Template {
                rest: json.slice(before..),
                items: order.items.len() as u64,
            })
        };
        let templates = (0..TEMPLATES).map(template).collect::<Result<_>>()?;
        Ok(Stock { orders, templates })
    }

    /// The uid of the order with this number; that of the message with this number which `seed` publishes for the same seed.
    pub(super) fn uid(&self, number: u64) -> OrderUid {
        self.orders.uid(number)
    }

    /// A uid that no order of this stock has, nor will have.
    pub(super) fn unknown_uid(&self, number: u64) -> OrderUid {
        self.orders.uid(u64::MAX / 2 + number)
    }

    /// The order with this number, as it is published and served.
    pub(super) fn order(&self, number: u64) -> (OrderUid, Bytes) {
        let uid = self.uid(number);
        let rest = &self.template(number).rest;
        let mut json = Vec::with_capacity(BEFORE_UID.len() + uid.as_str().len() + rest.len());
        json.extend_from_slice(BEFORE_UID);
        json.extend_from_slice(uid.as_str().as_bytes());
        json.extend_from_slice(rest);
        (uid, json.into())
    }

    /// How many items that order has.
    pub(super) fn items(&self, number: u64) -> u64 {
        self.template(number).items
    }

    fn template(&self, number: u64) -> &Template {
        &self.templates[(number % TEMPLATES) as usize]
    }
}

#[cfg(test)]
mod tests {
    use order_domain::parse;

    use super::*;

    #[test]
    fn an_order_is_canonical_under_its_own_uid() {
        let stock = Stock::new(7).unwrap();
        for number in [0, 1, TEMPLATES, 5 * TEMPLATES + 17] {
            let (uid, json) = stock.order(number);
            let order = parse(&json).unwrap().order;
            assert_eq!((&order.order_uid, order.json()), (&uid, &json));
            assert_eq!(order.items.len() as u64, stock.items(number));
        }
        assert_ne!(stock.uid(0), stock.uid(TEMPLATES));
        assert_ne!(stock.order(0).1, Stock::new(8).unwrap().order(0).1);
    }

    #[test]
    fn what_seed_publishes_has_the_same_uids() {
        let stock = Stock::new(7).unwrap();
        let published = OrderGenerator::new(7, Mix::default()).take(5);
        for (number, message) in published.enumerate() {
            assert_eq!(
                parse(&message.payload).unwrap().order.order_uid,
                stock.uid(number as u64)
            );
        }
    }
}

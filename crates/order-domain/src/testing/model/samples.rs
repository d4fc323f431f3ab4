//! The messages of a history. They are made once for all histories, since only their parsing is a part of any.

use std::sync::OnceLock;

use bytes::Bytes;

use super::plan::UIDS;
use crate::{OrderUid, parse};

/// How many versions of an order there are at most.
pub(super) const VERSIONS: usize = 40;

/// One message, and what is stored of it.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) payload: Bytes,
    pub(super) kind: Kind,
    pub(super) uid: OrderUid,
    /// What a reader is answered, where it is an order.
    pub(super) json: Bytes,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Order,
    /// An order that the database rejects, for as long as the world lasts.
    Refused,
    /// Not an order.
    Bad,
}

/// The customer whose orders the database rejects.
pub(super) const REFUSED_CUSTOMER: &str = "refused";

/// The order of this number.
pub(super) fn uid(number: usize) -> OrderUid {
    OrderUid::new(&format!("order-{number}")).expect("a good uid")
}

/// A version of the order of this number.
pub(super) fn sample(number: usize, version: usize, kind: Kind) -> Sample {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        (0..UIDS * VERSIONS)
            .flat_map(|place| {
                [Kind::Order, Kind::Refused, Kind::Bad]
                    .map(|kind| make(place / VERSIONS, place % VERSIONS, kind))
            })
            .collect()
    });
    samples[(number * VERSIONS + version % VERSIONS) * 3 + kind as usize].clone()
}

/// Only what is required, so that a history spends its time on what is interleaved rather than on parsing.
fn make(number: usize, version: usize, kind: Kind) -> Sample {
    let uid = uid(number);
    let customer = if kind == Kind::Refused {
        REFUSED_CUSTOMER
    } else {
        "test"
    };
    let text = format!(
        r#"{{"order_uid":"{uid}","track_number":"T","locale":"en","customer_id":"{customer}","delivery_service":"meest",
        "date_created":"2024-01-01T00:00:{number:02}Z",
        "delivery":{{"name":"N","phone":"+1","city":"C","address":"A"}},
        "payment":{{"transaction":"t","currency":"USD","provider":"p","amount":{version},"payment_dt":1,"goods_total":1,
        "custom_fee":0}}}}"#
    );
    if kind == Kind::Bad {
        let payload = Bytes::copy_from_slice(&text.as_bytes()[..40]);
        return Sample {
            payload,
            kind,
            uid,
            json: Bytes::new(),
        };
    }
    let parsed = parse(text.as_bytes()).expect("a whole order");
    Sample {
        payload: text.into(),
        kind,
        uid,
        json: parsed.order.json().clone(),
    }
}

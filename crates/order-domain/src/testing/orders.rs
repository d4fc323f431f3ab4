//! Orders to test with: samples, versions of them, and proptest strategies for any order there can be.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{Amount, Delivery, Item, Order, OrderParts, OrderUid, Payment, Text, UtcDateTime, limits, parse};

/// An order in the canonical spelling: what is read from it is written as exactly these bytes.
pub const CANONICAL_ORDER: &[u8] = include_bytes!("data/canonical.json").trim_ascii();

/// An order in the camelCase spelling, with everything that is only read liberally.
pub const CAMEL_CASE_ORDER: &[u8] = include_bytes!("data/camel-case.json").trim_ascii();

/// The order of [`CANONICAL_ORDER`] under another uid.
///
/// # Panics
///
/// If `uid` is not a uid.
pub fn sample_order(uid: &str) -> Order {
    sample_order_version(uid, 0)
}

/// A later version of [`sample_order`]: its price is `version` higher, and it has `1 + version % 3` items, so that an update
/// changes the order, adds items and takes items away. All versions differ.
///
/// # Panics
///
/// If `uid` is not a uid.
pub fn sample_order_version(uid: &str, version: u32) -> Order {
    let sample = parse(CANONICAL_ORDER).expect("the canonical sample is an order");
    let mut parts = sample.order.into_parts();
    parts.order_uid = OrderUid::new(uid).expect("a test gives a good uid");
    parts.payment.amount =
        Amount::new(parts.payment.amount.as_decimal() + rust_decimal::Decimal::from(version))
            .expect("the sample's amount is far from the limit");
    let first = parts.items[0].clone();
    parts.items = (0..=i64::from(version % 3))
        .map(|index| Item {
            chrt_id: first.chrt_id + index,
            ..first.clone()
        })
        .collect();
    Order::new(parts).expect("the canonical sample is an order under any uid")
}

/// Any order there can be, those at the limits included. Most are small, so that tests are fast.
pub fn any_order() -> impl Strategy<Value = Order> {
    orders_of(any_uid())
}

/// Any order there can be under this uid.
pub fn any_order_with_uid(uid: OrderUid) -> impl Strategy<Value = Order> {
    orders_of(Just(uid))
}

fn orders_of(uids: impl Strategy<Value = OrderUid>) -> impl Strategy<Value = Order> {
    let head = (
        uids,
        any_searchable_text(),
        any_text(),
        any_delivery().boxed(),
        any_payment().boxed(),
    );
    let texts = (
        any_required_text(),
        any_text(),
        any_searchable_text(),
        any_required_text(),
        any_text(),
    );
    let last = (any::<i32>(), any_date_time(), any_text());
    (head, any_items(), texts, last).prop_filter_map("more bytes than an order may have", |it| {
        let ((order_uid, track_number, entry, delivery, payment), items, texts, last) = it;
        let (locale, internal_signature, customer_id, delivery_service, shardkey) = texts;
        let (sm_id, date_created, oof_shard) = last;
        let parts = OrderParts {
            order_uid,
            track_number,
            entry,
            delivery,
            payment,
            items,
            locale,
            internal_signature,
            customer_id,
            delivery_service,
            shardkey,
            sm_id,
            date_created,
            oof_shard,
        };
        Order::new(parts).ok()
    })
}

/// Any uid there can be.
pub fn any_uid() -> impl Strategy<Value = OrderUid> {
    "[A-Za-z0-9._-]{1,64}".prop_filter_map("`.` and `..` are no uids", |uid| OrderUid::new(&uid).ok())
}

/// Any amount there can be.
pub fn any_amount() -> impl Strategy<Value = Amount> {
    const LARGEST: i64 = 999_999_999_999_999_999;
    let digits = prop_oneof![
        4 => -100_000..=100_000_i64,
        2 => -LARGEST..=LARGEST,
        1 => select(vec![0, LARGEST, -LARGEST, 100_000_000_000_000_000]),
    ];
    (digits, 0..=4_u32).prop_map(|(digits, scale)| {
        Amount::new(rust_decimal::Decimal::new(digits, scale)).expect("18 digits, 4 of them after the point")
    })
}

/// Any moment an order can have.
pub fn any_date_time() -> impl Strategy<Value = UtcDateTime> {
    const FIRST: i64 = -62_135_596_800_000_000;
    const LAST: i64 = 253_402_300_799_999_999;
    let micros = prop_oneof![
        4 => FIRST..=LAST,
        4 => (FIRST / 1_000_000..=LAST / 1_000_000).prop_map(|seconds| seconds * 1_000_000),
        1 => select(vec![FIRST, LAST, 0, -1, 1]),
    ];
    micros.prop_map(|micros| UtcDateTime::from_unix_micros(micros).expect("in the range"))
}

/// Any text that may be empty.
pub fn any_text() -> BoxedStrategy<Text> {
    option::weighted(0.8, any_required_text())
        .prop_map(Option::unwrap_or_default)
        .boxed()
}

/// Any text that may not be empty.
pub fn any_required_text() -> BoxedStrategy<Text> {
    texts_up_to(limits::TEXT_BYTES)
}

/// Any text by which orders are searched.
pub fn any_searchable_text() -> BoxedStrategy<Text> {
    texts_up_to(limits::SEARCHABLE_TEXT_BYTES)
}

/// Texts of 1 to `max_bytes` bytes: words, every script, what JSON must escape, and the limit itself.
fn texts_up_to(max_bytes: usize) -> BoxedStrategy<Text> {
    let odd = [
        '"', '\\', '/', '\u{1}', '\n', '\t', '\u{1f}', '\u{7f}', '\u{2028}', '\u{feff}', 'é', '漢', '🚚',
    ];
    let plain = select(
        ('a'..='z')
            .chain('A'..='Z')
            .chain('0'..='9')
            .chain([' ', '.', '+', '-'])
            .collect::<Vec<_>>(),
    );
    let any = any::<char>().prop_filter("NUL is refused", |it| *it != '\0');
    let character = prop_oneof![select(odd.to_vec()), any].boxed();
    prop_oneof![
        8 => vec(plain, 1..24).prop_map(Text::from_iter),
        8 => vec(character.clone(), 1..12).prop_map(Text::from_iter),
        1 => character.prop_map(move |it| Text::from_iter(std::iter::repeat_n(it, max_bytes / it.len_utf8()))),
    ]
    .boxed()
}

fn any_delivery() -> impl Strategy<Value = Delivery> {
    let required = || any_required_text();
    (
        required(),
        required(),
        any_text(),
        required(),
        required(),
        any_text(),
        any_text(),
    )
        .prop_map(|(name, phone, zip, city, address, region, email)| Delivery {
            name,
            phone,
            zip,
            city,
            address,
            region,
            email,
        })
}

fn any_payment() -> impl Strategy<Value = Payment> {
    let texts = (
        any_searchable_text(),
        any_text(),
        any_required_text(),
        any_required_text(),
        any_text(),
    );
    let amounts = (any_amount(), any_amount(), any_amount(), any_amount());
    (texts, amounts, any::<i64>()).prop_map(|(texts, amounts, payment_dt)| {
        let (transaction, request_id, currency, provider, bank) = texts;
        let (amount, delivery_cost, goods_total, custom_fee) = amounts;
        Payment {
            transaction,
            request_id,
            currency,
            provider,
            amount,
            payment_dt,
            bank,
            delivery_cost,
            goods_total,
            custom_fee,
        }
    })
}

/// A few items, or now and then one item so often that the order has as many as it may.
fn any_items() -> BoxedStrategy<Vec<Item>> {
    let item = any_item().boxed();
    prop_oneof![
        40 => vec(item.clone(), 0..=8),
        1 => item.prop_map(|item| vec![item; limits::ITEMS]),
    ]
    .boxed()
}

fn any_item() -> impl Strategy<Value = Item> {
    let texts = (
        any_searchable_text(),
        any_text(),
        any_required_text(),
        any_text(),
        any_required_text(),
    );
    let integers = (any::<i64>(), any::<i64>(), any::<i32>(), any::<i32>());
    (texts, integers, any_amount(), any_amount()).prop_map(|(texts, integers, price, total_price)| {
        let (track_number, rid, name, size, brand) = texts;
        let (chrt_id, nm_id, sale, status) = integers;
        Item {
            chrt_id,
            track_number,
            price,
            rid,
            name,
            sale,
            size,
            total_price,
            nm_id,
            brand,
            status,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_sample_differ_and_keep_its_uid() {
        let versions: Vec<Order> = (0..9).map(|version| sample_order_version("x", version)).collect();
        for (index, order) in versions.iter().enumerate() {
            assert_eq!(order.order_uid.as_str(), "x");
            assert_eq!(order.items.len(), 1 + index % 3);
            assert!(versions[..index].iter().all(|earlier| earlier != order));
        }
    }
}

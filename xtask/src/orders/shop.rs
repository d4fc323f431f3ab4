//! A shop whose customers order by chance: a new order, and a later version of one.

use order_domain::{Amount, Delivery, Item, OrderParts, OrderUid, Payment, Text, UtcDateTime};
use rust_decimal::Decimal;

use super::dice::Dice;
use super::words::{ARTICLES, BANKS, PLACES, PROVIDERS, Place, STATUSES};

const HEX: &[u8] = b"0123456789abcdef";
const CAPITALS_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// The shop's articles are numbered, and ordered over and over: many orders share one, as in life.
const CATALOGUE: u64 = 5_000;
/// How often an order has 1, 2, … 8 items: about three on average.
const ITEM_COUNTS: &[u64] = &[30, 22, 15, 11, 8, 6, 4, 4];
/// 2021-11-26 in microseconds.
const FIRST_DAY: i64 = 1_637_884_800_000_000;
/// Five years in seconds: orders come from this time, which does not depend on today, or a seed would not repeat them.
const FIVE_YEARS: i64 = 5 * 365 * 86_400;

/// A new order, under this uid.
pub(super) fn new_order(uid: OrderUid, dice: &mut Dice) -> OrderParts {
    let place = dice.pick(PLACES);
    let track_number = Text::from(format!("WBIL{}", dice.text(10, CAPITALS_AND_DIGITS)));
    let date_created = date_created(dice);
    let items: Vec<Item> = (0..=dice.weighted(ITEM_COUNTS))
        .map(|_| item(&track_number, place, dice))
        .collect();
    let mut payment = payment(&uid, place, date_created, dice);
    sum_up(&mut payment, &items);
    OrderParts {
        order_uid: uid,
        track_number,
        entry: "WBIL".into(),
        delivery: delivery(place, dice),
        payment,
        items,
        locale: place.locale.into(),
        internal_signature: if dice.percent(10.0) {
            dice.text(32, HEX).into()
        } else {
            Text::default()
        },
        customer_id: format!("customer-{}", dice.below(20_000)).into(),
        delivery_service: (*dice.pick(place.carriers)).into(),
        shardkey: dice.below(10).to_string().into(),
        sm_id: dice.between(0, 99) as i32,
        date_created,
        oof_shard: dice.between(1, 2).to_string().into(),
    }
}

/// Makes a later version of an order: other prices, the articles further on their way, at times one taken back or
/// another address. `change` is written into it, so that no two versions of an order are the same.
pub(super) fn change_order(order: &mut OrderParts, change: u64, dice: &mut Dice) {
    if dice.percent(30.0) && order.items.len() > 1 {
        let left = dice.between(1, order.items.len() as i64 - 1);
        order.items.truncate(left as usize);
    }
    for item in &mut order.items {
        item.status = *dice.pick(STATUSES);
        if dice.percent(50.0) {
            // Up to a tenth cheaper, in steps that the money has.
            let scale = item.total_price.as_decimal().scale();
            let share = Decimal::new(dice.between(900, 999), 3);
            item.total_price = amount((item.total_price.as_decimal() * share).round_dp(scale));
        }
    }
    if dice.percent(20.0) {
        order.delivery.address.push_str(" ✎ 2");
    }
    order.payment.request_id = format!("change-{change}").into();
    sum_up(&mut order.payment, &order.items);
}

/// The time of an order: to the microsecond, the millisecond or the second, as different shops write it.
fn date_created(dice: &mut Dice) -> UtcDateTime {
    let seconds = dice.between(0, FIVE_YEARS - 1);
    let micros = match dice.weighted(&[4, 3, 3]) {
        0 => 0,
        1 => dice.between(0, 999) * 1_000,
        _ => dice.between(0, 999_999),
    };
    UtcDateTime::from_unix_micros(FIRST_DAY + seconds * 1_000_000 + micros).expect("within five years")
}

fn delivery(place: &Place, dice: &mut Dice) -> Delivery {
    let (city, region) = *dice.pick(place.cities);
    let number = dice.between(1, 199).to_string();
    let has_email = dice.percent(80.0);
    Delivery {
        name: (*dice.pick(place.people)).into(),
        phone: format!("{}{}", place.phone, dice.text(8, b"0123456789")).into(),
        zip: place.zip.chars().map(|sign| zip_character(sign, dice)).collect(),
        city: city.into(),
        address: dice.pick(place.streets).replace('#', &number).into(),
        region: region.into(),
        email: if has_email {
            format!("someone+{}@example.com", dice.text(6, HEX)).into()
        } else {
            Text::default()
        },
    }
}

fn zip_character(sign: char, dice: &mut Dice) -> char {
    match sign {
        '#' => char::from(*dice.pick(b"0123456789")),
        '@' => char::from(*dice.pick(&CAPITALS_AND_DIGITS[..26])),
        other => other,
    }
}

fn item(track_number: &Text, place: &Place, dice: &mut Dice) -> Item {
    let number = dice.below(CATALOGUE);
    let article = &ARTICLES[number as usize % ARTICLES.len()];
    let price = price(place, dice);
    let sale = if dice.percent(40.0) {
        dice.between(1, 14) as i32 * 5
    } else {
        0
    };
    let reduced = price * Decimal::new(100 - i64::from(sale), 2);
    Item {
        chrt_id: 9_900_000 + number as i64,
        track_number: track_number.clone(),
        price: amount(price),
        rid: dice.text(19, HEX).into(),
        name: article.name.into(),
        sale,
        size: (*dice.pick(article.sizes)).into(),
        total_price: amount(reduced.round_dp(price.scale())),
        nm_id: 2_300_000 + (number / 3) as i64,
        brand: article.brand.into(),
        status: *dice.pick(STATUSES),
    }
}

/// What an article costs. A few are sold by the piece, for fractions of the smallest coin.
fn price(place: &Place, dice: &mut Dice) -> Decimal {
    if dice.percent(3.0) {
        return Decimal::new(dice.between(1, 9_999), 4);
    }
    let units = place.unit * dice.between(1, 120);
    let coins = 10_i64.pow(place.decimals);
    Decimal::new(units * coins + dice.between(0, coins - 1), place.decimals)
}

fn payment(uid: &OrderUid, place: &Place, created: UtcDateTime, dice: &mut Dice) -> Payment {
    let delivery_cost = if dice.percent(60.0) {
        price(place, dice)
    } else {
        Decimal::ZERO
    };
    let custom_fee = match dice.weighted(&[90, 7, 3]) {
        0 => Decimal::ZERO,
        1 => price(place, dice),
        // A voucher.
        _ => -price(place, dice),
    };
    Payment {
        transaction: uid.as_str().into(),
        request_id: Text::default(),
        currency: place.currency.into(),
        provider: (*dice.pick(PROVIDERS)).into(),
        amount: Amount::default(),
        payment_dt: created.as_unix_seconds() + dice.between(0, 3_600),
        bank: (*dice.pick(BANKS)).into(),
        delivery_cost: amount(delivery_cost),
        goods_total: Amount::default(),
        custom_fee: amount(custom_fee),
    }
}

/// Makes the totals what the items and the fees come to.
fn sum_up(payment: &mut Payment, items: &[Item]) {
    let goods: Decimal = items.iter().map(|item| item.total_price.as_decimal()).sum();
    payment.goods_total = amount(goods);
    payment.amount = amount(goods + payment.delivery_cost.as_decimal() + payment.custom_fee.as_decimal());
}

fn amount(value: Decimal) -> Amount {
    Amount::new(value).expect("prices here have few digits, at most four of them after the point")
}

//! What reading and writing one order costs, with nothing around it.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use order_domain::testing::orders::{CAMEL_CASE_ORDER, sample_order_version};
use order_domain::{Order, parse, render};

fn main() {
    divan::main();
}

/// With three items.
fn order() -> Order {
    sample_order_version("b563feb7b2b84b6test", 2)
}

#[divan::bench]
fn parse_canonical(bencher: Bencher) {
    let order = order();
    let parse = || parse(black_box(order.json()));
    bencher
        .counter(BytesCount::of_slice(order.json().as_ref()))
        .bench(parse);
}

#[divan::bench]
fn parse_camel_case(bencher: Bencher) {
    bencher
        .counter(BytesCount::of_slice(CAMEL_CASE_ORDER))
        .bench(|| parse(black_box(CAMEL_CASE_ORDER)));
}

/// One field is of the wrong type: the message is read twice, to name every fault.
#[divan::bench]
fn parse_faulty(bencher: Bencher) {
    let text = String::from_utf8_lossy(order().json()).replace("\"sm_id\":99", "\"sm_id\":\"x\"");
    assert!(parse(text.as_bytes()).is_err(), "the message has a fault");
    bencher
        .counter(BytesCount::of_str(&text))
        .bench(|| parse(black_box(text.as_bytes())));
}

#[divan::bench]
fn render_canonical(bencher: Bencher) {
    let order = order();
    bencher
        .counter(BytesCount::of_slice(order.json().as_ref()))
        .bench(|| render(black_box(&order)));
}

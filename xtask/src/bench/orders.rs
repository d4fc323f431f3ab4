//! The orders that are measured with: all of three items, in streams that are filled once and read again and again.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use order_domain::{Order, OrderBus, OrderUid, OutgoingMessage};
use xtask::orders::{Mix, OrderGenerator};

use super::world::{Names, World};

/// How many items each order has.
const ITEMS: usize = 3;
/// How many messages wait for their acknowledgement at once.
const UNDER_WAY: usize = 512;

/// The order with this number. A later version differs in each of its parts and is as long, so that it costs the same.
pub(super) fn order(generator: &OrderGenerator, number: u64, version: u8) -> Result<Order> {
    let mut parts = generator.order(number).into_parts();
    let mut more = number;
    while parts.items.len() < ITEMS {
        more += 1;
        parts.items.extend(generator.order(more).into_parts().items);
    }
    parts.items.truncate(ITEMS);
    parts.entry = format!("V{version:03}").into();
    parts.delivery.email = format!("v{version:03}@example.com").into();
    parts.payment.request_id = format!("V{version:03}").into();
    parts
        .items
        .iter_mut()
        .for_each(|item| item.status = i32::from(version));
    Order::new(parts).context("the generator made a bad order")
}

pub(super) fn generator() -> OrderGenerator {
    OrderGenerator::new(6, Mix::default())
}

/// Fills a stream with the orders of these numbers, in this version.
pub(super) async fn fill(world: &World, stream: &str, numbers: Range<u64>, version: u8) -> Result<()> {
    let generator = generator();
    publish(
        world,
        stream,
        numbers.map(|number| order(&generator, number, version)),
    )
    .await
}

/// Fills a stream with `count` orders whose uids are the numbers from 0 on.
pub(super) async fn fill_numbered(world: &World, stream: &str, count: u64) -> Result<()> {
    let generator = generator();
    let numbered = (0..count).map(|number| {
        let mut parts = order(&generator, number, 1)?.into_parts();
        parts.order_uid = OrderUid::new(&number.to_string())?;
        Order::new(parts).context("the generator made a bad order")
    });
    publish(world, stream, numbered).await
}

/// The numbers below `count`, each once, in an order in which neighbours lie far apart.
pub(super) fn scattered(step: u64, count: u64) -> u64 {
    // A prime larger than any count that fits this machine has no divisor in common with it.
    const STRIDE: u64 = 2_147_483_647;
    step.wrapping_mul(STRIDE) % count
}

async fn publish(
    world: &World,
    stream_name: &str,
    orders: impl Iterator<Item = Result<Order>>,
) -> Result<()> {
    // The stream is made by whoever subscribes first. The service gets a consumer of its own later, by another name.
    let bus = world.bus(&Names::new("bench_fill", stream_name)).await?;
    let subscription = bus.subscribe().await?;
    subscription.release(&[], Duration::from_secs(1)).await;
    let mut answers = stream::iter(orders.enumerate())
        .map(|(number, order)| {
            let bus = &bus;
            async move {
                let message = OutgoingMessage {
                    id: number.to_string(),
                    headers: Vec::new(),
                    payload: order?.json().clone(),
                };
                let ack = bus.publish(message).await?;
                ensure!(!ack.duplicate, "the stream was filled before");
                Ok(())
            }
        })
        .buffer_unordered(UNDER_WAY);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_numbers_are_all_numbers() {
        let mut numbers: Vec<u64> = (1..=1_000).map(|step| scattered(step, 1_000)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
    }
}

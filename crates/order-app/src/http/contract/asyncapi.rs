//! AsyncAPI 3: the subject that orders are published to.

use serde_json::{Value, json};

use super::order_schema::{EXAMPLE, NEW_ORDER, order_schemas};

/// The document, for orders that are published to this subject.
pub(super) fn document(subject: &str) -> Value {
    let root = "#/components/schemas/";
    let schemas: Value = order_schemas(root)
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).expect("a schema is JSON")))
        .collect();
    let example: Value = serde_json::from_str(EXAMPLE).expect("the example is JSON");
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Order Tracker: orders on NATS JetStream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every new or changed order is published as one JSON message. The broker's time stamp makes it a \
                version: of an order that is published again, the version that the broker stored last is the one that is served. \
                A message that is no order stops no other: it is kept whole, with the reason, as a dead letter.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "orders": {
                "address": subject,
                "title": "Orders",
                "description": "A subject of a JetStream stream. Publish with a request and wait for the broker's acknowledgement: \
                    from then on the order is not lost.",
                "messages": { "order": { "$ref": "#/components/messages/order" } },
            },
        },
        "operations": {
            "takeOrder": {
                "action": "receive",
                "channel": { "$ref": "#/channels/orders" },
                "messages": [{ "$ref": "#/channels/orders/messages/order" }],
                "summary": "Takes an order, stores it, and serves it from then on.",
            },
            "publishOrder": {
                "action": "send",
                "channel": { "$ref": "#/channels/orders" },
                "messages": [{ "$ref": "#/channels/orders/messages/order" }],
                "summary": "Publishes an order that came by `POST /api/v1/orders`, as canonical JSON.",
            },
        },
        "components": {
            "messages": {
                "order": {
                    "name": "order",
                    "title": "A new or changed order",
                    "contentType": "application/json",
                    "headers": headers(),
                    "payload": { "$ref": format!("{root}{NEW_ORDER}") },
                    "examples": [{
                        "name": "order",
                        "headers": {
                            "Nats-Msg-Id": "5e0c8f0a-checkout-17",
                            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                        },
                        "payload": example,
                    }],
                },
            },
            "schemas": schemas,
        },
    })
}

fn headers() -> Value {
    json!({
        "type": "object",
        "properties": {
            "Nats-Msg-Id": {
                "type": "string",
                "minLength": 1,
                "description": "Names this attempt to publish, not the order: while the stream remembers an id, another message with it is \
                    acknowledged as a duplicate and not stored. Use it again only to repeat the very same publish.",
            },
            "traceparent": {
                "type": "string",
                "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
                "description": "W3C Trace Context of the publisher.",
            },
        },
    })
}

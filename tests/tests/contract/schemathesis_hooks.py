"""What JSON Schema cannot say of an order, said to schemathesis: an amount has at most four digits after the point."""

import schemathesis

AMOUNTS = {"price", "total_price", "totalPrice", "amount", "delivery_cost", "deliveryCost", "goods_total", "goodsTotal",
           "custom_fee", "customFee"}


def rounded(value):
    if isinstance(value, dict):
        return {name: amount(inner) if name in AMOUNTS else rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return value


def amount(value):
    # A float of more than fifteen digits is not written in full.
    if isinstance(value, float):
        return round(value, 4) if abs(value) < 1e10 else int(value)
    return rounded(value)


@schemathesis.hook
def map_body(context, body):
    return rounded(body)

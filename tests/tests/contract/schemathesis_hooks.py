"""What the document cannot say of good requests, said to schemathesis."""

import schemathesis
from schemathesis import GenerationMode

AMOUNTS = {"price", "total_price", "totalPrice", "amount", "delivery_cost", "deliveryCost", "goods_total", "goodsTotal",
           "custom_fee", "customFee"}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    case.body = with_exact_numbers(case.body)
    # A cursor is one that a list has answered, for the same filters.
    if case.query:
        case.query.pop("cursor", None)


def with_exact_numbers(value, name=None):
    if isinstance(value, dict):
        return {name: with_exact_numbers(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_exact_numbers(inner) for inner in value]
    if isinstance(value, float):
        # To JSON Schema 1.0 is an integer; here it is not.
        if value.is_integer():
            return int(value)
        # An amount has at most four digits after the point, and eighteen in all.
        if name in AMOUNTS:
            return round(value, 4) if abs(value) < 1e10 else int(value)
    return value

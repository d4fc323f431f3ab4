//! A batch as the bytes of its statements' parameters, for the bench that asks what making them costs.

use bytes::BytesMut;
use order_domain::RevisedOrder;
use tokio_postgres::types::{IsNull, Type};

use crate::columns::{Deliveries, Items, Orders, Parameters, Payments, Versions};

const TEXT: Type = Type::TEXT_ARRAY;
const NUMERIC: Type = Type::NUMERIC_ARRAY;
const INT4: Type = Type::INT4_ARRAY;
const INT8: Type = Type::INT8_ARRAY;
const TIME: Type = Type::TIMESTAMPTZ_ARRAY;

const ORDERS: [Type; 14] = [
    TEXT, TIME, INT8, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, INT4, TIME, TEXT, INT4,
];
const DELIVERY: [Type; 10] = [TEXT, TIME, INT8, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT];
const PAYMENT: [Type; 13] = [
    TEXT, TIME, INT8, TEXT, TEXT, TEXT, TEXT, NUMERIC, INT8, TEXT, NUMERIC, NUMERIC, NUMERIC,
];
const ITEMS: [Type; 17] = [
    TEXT, TIME, INT8, INT4, TEXT, INT4, INT8, TEXT, NUMERIC, TEXT, TEXT, INT4, TEXT, NUMERIC, INT8, TEXT,
    INT4,
];

/// The parameters of the four tables' statements, encoded as they are sent.
///
/// # Panics
///
/// If a column is not of its statement's type.
pub fn encode(orders: &[RevisedOrder]) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut encode = |parameters: Parameters<'_>, types: &[Type]| {
        assert_eq!(parameters.len(), types.len(), "each parameter has its type");
        for (parameter, of) in parameters.iter().zip(types) {
            let is_null = parameter.to_sql_checked(of, &mut bytes);
            let is_null = is_null.expect("the column is of its statement's type");
            assert!(matches!(is_null, IsNull::No), "a column is never null");
        }
    };
    let versions = Versions::of(orders).expect("the sequences are those of a stream");
    encode(Orders::of(orders).parameters(&versions), &ORDERS);
    encode(Deliveries::of(orders).parameters(&versions), &DELIVERY);
    encode(Payments::of(orders).parameters(&versions), &PAYMENT);
    encode(Items::of(orders).parameters(&versions), &ITEMS);
    bytes
}

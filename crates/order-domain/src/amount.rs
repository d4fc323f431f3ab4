//! Exact money.

use std::fmt;

use rust_decimal::Decimal;

/// An exact decimal: at most 18 digits, at most 4 of them after the point; may be negative. Never a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(Decimal);

/// Why a number is not an [`Amount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at most 18 digits, at most 4 of them after the point")]
pub struct AmountError;

impl Amount {
    /// Checks `value` and takes it as an amount, without trailing zeros and without `-0`.
    pub fn new(value: Decimal) -> Result<Self, AmountError> {
        let value = value.normalize();
        if value.scale() > 4 || value.mantissa().unsigned_abs() >= 10_u128.pow(18) {
            return Err(AmountError);
        }
        Ok(Amount(value))
    }

    /// The number itself, without trailing zeros.
    pub fn as_decimal(&self) -> Decimal {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

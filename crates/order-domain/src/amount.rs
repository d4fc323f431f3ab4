//! Exact money.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

/// The most digits an amount may have.
const DIGITS: i64 = 18;
/// The most digits an amount may have after the point.
const SCALE: i64 = 4;

/// An exact decimal: at most 18 digits, at most 4 of them after the point; may be negative. Never a float.
///
/// Trailing zeros and the sign of zero mean nothing and are dropped, so that equal amounts are written alike:
///
/// ```
/// use order_domain::Amount;
///
/// let amount: Amount = "150.50".parse()?;
/// assert_eq!(amount.to_string(), "150.5");
/// # Ok::<(), order_domain::AmountError>(())
/// ```
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
        if i64::from(value.scale()) > SCALE || value.mantissa().unsigned_abs() >= 10_u128.pow(DIGITS as u32) {
            return Err(AmountError);
        }
        Ok(Amount(value))
    }

    /// So many ten-thousandths, the smallest part that an amount can have.
    pub fn from_ten_thousandths(count: i128) -> Result<Self, AmountError> {
        let (mut digits, mut scale) = (count, SCALE as u32);
        while scale > 0 && digits % 10 == 0 {
            digits /= 10;
            scale -= 1;
        }
        match i64::try_from(digits) {
            Ok(digits) if digits.unsigned_abs() < 10_u64.pow(DIGITS as u32) => {
                Ok(Amount(Decimal::new(digits, scale)))
            }
            _ => Err(AmountError),
        }
    }

    /// The number itself, without trailing zeros.
    pub fn as_decimal(&self) -> Decimal {
        self.0
    }

    /// The amount as digits and how many of them stand after the point: `150.5` is 1505 and 1.
    pub fn digits_and_scale(&self) -> (i64, u32) {
        let digits = i64::try_from(self.0.mantissa()).expect("an amount has at most 18 digits");
        (digits, self.0.scale())
    }
}

/// The amount without exponent, as the wire format writes it.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<i32> for Amount {
    fn from(whole: i32) -> Self {
        Amount(Decimal::from(whole))
    }
}

/// Reads a JSON number, exactly: `1.5e2` is 150.
///
/// The work is bounded by the length of the text, whatever its exponent.
impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (digits, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], read_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(AmountError),
            Some(parts) => parts,
            None => (digits, ""),
        };
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(AmountError);
        }

        // The number is `significant` times ten to the power of `exponent`, less the fraction's length, plus the zeros that
        // end it. Those zeros are held back: they count only if another digit follows.
        let mut significant: i64 = 0;
        let mut count: i64 = 0;
        let mut zeros: i64 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            match byte {
                b'0' => zeros += 1,
                b'1'..=b'9' => {
                    if significant == 0 {
                        zeros = 0;
                    }
                    count += zeros + 1;
                    if count > DIGITS {
                        return Err(AmountError);
                    }
                    significant = significant * 10_i64.pow(zeros as u32 + 1) + i64::from(byte - b'0');
                    zeros = 0;
                }
                _ => return Err(AmountError),
            }
        }
        if significant == 0 {
            return Ok(Amount::default());
        }
        let exponent = exponent
            .saturating_sub(fraction.len() as i64)
            .saturating_add(zeros);
        if exponent < -SCALE || count.saturating_add(exponent.max(0)) > DIGITS {
            return Err(AmountError);
        }
        let significant = significant * 10_i64.pow(exponent.max(0) as u32);
        let signed = if negative { -significant } else { significant };
        Ok(Amount(Decimal::new(
            signed,
            exponent.min(0).unsigned_abs() as u32,
        )))
    }
}

/// Reads what follows the `e`. One that fits no `i64` becomes the nearest that does: no message is long enough to make
/// up for it.
fn read_exponent(text: &str) -> Result<i64, AmountError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmountError);
    }
    let size = digits.bytes().fold(0_i64, |size, digit| {
        size.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Ok(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        text.parse::<Amount>().ok().map(|amount| amount.to_string())
    }

    #[test]
    fn equal_numbers_are_written_alike() {
        for (text, written) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.000", "0"),
            ("0e999999999999999999999", "0"),
            ("150.50", "150.5"),
            ("-150.50", "-150.5"),
            ("1.5e2", "150"),
            ("1.5E+2", "150"),
            ("15000e-2", "150"),
            ("0.0001", "0.0001"),
            ("1e-4", "0.0001"),
            ("100e-6", "0.0001"),
            ("100", "100"),
            ("1.00000000000000000000000000000000000000", "1"),
            ("999999999999999999", "999999999999999999"),
            ("-99999999999999.9999", "-99999999999999.9999"),
            ("1e17", "100000000000000000"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(written), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in [
            "0.00001",
            "1e-5",
            "1000000000000000000",
            "1e18",
            "99999999999999.99991",
            "999999999999999.9999",
            "123456789012345678901234567890",
            "1e999999999",
            "1e-999999999",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(text.parse::<Amount>(), Err(AmountError), "{text}");
        }
    }

    #[test]
    fn only_json_numbers_are_read() {
        for text in [
            "", "-", "+1", ".5", "5.", "01", "-01", "1e", "1e+", "1e1.5", "1_000", " 1", "1 ", "0x1", "1..2",
            "NaN",
        ] {
            assert_eq!(text.parse::<Amount>(), Err(AmountError), "{text:?}");
        }
    }

    #[test]
    fn long_numbers_cost_no_more_than_reading_them() {
        let zeros = "0".repeat(100_000);
        assert_eq!(canonical(&format!("1.{zeros}")).as_deref(), Some("1"));
        assert_eq!(canonical(&format!("0.{zeros}1e100001")).as_deref(), Some("1"));
        assert_eq!(canonical(&format!("1{zeros}e-100000")).as_deref(), Some("1"));
        assert_eq!(canonical(&format!("1{zeros}")), None);
        assert_eq!(canonical(&"9".repeat(100_000)), None);
        assert_eq!(canonical(&format!("1e{}", "9".repeat(100_000))), None);
    }

    #[test]
    fn the_limits_are_those_of_a_decimal_too() {
        let largest = Decimal::from_i128_with_scale(10_i128.pow(18) - 1, 4);
        assert_eq!(
            Amount::new(largest).map(|amount| amount.to_string()),
            Ok("99999999999999.9999".to_owned())
        );
        assert_eq!(
            Amount::new(Decimal::from_i128_with_scale(10_i128.pow(18), 0)),
            Err(AmountError)
        );
        assert_eq!(Amount::new(Decimal::from_i128_with_scale(1, 5)), Err(AmountError));
        assert_eq!(Amount::new(-Decimal::ZERO), Ok(Amount::default()));
    }
}

//! Amounts as `numeric`, and back.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use order_domain::Amount;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// An amount as a column of type `numeric`.
///
/// A type of our own, because an order of three items has ten amounts, and a decimal for any `numeric` takes several times as long to
/// read and to write.
///
/// It travels as: how many digits to the base of 10,000 there are, the exponent of the first, the sign, and how many decimal places are
/// to be shown, which says nothing about the value; then the digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numeric(pub(crate) Amount);

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let (amount, scale) = self.0.digits_and_scale();
        let one = 10_u64.pow(scale);
        let mut whole = amount.unsigned_abs() / one;
        // The last digit is the fraction: an amount has four decimal places at most.
        let mut digits = [0; 6];
        digits[5] = (amount.unsigned_abs() % one * 10_u64.pow(4 - scale)) as i16;
        for digit in digits[..5].iter_mut().rev() {
            *digit = (whole % 10_000) as i16;
            whole /= 10_000;
        }
        let first = digits.iter().position(|digit| *digit != 0);
        let last = digits.iter().rposition(|digit| *digit != 0);
        let (exponent, digits) = match first.zip(last) {
            Some((first, last)) => (4 - first as i16, &digits[first..=last]),
            None => (0, &[][..]),
        };
        out.put_i16(digits.len() as i16);
        out.put_i16(exponent);
        out.put_i16(if amount < 0 { 0x4000 } else { 0 });
        out.put_i16(scale as i16);
        digits.iter().for_each(|digit| out.put_i16(*digit));
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Numeric {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let mut words = raw
            .chunks_exact(2)
            .map(|word| i16::from_be_bytes([word[0], word[1]]));
        let mut header = || words.next().ok_or("a numeric breaks off");
        let (_count, first, sign, _shown) = (header()?, header()?, header()?, header()?);
        let mut ten_thousandths: i128 = 0;
        for (exponent, digit) in (i16::MIN..=first).rev().zip(words) {
            // The exponent of a ten-thousandth is -1. What is beyond these has more digits than any amount.
            let place = u32::try_from(i32::from(exponent) + 1)
                .ok()
                .filter(|place| *place < 8);
            let place = place.ok_or("a numeric is no amount: too many digits")?;
            ten_thousandths += i128::from(digit) * 10_000_i128.pow(place);
        }
        let signed = match sign {
            0 => ten_thousandths,
            0x4000 => -ten_thousandths,
            _ => return Err("a numeric is no amount: not a number, or infinite".into()),
        };
        Ok(Numeric(Amount::from_ten_thousandths(signed)?))
    }

    accepts!(NUMERIC);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal::Decimal;

    fn read(raw: &[u8]) -> Option<Amount> {
        Numeric::from_sql(&Type::NUMERIC, raw)
            .ok()
            .map(|numeric| numeric.0)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "0",
            "1",
            "-1",
            "0.0001",
            "-0.05",
            "0.5",
            "150.5",
            "1500",
            "10000",
            "100000000",
            "9999.9999",
            "-123456789.01",
            "99999999999999.9999",
            "999999999999999999",
            "-999999999999999999",
        ] {
            let amount: Amount = text.parse().expect("an amount");
            // As it is, and with the zeros of a column that has four places.
            for decimal in [amount.as_decimal(), amount.as_decimal() + Decimal::new(0, 4)] {
                let mut raw = BytesMut::new();
                decimal.to_sql(&Type::NUMERIC, &mut raw).expect("written");
                assert_eq!(read(&raw), Some(amount), "{text}");
            }
            let mut raw = BytesMut::new();
            Numeric(amount).to_sql(&Type::NUMERIC, &mut raw).expect("written");
            assert_eq!(read(&raw), Some(amount), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for (first, sign, digits) in [
            (-2, 0, vec![1]),
            (0, 0, vec![1, 0, 5_000]),
            (4, 0, vec![100]),
            (i16::MAX, 0, vec![1]),
            (i16::MIN, 0, vec![1]),
            (0, 0xC000_u16 as i16, vec![]),
        ] {
            let words = [&[digits.len() as i16, first, sign, 0][..], &digits].concat();
            let raw: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(read(&raw), None, "{first} {digits:?}");
        }
        assert_eq!(read(&[0, 1, 0]), None);
    }
}

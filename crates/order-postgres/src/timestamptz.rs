//! `timestamptz` from microseconds and back, over all years that an order may have.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// 2000-01-01 in microseconds since 1970-01-01: where PostgreSQL begins to count.
const EPOCH: i64 = 946_684_800_000_000;

/// A moment as a column of type `timestamptz`, in microseconds since 1970-01-01.
///
/// A type of our own, because `jiff::Timestamp` ends before the last hours of the year 9999, in which an order may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Micros(pub(crate) i64);

impl Micros {
    /// Later than every moment an order may have: `infinity`.
    pub(crate) const INFINITY: Micros = Micros(i64::MAX);
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let since_2000 = match *self {
            Micros::INFINITY => i64::MAX,
            Micros(micros) => micros
                .checked_sub(EPOCH)
                .ok_or("the moment is too early for timestamptz")?,
        };
        out.put_i64(since_2000);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        Ok(Micros(
            since_2000
                .checked_add(EPOCH)
                .ok_or("the moment is too late: is it infinity?")?,
        ))
    }

    accepts!(TIMESTAMPTZ);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let year_1 = -62_135_596_800_000_000;
        let year_9999 = 253_402_300_799_999_999;
        for micros in [year_1, -1, 0, 1, EPOCH, year_9999] {
            let mut bytes = BytesMut::new();
            Micros(micros).to_sql(&Type::TIMESTAMPTZ, &mut bytes).unwrap();
            assert_eq!(
                Micros::from_sql(&Type::TIMESTAMPTZ, &bytes).unwrap(),
                Micros(micros)
            );
        }
        assert!(
            Micros(i64::MIN)
                .to_sql(&Type::TIMESTAMPTZ, &mut BytesMut::new())
                .is_err()
        );
    }
}

//! A moment in UTC, to the microsecond.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};

/// The Unix epoch.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);
/// `0001-01-01T00:00:00Z` in microseconds.
const MIN_MICROS: i64 = -62_135_596_800_000_000;
/// `9999-12-31T23:59:59.999999Z` in microseconds.
const MAX_MICROS: i64 = 253_402_300_799_999_999;
/// What one second is here.
const MICROS: i64 = 1_000_000;

/// A moment in UTC, in the years 0001 to 9999, to the microsecond.
///
/// Read from RFC 3339 with any offset, and written in UTC without trailing zeros:
///
/// ```
/// use order_domain::UtcDateTime;
///
/// let moment: UtcDateTime = "2024-06-11T14:02:33.482913746+03:00".parse()?;
/// assert_eq!(moment.to_string(), "2024-06-11T11:02:33.482913Z");
/// # Ok::<(), order_domain::UtcDateTimeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcDateTime(i64);

/// Why something is not a [`UtcDateTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 date and time in the years 0001 to 9999 of UTC")]
pub struct UtcDateTimeError;

impl UtcDateTime {
    /// The moment so many microseconds after the Unix epoch.
    pub fn from_unix_micros(micros: i64) -> Result<Self, UtcDateTimeError> {
        if (MIN_MICROS..=MAX_MICROS).contains(&micros) {
            Ok(UtcDateTime(micros))
        } else {
            Err(UtcDateTimeError)
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn as_unix_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch; what is less than a second is cut off.
    pub fn as_unix_seconds(self) -> i64 {
        self.0.div_euclid(MICROS)
    }

    /// Writes the moment as [`Display`](fmt::Display) does, into a buffer and without the formatter's cost.
    pub(crate) fn write_to(self, out: &mut Vec<u8>) {
        let (buffer, len) = self.render();
        out.extend_from_slice(&buffer[..len]);
    }

    /// The moment as text, and how much of the buffer it fills.
    fn render(self) -> ([u8; 27], usize) {
        let seconds = SignedDuration::from_secs(self.as_unix_seconds());
        let civil = EPOCH
            .checked_add(seconds)
            .expect("the range was checked when the moment was made");
        let mut buffer = *b"0000-00-00T00:00:00.000000Z";
        put(&mut buffer[0..4], civil.year().unsigned_abs().into());
        put(&mut buffer[5..7], civil.month().unsigned_abs().into());
        put(&mut buffer[8..10], civil.day().unsigned_abs().into());
        put(&mut buffer[11..13], civil.hour().unsigned_abs().into());
        put(&mut buffer[14..16], civil.minute().unsigned_abs().into());
        put(&mut buffer[17..19], civil.second().unsigned_abs().into());
        let fraction = self.0.rem_euclid(MICROS);
        put(&mut buffer[20..26], fraction as u32);
        let len = match buffer[20..26].iter().rposition(|digit| *digit != b'0') {
            Some(last) => 20 + last + 2,
            // Not even the point is written where there is no fraction.
            None => 20,
        };
        buffer[len - 1] = b'Z';
        (buffer, len)
    }
}

/// Fills `digits` with `number`, with leading zeros.
fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl fmt::Display for UtcDateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (buffer, len) = self.render();
        f.pad(str::from_utf8(&buffer[..len]).expect("only ASCII was written"))
    }
}

/// Reads RFC 3339: a date, a `T` (or `t`, or a space), a time with seconds, perhaps a fraction, and an offset.
///
/// What is finer than a microsecond is cut off. A leap second is read as the second before it.
impl FromStr for UtcDateTime {
    type Err = UtcDateTimeError;

    fn from_str(text: &str) -> Result<Self, UtcDateTimeError> {
        read(text.as_bytes())
            .and_then(|micros| Self::from_unix_micros(micros).ok())
            .ok_or(UtcDateTimeError)
    }
}

/// The text as microseconds since the Unix epoch, perhaps in a year that is out of range.
fn read(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_at_checked(19)?;
    let [
        _,
        _,
        _,
        _,
        b'-',
        _,
        _,
        b'-',
        _,
        _,
        b'T' | b't' | b' ',
        _,
        _,
        b':',
        _,
        _,
        b':',
        _,
        _,
    ] = head
    else {
        return None;
    };
    let year = i16::try_from(number(&head[0..4])?).ok()?;
    let civil = DateTime::new(
        year,
        small(&head[5..7])?,
        small(&head[8..10])?,
        small(&head[11..13])?,
        small(&head[14..16])?,
        // RFC 3339 knows a 60th second.
        match small(&head[17..19])? {
            60 => 59,
            second => second,
        },
        0,
    )
    .ok()?;
    let (fraction, zone) = match rest {
        [b'.', rest @ ..] => {
            let len = rest.iter().position(|byte| !byte.is_ascii_digit())?;
            if len == 0 {
                return None;
            }
            rest.split_at(len)
        }
        _ => (&rest[..0], rest),
    };
    let cut = &fraction[..fraction.len().min(6)];
    let micros = number(cut)? * 10_u32.pow(6 - cut.len() as u32);
    let offset = match zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), hours @ .., b':', m1, m2] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours * 3600 + minutes * 60);
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = civil.duration_since(EPOCH).as_secs() - offset;
    Some(seconds * MICROS + i64::from(micros))
}

/// The number that these digits write; at most nine of them.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u32::from(digit - b'0'))
    })
}

/// The number that these two digits write.
fn small(digits: &[u8]) -> Option<i8> {
    number(digits).and_then(|number| i8::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        text.parse::<UtcDateTime>().ok().map(|moment| moment.to_string())
    }

    #[test]
    fn is_written_in_utc_cut_to_microseconds_without_trailing_zeros() {
        for (text, written) in [
            ("2021-11-26T06:22:19Z", "2021-11-26T06:22:19Z"),
            ("2021-11-26t06:22:19z", "2021-11-26T06:22:19Z"),
            ("2021-11-26 06:22:19Z", "2021-11-26T06:22:19Z"),
            ("2021-11-26T06:22:19-00:00", "2021-11-26T06:22:19Z"),
            (
                "2024-06-11T14:02:33.482913746+03:00",
                "2024-06-11T11:02:33.482913Z",
            ),
            ("2024-06-11T14:02:33.100000+03:00", "2024-06-11T11:02:33.1Z"),
            ("2024-06-11T14:02:33.0000009Z", "2024-06-11T14:02:33Z"),
            ("2024-06-11T14:02:33.000001Z", "2024-06-11T14:02:33.000001Z"),
            ("2024-02-29T23:59:59.5-00:30", "2024-03-01T00:29:59.5Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("0000-12-31T23:00:00-01:00", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(written), "{text}");
        }
        let long = format!("2021-11-26T06:22:19.{}Z", "9".repeat(100_000));
        assert_eq!(canonical(&long).as_deref(), Some("2021-11-26T06:22:19.999999Z"));
    }

    #[test]
    fn any_other_shape_is_refused() {
        for text in [
            "",
            "2021-11-26",
            "2021-11-26T06:22:19",
            "2021-11-26T06:22Z",
            "2021-11-26T06:22:19.Z",
            "2021-11-26T06:22:19,5Z",
            "2021-11-26T06:22:19.5",
            "2021-11-26T06:22:19+03",
            "2021-11-26T06:22:19+0300",
            "2021-11-26T06:22:19+3:00",
            "2021-11-26T06:22:19+24:00",
            "2021-11-26T06:22:19+03:60",
            "2021-11-26T06:22:19 +03:00",
            "2021-11-26T06:22:19Z ",
            "2021-11-26T06:22:19Z[UTC]",
            "2021-11-26T24:00:00Z",
            "2021-11-26T06:60:00Z",
            "2021-11-26T06:22:61Z",
            "2021-13-26T06:22:19Z",
            "2021-00-26T06:22:19Z",
            "2021-02-29T06:22:19Z",
            "2021-1-026T06:22:19Z",
            "+021-11-26T06:22:19Z",
            "-001-11-26T06:22:19Z",
            "20211126T062219Z",
            "٢٠٢١-11-26T06:22:19Z",
        ] {
            assert_eq!(text.parse::<UtcDateTime>(), Err(UtcDateTimeError), "{text:?}");
        }
    }

    #[test]
    fn the_years_are_those_of_utc() {
        for text in [
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:59:59+01:00",
            "9999-12-31T23:00:00-01:00",
        ] {
            assert_eq!(text.parse::<UtcDateTime>(), Err(UtcDateTimeError), "{text}");
        }
        assert_eq!(
            "0001-01-01T00:00:00Z".parse(),
            UtcDateTime::from_unix_micros(MIN_MICROS)
        );
        assert_eq!(
            "9999-12-31T23:59:59.999999Z".parse(),
            UtcDateTime::from_unix_micros(MAX_MICROS)
        );
        assert_eq!(
            UtcDateTime::from_unix_micros(MIN_MICROS - 1),
            Err(UtcDateTimeError)
        );
        assert_eq!(
            UtcDateTime::from_unix_micros(MAX_MICROS + 1),
            Err(UtcDateTimeError)
        );
        assert_eq!(UtcDateTime::from_unix_micros(i64::MIN), Err(UtcDateTimeError));
    }

    #[test]
    fn seconds_are_cut_towards_the_past() {
        let moment: UtcDateTime = "1969-12-31T23:59:58.5Z".parse().unwrap();
        assert_eq!(
            (moment.as_unix_micros(), moment.as_unix_seconds()),
            (-1_500_000, -2)
        );
    }
}

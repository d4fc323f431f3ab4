//! Where a list goes on, as a text that callers hand back and do not look into.
//!
//! It is base64url of a version, a hash of the filters, the date in microseconds and the uid with its length, so that a text that
//! was cut off is noticed. Nothing is kept for it on this side: any replica, of this release or a later one, goes on from it, also after days.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use order_domain::{OrderFilter, OrderPlace, OrderUid, UtcDateTime};
use sha2::{Digest, Sha256};

/// A cursor of another layout begins with another number.
const VERSION: u8 = 1;
const HASH_LEN: usize = 8;

/// Why a text leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    #[error("`cursor` must be one that this list has answered, as it was")]
    Malformed,
    #[error("`cursor` is of another version; begin without one")]
    OtherVersion,
    #[error("`cursor` belongs to other filters; begin without one")]
    OtherFilters,
}

/// The text that stands for this place in the list of what fits `filter`.
pub(crate) fn encode(place: &OrderPlace, filter: &OrderFilter) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(hash(filter));
    bytes.extend(place.date_created.as_unix_micros().to_be_bytes());
    let uid = place.order_uid.as_str().as_bytes();
    // At most 64.
    bytes.push(uid.len() as u8);
    bytes.extend(uid);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place that a text stands for.
pub(crate) fn decode(text: &str, filter: &OrderFilter) -> Result<OrderPlace, CursorError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Malformed)?;
    let (version, rest) = bytes.split_first().ok_or(CursorError::Malformed)?;
    if *version != VERSION {
        return Err(CursorError::OtherVersion);
    }
    let (filters, rest) = rest
        .split_first_chunk::<HASH_LEN>()
        .ok_or(CursorError::Malformed)?;
    let (micros, rest) = rest.split_first_chunk().ok_or(CursorError::Malformed)?;
    let (len, uid) = rest.split_first().ok_or(CursorError::Malformed)?;
    if uid.len() != usize::from(*len) {
        return Err(CursorError::Malformed);
    }
    let date_created = UtcDateTime::from_unix_micros(i64::from_be_bytes(*micros));
    let order_uid = str::from_utf8(uid).ok().and_then(|uid| OrderUid::new(uid).ok());
    let place = OrderPlace {
        date_created: date_created.map_err(|_| CursorError::Malformed)?,
        order_uid: order_uid.ok_or(CursorError::Malformed)?,
    };
    if *filters != hash(filter) {
        return Err(CursorError::OtherFilters);
    }
    Ok(place)
}

/// Tells filters from each other. It guards against mistakes, not against forgery: a forged cursor only names another place.
fn hash(filter: &OrderFilter) -> [u8; HASH_LEN] {
    let mut hash = Sha256::new();
    for text in [&filter.track_number, &filter.customer_id, &filter.transaction] {
        let text = text.as_ref().map_or("", |text| text.as_str());
        // None is empty, which no text is; the length keeps neighbours apart.
        hash.update([u8::from(!text.is_empty())]);
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let digest: [u8; 32] = hash.finalize().into();
    *digest.first_chunk().expect("32 bytes begin with 8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use order_domain::SearchText;

    fn place(micros: i64, uid: &str) -> OrderPlace {
        OrderPlace {
            date_created: UtcDateTime::from_unix_micros(micros).unwrap(),
            order_uid: OrderUid::new(uid).unwrap(),
        }
    }

    fn filter(texts: [&str; 3]) -> OrderFilter {
        let [track_number, customer_id, transaction] = texts.map(|text| SearchText::new(text).ok());
        OrderFilter {
            track_number,
            customer_id,
            transaction,
        }
    }

    #[test]
    fn a_cursor_reads_back_as_the_place_it_stands_for() {
        for micros in [-62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999] {
            for uid in ["a", "...", &"x".repeat(64)] {
                let filter = filter(["t", "", "p"]);
                let text = encode(&place(micros, uid), &filter);
                assert!(
                    text.bytes()
                        .all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
                );
                assert_eq!(decode(&text, &filter), Ok(place(micros, uid)));
            }
        }
    }

    #[test]
    fn a_cursor_serves_only_the_filters_it_was_made_for() {
        let all = [
            ["", "", ""],
            ["a", "", ""],
            ["", "a", ""],
            ["", "", "a"],
            ["a", "a", ""],
            ["aa", "", ""],
            ["a", "b", ""],
            ["ab", "", ""],
            ["A", "", ""],
        ];
        for made_for in all {
            let text = encode(&place(1, "x"), &filter(made_for));
            for used_with in all {
                let expected = match made_for == used_with {
                    true => Ok(place(1, "x")),
                    false => Err(CursorError::OtherFilters),
                };
                assert_eq!(
                    decode(&text, &filter(used_with)),
                    expected,
                    "{made_for:?} {used_with:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let all = filter([""; 3]);
        let good = encode(&place(1, "x"), &all);
        let cut: Vec<String> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
        for bad in cut
            .iter()
            .map(String::as_str)
            .chain(["*", "a b", "AA==", &format!("{good}=")])
        {
            assert_eq!(decode(bad, &all).err(), Some(CursorError::Malformed), "{bad:?}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
            bytes[at] = byte;
            decode(&URL_SAFE_NO_PAD.encode(bytes), &all).err()
        };
        assert_eq!(with(0, 2), Some(CursorError::OtherVersion));
        assert_eq!(with(17, 0), Some(CursorError::Malformed), "another length");
        assert_eq!(with(9, 0x7f), Some(CursorError::Malformed), "a date beyond all");
        assert_eq!(with(18, b'/'), Some(CursorError::Malformed), "not a uid");
        assert_eq!(with(18, 0xff), Some(CursorError::Malformed), "not UTF-8");
    }

    #[test]
    fn a_cursor_of_an_earlier_build_goes_on_serving() {
        // Kept by callers: whoever changes this breaks them, and needs a version of its own.
        let filter = filter(["WBILMTESTTRACK", "", ""]);
        let text = encode(&place(1_637_907_727_000_000, "b563feb7b2b84b6test"), &filter);
        assert_eq!(text, "AUxM8iBKrofjAAXRqxw-IcATYjU2M2ZlYjdiMmI4NGI2dGVzdA");
    }
}

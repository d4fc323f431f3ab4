//! What comes along with an order that is handed in to be published.

use std::fmt;

use sha2::{Digest, Sha256};

/// A caller's own name for what it wants done once, however often it has to ask.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// Why a text is not an [`IdempotencyKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 printable characters of ASCII")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// The most bytes a key may have.
    pub const MAX_LEN: usize = 255;

    /// Checks `text` and takes it as a key.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or not printable.
    pub fn new(text: impl Into<String>) -> Result<Self, IdempotencyKeyError> {
        let text = text.into();
        let printable = |byte: u8| matches!(byte, b' '..=b'~');
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(printable) {
            Ok(IdempotencyKey(text))
        } else {
            Err(IdempotencyKeyError)
        }
    }

    /// The message id of this body under this key: the same for a repeat, another one for another body.
    pub(crate) fn message_id(&self, body: &[u8]) -> String {
        let mut hash = Sha256::new();
        // The length first, so that no key and body run together into those of another pair.
        hash.update((self.0.len() as u64).to_be_bytes());
        hash.update(&self.0);
        hash.update(body);
        hex(&hash.finalize())
    }
}

/// Keys are the callers' own business, and stay out of the log.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(…)")
    }
}

/// The place in a distributed trace that a request came from, as W3C Trace Context writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

impl TraceParent {
    /// The name of the header that carries it, in HTTP and on the bus.
    pub const HEADER: &'static str = "traceparent";

    /// Takes `text` if it is well-formed: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, neither id all zeros. A later version may have
    /// more behind.
    pub fn new(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next()?;
            let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            (part.len() == digits && part.bytes().all(lower_hex)).then_some(part)
        };
        let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let more = parts.next().is_some();
        let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        let short = text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = version != "ff" && (version != "00" || !more) && short;
        (fits && !is_zero(trace) && !is_zero(parent)).then(|| TraceParent(text.to_owned()))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_printable() {
        for good in [
            "a",
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
            "a b~",
            &"x".repeat(255),
        ] {
            assert!(IdempotencyKey::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\tb", "a\n", "ä", "\u{7f}", &"x".repeat(256)] {
            assert_eq!(IdempotencyKey::new(bad), Err(IdempotencyKeyError), "{bad:?}");
        }
    }

    #[test]
    fn the_message_id_is_of_key_and_body() {
        let id = |key: &str, body: &str| IdempotencyKey::new(key).unwrap().message_id(body.as_bytes());
        assert_eq!(id("a", "b"), id("a", "b"));
        assert_eq!(id("a", "b").len(), 64);
        let others = [id("a", "c"), id("b", "b"), id("ab", ""), id("a", "bb")];
        assert!(others.iter().all(|other| *other != id("a", "b")), "{others:?}");
        assert_ne!(id("ab", "c"), id("a", "bc"), "they do not run together");
    }

    #[test]
    fn only_a_well_formed_traceparent_is_taken() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = format!("00-{trace}-00f067aa0ba902b7-01");
        let taken = |text: &str| TraceParent::new(text).is_some();
        assert_eq!(TraceParent::new(&good).unwrap().as_str(), good);
        assert!(taken(&format!("01-{trace}-00f067aa0ba902b7-01-what-will-be")));
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-00f067aa0ba902b7-1"),
            format!("01-{trace}-00f067aa0ba902b7-01-\r\nX: y"),
            format!("01-{trace}-00f067aa0ba902b7-01-{}", "x".repeat(255)),
        ] {
            assert!(!taken(&bad), "{bad:?}");
        }
    }
}

//! Access tokens: how they are made, and the file that names those in force.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What every token begins with, so that one that got out can be recognised.
const PREFIX: &str = "ot_";
/// How many random bytes a token has.
const RANDOM_BYTES: usize = 32;
/// The most tokens of a file: each request is compared with all of them.
const MOST_TOKENS: usize = 1_000;
/// The most bytes of a file.
const MOST_BYTES: usize = 1 << 20;
/// The most bytes of a token's name.
const LONGEST_NAME: usize = 100;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// Reading orders.
    Read,
    /// Publishing orders.
    Publish,
    /// What operators do: metrics, dead letters.
    Operate,
}

impl Scope {
    const ALL: [Scope; 3] = [Scope::Read, Scope::Publish, Scope::Operate];

    /// Its name, as it stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Publish => "publish",
            Scope::Operate => "operate",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether it has this one.
    pub fn have(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Scopes(scopes.into_iter().fold(0, |all, scope| all | scope.bit()))
    }
}

/// `read,publish`, as it stands in the file.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Scope::ALL
            .into_iter()
            .filter(|scope| self.have(*scope))
            .map(Scope::name)
            .collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

impl FromStr for Scopes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scope = |name| Scope::ALL.into_iter().find(|scope| scope.name() == name);
        let scopes: Option<Scopes> = text.split(',').map(scope).collect();
        scopes.ok_or("must be of read, publish and operate, joined by commas")
    }
}

/// A new token. Shown once, and kept nowhere.
pub struct NewToken {
    /// The token.
    pub token: String,
    /// Its line in the file of tokens.
    pub line: String,
}

impl NewToken {
    /// Makes one of 256 bits of the operating system's randomness.
    ///
    /// # Errors
    ///
    /// The name has control characters or is too long, or there is no randomness.
    pub fn make(scopes: Scopes, name: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            name.len() <= LONGEST_NAME && !name.contains(char::is_control),
            "a name must have at most {LONGEST_NAME} bytes, and no line breaks"
        );
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let hash: String = Sha256::digest(&token)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let line = format!("{hash} {scopes} {}", name.trim()).trim_end().to_owned();
        Ok(NewToken { token, line })
    }
}

/// The tokens in force, by their hashes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens(Vec<Known>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    hash: [u8; 32],
    scopes: Scopes,
}

/// Why a file of tokens is of no use. Tells the line, never what stands in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// One of its lines is wrong.
    #[error("line {0}: {1}")]
    Line(usize, &'static str),
    /// It has no token, as when it is just being written.
    #[error("it has no token; make one with `order-tracker token new`")]
    Empty,
    /// It is too large.
    #[error("it has more than {MOST_TOKENS} tokens, or 1 MiB")]
    TooLarge,
}

impl Tokens {
    /// Reads a file of tokens as it is. No more of it than one may have.
    pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TokensError> {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// One token a line: the SHA-256 of it in hexadecimal digits, its scopes, and a name for people. `#` begins a comment.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, TokensError> {
        if bytes.len() > MOST_BYTES {
            return Err(TokensError::TooLarge);
        }
        let text = str::from_utf8(bytes).map_err(|_| TokensError::Line(1, "it is not text"))?;
        let mut tokens: Vec<Known> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |fault| TokensError::Line(index + 1, fault);
            let mut words = line.split_whitespace();
            let hash = words.next().and_then(hash_of_hex);
            let hash =
                hash.ok_or_else(|| wrong("must begin with 64 hexadecimal digits, the token's SHA-256"))?;
            if tokens.iter().any(|known| known.hash == hash) {
                return Err(wrong("the same token stands above"));
            }
            let scopes = words.next().unwrap_or_default().parse().map_err(wrong)?;
            tokens.push(Known { hash, scopes });
        }
        match tokens.len() {
            0 => Err(TokensError::Empty),
            count if count > MOST_TOKENS => Err(TokensError::TooLarge),
            _ => Ok(Tokens(tokens)),
        }
    }

    /// What a token allows; `None` if it is not in force.
    ///
    /// Takes as long whichever it is: all are compared to their end, and nothing is decided before.
    pub(crate) fn scopes_of(&self, token: &[u8]) -> Option<Scopes> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let (mut known, mut scopes) = (Choice::from(0), 0);
        for candidate in &self.0 {
            let same = candidate.hash.ct_eq(&hash);
            scopes.conditional_assign(&candidate.scopes.0, same);
            known |= same;
        }
        bool::from(known).then_some(Scopes(scopes))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

fn hash_of_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        text.parse().expect("a test gives good scopes")
    }

    fn fault(text: &str) -> String {
        Tokens::parse(text.as_bytes())
            .expect_err("it is wrong")
            .to_string()
    }

    #[test]
    fn a_new_token_is_known_by_its_line_and_no_other_is() {
        let reader = NewToken::make(scopes("read"), "storefront, EU").unwrap();
        let both = NewToken::make(scopes("publish,read"), "").unwrap();
        assert!(reader.token.starts_with("ot_") && reader.token.len() == 3 + 43);
        assert!(reader.line.ends_with(" read storefront, EU"), "{}", reader.line);
        assert!(both.line.ends_with(" read,publish"), "{}", both.line);
        let file = format!("# made in May\n\n{}\r\n  {}\n", reader.line, both.line);
        let tokens = Tokens::parse(file.as_bytes()).unwrap();
        assert_eq!(tokens.count(), 2);
        assert_eq!(tokens.scopes_of(reader.token.as_bytes()), Some(scopes("read")));
        assert_eq!(
            tokens.scopes_of(both.token.as_bytes()),
            Some(scopes("read,publish"))
        );
        let other = NewToken::make(scopes("read"), "").unwrap();
        for unknown in [&*other.token, "", "ot_", &reader.token[..45], &reader.line[..64]] {
            assert_eq!(tokens.scopes_of(unknown.as_bytes()), None);
        }
    }

    #[test]
    fn a_token_allows_its_scopes_and_no_others() {
        let some = scopes("publish,operate");
        assert!(!some.have(Scope::Read) && some.have(Scope::Publish) && some.have(Scope::Operate));
        assert_eq!(some.to_string(), "publish,operate");
        for bad in ["", "write", "read,", "Read", "read;publish"] {
            assert!(bad.parse::<Scopes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_by_its_line_and_quotes_nothing() {
        let good = format!("{} read a", "ab".repeat(32));
        assert!(Tokens::parse(good.as_bytes()).is_ok());
        for (bad, line) in [
            ("ot_secret read\n".to_owned(), 1),
            (format!("{good}\n{} read", "zz".repeat(32)), 2),
            (format!("# a\n{}", "ab".repeat(32)), 2),
            (format!("{good}\n{} write", "cd".repeat(32)), 2),
            (format!("{good}\n\n{good}"), 3),
        ] {
            let text = fault(&bad);
            assert!(text.starts_with(&format!("line {line}: ")), "{bad}: {text}");
            assert!(!text.contains("secret") && !text.contains("abab"), "{text}");
        }
        assert!(fault("").contains("no token"));
        assert!(fault("# none\n").contains("no token"));
        let many: String = (0..=MOST_TOKENS).map(|it| format!("{it:064x} read\n")).collect();
        assert!(fault(&many).contains("more than 1000"));
        assert!(Tokens::parse(&[0xff]).is_err());
    }

    #[test]
    fn a_name_keeps_to_its_line() {
        for bad in ["a\nb", "a\rb", &"x".repeat(101)] {
            assert!(NewToken::make(scopes("read"), bad).is_err());
        }
    }
}

//! Where an HTTP service is.

use anyhow::{Result, bail};

/// `http://host:port`, perhaps with a path before the service's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`.
    pub host: String,
    /// What stands before every path: empty, or begins with `/` and does not end with it.
    pub base: String,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// Where it is none of plain HTTP.
    pub fn new(url: &str) -> Result<Endpoint> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("{url} must begin with http://");
        };
        let (host, base) = rest.split_once('/').unwrap_or((rest, ""));
        let host = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let base = base.trim_end_matches('/');
        Ok(Endpoint {
            host,
            base: if base.is_empty() {
                String::new()
            } else {
                format!("/{base}")
            },
        })
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.host, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_cut_into_host_and_path() {
        for (url, host, base) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
            ("http://orders/", "orders:80", ""),
            ("http://h:1/shop/", "h:1", "/shop"),
        ] {
            let endpoint = Endpoint::new(url).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.base.as_str()), (host, base));
        }
        assert_eq!(
            Endpoint::new("http://h:1/shop/").unwrap().url("/x"),
            "http://h:1/shop/x"
        );
        assert!(Endpoint::new("https://orders").is_err());
    }
}

//! Free TCP ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result};

/// Whether nobody listens on this port of 127.0.0.1.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Below what the systems we run on give to outgoing connections and to port 0 (Linux from 32,768, macOS and Windows from 49,152): a
/// server that was killed finds its port still free when it comes back.
const LASTING: Range<u16> = 20_000..32_000;

/// Any free port. Someone else can take it before it is used, so whoever uses it tries again with another.
///
/// # Errors
///
/// Where none was found in a thousand attempts.
pub fn any() -> Result<u16> {
    std::iter::repeat_with(|| rand::random_range(LASTING))
        .take(1_000)
        .find(|port| is_free(*port))
        .context("cannot find a free port")
}

/// The port to use: the usual one, else the one used last time, else any; always one that is free and not among `others`.
///
/// Remembering last time's keeps addresses the same from run to run on a machine where the usual one is always taken.
///
/// # Errors
///
/// Where the system has none left.
pub fn choose(usual: u16, last_time: Option<u16>, others: &[u16]) -> Result<u16> {
    let free = |port: &u16| !others.contains(port) && is_free(*port);
    if let Some(port) = [usual].into_iter().chain(last_time).find(free) {
        return Ok(port);
    }
    loop {
        let port = any()?;
        if !others.contains(&port) {
            return Ok(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_chosen() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = taken.local_addr().map(|address| (taken, address.port())).unwrap();
        let (first, second) = (any().unwrap(), any().unwrap());
        assert_eq!(choose(first, Some(second), &[]).unwrap(), first);
        assert_eq!(choose(taken.1, Some(second), &[]).unwrap(), second);
        let chosen = choose(taken.1, Some(first), &[first]).unwrap();
        assert!(chosen != taken.1 && chosen != first);
    }
}

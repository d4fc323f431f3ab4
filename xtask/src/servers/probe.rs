//! Asking servers whether they are there, in as few bytes of each protocol as that takes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// Whether something answers at any of the hosts of a URL such as `postgres://user:password@host:5432,other/name`.
///
/// A text of another form counts as answering: its reader knows better what it means, and says so where it is wrong.
pub fn url_answers(url: &str, default_port: u16) -> bool {
    let hosts = hosts(url, default_port);
    hosts.is_empty() || hosts.iter().any(|host| connect_to(host))
}

/// Whether a URL names this port on the loopback address.
pub(crate) fn url_is_local(url: &str, default_port: u16, port: u16) -> bool {
    let local = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
    ];
    hosts(url, default_port).iter().any(|host| local.contains(host))
}

/// What PostgreSQL says to someone who begins to log in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PostgresAnswer {
    /// It asks for the password: it is ready.
    Ready,
    /// It refuses for now, or it does not listen yet.
    NotYet,
}

/// Begins to log in, and hangs up when asked for the password: that comes only after recovery.
pub(crate) fn postgres(address: SocketAddr, user: &str, database: &str) -> PostgresAnswer {
    let ask = || -> std::io::Result<PostgresAnswer> {
        let mut stream = connect(address)?;
        let mut parameters = Vec::new();
        for text in ["user", user, "database", database, ""] {
            parameters.extend_from_slice(text.as_bytes());
            parameters.push(0);
        }
        let mut message = Vec::new();
        message.extend_from_slice(&(parameters.len() as u32 + 8).to_be_bytes());
        message.extend_from_slice(&0x0003_0000_u32.to_be_bytes());
        message.extend_from_slice(&parameters);
        stream.write_all(&message)?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        Ok(if kind == *b"R" {
            PostgresAnswer::Ready
        } else {
            PostgresAnswer::NotYet
        })
    };
    ask().unwrap_or(PostgresAnswer::NotYet)
}

/// Whether a nats-server with JetStream greets at this address.
pub(crate) fn nats(address: SocketAddr) -> bool {
    let ask = || -> Option<bool> {
        let mut line = String::new();
        BufReader::new(connect(address).ok()?).read_line(&mut line).ok()?;
        let greeting: serde_json::Value = serde_json::from_str(line.strip_prefix("INFO ")?).ok()?;
        greeting.get("jetstream")?.as_bool()
    };
    ask().unwrap_or(false)
}

/// The status that an HTTP server answers for `path`; `None` where it does not.
pub fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = connect(address).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect_to(host: &str) -> bool {
    host.to_socket_addrs()
        .is_ok_and(|mut addresses| addresses.any(|address| connect(address).is_ok()))
}

/// The `host:port`s of a URL, or of several URLs or hosts after commas.
fn hosts(url: &str, default_port: u16) -> Vec<String> {
    if !url.contains("://") {
        return Vec::new();
    }
    let authority = |part: &str| {
        let part = part.split_once("://").map_or(part, |(_, rest)| rest);
        let part = part.split(['/', '?']).next().unwrap_or_default();
        part.rsplit_once('@').map_or(part, |(_, host)| host).to_owned()
    };
    let with_port = |host: String| {
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        // `[::1]` ends in what could be a port.
        if has_port && !host.ends_with(']') {
            host
        } else {
            format!("{host}:{default_port}")
        }
    };
    url.split(',')
        .map(authority)
        .filter(|host| !host.is_empty())
        .map(with_port)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_of_a_url_are_found() {
        let of = |url| hosts(url, 5432);
        assert_eq!(
            of("postgres://orders:p@ss@db:6000/orders?sslmode=require"),
            ["db:6000"]
        );
        assert_eq!(of("postgres://db"), ["db:5432"]);
        assert_eq!(of("postgresql://u@one,two:7000/x"), ["one:5432", "two:7000"]);
        assert_eq!(of("nats://a:4222,nats://u:p@b:4223"), ["a:4222", "b:4223"]);
        assert_eq!(of("postgres://u@[::1]/x"), ["[::1]:5432"]);
        assert_eq!(of("host=db port=5432"), [""; 0]);
    }

    #[test]
    fn a_url_without_hosts_is_left_to_its_reader() {
        assert!(url_answers("host=/run/postgresql", 5432));
        assert!(!url_answers("postgres://127.0.0.1:1/x", 5432));
    }

    #[test]
    fn a_local_url_is_told_from_others() {
        assert!(url_is_local("postgres://u:p@localhost/orders", 5432, 5432));
        assert!(!url_is_local("postgres://u:p@localhost:5433/orders", 5432, 5432));
        assert!(!url_is_local("postgres://u:p@db/orders", 5432, 5432));
    }
}

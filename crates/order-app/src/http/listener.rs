//! What listens: as actix-web's own server, but over connections that are watched, and with TLS where it is asked for.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol, Request, Response};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::connection::{Connection, Patience};
use crate::config::HttpSettings;

/// How many connections may wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 4_096;
/// How long the other side may take to end a connection after an answer that left its body unread.
const LINGER: Duration = Duration::from_secs(1);

/// A bound listener and what answers there.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
}

/// How a listener is run.
pub(crate) struct ListenerOptions {
    pub(crate) workers: usize,
    /// For all workers together.
    pub(crate) max_connections: usize,
    pub(crate) patience: Patience,
    pub(crate) shutdown: Duration,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl ListenerOptions {
    /// Those of the settings, without TLS.
    pub(crate) fn new(settings: &HttpSettings, workers: usize, shutdown: Duration) -> Self {
        ListenerOptions {
            workers,
            max_connections: settings.max_connections,
            patience: Patience {
                head: settings.head_timeout,
                write: settings.write_timeout,
                rest: settings.keep_alive,
            },
            shutdown,
            tls: None,
        }
    }
}

/// Binds `address`, and answers there with what `app` makes for each worker.
pub(crate) fn listen<F, A, S, B>(
    address: SocketAddr,
    options: ListenerOptions,
    app: F,
) -> io::Result<Listener>
where
    F: Fn() -> A + Send + Clone + 'static,
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let listener = bind(address)?;
    let address = listener.local_addr()?;
    let ListenerOptions {
        workers,
        max_connections,
        patience,
        shutdown,
        tls,
    } = options;
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(max_connections.div_ceil(workers))
        .disable_signals()
        .shutdown_timeout(shutdown.as_secs());
    let ending = builder.graceful_shutdown_signal();
    let builder = builder.listen("http", listener, move || {
        let ending = ending.clone();
        let app = app()
            .into_factory()
            .map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            // A `Connection` has its own.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER)
            .on_connect_ext(|connection: &Connection<_>, data| {
                data.insert(Rc::clone(connection.state()));
            })
            .finish(map_config(app, |()| AppConfig::default()));
        let tls = tls.clone();
        fn_service(move |stream| accept(stream, tls.clone(), patience)).and_then(http)
    })?;
    Ok(Listener {
        address,
        server: builder.run(),
    })
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A service that is started again must not wait for the last one's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    // What is accepted has it from here.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

type Stream = Either<TcpStream, Box<tokio_rustls::server::TlsStream<TcpStream>>>;

/// Makes a connection of a stream, behind TLS where there is an acceptor.
async fn accept(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    patience: Patience,
) -> Result<(Connection<Stream>, Protocol, Option<SocketAddr>), DispatchError> {
    let peer = stream.peer_addr().ok();
    let Some(tls) = tls else {
        let connection = Connection::new(Either::Left(stream), false, patience);
        return Ok((connection, Protocol::Http1, peer));
    };
    // In a box, or every connection without TLS would keep the room for it.
    let stream = timeout(patience.head, Box::pin(tls.accept(stream)))
        .await
        .map_err(|_| DispatchError::SlowRequestTimeout)??;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let protocol = if is_http2 {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    let connection = Connection::new(Either::Right(Box::new(stream)), is_http2, patience);
    Ok((connection, protocol, peer))
}

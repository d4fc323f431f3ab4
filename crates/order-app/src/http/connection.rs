//! A connection that does not wait for ever for its other side.
//!
//! actix-http bounds the first head of a connection, and the time between requests that came whole. It does not bound a later head
//! that has begun and does not end, the rest of a chunked body that nobody reads, whether it comes or not, and an answer that is not
//! taken: each would hold a connection for as long as somebody likes. What only a handler can bound, the body that it waits for, is
//! bounded in `body`.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// actix-http answers the first head that does not come with 408, and ends a rest that is too long in order. It shall be first.
const GRACE: Duration = Duration::from_millis(500);

/// How long to wait for the other side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the rest of a request's head.
    pub(crate) head: Duration,
    /// For more of an answer to be taken.
    pub(crate) write: Duration,
    /// For anything, after an answer.
    pub(crate) rest: Duration,
}

/// What a connection is in the middle of. Shared by the connection and its requests, which are all on one thread.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    requests: Cell<usize>,
    /// Since when there is a part of a request, and no whole one.
    owed_since: Cell<Option<Instant>>,
    /// Since when there is nothing of ours to be waited for.
    quiet_since: Cell<Option<Instant>>,
}

impl ConnectionState {
    /// Tells that a request is whole, until what is answered is dropped.
    pub(crate) fn begin(self: &Rc<Self>) -> InHand {
        self.requests.set(self.requests.get() + 1);
        self.owed_since.set(None);
        InHand(Rc::clone(self))
    }
}

/// A request in hand.
#[derive(Debug)]
pub(crate) struct InHand(Rc<ConnectionState>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.quiet_since.set(Some(Instant::now()));
    }
}

/// A stream of bytes that fails when its other side owes something for too long.
pub(crate) struct Connection<S> {
    stream: S,
    state: Rc<ConnectionState>,
    patience: Patience,
    /// HTTP/2 has pings of its own, and among its frames it does not show when a head begins.
    is_http2: bool,
    /// Since when nothing more is taken of what is sent.
    stalled_since: Option<Instant>,
    /// Set once in a while and not for every request: when it fires it is looked whether it was in time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    pub(crate) fn new(stream: S, is_http2: bool, patience: Patience) -> Self {
        Connection {
            stream,
            state: Rc::default(),
            patience,
            is_http2,
            stalled_since: None,
            timer: None,
        }
    }

    /// What its requests tell it.
    pub(crate) fn state(&self) -> &Rc<ConnectionState> {
        &self.state
    }

    /// Bytes have come.
    fn received(&mut self) -> io::Result<()> {
        if self.is_http2 || self.state.requests.get() > 0 {
            return Ok(());
        }
        match self.state.owed_since.get() {
            None => self.state.owed_since.set(Some(Instant::now())),
            // Who sends without a pause never gets to the timer.
            Some(since) if since.elapsed() > self.patience.head + GRACE => return Err(timed_out()),
            Some(_) => {}
        }
        Ok(())
    }

    /// The other side has taken bytes: an answer has begun, or goes on.
    fn sent(&mut self) {
        self.stalled_since = None;
        self.state.owed_since.set(None);
        self.state.quiet_since.set(Some(Instant::now()));
    }

    /// When it has been too long, if nothing changes until then.
    fn deadline(&self) -> Option<Instant> {
        let state = &self.state;
        let is_quiet = !self.is_http2 && state.requests.get() == 0;
        let head = state.owed_since.get().map(|it| it + self.patience.head + GRACE);
        let rest = state.quiet_since.get().filter(|_| is_quiet);
        let rest = rest.map(|it| it + self.patience.rest + GRACE);
        let write = self.stalled_since.map(|it| it + self.patience.write);
        head.into_iter().chain(rest).chain(write).min()
    }

    /// To be called whenever there is nothing to do but wait.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        // Always set, since it is not asked again when a request in hand ends.
        let deadline = self.deadline();
        let due = deadline.unwrap_or_else(|| Instant::now() + self.patience.rest);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(context).is_ready() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(timed_out());
            }
            timer.as_mut().reset(due);
        }
        Ok(())
    }

    fn wait_to_send<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.stalled_since.get_or_insert_with(Instant::now);
        self.check(context)?;
        Poll::Pending
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.stream)
            .poll_read(context, buffer)?
            .is_pending()
        {
            self.check(context)?;
            return Poll::Pending;
        }
        if buffer.filled().len() > before {
            self.received()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes)? {
            Poll::Ready(length) => {
                self.sent();
                Poll::Ready(Ok(length))
            }
            Poll::Pending => self.wait_to_send(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, slices)? {
            Poll::Ready(length) => {
                self.sent();
                Poll::Ready(Ok(length))
            }
            Poll::Pending => self.wait_to_send(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context)? {
            Poll::Ready(()) => {
                self.stalled_since = None;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.wait_to_send(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

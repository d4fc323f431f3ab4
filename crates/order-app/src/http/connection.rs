//! A connection that does not wait for ever for its other side.
//!
//! actix-http has time-outs of its own, which are not used. They bound the first head of a connection and its rest between requests, not a
//! later head that has begun and does not end, the rest of a chunked body that nobody reads, an answer that is not taken, nor an HTTP/2
//! connection that asks nothing. They go by a clock that ticks twice a second, so that all who came in one tick are cut off in one
//! moment, while everyone else waits. And they cost every request a timer. Here a connection has one timer, set once in a while.
//!
//! Part of a head that came in one piece with the request before it is not told apart from nothing, and so may rest: for no longer
//! than whoever sends nothing. What only a handler can bound, the body that it waits for, is bounded in `body`.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use actix_web::http::header::HttpDate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What is sent in one piece and is longer than this, in bytes, is part of an answer, also among the frames of HTTP/2.
const LONGEST_CONTROL: usize = 1_024;

/// In which steps of time it is looked who has been too slow, in nanoseconds; a second is a whole number of them. A thread that is woken
/// for each one by itself is busy with waking; one that ends all of a long while at once keeps everyone else waiting.
const STEP: u32 = 8_000_000;

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

/// What the other side owes while no request is in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// A whole head: of its first request, or of one that it has begun.
    Head,
    /// Its next request, or an end.
    Next,
}

/// What a connection is in the middle of. Shared by the connection and its requests, which are all on one thread.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    requests: Cell<usize>,
    owed: Cell<Owed>,
    since: Cell<Instant>,
}

impl ConnectionState {
    fn owes(&self, owed: Owed) {
        self.owed.set(owed);
        self.since.set(Instant::now());
    }

    /// Tells that a request is whole, until what is answered is dropped.
    pub(crate) fn begin(self: &Rc<Self>) -> InHand {
        self.requests.set(self.requests.get() + 1);
        InHand(Rc::clone(self))
    }
}

/// A request in hand.
#[derive(Debug)]
pub(crate) struct InHand(Rc<ConnectionState>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.owes(Owed::Next);
    }
}

/// A stream of bytes that ends when its other side owes something for too long.
pub(crate) struct Connection<S> {
    stream: S,
    state: Rc<ConnectionState>,
    patience: Patience,
    /// Among its frames HTTP/2 does not show when a head begins.
    is_http2: bool,
    has_answered: bool,
    has_ended: bool,
    /// Since when nothing more is taken of what is sent.
    stalled_since: Option<Instant>,
    /// Set once in a while and not for every request: when it fires it is looked whether it was in time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, is_http2: bool, patience: Patience) -> Self {
        let state = ConnectionState {
            requests: Cell::new(0),
            owed: Cell::new(Owed::Head),
            since: Cell::new(Instant::now()),
        };
        Connection {
            stream,
            state: Rc::new(state),
            patience,
            is_http2,
            has_answered: false,
            has_ended: false,
            stalled_since: None,
            timer: None,
        }
    }

    /// What its requests tell it.
    pub(crate) fn state(&self) -> &Rc<ConnectionState> {
        &self.state
    }

    /// Bytes have come. Answers whether they go on where it has been too long: who sends without a pause never gets to the timer.
    fn received(&mut self) -> bool {
        let state = &self.state;
        if state.requests.get() > 0 {
            return true;
        }
        match (state.owed.get(), self.is_http2) {
            (Owed::Head, false) => return state.since.get().elapsed() <= self.patience.head,
            (Owed::Next, false) => state.owes(Owed::Head),
            // Not from now on: whatever else it sends, it is to ask for something.
            (_, true) => state.owed.set(Owed::Next),
        }
        true
    }

    /// The other side has taken bytes.
    fn sent(&mut self, length: usize) {
        self.stalled_since = None;
        self.has_answered = true;
        if !self.is_http2 || length > LONGEST_CONTROL {
            self.state.owes(Owed::Next);
        }
    }

    /// When it has been too long, if nothing changes until then.
    fn deadline(&self) -> Option<Instant> {
        if let Some(since) = self.stalled_since {
            return Some(since + self.patience.write);
        }
        let patience = match self.state.owed.get() {
            Owed::Head => self.patience.head,
            Owed::Next => self.patience.rest,
        };
        (self.state.requests.get() == 0).then(|| self.state.since.get() + patience)
    }

    /// Whether it has been too long. To be called whenever there is nothing to do but wait.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        // Always set, since it is not asked again when a request in hand ends.
        let deadline = self.deadline();
        let due = in_steps(deadline.unwrap_or_else(|| Instant::now() + self.patience.rest));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(context).is_ready() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return true;
            }
            timer.as_mut().reset(due);
        }
        false
    }

    /// Ends what comes from the other side, so that the connection is closed in order. Who has not asked yet is told why.
    fn end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_answered && !self.is_http2 {
            let date = HttpDate::from(SystemTime::now());
            let answer = format!(
                "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\ndate: {date}\r\n\r\n"
            );
            // It is the first that is sent, so that there is room for it.
            let _ = Pin::new(&mut self.stream).poll_write(context, answer.as_bytes());
        }
        self.has_ended = true;
        Poll::Ready(Ok(()))
    }

    fn wait_to_send<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.stalled_since.get_or_insert_with(Instant::now);
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

/// The end of the step that a moment is in.
fn in_steps(moment: Instant) -> Instant {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let past = moment.duration_since(*ORIGIN).subsec_nanos() % STEP;
    moment + Duration::from_nanos((STEP - past).into())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if Pin::new(&mut self.stream)
            .poll_read(context, buffer)?
            .is_pending()
        {
            return match self.is_over(context) {
                true => self.end(context),
                false => Poll::Pending,
            };
        }
        if buffer.filled().len() > before && !self.received() {
            buffer.set_filled(before);
            return self.end(context);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes)? {
            Poll::Ready(length) => {
                self.sent(length);
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
                self.sent(length);
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
        match Pin::new(&mut self.stream).poll_shutdown(context)? {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.wait_to_send(context),
        }
    }
}

//! Answers that hold many orders: put together from the ready bytes of each, and held in memory once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::{Bytes, BytesMut};
use order_domain::{OrderDocument, ReservedRoom};

/// How much is handed over at once. What was handed over is held by the connection for as long as the caller takes to read
/// it, beside the room that is accounted for.
const CHUNK: usize = 32 * 1024;

/// `{"orders":[…]` and what follows, in pieces. It gives the room in memory back when all of it was handed over.
pub(crate) struct ManyOrders {
    /// What is left, the last piece first.
    pieces: Vec<Bytes>,
    left: usize,
    _room: ReservedRoom,
}

impl ManyOrders {
    /// The orders, then the members that `rest` holds, each beginning with a comma.
    pub(crate) fn new(orders: Vec<OrderDocument>, rest: String, room: ReservedRoom) -> Self {
        let mut pieces = vec![Bytes::from(format!("]{rest}}}"))];
        for (number, order) in orders.into_iter().enumerate().rev() {
            pieces.push(order.json);
            if number > 0 {
                pieces.push(Bytes::from_static(b","));
            }
        }
        pieces.push(Bytes::from_static(b"{\"orders\":["));
        ManyOrders {
            left: pieces.iter().map(Bytes::len).sum(),
            pieces,
            _room: room,
        }
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = BytesMut::with_capacity(self.left.min(CHUNK));
        while chunk.len() < CHUNK
            && let Some(piece) = self.pieces.last_mut()
        {
            let part = piece.split_to(piece.len().min(CHUNK - chunk.len()));
            chunk.extend_from_slice(&part);
            if piece.is_empty() {
                self.pieces.pop();
            }
        }
        self.left -= chunk.len();
        (!chunk.is_empty()).then(|| chunk.freeze())
    }
}

impl MessageBody for ManyOrders {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.next_chunk().map(Ok))
    }

    fn try_into_bytes(mut self) -> Result<Bytes, Self> {
        // A small answer needs no pieces; it is one chunk anyway.
        if self.left <= CHUNK {
            return Ok(self.next_chunk().unwrap_or_default());
        }
        Err(self)
    }
}

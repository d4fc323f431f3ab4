//! A reader that loses its processor in the middle of a look at the cache, while everything else goes on.
//!
//! Tasks take turns at their `.await`s only, and a look has none. So this reader is a thread of its own: it rests where the cache
//! was about to be read, or just was, until it is woken. Whoever lets it begin waits until it rests, and whoever wakes it until it has
//! ended, so that one seed gives one history all the same.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::runtime::Handle;

use crate::{Coherence, Lookup, OrderUid};

/// Where a look rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    BeforeCache,
    AfterCache,
}

struct Rest {
    at: Point,
    resting: Sender<()>,
    woken: Receiver<()>,
}

thread_local! {
    static REST: RefCell<Option<Rest>> = const { RefCell::new(None) };
}

/// Rests here, if this thread is such a reader and this is its point.
pub(super) fn rest(point: Point) {
    if let Some(rest) = REST.with_borrow_mut(|rest| rest.take_if(|rest| rest.at == point)) {
        let _ = rest.resting.send(());
        // An error means that nobody will wake it any more: the history is over.
        let _ = rest.woken.recv();
    }
}

/// A look that rests.
pub(super) struct Descheduled {
    wake: Sender<()>,
    thread: JoinHandle<Lookup>,
}

impl Descheduled {
    /// Begins a look, and returns when it rests.
    pub(super) fn look_up(coherence: Arc<Coherence>, uid: OrderUid, at: Point) -> Self {
        let runtime = Handle::current();
        let (resting, rests) = channel();
        let (wake, woken) = channel();
        let thread = std::thread::spawn(move || {
            // Its clock is the history's.
            let _context = runtime.enter();
            REST.set(Some(Rest { at, resting, woken }));
            coherence.look_up(&uid)
        });
        // An error means that it ended without a rest.
        let _ = rests.recv();
        Descheduled { wake, thread }
    }

    /// Lets it go on, and answers what it says.
    pub(super) fn wake(self) -> Lookup {
        drop(self.wake);
        self.thread.join().expect("a look does not panic")
    }
}

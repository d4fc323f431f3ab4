//! Reading many orders at once: a page of a list, and those of many uids.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::answer_room::ReservedRoom;
use super::order_service::{FindError, OrderService, within};
use crate::{DatabaseReach, Lookup, OrderDocument, OrderFilter, OrderPage, OrderPlace, OrderQuery, OrderUid};

/// The most bytes of JSON that one answer of many orders has; only a single order may have more.
pub const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// What [`OrderService::look_up_many`] found.
#[derive(Debug)]
pub struct LookedUp {
    /// The orders, as they were asked for.
    pub orders: Vec<OrderDocument>,
    /// Those that do not exist.
    pub missing: Vec<OrderUid>,
    /// Those of which nothing is said: there was no room for them, or they cannot be read now. Ask for them again.
    pub remaining: Vec<OrderUid>,
    /// `None` if all of it is proven; else how long ago the least proven order was: the database is out of reach.
    pub age: Option<Duration>,
    /// To be kept until the answer is sent.
    pub room: ReservedRoom,
}

impl OrderService {
    /// One page of the orders that fit, those created last first, after the last place of the page before. Always read from the
    /// database. The room is to be kept until the page is sent.
    ///
    /// # Errors
    ///
    /// See [`FindError`].
    pub async fn list(
        &self,
        filter: OrderFilter,
        after: Option<OrderPlace>,
        limit: usize,
    ) -> Result<(OrderPage, ReservedRoom), FindError> {
        if !self.may_read() {
            return Err(FindError::Unavailable);
        }
        let query = OrderQuery {
            filter,
            after,
            limit,
            max_bytes: ANSWER_BYTES,
        };
        let (repository, deadline) = (Arc::clone(&self.repository), self.settings.deadline);
        let reserved = self.room.reserve(ANSWER_BYTES);
        self.on_runtime(within(deadline, async move {
            let mut room = reserved.await;
            let page = repository.page(&query).await?;
            room.shrink(page.orders.iter().map(|order| order.json.len()).sum());
            Ok((page, room))
        }))
        .await
    }

    /// Many orders, each as [`find`](Self::find) answers it: from the cache where it is proven, the others by one read together. A uid
    /// that is given twice is answered once.
    ///
    /// The answer ends at [`ANSWER_BYTES`], and names the rest as `remaining`; so it does with what is not cached while the
    /// database is out of reach. It always answers one uid at least.
    ///
    /// # Errors
    ///
    /// See [`FindError`]; [`Unavailable`](FindError::Unavailable) only where not even one uid can be answered.
    pub async fn look_up_many(&self, uids: &[OrderUid], proof_required: bool) -> Result<LookedUp, FindError> {
        let reserved = self.room.reserve(ANSWER_BYTES);
        let mut room = within(self.settings.deadline, async { Ok(reserved.await) }).await?;
        let cached = self.look_up_cached(uids, proof_required);
        let open = cached.iter().filter(|(_, known)| matches!(known, Known::Open(_)));
        let open: Vec<OrderUid> = open.map(|(uid, _)| (*uid).clone()).collect();
        let read = self.read_many(open).await;
        let is_lost = self.health.database() == DatabaseReach::Lost;
        let mut read = match read {
            Err(error) if is_lost || error == FindError::Unavailable => HashMap::new(),
            read => read?,
        };

        let mut answer = Answer::default();
        for (uid, known) in cached {
            match known {
                Known::Proven(found) => answer.add(uid, found, None),
                Known::NoRoom => answer.remaining.push(uid.clone()),
                Known::Open(stale) => match (read.remove(uid), stale) {
                    (Some(found), _) => answer.add(uid, found, None),
                    (None, Some((document, age))) if is_lost => {
                        self.stale_answers.increment(1);
                        answer.add(uid, Some(document), Some(age));
                    }
                    (None, _) => answer.remaining.push(uid.clone()),
                },
            }
        }
        if answer.is_nothing_but_remaining() {
            return Err(FindError::Unavailable);
        }
        room.shrink(answer.bytes);
        Ok(LookedUp {
            orders: answer.orders,
            missing: answer.missing,
            remaining: answer.remaining,
            age: answer.age,
            room,
        })
    }

    /// What the cache knows of each, without holding on to more than an answer may have: what is evicted meanwhile stays in
    /// memory for as long as it is held here.
    fn look_up_cached<'a>(&self, uids: &'a [OrderUid], proof_required: bool) -> Vec<(&'a OrderUid, Known)> {
        let mut bytes = 0;
        let mut has_room = |document: &OrderDocument| {
            let fits = bytes == 0 || bytes + document.json.len() <= ANSWER_BYTES;
            bytes += if fits { document.json.len() } else { 0 };
            fits
        };
        let mut seen = HashSet::new();
        uids.iter()
            .filter(|uid| seen.insert(*uid))
            .map(|uid| {
                let known = match self.coherence.look_up(uid) {
                    Lookup::Absent => Known::Proven(None),
                    Lookup::Proven(document) if has_room(&document) => Known::Proven(Some(document)),
                    Lookup::Proven(_) => Known::NoRoom,
                    Lookup::Unproven { document, age } => {
                        let age = age.filter(|age| self.may_be_stale(*age, proof_required));
                        Known::Open(age.filter(|_| has_room(&document)).map(|age| (document, age)))
                    }
                    Lookup::Unknown => Known::Open(None),
                };
                (uid, known)
            })
            .collect()
    }

    /// Reads many orders at once, and fills the cache with what it finds and does not find, as a read of one does. What the
    /// repository had no room for is not among them.
    async fn read_many(
        &self,
        uids: Vec<OrderUid>,
    ) -> Result<HashMap<OrderUid, Option<OrderDocument>>, FindError> {
        if uids.is_empty() {
            return Ok(HashMap::new());
        }
        if !self.may_read() {
            return Err(FindError::Unavailable);
        }
        let (repository, coherence) = (Arc::clone(&self.repository), Arc::clone(&self.coherence));
        let deadline = self.settings.deadline;
        self.on_runtime(async move {
            let tickets: Vec<_> = uids.iter().map(|uid| coherence.begin_fill(uid)).collect();
            let found = within(deadline, repository.find_many(&uids, ANSWER_BYTES)).await?;
            let mut orders: HashMap<_, _> = found
                .orders
                .into_iter()
                .map(|order| (order.uid.clone(), order))
                .collect();
            let answered = uids.into_iter().zip(tickets).take(found.answered);
            Ok(answered
                .map(|(uid, ticket)| {
                    let order = orders.remove(&uid);
                    coherence.keep(&ticket, &uid, order.as_ref());
                    (uid, order)
                })
                .collect())
        })
        .await
    }
}

/// What the cache knows of an order that is looked up with others.
enum Known {
    /// The order, or that there is none: proven.
    Proven(Option<OrderDocument>),
    /// It is there, but would be too much for one answer.
    NoRoom,
    /// The database has to be asked. What is unproven serves, with its age, while that is out of reach.
    Open(Option<(OrderDocument, Duration)>),
}

/// An answer that grows.
#[derive(Default)]
struct Answer {
    orders: Vec<OrderDocument>,
    missing: Vec<OrderUid>,
    remaining: Vec<OrderUid>,
    age: Option<Duration>,
    bytes: usize,
}

impl Answer {
    fn add(&mut self, uid: &OrderUid, found: Option<OrderDocument>, age: Option<Duration>) {
        match found {
            Some(order) if self.bytes == 0 || self.bytes + order.json.len() <= ANSWER_BYTES => {
                self.bytes += order.json.len();
                self.age = self.age.max(age);
                self.orders.push(order);
            }
            Some(_) => self.remaining.push(uid.clone()),
            None => self.missing.push(uid.clone()),
        }
    }

    fn is_nothing_but_remaining(&self) -> bool {
        self.orders.is_empty() && self.missing.is_empty() && !self.remaining.is_empty()
    }
}

//! Looks at the tables directly, by queries of its own: not through the adapter whose work is to be proven.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use order_domain::{OrderUid, Revision, parse};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls, Row};

use super::history::{Digest, Sighting, Stored, Tables};
use super::recorder::{Recorder, Shop};

/// The versions of some orders.
const REVISIONS: &str = "
    SELECT order_uid, (extract(epoch FROM published_at) * 1000000)::bigint, sequence
    FROM orders WHERE order_uid = ANY($1)";

/// Every order as the JSON that its rows add up to, from rows that are there and none that are not.
const ORDERS: &str = "
    SELECT o.order_uid, (extract(epoch FROM o.published_at) * 1000000)::bigint, o.sequence,
           (to_jsonb(o) || jsonb_build_object(
               'delivery', to_jsonb(d), 'payment', to_jsonb(p), 'items', i.items, 'positions', i.positions
           ))::text
    FROM orders o
    LEFT JOIN delivery d ON d.order_uid = o.order_uid
    LEFT JOIN payment p ON p.order_uid = o.order_uid
    LEFT JOIN (
        SELECT order_uid, jsonb_agg(to_jsonb(items) ORDER BY position) AS items,
               array_agg(position ORDER BY position) AS positions
        FROM items GROUP BY order_uid
    ) i ON i.order_uid = o.order_uid";

/// Rows of the parts whose order is not there.
const ORPHANS: &str = "
    SELECT part || ' ' || order_uid FROM (
        SELECT 'delivery' AS part, order_uid FROM delivery
        UNION SELECT 'payment', order_uid FROM payment
        UNION SELECT 'items', order_uid FROM items
    ) AS parts
    WHERE NOT EXISTS (SELECT FROM orders WHERE orders.order_uid = parts.order_uid)";

const ROWS: &str = "
    SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM delivery),
           (SELECT count(*) FROM payment), (SELECT count(*) FROM items)";

const DEAD_LETTERS: &str = "
    SELECT sequence, substring(payload FROM 1 FOR $1), length(payload) FROM dead_letters";

/// How long one query may take before the connection is given up: the server may be frozen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that is made again when it broke.
#[derive(Debug)]
pub(super) struct Database {
    url: String,
    client: Option<Client>,
    /// What rows were read as before. Most of them have not changed since the last round, and reading them is most of the work.
    read: HashMap<Digest, Result<Digest, String>>,
}

impl Database {
    /// Looks at this database.
    pub(super) fn new(url: &str) -> Database {
        Database {
            url: url.to_owned(),
            client: None,
            read: HashMap::new(),
        }
    }

    /// Looks at the hot orders again and again and writes down which versions are there, until it is dropped.
    pub(super) async fn watch(mut self, recorder: Arc<Recorder>, shop: Arc<Shop>) {
        loop {
            if let Ok(seen) = self.revisions(&shop.hot_uids()).await {
                // After the answer: by now these versions are committed for certain.
                let at = recorder.now();
                let mut history = recorder.history();
                for (uid, revision) in &seen {
                    history.sight(
                        uid,
                        Sighting {
                            at,
                            revision: *revision,
                        },
                    );
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The versions of these orders, as far as they are there.
    ///
    /// # Errors
    ///
    /// Where the database does not answer in time.
    pub(super) async fn revisions(&mut self, uids: &[OrderUid]) -> Result<BTreeMap<OrderUid, Revision>> {
        let uids: Vec<&str> = uids.iter().map(OrderUid::as_str).collect();
        let rows = self
            .within(async |client| client.query(REVISIONS, &[&uids]).await)
            .await?;
        rows.iter().map(revised).collect()
    }

    /// How many dead letters there are.
    ///
    /// # Errors
    ///
    /// Where the database does not answer in time.
    pub(super) async fn dead_letters(&mut self) -> Result<u64> {
        let count = async |client: &Client| client.query_one("SELECT count(*) FROM dead_letters", &[]).await;
        Ok(u64::try_from(self.within(count).await?.get::<_, i64>(0))?)
    }

    /// Everything.
    ///
    /// # Errors
    ///
    /// Where the database does not answer in time.
    pub(super) async fn tables(&mut self) -> Result<Tables> {
        let (orders, orphans, rows, letters) = self
            .within(async |client| {
                let beginning = i32::try_from(Digest::LETTER_BYTES).unwrap_or(i32::MAX);
                let orders = client.query(ORDERS, &[]).await?;
                let orphans = client.query(ORPHANS, &[]).await?;
                let rows = client.query_one(ROWS, &[]).await?;
                let letters = client.query(DEAD_LETTERS, &[&beginning]).await?;
                Ok((orders, orphans, rows, letters))
            })
            .await?;
        let mut tables = Tables {
            orphans: orphans.iter().map(|row| row.get(0)).collect(),
            ..Tables::default()
        };
        for (index, count) in tables.rows.iter_mut().enumerate() {
            *count = u64::try_from(rows.get::<_, i64>(index))?;
        }
        for row in &letters {
            let sequence = u64::try_from(row.get::<_, i64>(0))?;
            let length = usize::try_from(row.get::<_, i32>(2))?;
            tables
                .dead_letters
                .push((sequence, Digest::of_letter(row.get(1), length)));
        }
        for row in &orders {
            let (uid, revision) = revised(row)?;
            let rows: &str = row.get(3);
            let content = self.read.entry(Digest::of(rows.as_bytes()));
            let content = content.or_insert_with(|| digest(rows)).clone();
            tables.orders.insert(uid, Stored { revision, content });
        }
        Ok(tables)
    }

    async fn within<T>(
        &mut self,
        query: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let answer = timeout(PATIENCE, async {
            let client = match self.client.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => self.connect().await?,
            };
            let answer = query(&client).await?;
            anyhow::Ok((client, answer))
        });
        let (client, answer) = answer.await.context("the database did not answer in time")??;
        // Kept only now: what is left of an answer that broke off must not be taken for the next one.
        self.client = Some(client);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute("SET search_path = order_tracker; SET timezone = 'UTC'")
            .await?;
        Ok(client)
    }
}

fn revised(row: &Row) -> Result<(OrderUid, Revision)> {
    let revision = Revision {
        published_at: row.get(1),
        sequence: u64::try_from(row.get::<_, i64>(2))?,
    };
    Ok((OrderUid::new(row.get(0))?, revision))
}

/// The digest of the order that a row of [`ORDERS`] makes: read as a message would be, which ignores the columns that are no fields.
fn digest(json: &str) -> Result<Digest, String> {
    let rows: serde_json::Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let positions = rows["positions"].as_array().into_iter().flatten();
    if let Some((place, found)) = positions
        .enumerate()
        .find(|(place, found)| found.as_u64() != Some(*place as u64))
    {
        return Err(format!("the item at place {place} has the position {found}"));
    }
    parse(json.as_bytes())
        .map(|parsed| Digest::of(parsed.order.json()))
        .map_err(|faults| faults.to_string())
}

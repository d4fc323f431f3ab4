//! The floor: binary COPY of the four tables, out and in, on one connection, with nothing in between.

use std::pin::pin;

use anyhow::Result;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_postgres::Client;

/// The tables that an order is kept in.
const TABLES: [&str; 4] = ["orders", "delivery", "payment", "items"];

/// The rows of the four tables, as COPY writes them.
pub(super) struct Rows([Vec<Bytes>; 4]);

/// Reads the four tables, one after another.
pub(super) async fn out(database: &Client) -> Result<Rows> {
    let mut rows = Rows(Default::default());
    for (table, chunks) in TABLES.into_iter().zip(&mut rows.0) {
        let copy = format!("COPY {table} TO STDOUT (FORMAT binary)");
        let mut stream = pin!(database.copy_out(&copy).await?);
        while let Some(chunk) = stream.next().await {
            chunks.push(chunk?);
        }
    }
    Ok(rows)
}

impl Rows {
    /// Puts those of many rows together: a chunk a row is what comes out, and sent one by one each would be a message of its own.
    pub(super) fn packed(self) -> Rows {
        let pack = |chunks: Vec<Bytes>| chunks.chunks(256).map(|some| some.concat().into()).collect();
        Rows(self.0.map(pack))
    }
}

/// Writes them into the same tables of another schema, one transaction a table.
pub(super) async fn into(database: &Client, rows: &Rows) -> Result<()> {
    for (table, chunks) in TABLES.into_iter().zip(&rows.0) {
        let copy = format!("COPY {table} FROM STDIN (FORMAT binary)");
        let mut sink = pin!(database.copy_in(&copy).await?);
        for chunk in chunks {
            sink.send(chunk.clone()).await?;
        }
        sink.finish().await?;
    }
    Ok(())
}

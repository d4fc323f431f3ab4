//! The contract, for programs to read: OpenAPI for what is asked, AsyncAPI for what is published, JSON Schema for the order itself.

mod asyncapi;
mod openapi;
mod operation;
mod operations;
mod order_schema;
mod schemas;

use actix_web::web::Bytes;
use serde::Serialize;

use crate::config::Settings;
use order_schema::OrderSchema;

/// The names of the documents' files, and the last parts of their paths under `/api`.
pub(super) const NAMES: [&str; 3] = ["openapi.json", "asyncapi.json", "order.schema.json"];

/// The documents of the contract, rendered once.
///
/// They are committed to `docs/api` too, so that a change of the contract is seen in review; `cargo xtask contract` writes them there.
#[derive(Debug)]
pub struct Contract {
    documents: [Document; 3],
}

/// One document: readable JSON, the same bytes from the same settings.
#[derive(Debug, Clone)]
pub struct Document {
    /// The name of its file, and the last part of its path under `/api`.
    pub name: &'static str,
    /// What it is served as.
    pub media_type: &'static str,
    /// The document.
    pub json: Bytes,
}

impl Contract {
    /// The contract of a service with these settings.
    pub fn new(settings: &Settings) -> Self {
        let [openapi, asyncapi, order_schema] = NAMES;
        let subject = settings.nats.subject.as_str();
        Contract {
            documents: [
                Document::new(
                    openapi,
                    "application/json",
                    &openapi::document(settings.http.tokens_file.is_some()),
                ),
                Document::new(asyncapi, "application/json", &asyncapi::document(subject)),
                Document::new(order_schema, "application/schema+json", &OrderSchema::new()),
            ],
        }
    }

    /// Its documents.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }
}

impl Document {
    fn new(name: &'static str, media_type: &'static str, content: &impl Serialize) -> Self {
        let mut json = serde_json::to_vec_pretty(content).expect("a document has nothing that JSON has not");
        json.push(b'\n');
        Document {
            name,
            media_type,
            json: json.into(),
        }
    }
}

//! The contract: what is written about the routes, and whether it is true.

mod documents;
mod examples;
mod order_schema;
mod schemathesis;
mod tutorial;

use std::path::{Path, PathBuf};

use order_app::{Contract, NewToken, Settings};
use order_tests::Shop;
use serde_json::Value;

/// A folder or file under `docs`.
fn docs(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).join(name)
}

/// A document of the contract, as a service has it that was not told otherwise.
fn document(name: &str) -> Value {
    let contract = Contract::new(&Settings::default());
    let found = contract.documents().iter().find(|document| document.name == name);
    serde_json::from_slice(&found.expect("there is such a document").json).expect("a document is JSON")
}

/// What judges values by the schema at this pointer in a document.
fn validator(document: &Value, pointer: &str) -> jsonschema::Validator {
    let mut root = document.clone();
    let escaped: String = pointer.replace('{', "%7B").replace('}', "%7D");
    root["$ref"] = format!("#{escaped}").into();
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&root)
        .unwrap_or_else(|error| panic!("{pointer}: {error}"))
}

/// Lets the replicas that are started from here on ask for tokens, and answers one with these scopes.
fn require_tokens(shop: &mut Shop, scopes: &str) -> String {
    let scopes = scopes.parse().expect("there are such scopes");
    let NewToken { token, line } = NewToken::make(scopes, "a test").expect("a token");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.tokens", shop.stream()));
    std::fs::write(&file, line).expect("the file can be written");
    shop.set("HTTP__TOKENS_FILE", &file.to_string_lossy());
    token
}

//! The examples in the documents: each is what it is said to be.

use order_domain::parse;
use serde_json::Value;

use crate::{document, validator};

/// An example, and the pointer of the schema that it stands for.
type Example<'a> = (String, &'a Value);

#[test]
fn every_example_is_valid_by_its_own_schema() {
    for (name, at_least) in [
        ("openapi.json", 40),
        ("asyncapi.json", 4),
        ("order.schema.json", 3),
    ] {
        let document = document(name);
        let mut examples = Vec::new();
        find_examples(&document, "", &mut examples);
        assert!(examples.len() >= at_least, "{name}: {examples:?}");
        for (schema, example) in examples {
            if let Err(error) = validator(&document, &schema).validate(example) {
                panic!("{name}: an example of {schema} is not valid: {error}: {example}");
            }
        }
    }
}

#[test]
fn every_example_of_an_order_is_one() {
    let schemas = &document("order.schema.json")["$defs"];
    let order = |name: &str| {
        let json = schemas[name]["examples"][0].to_string();
        parse(json.as_bytes())
            .unwrap_or_else(|faults| panic!("{name}: {faults}"))
            .order
    };
    let written = order("Order");
    assert_eq!(written, order("SnakeCaseOrder"));
    assert_eq!(written, order("CamelCaseOrder"));
}

/// Finds the examples of schemas (`examples` as an array), of media types, headers and parameters (`example`, `examples` as an object), and
/// of AsyncAPI's messages.
fn find_examples<'a>(value: &'a Value, pointer: &str, found: &mut Vec<Example<'a>>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(object) => {
            match object.get("examples") {
                Some(Value::Array(messages)) if object.contains_key("payload") => {
                    for message in messages {
                        found.push((format!("{pointer}/payload"), &message["payload"]));
                        found.push((format!("{pointer}/headers"), &message["headers"]));
                    }
                }
                Some(Value::Array(examples)) => {
                    found.extend(examples.iter().map(|it| (pointer.to_owned(), it)))
                }
                Some(Value::Object(examples)) if object.contains_key("schema") => {
                    found.extend(
                        examples
                            .values()
                            .map(|it| (format!("{pointer}/schema"), &it["value"])),
                    );
                }
                _ => {}
            }
            if let (Some(example), true) = (object.get("example"), object.contains_key("schema")) {
                found.push((format!("{pointer}/schema"), example));
            }
            for (name, value) in object {
                if name != "examples" && name != "example" {
                    find_examples(value, &format!("{pointer}/{}", escaped(name)), found);
                }
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                find_examples(element, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

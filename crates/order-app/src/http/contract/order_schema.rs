//! The order as JSON Schema (2020-12), made from the table of the wire format, so that no rule is written down twice.
//!
//! What a schema cannot say, a description does: a limit in bytes, for one, where JSON Schema counts characters.

use std::collections::BTreeMap;

use order_domain::{Field, FieldKind, ORDER_FIELDS, OrderUid, limits};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::{KnownFormat, Ref, RefOr, Schema, SchemaFormat};

/// Text in which every character stands but NUL, which no table can hold.
const NO_NUL: &str = r"^[^\u0000]*$";
/// A moment as it is written: in UTC, at most to the microsecond.
const WRITTEN_MOMENT: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$";
/// The largest amount: 18 digits.
const LARGEST_AMOUNT: i64 = 999_999_999_999_999_999;

/// An order as it is written.
pub(super) const ORDER: &str = "Order";
/// An order as it is read, in either spelling.
pub(super) const NEW_ORDER: &str = "NewOrder";

/// An order in both spellings, for people to look at.
pub(super) const EXAMPLE: &str = include_str!("examples/order.json");
pub(super) const CAMEL_CASE_EXAMPLE: &str = include_str!("examples/camel-case-order.json");

/// A schema under its name.
pub(super) type Named = (String, RefOr<Schema>);

/// The schemas of the order and of its parts, as it is written and as it is read. They name each other by `root` and a name.
pub(super) fn order_schemas(root: &str) -> Vec<Named> {
    let mut schemas = Vec::new();
    for form in [Form::Written, Form::SnakeCase, Form::CamelCase] {
        let mut describer = Describer {
            root,
            form,
            schemas: &mut schemas,
        };
        describer.object("Order", ORDER_FIELDS);
    }
    schemas.push((NEW_ORDER.to_owned(), new_order(root)));
    schemas
}

/// The schema of a uid, wherever one stands.
pub(super) fn uid() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(OrderUid::MAX_LEN))
        .pattern(Some(r"^(?!\.{1,2}$)[A-Za-z0-9._-]+$"))
        .description(Some(
            "The name of an order: neither `.` nor `..`, so that it stands in a path as it is.",
        ))
}

/// The schema of a text by which orders are searched.
pub(super) fn searchable_text() -> ObjectBuilder {
    text(limits::SEARCHABLE_TEXT_BYTES).min_length(Some(1))
}

/// Which orders a schema describes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As they are written: canonical, with every field and nothing else.
    Written,
    /// As they are read, in the canonical spelling.
    SnakeCase,
    /// As they are read, in the spelling of the Go service.
    CamelCase,
}

impl Form {
    /// What the names of its schemas begin with.
    fn prefix(self) -> &'static str {
        match self {
            Form::Written => "",
            Form::SnakeCase => "SnakeCase",
            Form::CamelCase => "CamelCase",
        }
    }

    /// How a field is spelt.
    fn name_of(self, field: &Field) -> &'static str {
        match (self, field.other_names) {
            (Form::CamelCase, [other, ..]) => other,
            _ => field.name,
        }
    }

    /// How it is not spelt, where it is read.
    fn other_name_of(self, field: &Field) -> Option<&'static str> {
        match (self, field.other_names) {
            (Form::SnakeCase, [other, ..]) => Some(other),
            (Form::CamelCase, [_, ..]) => Some(field.name),
            _ => None,
        }
    }

    /// What is said of an order in this form.
    fn description(self) -> String {
        let limit = limits::JSON_BYTES / 1024;
        match self {
            Form::Written => format!(
                "An order as it is always written: canonical JSON, with every field, of at most {limit} KiB. Equal orders are \
                 the same bytes."
            ),
            Form::SnakeCase => format!(
                "An order to publish, in the canonical spelling. Optional fields may be left out or `null`; unknown ones \
                 are ignored. As canonical JSON it has at most {limit} KiB."
            ),
            Form::CamelCase => "An order to publish, in camelCase: it means the same order.".to_owned(),
        }
    }

    fn example(self) -> Value {
        let example = match self {
            Form::Written | Form::SnakeCase => EXAMPLE,
            Form::CamelCase => CAMEL_CASE_EXAMPLE,
        };
        serde_json::from_str(example).expect("the example is JSON")
    }
}

/// Writes down one form of the order.
struct Describer<'a> {
    root: &'a str,
    form: Form,
    schemas: &'a mut Vec<Named>,
}

impl Describer<'_> {
    /// Describes an object under a name, and answers how it is referred to.
    fn object(&mut self, name: &str, fields: &[Field]) -> Ref {
        let form = self.form;
        let mut object = ObjectBuilder::new();
        // Its place comes before that of its parts.
        let place = self.schemas.len();
        let name = format!("{}{name}", form.prefix());
        self.schemas.push((name.clone(), Schema::default().into()));
        for field in fields {
            object = object.property(form.name_of(field), self.value(field));
            if field.required || form == Form::Written {
                object = object.required(form.name_of(field));
            }
        }
        if form == Form::Written {
            object = object.additional_properties(Some(AdditionalProperties::FreeForm(false)));
        }
        let others: Vec<_> = fields
            .iter()
            .filter_map(|field| form.other_name_of(field))
            .collect();
        if !others.is_empty() {
            // In one spelling no field can be given twice.
            let own = ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(format!("^(?!({})$)", others.join("|"))));
            object = object.property_names(Some(Schema::from(own)));
        }
        if fields == ORDER_FIELDS {
            object = object
                .description(Some(form.description()))
                .examples([form.example()]);
        }
        self.schemas[place].1 = object.into();
        Ref::new(format!("{}{name}", self.root))
    }

    /// Describes the values of a field.
    fn value(&mut self, field: &Field) -> RefOr<Schema> {
        let reading = self.form != Form::Written;
        let optional = reading && !field.required;
        // What may be left out may be null, too.
        let or_null = |of: Type| match optional {
            true => SchemaType::from_iter([of, Type::Null]),
            false => SchemaType::new(of),
        };
        let typed = |of| ObjectBuilder::new().schema_type(or_null(of));
        let or = |value: Value| optional.then_some(value);
        match field.kind {
            FieldKind::Uid => uid().into(),
            FieldKind::Text { max_bytes } => text(max_bytes)
                .schema_type(or_null(Type::String))
                .min_length(field.required.then_some(1))
                .default(or(json!("")))
                .into(),
            FieldKind::Amount => typed(Type::Number)
                .minimum(Some(-LARGEST_AMOUNT as isize))
                .maximum(Some(LARGEST_AMOUNT as isize))
                .description(Some(
                    "An exact decimal: at most 18 digits, at most 4 of them after the point. Read it as one, not as a float. \
                     (No `multipleOf`: checked with floats, it refuses what is right.)",
                ))
                .default(or(json!(0)))
                .into(),
            FieldKind::Integer { bits } => integer(typed(Type::Integer), bits).default(or(json!(0))).into(),
            FieldKind::DateTime => moment(reading).into(),
            FieldKind::UnixSeconds => {
                let seconds = integer(ObjectBuilder::new().schema_type(Type::Integer), 64);
                if !reading {
                    return seconds.description(Some("Seconds since 1970-01-01T00:00:00Z.")).into();
                }
                AnyOfBuilder::new()
                    .item(seconds)
                    .item(moment(true))
                    .description(Some("Seconds since 1970-01-01T00:00:00Z, or RFC 3339, which is cut to seconds."))
                    .into()
            }
            FieldKind::Object { fields } => self.object(&type_name(field.name), fields).into(),
            FieldKind::List { fields, max_len } => {
                let elements = self.object(&type_name(field.name.trim_end_matches('s')), fields);
                ArrayBuilder::new()
                    .schema_type(or_null(Type::Array))
                    .items(elements)
                    .max_items(Some(max_len))
                    .default(or(json!([])))
                    .into()
            }
        }
    }
}

/// A text of at most so many bytes. A schema counts characters, and no text has more of those.
fn text(max_bytes: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(max_bytes))
        .pattern(Some(NO_NUL))
        .description(Some(format!(
            "At most {max_bytes} bytes in UTF-8, where a character has 1 to 4; no NUL."
        )))
}

fn integer(schema: ObjectBuilder, bits: u32) -> ObjectBuilder {
    let largest = i64::MAX >> (64 - bits);
    schema
        .format(Some(SchemaFormat::KnownFormat(match bits {
            32 => KnownFormat::Int32,
            _ => KnownFormat::Int64,
        })))
        .minimum(Some((-largest - 1) as isize))
        .maximum(Some(largest as isize))
}

fn moment(reading: bool) -> ObjectBuilder {
    let moment = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    if reading {
        moment.description(Some(
            "RFC 3339 with any offset, in the years 0001 to 9999 of UTC. What is finer than a microsecond is cut off.",
        ))
    } else {
        moment
            .pattern(Some(WRITTEN_MOMENT))
            .description(Some("RFC 3339 in UTC, to the microsecond."))
    }
}

/// The name of a field as that of a type: `delivery` is a `Delivery`.
fn type_name(field: &str) -> String {
    let (first, rest) = field.split_at(1);
    format!("{}{rest}", first.to_ascii_uppercase())
}

fn new_order(root: &str) -> RefOr<Schema> {
    let name = |form: Form| Ref::new(format!("{root}{}Order", form.prefix()));
    AnyOfBuilder::new()
        .item(name(Form::SnakeCase))
        .item(name(Form::CamelCase))
        .description(Some(
            "An order to publish, in either spelling. An integer is written without fraction and exponent: `1.0` is refused.",
        ))
        .into()
}

/// The schema of the order as a document of its own: that of what is written, with the others beside it.
#[derive(Serialize)]
pub(super) struct OrderSchema {
    #[serde(rename = "$schema")]
    dialect: &'static str,
    title: &'static str,
    description: &'static str,
    #[serde(rename = "$ref")]
    order: String,
    #[serde(rename = "$defs")]
    schemas: BTreeMap<String, RefOr<Schema>>,
}

impl OrderSchema {
    pub(super) fn new() -> Self {
        let root = "#/$defs/";
        OrderSchema {
            dialect: "https://json-schema.org/draft/2020-12/schema",
            title: "Order",
            description: "An order as Order Tracker writes it. What it reads is more liberal: `#/$defs/NewOrder`.",
            order: format!("{root}{ORDER}"),
            schemas: order_schemas(root).into_iter().collect(),
        }
    }
}

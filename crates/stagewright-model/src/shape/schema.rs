//! Generates the JSON Schema of pipeline files, for editors.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

mod with_tables;

use super::{FILE, NameRule, Shape, Table};

/// The JSON Schema of pipeline files. It covers keys, types and the form of single values, and the `with` tables of the
/// given plugins, by `uses` with the schemas in their manifests. Relations between values are only checked by
/// [`Plan::parse`](crate::Plan::parse).
///
/// The schema is valid in the drafts 7 to 2020-12: editors for TOML know the former only.
pub fn json_schema(plugins: &BTreeMap<String, Json>) -> Json {
    let mut schema = object([
        ("$schema", json!("http://json-schema.org/draft-07/schema#")),
        ("title", json!("Stagewright pipeline")),
    ]);
    schema.extend(table(&FILE));
    let mut schema = Json::Object(schema);
    with_tables::describe(&mut schema, plugins);
    schema
}

fn table(table: &Table) -> Map<String, Json> {
    let mut schema = object([("type", json!("object"))]);
    let properties: Map<_, _> = table
        .keys
        .iter()
        .map(|key| {
            let mut property = object([("description", json!(key.doc))]);
            // Defaults are compiled in, and a test parses all of them.
            if let Some(default) = key.default.and_then(|default| serde_json::from_str(default).ok()) {
                property.insert("default".to_owned(), default);
            }
            property.extend(shape(&key.shape));
            (key.name.to_owned(), Json::Object(property))
        })
        .collect();
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), Json::Object(properties));
    }
    let required: Vec<_> = table.keys.iter().filter(|key| key.is_required).map(|key| key.name).collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    match table.others {
        None => {
            schema.insert("additionalProperties".to_owned(), json!(false));
        }
        Some(others) => {
            if let Some(pattern) = name_pattern(others.rule) {
                schema.insert("propertyNames".to_owned(), json!({ "pattern": pattern, "maxLength": 100 }));
            }
            schema.insert("additionalProperties".to_owned(), Json::Object(shape(&others.shape)));
        }
    }
    schema
}

fn shape(of: &Shape) -> Map<String, Json> {
    match of {
        Shape::Text(format) => {
            let mut schema = object([("type", json!("string"))]);
            if let Json::Object(keywords) = format.schema() {
                schema.extend(keywords);
            }
            schema
        }
        Shape::Integer(low, high) if low == high => object([("const", json!(low))]),
        Shape::Integer(low, high) => {
            object([("type", json!("integer")), ("minimum", json!(low)), ("maximum", json!(high))])
        }
        Shape::Boolean => object([("type", json!("boolean"))]),
        // Editors recognise TOML dates by this type and format.
        Shape::Moment => object([("type", json!("string")), ("format", json!("date-time"))]),
        Shape::Scalar => object([("type", json!(["string", "number", "boolean"]))]),
        Shape::Anything => Map::new(),
        Shape::List(item) => object([("type", json!("array")), ("items", Json::Object(shape(item)))]),
        Shape::Table(keys) => table(keys),
        Shape::Either(shapes) => object([("anyOf", shapes.iter().map(|of| Json::Object(shape(of))).collect())]),
    }
}

fn name_pattern(rule: NameRule) -> Option<&'static str> {
    match rule {
        NameRule::Stage => Some("^[a-z0-9][a-z0-9_-]*$"),
        NameRule::Name => Some("^[A-Za-z_][A-Za-z0-9_-]*$"),
        NameRule::Variable => Some("^[A-Za-z_][A-Za-z0-9_]*$"),
        NameRule::Any => None,
    }
}

fn object<const N: usize>(entries: [(&str, Json); N]) -> Map<String, Json> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

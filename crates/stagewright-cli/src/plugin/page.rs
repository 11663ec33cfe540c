//! Describes a plugin's `with` table and its outputs in words, from the JSON Schemas in its manifest.

use serde_json::{Map, Value as Json};

/// The keys of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DescribedTable {
    /// `with`, or the name of the type in the schema.
    pub(super) name: String,
    pub(super) keys: Vec<DescribedKey>,
}

/// A key of a table, or an output.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DescribedKey {
    pub(super) name: String,
    /// Its type, as in `list of strings`.
    pub(super) kind: String,
    pub(super) is_required: bool,
    /// Its default as JSON; none if it has none, or one that is empty.
    pub(super) default: Option<String>,
    pub(super) description: String,
}

/// The `with` table, and the tables inside of it.
pub(super) fn tables(config: &Json) -> Vec<DescribedTable> {
    let inner =
        config["$defs"].as_object().into_iter().flatten().filter(|(_, schema)| schema["properties"].is_object());
    let all = std::iter::once(("with", config)).chain(inner.map(|(name, schema)| (name.as_str(), schema)));
    all.map(|(name, schema)| DescribedTable { name: name.to_owned(), keys: keys(schema, config) }).collect()
}

/// The outputs with these schemas.
pub(super) fn outputs<'a>(properties: impl IntoIterator<Item = (&'a String, &'a Json)>) -> Vec<DescribedKey> {
    properties.into_iter().map(|(name, schema)| key(name, schema, schema)).collect()
}

fn keys(table: &Json, root: &Json) -> Vec<DescribedKey> {
    let is_required = |name: &str| table["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let properties = table["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| DescribedKey { is_required: is_required(name), ..key(name, schema, root) })
        .collect()
}

fn key(name: &str, schema: &Json, root: &Json) -> DescribedKey {
    let default = schema.get("default").filter(|default| !is_empty(default));
    let description = schema["description"].as_str().unwrap_or_default();
    DescribedKey {
        name: name.to_owned(),
        kind: kind(schema, root),
        is_required: false,
        default: default.map(Json::to_string),
        description: description.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(keys) => keys.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

/// The type of values in words.
fn kind(schema: &Json, root: &Json) -> String {
    kind_within(schema, root, MOST_HOPS)
}

/// The most references that are followed one after the other: a schema can refer to itself.
const MOST_HOPS: usize = 4;

fn kind_within(schema: &Json, root: &Json, hops: usize) -> String {
    let kind = |schema: &Json| kind_within(schema, root, hops);
    let Some(keywords) = schema.as_object() else { return "any value".to_owned() };
    if let Some(reference) = keywords.get("$ref").and_then(Json::as_str) {
        let name = reference.trim_start_matches("#/$defs/");
        let definition = &root["$defs"][name];
        return match hops.checked_sub(1) {
            Some(hops) if !definition["properties"].is_object() => kind_within(definition, root, hops),
            _ => name.to_owned(),
        };
    }
    if let Some(value) = keywords.get("const") {
        return value.to_string();
    }
    if let Some(values) = keywords.get("enum").and_then(Json::as_array) {
        return either(values.iter().map(Json::to_string));
    }
    let alternatives = ["anyOf", "oneOf"].iter().find_map(|keyword| keywords.get(*keyword)?.as_array());
    if let Some(alternatives) = alternatives {
        return either(alternatives.iter().map(kind));
    }
    match keywords.get("type") {
        Some(Json::String(name)) => of_type(name, keywords, &kind),
        Some(Json::Array(names)) => {
            either(names.iter().filter_map(Json::as_str).map(|name| of_type(name, keywords, &kind)))
        }
        _ => "any value".to_owned(),
    }
}

/// `kind` names the type of the values inside of a list or table.
fn of_type(name: &str, keywords: &Map<String, Json>, kind: &dyn Fn(&Json) -> String) -> String {
    let of =
        |keyword: &str| keywords.get(keyword).filter(|schema| schema.is_object()).map(|schema| plural(&kind(schema)));
    match name {
        "array" => of("items").map_or_else(|| "list".to_owned(), |items| format!("list of {items}")),
        "object" => {
            of("additionalProperties").map_or_else(|| "table".to_owned(), |values| format!("table of {values}"))
        }
        "null" => String::new(),
        other => other.to_owned(),
    }
}

fn plural(kind: &str) -> String {
    const NOUNS: [&str; 7] = ["any value", "boolean", "integer", "list", "number", "string", "table"];
    let plural_of = |kind: &str| {
        let (noun, rest) = kind.split_once(" of ").map_or((kind, ""), |(noun, _)| (noun, &kind[noun.len()..]));
        if NOUNS.contains(&noun) { format!("{noun}s{rest}") } else { kind.to_owned() }
    };
    kind.split(" or ").map(plural_of).collect::<Vec<_>>().join(" or ")
}

/// Joins types, each once. The type of no value is left out: a key can be left out instead.
fn either(kinds: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for kind in kinds.filter(|kind| !kind.is_empty()) {
        if !all.contains(&kind) {
            all.push(kind);
        }
    }
    all.join(" or ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_named_as_people_say_them() {
        let root = json!({ "$defs": {
            "Mode": { "oneOf": [{ "const": "fast" }, { "const": "slow" }] },
            "Layer": { "type": "object", "properties": { "dest": { "type": "string" } } },
        } });
        let kind = |schema: Json| kind(&schema, &root);
        assert_eq!(kind(json!({ "type": ["array", "null"], "items": { "type": "string" } })), "list of strings");
        assert_eq!(
            kind(json!({ "type": "object", "additionalProperties": { "type": "integer" } })),
            "table of integers"
        );
        assert_eq!(kind(json!({ "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }] })), r#""fast" or "slow""#);
        assert_eq!(kind(json!({ "type": "array", "items": { "$ref": "#/$defs/Layer" } })), "list of Layer");
        assert_eq!(kind(json!({ "enum": ["gzip", "none"] })), r#""gzip" or "none""#);
        assert_eq!(kind(json!(true)), "any value");
        let lists =
            json!({ "type": "object", "additionalProperties": { "type": "array", "items": { "type": "string" } } });
        assert_eq!(kind(lists), "table of lists of strings");
        let mixed =
            json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/Layer" }] } });
        assert_eq!(kind(mixed), "list of strings or Layer");
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_a_name() {
        let root = json!({ "$defs": {
            "Self": { "$ref": "#/$defs/Self" },
            "Value": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "$ref": "#/$defs/Value" } }] },
        } });
        assert_eq!(kind(&json!({ "$ref": "#/$defs/Self" }), &root), "Self");
        let value = kind(&json!({ "$ref": "#/$defs/Value" }), &root);
        assert!(value.starts_with("string or list of strings or lists of") && value.ends_with("Value"), "{value}");
    }

    #[test]
    fn the_tables_inside_of_a_table_follow_it() {
        let tables = tables(&json!({
            "required": ["layers"],
            "properties": {
                "layers": { "description": "The\nlayers.", "type": "array", "items": { "$ref": "#/$defs/Layer" } },
                "tags": { "type": "array", "items": { "type": "string" }, "default": [] },
            },
            "$defs": {
                "Layer": { "properties": { "dest": { "type": "string", "default": "/" } } },
                "Mode": { "type": "string" },
            },
        }));
        assert_eq!(tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["with", "Layer"]);
        let [layers, tags] = tables[0].keys.as_slice() else { panic!("{tables:?}") };
        assert_eq!((layers.is_required, layers.description.as_str()), (true, "The layers."));
        assert_eq!((tags.is_required, &tags.default), (false, &None));
        assert_eq!(tables[1].keys[0].default.as_deref(), Some("\"/\""));
    }
}

//! The `with` tables of plugins in the JSON Schema of pipeline files.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::plan::{DEPLOY, DEPLOY_PREFIX};

/// The tables of stages.
const STAGE_TABLES: [&str; 2] = ["/properties/stages/additionalProperties", "/properties/finally/additionalProperties"];

/// Strings with an expression, which may stand for a value of any type.
const TEMPLATE: &str = r"\$\{\{";

/// Keywords whose value is an object of schemas.
const MAPS_OF_SCHEMAS: [&str; 4] = ["$defs", "definitions", "patternProperties", "properties"];

/// Keywords whose value is a schema or a list of schemas.
const SCHEMAS: [&str; 6] = ["additionalProperties", "allOf", "anyOf", "items", "not", "prefixItems"];

/// Keywords that describe a value instead of restricting it.
const ANNOTATIONS: [&str; 5] = ["default", "deprecated", "description", "examples", "title"];

/// Adds the schemas of plugins' `with` tables, by `uses`.
pub(super) fn describe(schema: &mut Json, plugins: &BTreeMap<String, Json>) {
    let plugins = plugins.iter().filter(|(_, config)| config.is_object()).collect::<Vec<_>>();
    if plugins.is_empty() {
        return;
    }
    let mut definitions = Map::new();
    let deploying = plugins.iter().filter(|(uses, _)| uses.starts_with(DEPLOY_PREFIX)).collect::<Vec<_>>();
    if !deploying.is_empty() {
        // Which of them `deploy` stands for depends on the stage's environment, which a schema can't follow.
        let tables = deploying.iter().map(|(uses, _)| reference(&table_of(uses))).collect::<Vec<_>>();
        let has_table = json!({ "properties": { "with": { "anyOf": tables } } });
        definitions.insert(case(DEPLOY), json!({ "if": uses_plugin(DEPLOY), "then": has_table }));
    }
    for (uses, config) in plugins {
        let table = table_of(uses);
        let mut has_table = json!({ "properties": { "with": reference(&table) } });
        if config["required"].as_array().is_some_and(|keys| !keys.is_empty()) {
            has_table["required"] = json!(["with"]);
        }
        definitions.insert(case(uses), json!({ "if": uses_plugin(uses), "then": has_table }));
        definitions.insert(table.clone(), of_plugin(config, &table));
    }
    let cases = definitions.keys().filter(|name| name.starts_with(CASE)).map(|case| reference(case));
    let cases = cases.collect::<Vec<_>>();
    definitions.insert("stage".to_owned(), json!({ "allOf": cases }));
    schema["definitions"] = Json::Object(definitions);
    for path in STAGE_TABLES {
        if let Some(stage) = schema.pointer_mut(path) {
            stage["allOf"] = json!([{ "$ref": "#/definitions/stage" }]);
        }
    }
}

/// What the names of definitions for the stages of a plugin begin with.
const CASE: &str = "uses-";

fn case(uses: &str) -> String {
    format!("{CASE}{}", escaped(uses))
}

fn table_of(uses: &str) -> String {
    format!("with-{}", escaped(uses))
}

fn reference(definition: &str) -> Json {
    json!({ "$ref": format!("#/definitions/{definition}") })
}

fn uses_plugin(uses: &str) -> Json {
    json!({ "required": ["uses"], "properties": { "uses": { "const": uses } } })
}

/// A plugin's `uses` as part of a key that a JSON pointer in a URL can name. Another `uses` has another key.
fn escaped(uses: &str) -> String {
    uses.chars().fold(String::new(), |mut key, letter| {
        match letter.is_ascii_alphanumeric() || letter == '-' {
            true => key.push(letter),
            false => key.push_str(&format!("_{:x}_", u32::from(letter))),
        }
        key
    })
}

/// The schema of a plugin's table at its place in that of the file: references are relative to the place, and values may be
/// expressions.
fn of_plugin(config: &Json, table: &str) -> Json {
    let mut schema = config.clone();
    prepare(&mut schema, table);
    if let Some(keywords) = schema.as_object_mut() {
        keywords.remove("$schema");
        keywords.remove("title");
        if let Some(definitions) = keywords.remove("$defs") {
            keywords.insert("definitions".to_owned(), definitions);
        }
    }
    schema
}

/// Prepares a schema and those inside of it. Only the outermost is left closed to expressions: the table itself.
fn prepare(schema: &mut Json, table: &str) {
    let Some(keywords) = schema.as_object_mut() else { return };
    // An expression matches several alternatives, of which `oneOf` allows one.
    if let Some(alternatives) = keywords.remove("oneOf") {
        keywords.insert("anyOf".to_owned(), alternatives);
    }
    without_null(keywords);
    if let Some(Json::String(reference)) = keywords.remove("$ref") {
        let reference = match reference.as_str() {
            "#" => format!("#/definitions/{table}"),
            other => other.replacen("#/$defs/", &format!("#/definitions/{table}/definitions/"), 1),
        };
        // Draft 7 ignores the keywords beside a reference.
        let whole = json!({ "$ref": reference });
        match keywords.is_empty() {
            true => *schema = whole,
            false => drop(keywords.insert("allOf".to_owned(), json!([whole]))),
        }
        return;
    }
    for (keyword, value) in keywords.iter_mut() {
        if MAPS_OF_SCHEMAS.contains(&keyword.as_str()) {
            for inner in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
                prepare(inner, table);
                open(inner);
            }
        } else if SCHEMAS.contains(&keyword.as_str()) {
            let inner = match value {
                Json::Array(all) => all.iter_mut().collect(),
                one => vec![one],
            };
            for inner in inner {
                prepare(inner, table);
                open(inner);
            }
        }
    }
}

/// Removes the type that plugins give to a key that can be left out: TOML has no such value.
fn without_null(keywords: &mut Map<String, Json>) {
    if let Some(Json::Array(types)) = keywords.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            keywords.insert("type".to_owned(), only);
        }
    }
    if let Some(Json::Array(alternatives)) = keywords.get_mut("anyOf") {
        alternatives.retain(|alternative| *alternative != json!({ "type": "null" }));
        if let [only] = alternatives.as_slice()
            && let Some(only) = only.as_object().cloned()
        {
            keywords.remove("anyOf");
            for (keyword, value) in only {
                keywords.entry(keyword).or_insert(value);
            }
        }
    }
}

/// Lets an expression stand for the value. A `const` distinguishes alternatives, and an open string permits any text.
fn open(schema: &mut Json) {
    let Some(keywords) = schema.as_object_mut() else { return };
    let is_restricted =
        ["enum", "format", "maxLength", "minLength", "pattern"].iter().any(|key| keywords.contains_key(*key));
    let is_open = match keywords.get("type") {
        None => !keywords.contains_key("enum"),
        Some(Json::Array(kinds)) => kinds.iter().any(|kind| kind == "string") && !is_restricted,
        Some(kind) => kind == "string" && !is_restricted,
    };
    if is_open || keywords.contains_key("const") {
        return;
    }
    let is_annotation = |(keyword, _): &(String, Json)| ANNOTATIONS.contains(&keyword.as_str());
    let (mut outer, inner): (Map<_, _>, Map<_, _>) = std::mem::take(keywords).into_iter().partition(is_annotation);
    outer.insert("anyOf".to_owned(), json!([inner, { "type": "string", "pattern": TEMPLATE }]));
    *keywords = outer;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema_with(config: Json) -> Json {
        let mut schema = json!({ "properties": { "stages": { "additionalProperties": {} } } });
        describe(&mut schema, &BTreeMap::from([("path:plugins/mine".to_owned(), config)]));
        schema
    }

    #[test]
    fn a_stage_has_the_table_of_its_plugin() {
        let schema =
            schema_with(json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "string" } } }));
        let stage = &schema["properties"]["stages"]["additionalProperties"];
        assert_eq!(stage["allOf"], json!([{ "$ref": "#/definitions/stage" }]));
        let definitions = &schema["definitions"];
        assert_eq!(definitions["stage"]["allOf"], json!([{ "$ref": "#/definitions/uses-path_3a_plugins_2f_mine" }]));
        let case = &definitions["uses-path_3a_plugins_2f_mine"];
        assert_eq!(case["if"]["properties"]["uses"]["const"], "path:plugins/mine");
        assert_eq!(case["then"]["properties"]["with"]["$ref"], "#/definitions/with-path_3a_plugins_2f_mine");
        assert_eq!(case["then"]["required"], json!(["with"]));
        assert_eq!(definitions["with-path_3a_plugins_2f_mine"]["properties"]["a"], json!({ "type": "string" }));
    }

    #[test]
    fn an_expression_stands_for_a_value_of_any_type_and_references_lead_to_their_place() {
        let schema = schema_with(json!({
            "properties": {
                "count": { "description": "How many.", "type": "integer", "default": 1 },
                "mode": { "$ref": "#/$defs/Mode" },
                "other": { "description": "Another.", "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }] },
                "name": { "type": ["string", "null"] },
                "either": { "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
                "tag": { "const": "x" },
                "table": { "$ref": "#" },
            },
            "$defs": { "Mode": { "enum": ["a", "b"] } },
        }));
        let table = &schema["definitions"]["with-path_3a_plugins_2f_mine"];
        let template = json!({ "type": "string", "pattern": "\\$\\{\\{" });
        let count = json!({ "description": "How many.", "default": 1, "anyOf": [{ "type": "integer" }, template] });
        assert_eq!(table["properties"]["count"], count);
        let reference = "#/definitions/with-path_3a_plugins_2f_mine/definitions/Mode";
        assert_eq!(table["properties"]["mode"], json!({ "$ref": reference }));
        let other = json!({ "description": "Another.", "allOf": [{ "$ref": reference }] });
        assert_eq!(table["properties"]["other"], other);
        assert_eq!(table["properties"]["name"], json!({ "type": "string" }));
        assert_eq!(table["definitions"]["Mode"]["anyOf"], json!([{ "enum": ["a", "b"] }, template]));
        let either = &table["properties"]["either"];
        assert_eq!((&either["oneOf"], &either["anyOf"][0]), (&Json::Null, &json!({ "type": "string" })));
        assert_eq!(either["anyOf"][1]["anyOf"][1], template);
        assert_eq!(table["properties"]["tag"], json!({ "const": "x" }));
        assert_eq!(table["properties"]["table"]["$ref"], "#/definitions/with-path_3a_plugins_2f_mine");
    }

    #[test]
    fn deploy_has_the_table_of_one_of_the_plugins_that_it_stands_for() {
        let mut schema = json!({ "properties": { "stages": { "additionalProperties": {} } } });
        let plugins = ["deploy-one", "deploy-two", "other"].map(|uses| (uses.to_owned(), json!({ "type": "object" })));
        describe(&mut schema, &BTreeMap::from(plugins));
        let case = &schema["definitions"]["uses-deploy"];
        assert_eq!(case["if"]["properties"]["uses"]["const"], "deploy");
        let tables = json!([{ "$ref": "#/definitions/with-deploy-one" }, { "$ref": "#/definitions/with-deploy-two" }]);
        assert_eq!(case["then"]["properties"]["with"]["anyOf"], tables);
        assert_eq!(schema["definitions"]["stage"]["allOf"].as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn a_plugin_without_a_schema_adds_nothing() {
        assert_eq!(schema_with(Json::Null).get("definitions"), None);
    }
}

//! The keys of a stage's `with` table that hold code, according to its plugin's manifest.
//!
//! The manifest's JSON Schema of the table marks such keys with [`KEYWORD`]. JSON Schema ignores unknown keywords, so
//! the contract between plugins and host doesn't have to know this one.

use serde_json::Value as Json;

use crate::value_path::ValuePath;

/// Marks a property that is executed. Its value is one of the names in [`Role::named`].
const KEYWORD: &str = "x-stagewright-code";

/// The most schemas visited for one table. A schema can refer to itself, so the walk needs a limit.
const MOST_STEPS: usize = 10_000;
/// The most references and alternatives followed for one value.
const MOST_HOPS: usize = 16;

/// How a marked value is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `"text"`: every string in the value is code.
    Text,
    /// `"argv"`: a program and its arguments.
    Argv,
    /// `"stdin"`: the standard input of the program of the `"argv"` in the same table.
    Stdin,
}

impl Role {
    fn named(name: &str) -> Option<Role> {
        match name {
            "text" => Some(Role::Text),
            "argv" => Some(Role::Argv),
            "stdin" => Some(Role::Stdin),
            _ => None,
        }
    }
}

/// The paths of the marked values in `table`.
pub(super) fn marked(schema: &Json, table: &Json) -> Vec<(ValuePath, Role)> {
    let mut walk = Walk { root: schema, steps: 0, found: Vec::new() };
    walk.visit(schema, table, &ValuePath::default(), 0);
    walk.found
}

struct Walk<'a> {
    root: &'a Json,
    steps: usize,
    found: Vec<(ValuePath, Role)>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, schema: &'a Json, value: &Json, path: &ValuePath, hops: usize) {
        self.steps += 1;
        if self.steps > MOST_STEPS || hops > MOST_HOPS {
            return;
        }
        let role = schema.get(KEYWORD).and_then(Json::as_str).and_then(Role::named);
        if let Some(role) = role.filter(|role| !self.found.contains(&(path.clone(), *role))) {
            self.found.push((path.clone(), role));
        }
        if let Some(target) = schema.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix('#')) {
            let target = self.root.pointer(target);
            target.into_iter().for_each(|target| self.visit(target, value, path, hops + 1));
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            let branches = schema.get(key).and_then(Json::as_array).into_iter().flatten();
            branches.for_each(|branch| self.visit(branch, value, path, hops + 1));
        }
        match value {
            Json::Object(entries) => {
                for (key, entry) in entries {
                    let own = schema.get("properties").and_then(|properties| properties.get(key));
                    if let Some(own) = own.or_else(|| schema.get("additionalProperties")) {
                        self.visit(own, entry, &path.key(key), 0);
                    }
                }
            }
            Json::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let own = schema.get("prefixItems").and_then(|listed| listed.get(index));
                    if let Some(own) = own.or_else(|| schema.get("items")) {
                        self.visit(own, item, &path.index(index), 0);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(schema: &Json, table: &Json) -> Vec<String> {
        marked(schema, table).into_iter().map(|(path, role)| format!("{path} {role:?}")).collect()
    }

    #[test]
    fn marks_are_found_through_references_lists_and_alternatives() {
        let schema = json!({
            "properties": {
                "run": { KEYWORD: "text" },
                "steps": { "items": { "$ref": "#/$defs/step" } },
                "hooks": { "additionalProperties": { "anyOf": [{ "type": "null" }, { KEYWORD: "argv" }] } },
                "message": { "type": "string" },
            },
            "$defs": { "step": { "properties": { "script": { KEYWORD: "text" }, "in": { KEYWORD: "stdin" } } } },
        });
        let table = json!({
            "run": "x", "message": "x", "steps": [{ "in": "x" }, { "script": "x" }], "hooks": { "before": ["x"] },
        });
        let expected = ["run Text", "steps[0].in Stdin", "steps[1].script Text", "hooks.before Argv"];
        assert_eq!(found(&schema, &table), expected);
        assert_eq!(found(&Json::Null, &table), [""; 0]);
    }

    #[test]
    fn walk_of_self_referencing_schema_terminates() {
        let schema = json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }], KEYWORD: "text" });
        assert_eq!(found(&schema, &json!({})), [" Text"]);
    }
}

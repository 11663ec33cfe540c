//! Checks objects against the description of its API that a cluster publishes (`GET /openapi/v2`, version 2 of OpenAPI), as
//! `kubectl apply --validate` does.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use stagewright_sdk::Error;
use stagewright_sdk::text::nearest;

use crate::object::Object;

/// How deep definitions are followed. Those of CustomResourceDefinitions contain themselves, and objects aren't that deep.
const DEPTH: usize = 64;

/// What a cluster says of the objects that it accepts.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Where it is from, for messages.
    source: String,
    definitions: BTreeMap<String, Definition>,
    /// The names of the definitions of kinds.
    kinds: BTreeMap<GroupVersionKind, String>,
}

/// What identifies a kind of objects. The group of the oldest kinds is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    kind: String,
    version: String,
}

/// What a value must be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Definition {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    /// A name, or a list of them.
    #[serde(rename = "type")]
    kind: Json,
    format: String,
    properties: BTreeMap<String, Definition>,
    required: Vec<String>,
    #[serde(rename = "additionalProperties")]
    additional: Option<Additional>,
    items: Option<Box<Definition>>,
    #[serde(rename = "enum")]
    values: Vec<Json>,
    #[serde(rename = "x-kubernetes-group-version-kind")]
    kinds: Vec<GroupVersionKind>,
    #[serde(rename = "x-kubernetes-int-or-string")]
    is_int_or_string: bool,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    keeps_unknown: bool,
    #[serde(rename = "x-kubernetes-embedded-resource")]
    is_embedded: bool,
}

/// What fields that aren't defined must be.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Additional {
    /// Whether there may be any.
    Allowed(bool),
    Of(Box<Definition>),
}

impl Schema {
    /// Reads a description. `source` is where it is from, for messages.
    ///
    /// # Errors
    /// If it isn't one.
    pub fn parse(source: &str, text: &[u8]) -> Result<Schema, String> {
        #[derive(Deserialize)]
        struct Description {
            definitions: BTreeMap<String, Definition>,
        }
        let Description { mut definitions } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut kinds = BTreeMap::new();
        for (name, definition) in &mut definitions {
            // The server reads `cpu: 1` as `cpu: "1"`, which its description doesn't say.
            definition.is_int_or_string |= definition.format == "int-or-string" || name.ends_with(".resource.Quantity");
            kinds.extend(definition.kinds.iter().map(|kind| (kind.clone(), name.clone())));
        }
        if kinds.is_empty() {
            return Err("it defines no kinds of objects".to_owned());
        }
        Ok(Schema { source: source.to_owned(), definitions, kinds })
    }

    /// What of an object the cluster would not accept.
    pub fn problems(&self, object: &Object) -> Vec<Error> {
        let (group, version) = object.api_version().split_once('/').unwrap_or(("", object.api_version()));
        let kind =
            GroupVersionKind { group: group.to_owned(), kind: object.kind().to_owned(), version: version.to_owned() };
        let Some(name) = self.kinds.get(&kind) else { return vec![self.unknown_kind(object, &kind)] };
        let mut found = Findings { schema: self, object, problems: Vec::new() };
        found.check(&object.json, &self.definitions[name], "", 0);
        found.problems
    }

    fn unknown_kind(&self, object: &Object, kind: &GroupVersionKind) -> Error {
        let message = format!("{} has no `{}` in `{}`", self.source, kind.kind, object.api_version());
        let same = self.kinds.keys().filter(|known| known.kind == kind.kind);
        let versions: Vec<String> = same
            .map(|known| match known.group.as_str() {
                "" => known.version.clone(),
                group => format!("{group}/{}", known.version),
            })
            .collect();
        let help = match versions.is_empty() {
            true => "correct `kind`, or apply its CustomResourceDefinition in an earlier stage".to_owned(),
            false => format!("use {}", versions.join(" or ")),
        };
        object.error("/apiVersion", &message).help(help)
    }

    /// The definition that a definition stands for.
    fn resolved<'a>(&'a self, mut definition: &'a Definition) -> &'a Definition {
        for _ in 0..DEPTH {
            let name = definition.reference.as_deref().and_then(|reference| reference.rsplit('/').next());
            match name.and_then(|name| self.definitions.get(name)) {
                Some(next) => definition = next,
                None => break,
            }
        }
        definition
    }
}

/// The check of one object.
struct Findings<'a> {
    schema: &'a Schema,
    object: &'a Object,
    problems: Vec<Error>,
}

impl Findings<'_> {
    /// Checks the value at a JSON pointer.
    fn check(&mut self, value: &Json, definition: &Definition, pointer: &str, depth: usize) {
        let schema = self.schema;
        let definition = schema.resolved(definition);
        // The server drops fields without a value.
        if value.is_null() || depth > DEPTH {
            return;
        }
        if !definition.accepts(value) {
            let message = format!("is {}, and must be {}", described(value), definition.expected());
            return self.add(pointer, &message);
        }
        if !definition.values.is_empty() && !definition.values.contains(value) {
            let known: Vec<String> = definition.values.iter().map(|known| format!("`{}`", plain(known))).collect();
            return self.add(pointer, &format!("is `{}`, and must be one of {}", plain(value), known.join(", ")));
        }
        match value {
            Json::Object(fields) => self.check_fields(fields, definition, pointer, depth),
            Json::Array(items) => {
                let Some(of_items) = &definition.items else { return };
                for (index, item) in items.iter().enumerate() {
                    self.check(item, of_items, &format!("{pointer}/{index}"), depth + 1);
                }
            }
            _ => {}
        }
    }

    fn check_fields(&mut self, fields: &Map<String, Json>, definition: &Definition, pointer: &str, depth: usize) {
        for name in definition.required.iter().filter(|name| fields.get(*name).is_none_or(Json::is_null)) {
            self.add(pointer, &format!("lacks `{name}`"));
        }
        for (name, value) in fields {
            let at = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            match (definition.properties.get(name), &definition.additional) {
                (Some(of_field), _) => self.check(value, of_field, &at, depth + 1),
                (None, Some(Additional::Of(of_field))) => self.check(value, of_field, &at, depth + 1),
                (None, _) if definition.keeps(name) => {}
                (None, _) => {
                    let near = nearest(name, definition.properties.keys().map(String::as_str));
                    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    self.add(&at, &format!("is a field that {} doesn't have{near}", self.schema.source));
                }
            }
        }
    }

    fn add(&mut self, pointer: &str, message: &str) {
        let path = path_of(pointer);
        let subject = if path.is_empty() { "it".to_owned() } else { format!("`{path}`") };
        self.problems.push(self.object.error(pointer, &format!("{subject} {message}")).help("correct the object"));
    }
}

impl Definition {
    fn kinds(&self) -> impl Iterator<Item = &str> {
        let single = self.kind.as_str().into_iter();
        single.chain(self.kind.as_array().into_iter().flatten().filter_map(Json::as_str))
    }

    fn accepts(&self, value: &Json) -> bool {
        if self.is_int_or_string || self.format == "int-or-string" {
            return value.is_string() || value.is_number();
        }
        let mut kinds = self.kinds().filter(|kind| *kind != "null").peekable();
        kinds.peek().is_none()
            || kinds.any(|kind| match kind {
                "string" => value.is_string(),
                "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                _ => true,
            })
    }

    fn expected(&self) -> String {
        if self.is_int_or_string || self.format == "int-or-string" {
            return "a number or a string".to_owned();
        }
        let named = self.kinds().filter(|kind| *kind != "null").map(|kind| match kind {
            "array" => "a list",
            "object" => "a map",
            "integer" => "an integer",
            "boolean" => "true or false",
            "number" => "a number",
            _ => "a string",
        });
        named.collect::<Vec<_>>().join(" or ")
    }

    /// Whether an object may have a field that isn't defined.
    fn keeps(&self, name: &str) -> bool {
        let is_open = match &self.additional {
            Some(Additional::Allowed(allowed)) => *allowed,
            Some(Additional::Of(_)) => true,
            None => self.properties.is_empty(),
        };
        let is_embedded = self.is_embedded && ["apiVersion", "kind", "metadata"].contains(&name);
        self.keeps_unknown || is_open || is_embedded
    }
}

/// As in `spec.containers[0].image`.
fn path_of(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match part.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path = part,
            Err(_) => path.push_str(&format!(".{part}")),
        }
    }
    path
}

fn described(value: &Json) -> String {
    match value {
        Json::Object(_) => "a map".to_owned(),
        Json::Array(_) => "a list".to_owned(),
        Json::String(text) => format!("the string \"{}\"", text.escape_debug()),
        value => format!("`{value}`"),
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagewright_sdk::Position;

    use super::*;
    use crate::yaml::documents;

    fn schema() -> Schema {
        let kind =
            |group: &str, version: &str, kind: &str| json!([{ "group": group, "version": version, "kind": kind }]);
        let description = json!({ "definitions": {
            "io.k8s.api.apps.v1.Deployment": {
                "type": "object",
                "properties": {
                    "apiVersion": { "type": "string" },
                    "kind": { "type": "string" },
                    "metadata": { "$ref": "#/definitions/Meta" },
                    "spec": { "$ref": "#/definitions/Spec" },
                },
                "x-kubernetes-group-version-kind": kind("apps", "v1", "Deployment"),
            },
            "Meta": { "type": "object", "properties": {
                "name": { "type": "string" },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            } },
            "Spec": { "type": "object", "required": ["selector", "template"], "properties": {
                "replicas": { "type": "integer", "format": "int32" },
                "paused": { "type": "boolean" },
                "selector": { "type": "object" },
                "template": { "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "cpu": { "$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity" },
                    "port": { "type": "string", "format": "int-or-string" },
                    "policy": { "type": "string", "enum": ["Always", "Never"] },
                    "names": { "type": "array", "items": { "type": "string" } },
                    "self": { "$ref": "#/definitions/Spec" },
                } },
            } },
            "io.k8s.apimachinery.pkg.api.resource.Quantity": { "type": "string" },
            "Scaler1": { "type": "object", "x-kubernetes-group-version-kind": kind("autoscaling", "v1", "Scaler") },
            "Scaler2": { "type": "object", "x-kubernetes-group-version-kind": kind("autoscaling", "v2beta2", "Scaler") },
        } });
        Schema::parse("openapi.json", description.to_string().as_bytes()).unwrap()
    }

    /// The lines and the messages of what is wrong with an object, in their order.
    fn problems(text: &str) -> Vec<(Option<Position>, String)> {
        let document = documents("app.yaml", text).unwrap().remove(0);
        let object = Object::all("app.yaml", document).unwrap().remove(0);
        let problems = schema().problems(&object).into_iter();
        problems.map(|problem| (problem.file.clone().and_then(|file| file.1), problem.message)).collect()
    }

    fn deployment(spec: &str) -> String {
        format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web, labels: {{ a: b }} }}\nspec:\n{spec}")
    }

    #[test]
    fn what_the_server_accepts_is_accepted() {
        let spec = "  replicas: 2\n  paused: null\n  selector: { matchLabels: { a: b } }\n  template: { cpu: 1, port: 80, policy: Never, names: [a], other: 1 }\n";
        assert_eq!(problems(&deployment(spec)), []);
        let spec = spec.replace("cpu: 1", "cpu: 500m").replace("port: 80", "port: http");
        assert_eq!(problems(&deployment(&spec)), []);
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        let found = |spec: &str| {
            let problems = problems(&deployment(&format!("{spec}\n  selector: {{}}\n  template: {{}}\n")));
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].0.map(|position| position.line), Some(5), "{problems:?}");
            problems[0].1.trim_start_matches("deployment/web: ").to_owned()
        };
        assert_eq!(found("  replicas: '2'"), "`spec.replicas` is the string \"2\", and must be an integer");
        assert_eq!(found("  replicas: 1.5"), "`spec.replicas` is `1.5`, and must be an integer");
        assert_eq!(found("  paused: 1"), "`spec.paused` is `1`, and must be true or false");
        assert_eq!(
            found("  Replicas: 1"),
            "`spec.Replicas` is a field that openapi.json doesn't have; did you mean `replicas`?"
        );
        assert_eq!(found("  unheard: 1"), "`spec.unheard` is a field that openapi.json doesn't have");

        let nested = problems(&deployment("  template: { names: [1], policy: Maybe, self: {}, port: [] }\n"));
        let nested: Vec<&str> =
            nested.iter().map(|(_, message)| message.trim_start_matches("deployment/web: ")).collect();
        assert_eq!(
            nested,
            [
                "`spec` lacks `selector`",
                "`spec.template.names[0]` is `1`, and must be a string",
                "`spec.template.policy` is `Maybe`, and must be one of `Always`, `Never`",
                "`spec.template.self` lacks `selector`",
                "`spec.template.self` lacks `template`",
                "`spec.template.port` is a list, and must be a number or a string",
            ]
        );
    }

    #[test]
    fn a_kind_that_the_server_does_not_have_is_refused_with_its_versions() {
        let text = "apiVersion: autoscaling/v2\nkind: Scaler\nmetadata: { name: web }\n";
        assert_eq!(
            problems(text),
            [(Some(Position::line(1)), "scaler/web: openapi.json has no `Scaler` in `autoscaling/v2`".to_owned())]
        );
        let document = documents("app.yaml", text).unwrap().remove(0);
        let object = Object::all("app.yaml", document).unwrap().remove(0);
        assert_eq!(schema().problems(&object)[0].help.as_deref(), Some("use autoscaling/v1 or autoscaling/v2beta2"));
    }

    #[test]
    fn other_files_are_no_descriptions() {
        for text in ["{}", "[]", "{\"definitions\": {}}", "no"] {
            assert!(Schema::parse("x.json", text.as_bytes()).is_err(), "{text}");
        }
    }
}

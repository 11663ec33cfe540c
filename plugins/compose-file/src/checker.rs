//! What all parts of a file have in common: variables, keys, and the list of mistakes.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::interpolation::{Fault, Variable, escaped, has_secret, interpolate};
use crate::{Inputs, Mistake, Power, Runtime, parse_bytes, parse_duration};
use located_yaml::{Node, Place, Value};
use plain_secrets::is_plain_secret;

/// The state of one [`resolve`](crate::resolve).
pub(crate) struct Checker<'a> {
    inputs: &'a Inputs,
    read: &'a dyn Fn(&str) -> Result<String, String>,
    mistakes: Vec<Mistake>,
}

/// What the file declares, for references to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    pub(crate) services: BTreeSet<String>,
    pub(crate) networks: BTreeSet<String>,
    pub(crate) volumes: BTreeSet<String>,
    pub(crate) configs: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// A pair of a map, or of a list with `NAME=VALUE`. The value is missing in `NAME` and `NAME:`.
pub(crate) struct Pair {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(inputs: &'a Inputs, read: &'a dyn Fn(&str) -> Result<String, String>) -> Checker<'a> {
        Checker { inputs, read, mistakes: Vec::new() }
    }

    /// The variables that are secrets, unless there are mistakes.
    pub(crate) fn finish(mut self) -> Result<BTreeSet<String>, Vec<Mistake>> {
        self.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        // A value that is used through an alias has its mistakes once.
        self.mistakes.dedup();
        if self.mistakes.is_empty() { Ok(self.inputs.secrets.clone()) } else { Err(self.mistakes) }
    }

    pub(crate) fn inputs(&self) -> &'a Inputs {
        self.inputs
    }

    pub(crate) fn is_swarm(&self) -> bool {
        self.inputs.runtime == Runtime::Swarm
    }

    pub(crate) fn refuse(&mut self, place: Place, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), help.into());
        self.mistakes.push(Mistake { line: place.line, column: place.column, key: key.to_owned(), message, help });
    }

    /// Refuses a value of the wrong type.
    pub(crate) fn refuse_type(&mut self, node: &Node, key: &str, expected: &str) {
        let found = match node.value {
            Value::Null => "nothing",
            Value::Bool(_) | Value::Number(_) | Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        let message = format!("expected {expected}, found {found}");
        self.refuse(node.place, key, message, "the Compose Specification has the form of each key");
    }

    /// Refuses what goes beyond a container, unless the configuration allows it.
    pub(crate) fn need(&mut self, power: Power, place: Place, key: &str, what: &str) {
        if self.inputs.allow.contains(&power) {
            return;
        }
        let help = format!("remove it, or allow it to this release with allow = [\"{power}\"]");
        self.refuse(place, key, what, help);
    }

    /// Refuses all but these keys of a map, and what isn't a map. Keys that begin with `x-` are the file's own.
    pub(crate) fn known(&mut self, node: &Node, key: &str, allowed: &[&str]) {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            self.refuse_type(node, key, "a map");
        }
        for entry in node.entries() {
            if !allowed.contains(&entry.key.as_str()) && !is_extension(&entry.key) {
                let help = format!("use one of {}", allowed.join(", "));
                self.refuse(entry.place, &child(key, &entry.key), format!("unknown key `{}`", entry.key), help);
            }
        }
    }

    /// Refuses a name that the file doesn't declare.
    pub(crate) fn declared(&mut self, names: &BTreeSet<String>, name: &str, place: Place, key: &str, section: &str) {
        if !names.contains(name) {
            let message = format!("`{name}` isn't declared below `{section}` of the file");
            self.refuse(place, key, message, format!("add it to the file: {section}: {{ {name}: {{}} }}"));
        }
    }

    /// A single value with its variables filled in; none if that is refused.
    pub(crate) fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        match node.scalar() {
            Some(text) => self.fill(&text, node.place, key),
            None => {
                self.refuse_type(node, key, "a single value");
                None
            }
        }
    }

    /// A text with its variables filled in; none if that is refused.
    pub(crate) fn fill(&mut self, text: &str, place: Place, key: &str) -> Option<String> {
        match interpolate(text, &|name| self.lookup(name)) {
            Ok(filled) => Some(filled),
            Err(Fault::Unset { name, message }) => {
                let reason = message.filter(|message| !message.is_empty()).map(|reason| format!(": {reason}"));
                let message = format!("the variable `{name}` has no value{}", reason.unwrap_or_default());
                let secret = if self.is_swarm() { "" } else { ", or name it in `secrets` if it is one" };
                self.refuse(place, key, message, format!("set it: variables = {{ {name} = \"…\" }}{secret}"));
                None
            }
            Err(Fault::Invalid) => {
                let message = format!("`{text}` has a `$` that begins no variable");
                self.refuse(place, key, message, "write `$$` for a dollar");
                None
            }
        }
    }

    fn lookup(&self, name: &str) -> Variable {
        match self.inputs.variables.get(name) {
            Some(value) => Variable::Value(value.clone()),
            None if self.inputs.secrets.contains(name) => Variable::Secret,
            None => Variable::Unset,
        }
    }

    /// The text of a file that the file names.
    pub(crate) fn file(&mut self, path: &str, place: Place, key: &str) -> Option<String> {
        match (self.read)(path) {
            Ok(text) => Some(text),
            Err(reason) => {
                let message = format!("`{path}` can't be read: {reason}");
                self.refuse(
                    place,
                    key,
                    message,
                    "check the path, which begins at the file's folder, and grant it in `read`",
                );
                None
            }
        }
    }

    /// Any value with its variables filled in.
    pub(crate) fn json(&mut self, node: &Node, key: &str) -> Json {
        match &node.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => self.fill(text, node.place, key).map_or(Json::Null, Json::String),
            Value::List(items) => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| self.json(item, &format!("{key}[{index}]"))).collect()
            }
            Value::Map(entries) => {
                let own = entries.iter().filter(|entry| !is_extension(&entry.key));
                let map: Map<String, Json> =
                    own.map(|entry| (entry.key.clone(), self.json(&entry.value, &child(key, &entry.key)))).collect();
                Json::Object(map)
            }
        }
    }

    /// The pairs of a map, or of a list with `NAME=VALUE`.
    pub(crate) fn pairs(&mut self, node: &Node, key: &str) -> Vec<Pair> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Map(entries) => {
                let mut pairs = Vec::new();
                for entry in entries {
                    let value = match entry.value.is_null() {
                        true => Some(None),
                        false => self.text(&entry.value, &child(key, &entry.key)).map(Some),
                    };
                    pairs.extend(value.map(|value| Pair { place: entry.place, name: entry.key.clone(), value }));
                }
                pairs
            }
            Value::List(items) => {
                let mut pairs = Vec::new();
                for item in items {
                    let Some(text) = item.scalar() else {
                        self.refuse_type(item, key, "NAME=VALUE");
                        continue;
                    };
                    let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
                    let value = value.map(|value| self.fill(value, item.place, &child(key, name)));
                    if !matches!(value, Some(None)) {
                        pairs.push(Pair { place: item.place, name: name.to_owned(), value: value.flatten() });
                    }
                }
                pairs
            }
            _ => {
                self.refuse_type(node, key, "a map, or a list with NAME=VALUE");
                Vec::new()
            }
        }
    }

    /// Refuses a password as plain text.
    pub(crate) fn check_plain_secret(&mut self, pair: &Pair, key: &str) {
        let Some(value) = pair.value.as_deref().filter(|value| !has_secret(value)) else { return };
        if !is_plain_secret(&pair.name, value) || self.inputs.allow.contains(&Power::PlainSecrets) {
            return;
        }
        let name = &pair.name;
        let help = match self.is_swarm() {
            true => format!(
                "declare a secret of the swarm as `external`, which the deploy creates with its `secrets`, and let the program \
                 read its file, as in {name}_FILE: /run/secrets/NAME"
            ),
            false => format!(
                "write ${{NAME}} in its place, with secrets = [\"NAME\"] here and secrets = {{ NAME = \"…\" }} in the deploy, \
                 which names a secret of the pipeline; or, if it protects nothing, allow = [\"{}\"]",
                Power::PlainSecrets
            ),
        };
        self.refuse(pair.place, &child(key, name), format!("`{name}` has a password as plain text"), help);
    }

    /// Refuses values of these keys of a map that don't have this form.
    pub(crate) fn check_values(&mut self, node: &Node, key: &str, keys: &[&str], form: Form) {
        for entry in node.entries().iter().filter(|entry| keys.contains(&entry.key.as_str())) {
            let key = child(key, &entry.key);
            if self.text(&entry.value, &key).is_some_and(|text| !form.has(&text)) {
                let (what, help) = form.description();
                self.refuse(entry.value.place, &key, format!("invalid {what}"), help);
            }
        }
    }

    /// A list of words: a list, or text that is split as in a shell. None for null.
    pub(crate) fn words(&mut self, node: &Node, key: &str) -> Json {
        match node.scalar() {
            Some(text) => {
                let Some(filled) = self.fill(&text, node.place, key) else { return Json::Null };
                match shlex::split(&filled) {
                    Some(words) => words.into(),
                    None => {
                        self.refuse(node.place, key, "a quote isn't closed", "write it as a list of words");
                        Json::Null
                    }
                }
            }
            None => self.json(node, key),
        }
    }
}

/// The form of a value. A variable could fill in anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Duration,
    Count,
    Bytes,
    Fraction,
}

impl Form {
    fn has(self, text: &str) -> bool {
        match self {
            Form::Duration => parse_duration(text).is_some(),
            Form::Count => text.parse::<u32>().is_ok(),
            Form::Bytes => parse_bytes(text).is_some(),
            Form::Fraction => text.parse::<f64>().is_ok_and(|number| number >= 0.0),
        }
    }

    fn description(self) -> (&'static str, &'static str) {
        match self {
            Form::Duration => ("duration", "write it as in `1m30s` and `500ms`"),
            Form::Count => ("number", "write a whole number"),
            Form::Bytes => ("size", "write it as in `512M` and `2G`"),
            Form::Fraction => ("number", "write it as in `0.5`"),
        }
    }
}

/// The key of something in a map.
pub(crate) fn child(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

pub(crate) fn is_extension(key: &str) -> bool {
    key.starts_with("x-")
}

/// The content of a file, as a value of the release.
pub(crate) fn content(text: &str) -> Json {
    Json::String(escaped(text))
}

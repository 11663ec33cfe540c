//! The values of a pipeline's inputs for a run.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::nearest::nearest;
use crate::plan::{InputKind, Plan};

/// Why a run can't start with its inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InputError {
    /// The input's name.
    pub name: String,
    /// What is wrong with the input.
    pub message: String,
    /// How to fix it.
    pub help: String,
}

impl Plan {
    /// Converts the given texts to values of the declared types, and adds the defaults.
    ///
    /// # Errors
    /// If inputs are unknown, invalid or missing: one error for each of them.
    pub fn resolve_inputs(&self, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, Json>, Vec<InputError>> {
        let mut values = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, text) in given {
            match self.inputs.get(name).map(|input| (input, input.kind.read(text))) {
                None => errors.push(self.unknown_input(name)),
                Some((_, Some(value))) => {
                    values.insert(name.clone(), value);
                }
                Some((input, None)) => errors.push(InputError {
                    name: name.clone(),
                    message: format!("the input `{name}` takes a {}, but `{text}` isn't one", input.kind.describe()),
                    help: input.kind.help(),
                }),
            }
        }
        for (name, input) in self.inputs.iter().filter(|(name, _)| !given.contains_key(*name)) {
            match &input.default {
                Some(default) => {
                    values.insert(name.clone(), default.clone());
                }
                None => errors.push(InputError {
                    name: name.clone(),
                    message: match &input.description {
                        Some(description) => {
                            format!("the input `{name}` ({description}) is missing and has no default")
                        }
                        None => format!("the input `{name}` is missing and has no default"),
                    },
                    help: format!("add a value: `{name}=…`; {}", input.kind.help()),
                }),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(errors) }
    }

    fn unknown_input(&self, name: &str) -> InputError {
        let known = self.inputs.keys().map(String::as_str);
        let help = match nearest(name, known.clone()) {
            Some(known) => format!("did you mean `{known}`?"),
            None if self.inputs.is_empty() => format!("the pipeline `{}` takes no inputs", self.name),
            None => format!("use one of {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        };
        let message = format!("the pipeline `{}` has no input `{name}`", self.name);
        InputError { name: name.to_owned(), message, help }
    }
}

impl InputKind {
    /// The name of the type in messages, without an article.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            InputKind::String => "string",
            InputKind::Number => "number",
            InputKind::Boolean => "boolean",
            InputKind::Choice(_) => "value among its options",
        }
    }

    /// Whether a value is of this type.
    pub(crate) fn accepts(&self, value: &Json) -> bool {
        match self {
            InputKind::String => value.is_string(),
            InputKind::Number => value.is_number(),
            InputKind::Boolean => value.is_boolean(),
            InputKind::Choice(options) => {
                value.as_str().is_some_and(|value| options.iter().any(|option| option == value))
            }
        }
    }

    fn read(&self, text: &str) -> Option<Json> {
        let value = match self {
            InputKind::String | InputKind::Choice(_) => Json::String(text.to_owned()),
            InputKind::Number | InputKind::Boolean => serde_json::from_str(text.trim()).ok()?,
        };
        self.accepts(&value).then_some(value)
    }

    fn help(&self) -> String {
        match self {
            InputKind::String => "any text is valid".to_owned(),
            InputKind::Number => "write a number, as in `3` or `0.5`".to_owned(),
            InputKind::Boolean => "write `true` or `false`".to_owned(),
            InputKind::Choice(options) => {
                let options: Vec<_> = options.iter().map(|option| format!("`{option}`")).collect();
                format!("choose one of {}", options.join(", "))
            }
        }
    }
}

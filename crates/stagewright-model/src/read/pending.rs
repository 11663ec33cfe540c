//! Warns of keys that this version checks but doesn't implement yet.

use crate::diagnostic::{Problem, Report};

use super::fields::{Fields, Value};

/// What to do instead, by top-level key.
const PIPELINE: [(&str, &str); 1] =
    [("on", "start the pipeline with `stagewright run`: it isn't triggered automatically")];
/// What to do instead, by key of an environment.
const ENVIRONMENT: [(&str, &str); 1] = [("config", "configure the deploy with `with.env` instead")];

pub(super) fn warn(file: Fields<'_>, report: &mut Report) {
    for (key, help) in PIPELINE {
        file.get(key).into_iter().for_each(|value| warn_of(key, value, help, report));
    }
    for (_, environment) in file.table("environments").entries() {
        for (key, help) in ENVIRONMENT {
            Fields::of(environment).get(key).into_iter().for_each(|value| warn_of(key, value, help, report));
        }
    }
}

fn warn_of(key: &str, value: &Value<'_>, help: &str, report: &mut Report) {
    let message = format!("`{key}` has no effect in this version");
    report.warning(Problem::new("stagewright::no-effect", value.span().into(), message).help(help));
}

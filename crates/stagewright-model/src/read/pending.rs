//! Keys of the format that this version checks and does not act on yet: whoever relies on one is told so.

use crate::diagnostic::{Problem, Report};

use super::fields::{Fields, Value};

/// What stands in place of the missing behaviour, by key.
const PIPELINE: [(&str, &str); 1] = [("on", "nothing starts this pipeline by itself: start it with `stagewright run`")];
const ENVIRONMENT: [(&str, &str); 1] = [("config", "give the deploy its configuration in `with.env`")];

pub(super) fn warn(file: Fields<'_>, report: &mut Report) {
    for (key, help) in PIPELINE {
        file.get(key).into_iter().for_each(|value| say(key, value, help, report));
    }
    for (_, environment) in file.table("environments").entries() {
        for (key, help) in ENVIRONMENT {
            Fields::of(environment).get(key).into_iter().for_each(|value| say(key, value, help, report));
        }
    }
}

fn say(key: &str, value: &Value<'_>, help: &str, report: &mut Report) {
    let message = format!("`{key}` is checked, but has no effect in this version");
    report.warning(Problem::new("stagewright::no-effect", value.span().into(), message).help(help));
}

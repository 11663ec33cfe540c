//! Warns of keys that this version checks but doesn't implement yet.

use crate::diagnostic::{Problem, Report};

use super::fields::{Fields, Value};

/// What to do instead of `on.schedule`.
const SCHEDULE: &str = "start the pipeline with `stagewright run`, from cron or a systemd timer";
/// What to do instead of `on.manual = false`.
const MANUAL: &str = "remove it: users may always start the pipeline with `stagewright run`";

pub(super) fn warn(file: Fields<'_>, report: &mut Report) {
    let on = file.table("on");
    on.get("schedule").into_iter().for_each(|value| warn_of("schedule", value, SCHEDULE, report));
    if on.flag("manual") == Some(false) {
        on.get("manual").into_iter().for_each(|value| warn_of("manual", value, MANUAL, report));
    }
}

fn warn_of(key: &str, value: &Value<'_>, help: &str, report: &mut Report) {
    let message = format!("`{key}` has no effect in this version");
    report.warning(Problem::new("stagewright::no-effect", value.span().into(), message).help(help));
}

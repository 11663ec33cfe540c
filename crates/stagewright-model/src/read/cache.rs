//! `cache`: whether a stage's result may stand for another run of it.

use super::fields::{Fields, text};
use crate::diagnostic::{Problem, Report};
use crate::grants::is_package_word;
use crate::plan::{CacheUse, Stage, Trust};

/// A stage that names its inputs is cached unless it says otherwise. `stage` is all the rest of it.
pub(super) fn read(name: &str, fields: Fields<'_>, stage: &Stage, report: &mut Report) -> CacheUse {
    let Some(given) = fields.get("cache") else {
        let wanted = !stage.inputs.is_empty() && effect(stage).is_none();
        return if wanted { CacheUse::ReadWrite } else { CacheUse::Never };
    };
    let wanted = match (fields.flag("cache"), text(given)) {
        (Some(true), _) => CacheUse::ReadWrite,
        (_, Some(_)) => CacheUse::Read,
        _ => return CacheUse::Never,
    };
    if let Some(effect) = effect(stage) {
        report.error(|| {
            let message = format!("`{name}` can't be cached: {effect}");
            Problem::new("stagewright::not-cacheable", given.span().into(), message)
                .label("a restored result would not do that again")
                .help(
                    "remove `cache`; a stage of its own, before this one, can do and cache what stays on this machine",
                )
        });
        return CacheUse::Never;
    }
    wanted
}

/// What a restored result would leave out, or could not depend on.
fn effect(stage: &Stage) -> Option<String> {
    let permissions = &stage.permissions;
    if let Some(environment) = &stage.environment {
        return Some(format!("it acts on the environment `{}`", environment.name));
    }
    if let Some(host) = permissions.net.iter().find(|rule| !is_package_word(rule)) {
        return Some(format!("it may call {host}"));
    }
    let beyond = [
        ("use the secret", &permissions.secrets),
        ("push to and resolve", &permissions.registry),
        ("start the service", &permissions.service),
        ("connect to the socket", &permissions.socket),
    ];
    if let Some((doing, first)) = beyond.iter().find_map(|(doing, entries)| Some((doing, entries.first()?))) {
        return Some(format!("it may {doing} `{first}`"));
    }
    let native = matches!(stage.trust, Trust::Native { .. });
    native.then(|| "its plugin is a native library, which may do anything".to_owned())
}

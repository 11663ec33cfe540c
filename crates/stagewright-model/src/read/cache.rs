//! `cache`: whether a stage's result may stand for another run of it.

use super::fields::{Fields, text};
use crate::diagnostic::{Problem, Report};
use crate::grants::PackageManager;
use crate::plan::{CacheUse, Stage, Trust};
use crate::reach::{AnyImports, Code, Reach};
use crate::way_out::WayOut;

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

/// What a restored result would leave out, or could not depend on. Which interfaces the plugin imports isn't known yet.
fn effect(stage: &Stage) -> Option<String> {
    let code = match stage.trust {
        Trust::Native { .. } => Code::Native,
        Trust::Component => Code::Component(&AnyImports),
    };
    let reaches = stage.reaches(code);
    // To fetch packages is no effect.
    let mut beyond =
        reaches.all.iter().filter(|reach| !(reach.way == WayOut::Request && PackageManager::of(reach.entry).is_some()));
    match (beyond.next(), stage.permissions.secrets.first()) {
        (Some(Reach { way: WayOut::Environment, entry }), _) => Some(format!("it acts on the environment `{entry}`")),
        (Some(Reach { way: WayOut::NativeCode, .. }), _) => {
            Some("its plugin is a native library, which may do anything".to_owned())
        }
        (Some(reach), _) => Some(format!("it may {reach}")),
        (None, Some(secret)) => Some(format!("it may use the secret `{secret}`")),
        (None, None) => None,
    }
}
